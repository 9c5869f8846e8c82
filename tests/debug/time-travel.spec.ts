/** Any way to a time ends in the state that straight execution has there: forwards, backwards, through edits and the host. */
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { parsePosition, type Position } from '../../emulator/debug/position.js';
import type { Resume } from '../../emulator/debug/resume.js';
import { debugRun, type DebugSession } from '../../emulator/debug/session.js';
import { referencePayload } from '../support/reference-payload.js';
import { fingerprint, SHORT } from './scripted.js';

interface Moment {
  readonly time: number;
  readonly position: Position;
  readonly print: string;
}

/** Boundaries between two moments that straight execution keeps: a prime, so that they lie anywhere in handlers. */
const STRIDE = 1_999;
let moments: readonly Moment[];

const momentOf = (session: DebugSession): Moment => ({
  time: session.stop.time,
  position: session.position,
  print: fingerprint(session),
});

beforeAll(() => {
  const seen: Moment[] = [];
  debugRun({ scenario: SHORT, payload: referencePayload() }, (session, { cause }) => {
    if (cause.kind === 'ended') return { kind: 'quit' };
    seen.push(momentOf(session));
    return { kind: 'step', count: STRIDE };
  });
  moments = seen;
});

/** Goes from moment to moment, by position or by counted steps, and notes what the machine is there. */
function visit(way: readonly { readonly to: number; readonly bySteps: boolean }[]): string[] {
  const prints: string[] = [];
  let at = 0;
  debugRun({ scenario: SHORT, payload: referencePayload() }, (session, stop): Resume => {
    if (at > 0) prints.push(fingerprint(session));
    const next = way[at++];
    if (next === undefined) return { kind: 'quit' };
    const { time, position } = moments[next.to]!;
    const count = time - stop.time;
    if (!next.bySteps || count === 0) return { kind: 'seek', position };
    return { kind: 'step', count: Math.abs(count), backwards: count < 0 };
  });
  return prints;
}

describe('the state at a time', () => {
  it('is that of straight execution, whichever way leads there', () => {
    expect(moments.length).toBeGreaterThan(15);
    const leg = fc.record({ to: fc.nat({ max: moments.length - 1 }), bySteps: fc.boolean() });
    fc.assert(
      fc.property(fc.array(leg, { minLength: 4, maxLength: 8 }), (way) => {
        expect(visit(way)).toEqual(way.map(({ to }) => moments[to]!.print));
      }),
      { numRuns: 6 },
    );
  });

  it('differs from moment to moment, so that the comparison says something', () => {
    expect(new Set(moments.map(({ print }) => print)).size).toBe(moments.length);
  });
});

describe('a step of the host by hand', () => {
  /** Asks for host steps at positions and runs to the end; phases, invariants that broke, and the last cause. */
  function steer(
    ...wishes: readonly (readonly [string, 'preserve' | 'kexec' | 'retrieve' | 'attach'])[]
  ) {
    let at = 0;
    let result: unknown;
    debugRun({ scenario: SHORT, payload: referencePayload() }, (session, { cause }): Resume => {
      if (cause.kind === 'ended') {
        const { machine } = session;
        const { timeline, ledger, lanes } = machine;
        result = {
          error: cause.error?.message ?? null,
          phases: timeline.phases(machine.now() + 1).map(({ name }) => name),
          broken: ledger.results().filter(({ held }) => !held),
          attached: lanes.every(({ vcpu }) => vcpu.isAttached),
        };
        return { kind: 'quit' };
      }
      if (at > 0) {
        const [, step] = wishes[at - 1]!;
        expect(session.conductor.byHand.refusal(step)).toBeNull();
        session.edit({ kind: 'host', step });
      }
      const wish = wishes[at++];
      if (wish === undefined) return { kind: 'continue' };
      return { kind: 'seek', position: parsePosition(wish[0])! };
    });
    return result;
  }

  // A phase that takes no time is in none of these.
  it.each([
    ['none: the scenario is as it was', [], ['no-kernel', 'next-kernel']],
    [
      "preserve: the rest is still the scenario's",
      [['5:20', 'preserve']],
      ['detached', 'no-kernel', 'next-kernel'],
    ],
    [
      'a whole update, asked for at once: the gap ends with the first instruction of the kernel',
      [
        ['5:20', 'preserve'],
        ['5:20', 'kexec'],
        ['5:20', 'retrieve'],
        ['5:20', 'attach'],
      ],
      ['no-kernel'],
    ],
    [
      'preserve, and back before kexec: the update is cancelled',
      [
        ['5:20', 'preserve'],
        ['12:3', 'attach'],
      ],
      ['detached'],
    ],
    ["retrieve, in the middle of the scenario's gap", [['70:3', 'retrieve']], ['no-kernel']],
  ] as const)('%s', (_what, wishes, between) => {
    const phases = ['attached', ...between, 'attached'];
    expect(steer(...wishes)).toEqual({ error: null, phases, broken: [], attached: true });
  });

  it('is refused where the update does not stand there', () => {
    debugRun({ scenario: SHORT, payload: referencePayload() }, (session) => {
      const { byHand } = session.conductor;
      const refused = (): string[] =>
        (['preserve', 'kexec', 'retrieve', 'attach'] as const).filter(
          (step) => byHand.refusal(step) !== null,
        );
      expect(refused()).toEqual(['kexec', 'retrieve', 'attach']);
      session.edit({ kind: 'host', step: 'preserve' });
      expect(refused()).toEqual(['preserve', 'retrieve']);
      return { kind: 'quit' };
    });
  });

  it('never happened once the run is back before it was asked for', () => {
    const wishes: number[] = [];
    let at = 0;
    debugRun({ scenario: SHORT, payload: referencePayload() }, (session): Resume => {
      wishes.push(session.machine.hostWishes.length);
      switch (at++) {
        case 0:
          return { kind: 'step', count: 10 };
        case 1:
          session.edit({ kind: 'host', step: 'preserve' });
          return { kind: 'step' };
        case 2:
          return { kind: 'step', count: 5, backwards: true };
        default:
          return { kind: 'quit' };
      }
    });
    expect(wishes).toEqual([0, 0, 1, 0]);
  });
});
