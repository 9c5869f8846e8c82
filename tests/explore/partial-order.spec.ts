/**
 * The reduction on small systems of all kinds: it reaches every end that some order of steps reaches, and with fewer
 * executions.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  areDependent,
  bytes,
  type Footprint,
} from '../../emulator/explore/interleave/footprint.js';
import {
  PartialOrderSearch,
  type ExploredSystem,
} from '../../emulator/explore/interleave/partial-order.js';
import '../support/property-seed.js';

/** An instruction of a toy processor with one register, on shared variables. */
type Op =
  | { readonly kind: 'load' | 'add' | 'store'; readonly at: number }
  /** A variable of another kind: raised once and never lowered. */
  | { readonly kind: 'raise' | 'await' | 'look'; readonly flag: number }
  | { readonly kind: 'own' };

const VARIABLES = 2;
const FLAGS = 2;

/** Programs that run side by side; `ends` is all that an execution came to. */
class Toy implements ExploredSystem {
  readonly #programs: readonly (readonly Op[])[];
  #memory: number[] = [];
  #registers: number[] = [];
  #at: number[] = [];

  constructor(programs: readonly (readonly Op[])[]) {
    this.#programs = programs;
  }

  reset(): void {
    this.#memory = Array.from({ length: VARIABLES + FLAGS }, () => 0);
    this.#registers = this.#programs.map(() => 0);
    this.#at = this.#programs.map(() => 0);
  }

  enabled(): readonly number[] {
    return this.#programs.flatMap((program, process) => {
      const op = program[this.#at[process]!];
      const isReady =
        op !== undefined && (op.kind !== 'await' || this.#memory[VARIABLES + op.flag] === 1);
      return isReady ? [process] : [];
    });
  }

  step(process: number): Footprint {
    const op = this.#programs[process]![this.#at[process]!++]!;
    const memory = this.#memory;
    const registers = this.#registers;
    switch (op.kind) {
      case 'load':
        registers[process] = memory[op.at]!;
        return [bytes(op.at, 1, false)];
      case 'look':
        registers[process]! += 7 * memory[VARIABLES + op.flag]!;
        return [bytes(VARIABLES + op.flag, 1, false)];
      case 'await':
        return [bytes(VARIABLES + op.flag, 1, false)];
      case 'add':
        memory[op.at]! += 1 + registers[process]!;
        return [bytes(op.at, 1, true)];
      case 'store':
        memory[op.at] = registers[process]! + 10 * (process + 1);
        return [bytes(op.at, 1, true)];
      case 'raise':
        memory[VARIABLES + op.flag] = 1;
        return [bytes(VARIABLES + op.flag, 1, true)];
      case 'own':
        registers[process]! += 100;
        return [];
    }
  }

  ends(): string {
    return JSON.stringify([this.#memory, this.#registers, this.#at]);
  }
}

function explored(
  programs: readonly (readonly Op[])[],
  withoutReduction: boolean,
): { ends: ReadonlySet<string>; executions: number } {
  const toy = new Toy(programs);
  const search = new PartialOrderSearch(toy, programs.length, { withoutReduction, limit: 1e6 });
  const ends = new Set<string>();
  for (const run = search.run(); run.next().done !== true;) ends.add(toy.ends());
  expect(search.result.isComplete).toBe(true);
  return { ends, executions: search.result.executions };
}

const at = fc.integer({ min: 0, max: VARIABLES - 1 });
const flag = fc.integer({ min: 0, max: FLAGS - 1 });
const op = fc.oneof<fc.Arbitrary<Op>[]>(
  fc.record({ kind: fc.constantFrom('load' as const, 'add' as const, 'store' as const), at }),
  fc.record({
    kind: fc.constantFrom('raise' as const, 'await' as const, 'look' as const),
    flag,
  }),
  fc.constant({ kind: 'own' } as const),
);
const program = fc.array(op, { maxLength: 4 });

describe('the reduction', () => {
  it('comes to every end that plain enumeration comes to, and to no other', () => {
    fc.assert(
      fc.property(fc.array(program, { minLength: 2, maxLength: 3 }), (programs) => {
        const reduced = explored(programs, false);
        const plain = explored(programs, true);
        expect([...reduced.ends].sort()).toEqual([...plain.ends].sort());
        expect(reduced.executions).toBeLessThanOrEqual(plain.executions);
      }),
    );
  });

  it('runs what shares nothing once, in whatever order', () => {
    const own = Array.from({ length: 4 }, (): Op => ({ kind: 'own' }));
    expect(explored([own, own, own], false).executions).toBe(1);
    expect(explored([own, own], true).executions).toBe(70);
  });

  it('runs a message that is waited for in each of its two orders and no more', () => {
    const sender: Op[] = [{ kind: 'own' }, { kind: 'add', at: 0 }, { kind: 'raise', flag: 1 }];
    const receiver: Op[] = [
      { kind: 'await', flag: 1 },
      { kind: 'load', at: 0 },
    ];
    expect(explored([sender, receiver], false).executions).toBe(1);
    expect(explored([sender, [{ kind: 'load', at: 0 }]], false).executions).toBe(2);
  });
});

describe('two accesses', () => {
  it.each([
    ['a read and a write of one byte', [bytes(4, 8, false)], [bytes(11, 1, true)], true],
    ['neighbours', [bytes(4, 8, true)], [bytes(12, 1, true)], false],
    ['two reads', [bytes(4, 8, false)], [bytes(4, 8, false)], false],
    ['nothing and a write', [], [bytes(4, 8, true)], false],
  ] as const)('%s', (_what, one, other, expected) => {
    expect(areDependent(one, other)).toBe(expected);
    expect(areDependent(other, one)).toBe(expected);
  });
});
