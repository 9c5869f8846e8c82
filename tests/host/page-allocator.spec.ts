import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { HarnessBug } from '../../abi/errors.js';
import {
  blocksOf,
  framesOfBlock,
  mergeFrames,
  subtractFrames,
} from '../../emulator/host/frames.js';
import { PAGE_POISON, PageAllocator } from '../../emulator/host/page-allocator.js';
import { PAGE_SIZE, PhysicalMemory } from '../../emulator/memory/physical-memory.js';
import { errnoOf, must } from './bench.js';

const SCRATCH = [{ start: 32, count: 8 }];

function allocator(isUp = true) {
  const memory = new PhysicalMemory(new ArrayBuffer(128 * PAGE_SIZE));
  const pages = new PageAllocator(memory, 'old-kernel', SCRATCH, []);
  if (isUp) pages.bringUp({ start: 16, count: 64 }, [{ start: 20, count: 2 }]);
  return { memory, pages };
}

describe('page allocator', () => {
  it('takes the lowest range that fits', () => {
    const { pages } = allocator();
    expect(must(pages.alloc({ pages: 4, label: 'a' })).pfn).toBe(16);
    expect(must(pages.alloc({ pages: 4, label: 'b' })).pfn).toBe(22);
    expect(must(pages.alloc({ pages: 1, label: 'c', align: 8 })).pfn).toBe(40);
  });

  it.each([
    ['no pages', { pages: 0, label: 'x' }, 'EINVAL'],
    ['an alignment of three', { pages: 1, align: 3, label: 'x' }, 'EINVAL'],
    ['more than is contiguous', { pages: 60, label: 'x' }, 'ENOMEM'],
  ] as const)('%s is refused', (_what, request, errno) => {
    expect(errnoOf(allocator().pages.alloc(request))).toBe(errno);
  });

  it('keeps out of scratch unless pages are movable', () => {
    const { pages } = allocator();
    const fixed = [];
    for (;;) {
      const run = pages.alloc({ pages: 1, label: 'fixed' });
      if (!run.ok) break;
      fixed.push(run.value.pfn);
    }
    expect(fixed.filter((pfn) => pfn >= 32 && pfn < 40)).toEqual([]);
    expect(must(pages.alloc({ pages: 8, label: 'movable', movable: true })).pfn).toBe(32);
  });

  it('has nothing but scratch until it is up', () => {
    const { pages } = allocator(false);
    expect(must(pages.alloc({ pages: 2, label: 'early' })).pfn).toBe(32);
    expect(errnoOf(pages.alloc({ pages: 7, label: 'early' }))).toBe('ENOMEM');
  });

  it('an allocation is a claim of its owner, and freed pages are poison and nobody’s', () => {
    const { memory, pages } = allocator();
    const run = must(pages.allocZeroed({ pages: 2, label: 'guest', owner: 'guest' }));
    expect(memory.regionAt(run.pfn * PAGE_SIZE)).toMatchObject({ owner: 'guest', label: 'guest' });
    pages.free(run.hpa);
    expect(memory.regionAt(run.pfn * PAGE_SIZE)).toBeUndefined();
    expect(new Set(memory.read(run.hpa, 2 * PAGE_SIZE))).toEqual(new Set([PAGE_POISON]));
  });

  it('freeing twice is a bug', () => {
    const { pages } = allocator();
    const run = must(pages.alloc({ pages: 1, label: 'x' }));
    pages.free(run.hpa);
    expect(() => pages.free(run.hpa)).toThrow(HarnessBug);
  });

  it('reserved frames can be adopted and then freed, free frames cannot be adopted', () => {
    const { pages } = allocator();
    const before = pages.freePages();
    pages.free(pages.adopt({ start: 20, count: 2 }, 'restored').hpa);
    expect(pages.freePages()).toBe(before + 2);
    expect(() => pages.adopt({ start: 20, count: 1 }, 'again')).toThrow(HarnessBug);
  });

  it('goes back to a state that was taken', () => {
    const { pages } = allocator();
    const state = pages.state();
    const first = must(pages.alloc({ pages: 3, label: 'x' }));
    pages.restore(state);
    expect(pages.state()).toEqual(state);
    expect(must(pages.alloc({ pages: 3, label: 'x' }))).toEqual(first);
  });

  it('allocations never overlap, whatever is asked for and freed', () => {
    const step = fc.record({ pages: fc.integer({ min: 1, max: 9 }), drop: fc.nat({ max: 20 }) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const { pages } = allocator();
        const live: { hpa: bigint; pfn: number; count: number }[] = [];
        for (const { pages: count, drop } of steps) {
          const run = pages.alloc({ pages: count, label: 'x', movable: count % 2 === 0 });
          if (run.ok) live.push(run.value);
          const gone = live.splice(drop, 1)[0];
          if (gone !== undefined) pages.free(gone.hpa);
        }
        const ranges = live.map(({ pfn, count }) => ({ start: pfn, count }));
        const total = ranges.reduce((sum, range) => sum + range.count, 0);
        expect(mergeFrames(ranges).reduce((sum, range) => sum + range.count, 0)).toBe(total);
      }),
    );
  });
});

describe('frame ranges', () => {
  const range = fc.record({
    start: fc.nat({ max: 3000 }),
    count: fc.integer({ min: 1, max: 3000 }),
  });

  it('a range falls into aligned blocks that cover it exactly', () => {
    fc.assert(
      fc.property(range, (whole) => {
        const blocks = blocksOf(whole);
        expect(blocks.every(({ pfn, order }) => pfn % 2 ** order === 0 && order <= 10)).toBe(true);
        expect(mergeFrames(blocks.map(framesOfBlock))).toEqual([whole]);
      }),
    );
  });

  it('what is subtracted is gone and nothing else is', () => {
    fc.assert(
      fc.property(range, fc.array(range, { maxLength: 4 }), (whole, holes) => {
        const left = subtractFrames([whole], holes);
        const isIn = (pfn: number, ranges: typeof holes) =>
          ranges.some((r) => pfn >= r.start && pfn < r.start + r.count);
        for (let pfn = whole.start; pfn < whole.start + whole.count; pfn += 7) {
          if (isIn(pfn, left) === isIn(pfn, holes)) throw new Error(`frame ${pfn}`);
        }
      }),
    );
  });
});
