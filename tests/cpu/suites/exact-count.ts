/** Exactness by random programs whose dynamic instruction and store counts are known when they are made. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Engine } from '../../../emulator/cpu/engine.js';
import { CODE, DATA, bytesOf, fixture, reset } from './fixture.js';

/** A stretch of code and what one pass over it executes. RCX, RDI, RAX, RDX and R15 are its scratch. */
interface Piece {
  readonly code: string;
  readonly instructions: number;
  readonly stores: number;
}

const le32 = (value: number): string => {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return bytes.toString('hex');
};
const length = (code: string): number => bytesOf(code).length;

const simple = fc.constantFrom<Piece>(
  { code: '48ffc3', instructions: 1, stores: 0 }, // inc rbx
  { code: '4889 1e', instructions: 1, stores: 1 }, // mov [rsi],rbx
  { code: '488b 06', instructions: 1, stores: 0 }, // mov rax,[rsi]
  { code: 'f04801 1e', instructions: 1, stores: 1 }, // lock add [rsi],rbx
  { code: '9c 415f', instructions: 2, stores: 1 }, // pushf; pop r15
  { code: '0f31', instructions: 1, stores: 0 }, // rdtsc
  { code: 'e800000000 415f', instructions: 2, stores: 1 }, // call next; pop r15
  { code: '0f95c0', instructions: 1, stores: 0 }, // setne al
  { code: 'eb02 0606', instructions: 1, stores: 0 }, // jmp over bytes that are none
  { code: 'f390', instructions: 1, stores: 0 }, // pause: a model's
  { code: '0fa2', instructions: 1, stores: 0 }, // cpuid: a model's
);
const repeated = fc.integer({ min: 0, max: 20 }).map<Piece>((count) => ({
  // mov ecx,count; mov edi,DATA; rep stosb
  code: `b9${le32(count)} bf${le32(Number(DATA) + 0x100)} f3aa`,
  instructions: 3,
  stores: 1,
}));
const straight = fc.oneof({ weight: 8, arbitrary: simple }, { weight: 1, arbitrary: repeated });

const sequence = (pieces: readonly Piece[]): Piece => ({
  code: pieces.map((piece) => piece.code).join(' '),
  instructions: pieces.reduce((sum, piece) => sum + piece.instructions, 0),
  stores: pieces.reduce((sum, piece) => sum + piece.stores, 0),
});

/** mov r8d,count; body; dec r8d; jnz body */
const loop = fc
  .record({
    count: fc.integer({ min: 1, max: 12 }),
    body: fc.array(straight, { minLength: 1, maxLength: 8 }),
  })
  .map<Piece>(({ count, body }) => {
    const inner = sequence(body);
    const back = `41ffc8 0f85${le32(-(length(inner.code) + 9))}`;
    return {
      code: `41b8${le32(count)} ${inner.code} ${back}`,
      instructions: 1 + count * (inner.instructions + 2),
      stores: count * inner.stores,
    };
  });

export const program = fc
  .array(fc.oneof({ weight: 3, arbitrary: straight }, { weight: 1, arbitrary: loop }), {
    minLength: 1,
    maxLength: 25,
  })
  .map(sequence);

/** Runs to the HLT, letting every other site pass as a model would; `chunk` bounds each run. */
function finish(engine: Engine, chunk: () => number): void {
  for (;;) {
    const limit = chunk();
    const before = engine.counters.instructions;
    const stop = engine.run(limit);
    if (stop.kind === 'limit') {
      expect(engine.counters.instructions).toBe(before + limit);
      continue;
    }
    if (stop.kind !== 'site') throw new Error(`unexpected ${stop.kind}`);
    if (stop.site.instruction.name === 'HLT') return;
    engine.retire(stop.site);
  }
}

const start = (code: string): ReturnType<typeof fixture> => {
  const made = fixture(`${code} f4`);
  reset(made.engine);
  made.engine.registers.set('RSI', DATA);
  return made;
};

export function exactCount(): void {
  describe('exact counts over random programs', () => {
    it('instructions and stores are counted as the program executes them', () => {
      fc.assert(
        fc.property(program, (piece) => {
          const { engine } = start(piece.code);
          finish(engine, () => Infinity);
          const { instructions, stores } = engine.counters;
          engine.dispose();
          expect({ instructions, stores }).toEqual({
            instructions: piece.instructions,
            stores: piece.stores,
          });
        }),
        { numRuns: 60 },
      );
    });

    it('a run cut at any instructions ends as an uncut one, blocks and coverage included', () => {
      const cuts = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 6 });
      fc.assert(
        fc.property(program, cuts, (piece, sizes) => {
          const [whole, cut] = [start(piece.code), start(piece.code)];
          finish(whole.engine, () => Infinity);
          let at = 0;
          finish(cut.engine, () => sizes[at++ % sizes.length]!);
          expect(cut.engine.registers.values).toEqual(whole.engine.registers.values);
          expect(Buffer.compare(cut.memory.bytes, whole.memory.bytes)).toBe(0);
          expect({ ...countsOf(cut.engine) }).toEqual({ ...countsOf(whole.engine) });
          expect(cut.engine.recentBlocks()).toEqual(whole.engine.recentBlocks());
          expect(Buffer.compare(cut.engine.coverage.counts, whole.engine.coverage.counts)).toBe(0);
          const taken = [...whole.engine.coverage.counts.keys()].filter(
            (at) => whole.engine.coverage.counts[at] !== 0,
          );
          expect(whole.engine.coverage.edges.toSorted()).toEqual(Uint32Array.from(taken));
          whole.engine.coverage.clear();
          expect(whole.engine.coverage.counts.some((count) => count !== 0)).toBe(false);
          expect(whole.engine.coverage.edges).toHaveLength(0);
          whole.engine.dispose();
          cut.engine.dispose();
        }),
        { numRuns: 40 },
      );
    });

    it('a snapshot taken anywhere goes on as the run it was taken from', () => {
      fc.assert(
        fc.property(program, fc.nat({ max: 60 }), (piece, at) => {
          const { engine, memory } = start(piece.code);
          const limit = Math.min(at, piece.instructions);
          let left = limit;
          while (left > 0) {
            const before = engine.counters.instructions;
            const stop = engine.run(left);
            if (stop.kind === 'site') engine.retire(stop.site);
            left -= engine.counters.instructions - before;
          }
          const taken = engine.snapshot();
          const bytes = memory.bytes.slice();
          finish(engine, () => Infinity);
          const first = {
            registers: engine.registers.values.slice(),
            counts: countsOf(engine),
            blocks: engine.recentBlocks(),
          };
          memory.bytes.set(bytes);
          engine.restore(taken);
          expect(engine.counters.instructions).toBe(limit);
          finish(engine, () => Infinity);
          expect(engine.registers.values).toEqual(first.registers);
          expect(countsOf(engine)).toEqual(first.counts);
          expect(engine.recentBlocks().slice(-3)).toEqual(first.blocks.slice(-3));
          engine.dispose();
        }),
        { numRuns: 40 },
      );
    });
  });

  describe('blocks', () => {
    it('a site does not split one, a branch does', () => {
      // inc; rdtsc; inc; cpuid; inc; jmp +0; inc; hlt
      const { engine } = start('48ffc3 0f31 48ffc3 0fa2 48ffc3 eb00 48ffc3');
      finish(engine, () => Infinity);
      expect(engine.recentBlocks()).toEqual([CODE, CODE + 15n]);
      expect(engine.counters.blocks).toBe(2);
    });
    it('a taken and a not taken branch are two edges', () => {
      const edges = (zero: boolean): number[] => {
        const { engine } = start('4885db 7403 48ffc3'); // test rbx,rbx; jz +3; inc rbx
        engine.registers.set('RBX', zero ? 0n : 1n);
        finish(engine, () => Infinity);
        return [...engine.coverage.counts.keys()].filter(
          (key) => engine.coverage.counts[key] !== 0,
        );
      };
      expect(edges(true)).not.toEqual(edges(false));
      expect(edges(true)).toEqual(edges(true));
    });
  });
}

function countsOf(engine: Engine): object {
  const { instructions, blocks, stores, inlineRdtscs } = engine.counters;
  return { instructions, blocks, stores, inlineRdtscs };
}
