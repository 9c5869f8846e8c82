/** Steps by lines and out of functions, on code as an optimising compiler leaves it: where they stop, both ways alike. */
import { beforeAll, describe, expect, it, vi } from 'vitest';
import type { Resume } from '../../emulator/debug/resume.js';
import { debugRun, DebugSession } from '../../emulator/debug/session.js';
import { SourceLevel } from '../../emulator/debug/source/source-level.js';
import { Conductor } from '../../emulator/machine/conductor.js';
import { Machine } from '../../emulator/machine/machine.js';
import { referencePayload } from '../support/reference-payload.js';
import { SHORT } from './scripted.js';
import { builtPayload } from './source/built-payload.js';

const payload = builtPayload('gcc')!;
const root = new URL('../..', import.meta.url).pathname;
let level: SourceLevel;
beforeAll(async () => {
  level = await SourceLevel.create(DebugSession.imageOf(payload), { payloadFile: null, root });
});

/** A boundary of the first exit. */
interface Place {
  readonly instruction: number;
  readonly line: string;
  readonly begins: 'statement' | 'row' | 'nothing';
  readonly function: string;
}

function placeOf(session: DebugSession): Place {
  const { lane, position } = session;
  const line = level.lineOf(lane, lane.rip);
  return {
    instruction: position.instruction,
    line: line?.key ?? '',
    begins: line?.begins ?? 'nothing',
    function: level.core(session).sourceOf(lane.rip)!.chainAt(lane.rip).at(-1)!.name,
  };
}

/** Where a wish leads that is made again and again, from `start` to where the first exit has no more of it. */
function walk(wish: Resume, start: Resume | null = null): Place[] {
  const places: Place[] = [];
  let isThere = start === null;
  debugRun({ scenario: SHORT, payload }, (session, { position }) => {
    if (!isThere) {
      isThere = true;
      return start!;
    }
    if (position.exit !== 1) return { kind: 'quit' };
    places.push(placeOf(session));
    return position.instruction === 0 && places.length > 1 ? { kind: 'quit' } : wish;
  });
  return places;
}

describe('a step by lines', () => {
  const byLine = { kind: 'step-line', lineOf: (...of) => level.lineOf(...of) } satisfies Resume;
  let all: Place[];
  let stops: Place[];
  beforeAll(() => {
    all = walk({ kind: 'step' });
    stops = walk(byLine);
  });

  it('stops where a statement begins, and at every line of which one does', () => {
    expect(stops.filter(({ begins }) => begins !== 'statement')).toEqual([]);
    const begun = all.filter(({ begins }) => begins === 'statement').map(({ line }) => line);
    expect(new Set(stops.map(({ line }) => line))).toEqual(new Set(begun));
  });

  it('stops at the first instruction of each function that it comes into, called or jumped to', () => {
    const entries = all.filter((place, index) => {
      const before = all[index - 1];
      return place.function !== before?.function && place.begins === 'statement';
    });
    expect(entries.length).toBeGreaterThan(4);
    const visited = stops.map(({ instruction }) => instruction);
    expect(entries.filter(({ instruction }) => !visited.includes(instruction))).toEqual([]);
  });

  it.each([false, true])('stops backwards where it does forwards; over calls: %s', (over) => {
    const forwards = over ? walk({ ...byLine, over }) : stops;
    const last = { exit: 1, instruction: forwards.at(-1)!.instruction };
    const backwards = walk({ ...byLine, over, backwards: true }, { kind: 'seek', position: last });
    expect(backwards.reverse()).toEqual(forwards);
  });
});

describe('a way out of an inlined call', () => {
  it.each([false, true])(
    'leads to the function that it is inlined in; backwards: %s',
    (backwards) => {
      const chains: (readonly string[])[] = [];
      debugRun({ scenario: SHORT, payload }, (session): Resume => {
        const { lane } = session;
        const source = level.core(session).sourceOf(lane.rip)!;
        chains.push(source.chainAt(lane.rip).map(({ name }) => name));
        if (chains.length === 1)
          return { kind: 'until', addresses: source.addressesOf('msr.c', 19) };
        return chains.length === 2 ? level.finish(session, backwards) : { kind: 'quit' };
      });
      const [, inside, outside] = chains;
      expect(inside!.length).toBeGreaterThan(1);
      expect(outside!.at(-1)).toBe(inside!.at(-1));
      // Backwards another call may be right before it, inlined too.
      expect(outside).not.toContain(inside![0]);
    },
  );
});

describe('many steps back', () => {
  it.each(['next', 'step-line'] as const)('go through each exit once: %s', (kind) => {
    const restored = vi.spyOn(Machine.prototype, 'restore');
    const begun = vi.spyOn(Conductor.prototype, 'run');
    const COUNT = 1_000;
    const EXITS = 40;
    const exits: number[] = [];
    let work = 0;
    debugRun({ scenario: SHORT, payload: referencePayload() }, (_session, { position }): Resume => {
      exits.push(position.exit);
      work = restored.mock.calls.length + begun.mock.calls.length - work;
      if (exits.length === 1) return { kind: 'seek', position: { exit: EXITS, instruction: 0 } };
      if (exits.length === 2) {
        const lineOf = level.lineOf;
        return { kind, count: COUNT, over: true, lineOf, backwards: true };
      }
      return { kind: 'quit' };
    });
    vi.restoreAllMocks();
    const [, from, to] = exits;
    expect(from! - to!).toBeGreaterThan(3);
    expect(work).toBeLessThanOrEqual(from! - to! + 2);
  });
});

describe('a way out of a handler', () => {
  const INTERRUPTED = 20;
  /** Where an NMI that comes in the middle of an exit leads: positions and functions at each stop. */
  function interrupted(...wishes: readonly Resume[]): string[] {
    const seen: string[] = [];
    debugRun({ scenario: SHORT, payload }, (session, { position }): Resume => {
      if (seen.length === 1) session.edit({ kind: 'nmi', vcpu: session.stop.vcpu! });
      seen.push(`${position.instruction} ${placeOf(session).function}`);
      const wish = wishes[seen.length - 2];
      if (seen.length === 1)
        return { kind: 'seek', position: { exit: 1, instruction: INTERRUPTED } };
      return wish ?? { kind: 'quit' };
    });
    return seen.slice(1);
  }

  it('leads to the code that it interrupted, forwards behind IRET and backwards to where it came', () => {
    const [code, inside, behind] = interrupted({ kind: 'step', count: 3 }, { kind: 'finish' });
    expect(code).toBe(`${INTERRUPTED} caretaker_dispatch`);
    expect(inside).toBe(`${INTERRUPTED + 3} caretaker_trap_stubs`);
    expect(behind).toMatch(/^\d+ caretaker_dispatch$/);
    expect(Number.parseInt(behind!, 10)).toBeGreaterThan(INTERRUPTED + 3);
    const back = interrupted({ kind: 'step', count: 3 }, { kind: 'finish', backwards: true });
    expect(back.at(-1)).toBe(code);
  });

  it('does not take the handler for the end of a function that it interrupts', () => {
    const seen = interrupted({ kind: 'finish' });
    expect(seen.at(-1)).toMatch(/caretaker_vmexit$/);
  });
});
