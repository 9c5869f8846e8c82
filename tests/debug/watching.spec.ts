/** Watchpoints and catchpoints under scripts: they stop where the hardware would show the change, both ways. */
import { describe, expect, it } from 'vitest';
import { EXIT_REASON } from '../../abi/exit-reasons.js';
import type { BreakpointSpec } from '../../emulator/debug/breakpoints.js';
import { printPosition } from '../../emulator/debug/position.js';
import { debugRun, type DebugSession } from '../../emulator/debug/session.js';
import { referencePayload } from '../support/reference-payload.js';
import { SHORT } from './scripted.js';

interface Seen {
  readonly where: string;
  readonly before: bigint | undefined;
  readonly after: bigint | undefined;
  readonly rip: bigint;
  readonly reason: number;
}

/** Up to `count` stops of one breakpoint forwards, then as many backwards. */
function bothWays(
  spec: (session: DebugSession) => BreakpointSpec,
  count: number,
  look: (session: DebugSession) => void = () => undefined,
): { readonly forwards: readonly Seen[]; readonly backwards: readonly Seen[] } {
  const forwards: Seen[] = [];
  const backwards: Seen[] = [];
  debugRun({ scenario: SHORT, payload: referencePayload() }, (session, { cause, position }) => {
    if (cause.kind === 'start') {
      session.breakpoints.add(spec(session));
      return { kind: 'continue' };
    }
    const isBack = forwards.length === count;
    if (cause.kind === 'breakpoint') {
      const [change] = cause.changes;
      const { lane } = session;
      (isBack ? backwards : forwards).push({
        where: printPosition(position),
        before: change?.before,
        after: change?.after,
        rip: lane.rip,
        reason: lane.exit.basic,
      });
      look(session);
    } else if (isBack || cause.kind === 'ended') return { kind: 'quit' };
    return { kind: 'continue', backwards: forwards.length === count };
  });
  return { forwards, backwards };
}

const places = (seen: readonly Seen[]): string[] => seen.map(({ where }) => where);

describe('a watchpoint', () => {
  it('stops behind each store that changes a counter, and backwards at the same ones', () => {
    const { forwards, backwards } = bothWays(
      ({ lane }) => ({
        kind: 'watch',
        address: lane.vcpu.memory.at('telemetry') + 16n,
        sizeBytes: 8,
        on: 'write',
      }),
      12,
    );
    expect(forwards).toHaveLength(12);
    for (const { before, after } of forwards) expect(after).not.toBe(before);
    expect(places(backwards)).toEqual(places(forwards).slice(0, -1).reverse());
  });

  it('stops when KVM, not the payload, changes the flag', () => {
    const { forwards } = bothWays(
      ({ lane }) => ({
        kind: 'watch',
        address: lane.vcpu.ccb + 4096n,
        sizeBytes: 4,
        on: 'write',
      }),
      2,
    );
    expect(forwards.map(({ before, after }) => [before, after])).toEqual([
      [1n, 0n],
      [0n, 1n],
    ]);
  });

  it('on a VMCS field stops behind the VMWRITE and at the VM exit that change it', () => {
    const { forwards } = bothWays(() => ({ kind: 'field', name: 'GUEST_RIP' }), 6);
    const [exit] = forwards.filter(({ where }) => where.endsWith(':0'));
    const writes = forwards.filter(({ where }) => !where.endsWith(':0'));
    expect(exit).toBeDefined();
    expect(writes.length).toBeGreaterThan(0);
  });

  it('on a register stops whenever it has another value', () => {
    const { forwards } = bothWays(() => ({ kind: 'register', name: 'RSP' }), 5);
    expect(forwards).toHaveLength(5);
    for (const { before, after } of forwards) expect(after).not.toBe(before);
  });
});

describe('a catchpoint', () => {
  it('on an exit reason stops at HOST_RIP of those exits alone', () => {
    const { forwards, backwards } = bothWays(
      () => ({ kind: 'exit', reason: EXIT_REASON.EXIT_REASON_MSR_WRITE }),
      5,
    );
    expect(forwards).toHaveLength(5);
    for (const { where, reason } of forwards) {
      expect(where).toMatch(/:0$/);
      expect(reason).toBe(EXIT_REASON.EXIT_REASON_MSR_WRITE);
    }
    expect(places(backwards)).toEqual(places(forwards).slice(0, -1).reverse());
  });

  it('on VMWRITE of a field stops at that VMWRITE, before it executes', () => {
    const values: bigint[] = [];
    const { forwards } = bothWays(
      () => ({ kind: 'vmwrite', field: 'GUEST_RIP' }),
      4,
      ({ lane }) => values.push(lane.vmcs.read('GUEST_RIP')),
    );
    expect(forwards).toHaveLength(4);
    expect(new Set(values).size).toBeGreaterThan(1);
  });

  it.each([
    ['detached', 2],
    ['attached', 2],
    [null, 4],
  ] as const)('on a flip to %s tells each flip of each vCPU once', (to, count) => {
    let flips = 0;
    bothWays(
      () => ({ kind: 'flip', to }),
      10,
      ({ stop: { cause } }) => {
        if (cause.kind === 'breakpoint') flips += cause.changes.length;
      },
    );
    expect(flips).toBe(count);
  });

  it.each(['detached', 'no-kernel', 'next-kernel'] as const)(
    'on phase %s stops at the first instruction in it',
    (phase) => {
      const { forwards } = bothWays(() => ({ kind: 'phase', phase }), 10);
      expect(forwards).toHaveLength(1);
    },
  );
});

describe('a wish to stop that comes as the machine goes on', () => {
  /** Where one breakpoint stops, by a controller that goes on from an interruption as if it had not come. */
  function stops(spec: (session: DebugSession) => BreakpointSpec, isWanted: boolean): string[] {
    const interrupt = new Int32Array(new SharedArrayBuffer(4));
    const seen: string[] = [];
    debugRun(
      { scenario: SHORT, payload: referencePayload(), interrupt },
      (session, { cause, position }) => {
        if (cause.kind === 'start') session.breakpoints.add(spec(session));
        if (cause.kind === 'breakpoint') seen.push(printPosition(position));
        if (isWanted) Atomics.store(interrupt, 0, 1);
        return { kind: seen.length === 5 || cause.kind === 'ended' ? 'quit' : 'continue' };
      },
    );
    return seen;
  }

  it.each<[string, (session: DebugSession) => BreakpointSpec]>([
    [
      'a watchpoint',
      ({ lane }) => ({ kind: 'watch', address: lane.vcpu.ccb + 4096n, sizeBytes: 4, on: 'access' }),
    ],
    [
      'a breakpoint',
      ({ image }) => ({ kind: 'code', address: image.symbol('caretaker_dispatch')! }),
    ],
    ['a catchpoint', () => ({ kind: 'exit', reason: EXIT_REASON.EXIT_REASON_MSR_WRITE })],
  ])('takes no hit away from %s', (_, spec) => {
    const undisturbed = stops(spec, false);
    expect(undisturbed).toHaveLength(5);
    expect(stops(spec, true)).toEqual(undisturbed);
  });
});
