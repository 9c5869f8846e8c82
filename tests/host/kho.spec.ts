import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { u64 } from '../../abi/uint.js';
import { hostEvents } from '../../emulator/host/events.js';
import { hpaOf, overlap, type FrameRange } from '../../emulator/host/frames.js';
import { encodeFdt } from '../../emulator/host/kho/fdt.js';
import { writeKhoData } from '../../emulator/host/kho/kho-abi.js';
import { KhoIn, khoPopulate } from '../../emulator/host/kho/kho-in.js';
import { KhoOut } from '../../emulator/host/kho/kho-out.js';
import { PageAllocator } from '../../emulator/host/page-allocator.js';
import { PAGE_SIZE, PhysicalMemory } from '../../emulator/memory/physical-memory.js';
import { errnoOf, must } from './bench.js';

const MANAGED = { start: 16, count: 2000 };
const SCRATCH = [{ start: 64, count: 16 }];
const HANDOVER = hpaOf(64);

function outgoing(enabled = true) {
  const memory = new PhysicalMemory(new ArrayBuffer(2048 * PAGE_SIZE));
  const warnings: string[] = [];
  const events = hostEvents({ onWarn: (where) => warnings.push(where) });
  const allocator = new PageAllocator(memory, 'old-kernel', SCRATCH, []);
  allocator.bringUp(MANAGED, []);
  const kho = new KhoOut(memory, allocator, SCRATCH, events, enabled);
  return { memory, warnings, events, allocator, kho };
}

/** The next kernel's KHO: it shares nothing with the old one but memory. */
function incoming({ memory, warnings, events, kho }: ReturnType<typeof outgoing>) {
  must(kho.finalize());
  writeKhoData(memory, HANDOVER, kho.handover()!);
  const populated = must(khoPopulate(memory, HANDOVER));
  const allocator = new PageAllocator(memory, 'next-kernel', populated.scratch, []);
  const next = new KhoIn(memory, allocator, events, populated);
  allocator.bringUp(MANAGED, next.preservedFrames());
  return { memory, warnings, allocator, kho: next };
}

describe('KHO, old kernel', () => {
  it.each<[string, string, (kho: KhoOut) => ReturnType<KhoOut['preservePages']>]>([
    [
      'a page in scratch is never preserved',
      'EINVAL',
      (k) => k.preservePages({ start: 70, count: 1 }),
    ],
    ['nor a range that reaches into it', 'EINVAL', (k) => k.preservePages({ start: 60, count: 8 })],
    ['a folio is aligned to its order', 'EINVAL', (k) => k.preserveFolio({ pfn: 101, order: 1 })],
    [
      'what was not preserved cannot be unpreserved',
      'ENOENT',
      (k) => k.unpreservePages({ start: 200, count: 1 }),
    ],
    [
      'a part of a block cannot be unpreserved',
      'ENOENT',
      (k) => {
        must(k.preserveFolio({ pfn: 200, order: 2 }));
        return k.unpreservePages({ start: 200, count: 1 });
      },
    ],
    [
      'a subtree name is used once',
      'EEXIST',
      (k) => {
        must(k.addSubtree('LUO', 0x1000n));
        return k.addSubtree('LUO', 0x2000n);
      },
    ],
    [
      'finalizing twice',
      'EEXIST',
      (k) => {
        must(k.finalize());
        return k.finalize();
      },
    ],
    [
      'nothing is preserved after finalize',
      'EBUSY',
      (k) => {
        must(k.finalize());
        return k.preservePages({ start: 200, count: 1 });
      },
    ],
    [
      'nor added',
      'EBUSY',
      (k) => {
        must(k.finalize());
        return k.addSubtree('LUO', 0x1000n);
      },
    ],
  ])('%s: %s', (_rule, errno, attempt) => {
    expect(errnoOf(attempt(outgoing().kho))).toBe(errno);
  });

  it.each([
    ['no size', 0, 'EINVAL'],
    ['more than the largest order', (1024 + 1) * PAGE_SIZE, 'E2BIG'],
    ['more than is free in one piece', 1024 * PAGE_SIZE, 'ENOMEM'],
    ['one byte', 1, 'ok'],
  ] as const)('kho_alloc_preserve of %s: %s', (_what, sizeBytes, errno) => {
    expect(errnoOf(outgoing().kho.allocPreserve(sizeBytes, 'x'))).toBe(errno);
  });

  it('kho_alloc_preserve rounds up to a power of two and zeroes', () => {
    const { kho, memory } = outgoing();
    const run = must(kho.allocPreserve(3 * PAGE_SIZE, 'x'));
    expect([run.count, run.pfn % 4]).toEqual([4, 0]);
    expect(memory.read(run.hpa, 4 * PAGE_SIZE).every((byte) => byte === 0)).toBe(true);
    expect(kho.isPreserved(run.hpa, 4 * PAGE_SIZE)).toBe(true);
    expect(kho.isPreserved(run.hpa, 4 * PAGE_SIZE + 1)).toBe(false);
  });

  it('is off without its kernel parameter', () => {
    const { kho } = outgoing(false);
    expect(errnoOf(kho.preservePages({ start: 200, count: 1 }))).toBe('EOPNOTSUPP');
    expect(errnoOf(kho.finalize())).toBe('EOPNOTSUPP');
  });

  it('unpreserving takes back all that preserving took', () => {
    const { kho, allocator } = outgoing();
    const before = [kho.state(), allocator.state()];
    const run = must(kho.allocPreserve(PAGE_SIZE, 'x'));
    const pages = must(allocator.alloc({ pages: 5, label: 'y' }));
    const area = must(kho.preserveVmalloc([pages.pfn, pages.pfn + 4, pages.pfn + 2]));
    must(kho.unpreserveVmalloc(area));
    allocator.free(pages.hpa);
    must(kho.unpreserveFree(run.hpa));
    expect([kho.state(), allocator.state()]).toEqual(before);
  });

  it('abort makes finalize undone', () => {
    const { kho, allocator } = outgoing();
    const before = [kho.state(), allocator.state()];
    must(kho.finalize());
    expect(kho.handover()).toBeDefined();
    kho.abort();
    expect(kho.handover()).toBeUndefined();
    expect([kho.state(), allocator.state()]).toEqual(before);
  });

  it('a vmalloc area with a page in scratch leaves nothing preserved', () => {
    const { kho } = outgoing();
    expect(errnoOf(kho.preserveVmalloc([100, 70]))).toBe('EINVAL');
    expect(kho.preservedFrames()).toEqual([]);
  });
});

describe('KHO, next kernel', () => {
  it('finds by name what was handed over, and nothing else', () => {
    const old = outgoing();
    const blob = must(old.kho.allocPreserve(PAGE_SIZE, 'blob'));
    must(old.kho.addSubtree('LUO', blob.hpa));
    const { kho } = incoming(old);
    expect(kho.isKhoBoot).toBe(true);
    expect(must(kho.retrieveSubtree('LUO'))).toBe(blob.hpa);
    expect(errnoOf(kho.retrieveSubtree('nobody'))).toBe('ENOENT');
  });

  it('after a cold boot there is nothing to find', () => {
    const { memory, allocator, events } = outgoing();
    const kho = new KhoIn(memory, allocator, events, undefined);
    expect(errnoOf(kho.retrieveSubtree('LUO'))).toBe('ENOENT');
    expect(kho.isKhoBoot).toBe(false);
  });

  it('never allocates a preserved page before it is restored and freed', () => {
    const old = outgoing();
    const kept = must(old.kho.allocPreserve(PAGE_SIZE, 'kept'));
    const { allocator, kho } = incoming(old);
    const taken: number[] = [];
    for (let run = allocator.alloc({ pages: 1, label: 'x' }); run.ok;) {
      taken.push(run.value.pfn);
      run = allocator.alloc({ pages: 1, label: 'x' });
    }
    expect(taken).not.toContain(kept.pfn);
    must(kho.restoreFree(kept.hpa));
    expect(must(allocator.alloc({ pages: 1, label: 'x' })).pfn).toBe(kept.pfn);
  });

  it('restoring a page twice fails the magic check', () => {
    const old = outgoing();
    const pages = must(old.allocator.alloc({ pages: 3, label: 'x' }));
    const range = { start: pages.pfn, count: 3 };
    must(old.kho.preservePages(range));
    const { kho, warnings } = incoming(old);
    must(kho.restorePages(range));
    expect(warnings).toEqual([]);
    expect(errnoOf(kho.restorePages(range))).toBe('EINVAL');
    expect(errnoOf(kho.restoreFolio(hpaOf(1999)))).toBe('EINVAL');
    expect(warnings).toEqual(['kho_restore_page', 'kho_restore_page']);
  });

  it('pages come back only in the blocks they were preserved in', () => {
    const old = outgoing();
    const pages = must(old.allocator.alloc({ pages: 4, align: 4, label: 'x' }));
    must(old.kho.preservePages({ start: pages.pfn, count: 2 }));
    must(old.kho.preservePages({ start: pages.pfn + 2, count: 2 }));
    expect(errnoOf(incoming(old).kho.restorePages({ start: pages.pfn, count: 4 }))).toBe('EINVAL');
  });

  it('a vmalloc area comes back page by page, across chunks, with its content', () => {
    const old = outgoing();
    const pfns: number[] = [];
    for (let page = 0; page < 600; page++) {
      const run = must(old.allocator.alloc({ pages: 1, label: 'x' }));
      old.memory.writeU32(run.hpa, page);
      pfns.unshift(run.pfn);
    }
    const area = must(old.kho.preserveVmalloc(pfns));
    const next = incoming(old);
    expect(must(next.kho.restoreVmalloc(area))).toEqual(pfns);
    expect(next.memory.readU32(hpaOf(pfns[0]!))).toBe(599);
    expect(errnoOf(next.kho.restoreVmalloc(area))).toBe('EINVAL');
  });

  it('sees exactly the frames that were preserved, none of them in scratch', () => {
    const range = fc.record({
      start: fc.integer({ min: 900, max: 1900 }),
      count: fc.integer({ min: 1, max: 90 }),
    });
    fc.assert(
      fc.property(fc.array(range, { maxLength: 12 }), (wanted) => {
        const old = outgoing();
        const kept: FrameRange[] = [];
        for (const one of wanted) {
          if (kept.some((other) => overlap(other, one))) continue;
          must(old.kho.preservePages(one));
          kept.push(one);
        }
        const next = incoming(old);
        expect(next.kho.preservedFrames()).toEqual(old.kho.preservedFrames());
        const inScratch = next.kho.preservedFrames().filter((one) => overlap(one, SCRATCH[0]!));
        expect(inScratch).toEqual([]);
        for (const one of kept) must(next.kho.restorePages(one));
      }),
      { numRuns: 40 },
    );
  });

  it.each<[string, string, (memory: PhysicalMemory, fdt: bigint) => void]>([
    ['no setup_data of KHO’s type', 'ENOENT', (m) => m.writeU32(HANDOVER + 8n, 1)],
    [
      'a setup_data list that goes in circles',
      'ENOENT',
      (m) => {
        m.writeU32(HANDOVER + 8n, 1);
        m.writeU64(HANDOVER, HANDOVER);
      },
    ],
    ['a tree beyond memory', 'ENOENT', (m) => m.writeU64(HANDOVER + 16n, 1n << 40n)],
    ['bytes that are no tree', 'EINVAL', (m, fdt) => m.writeU32(fdt, 0)],
    [
      'another compatible string',
      'EINVAL',
      (m, fdt) => {
        m.write(fdt, encodeFdt({ name: '', properties: [], children: [] }));
      },
    ],
  ])('kho_populate refuses %s: %s', (_what, errno, corrupt) => {
    const { kho, memory } = outgoing();
    must(kho.finalize());
    const data = kho.handover()!;
    writeKhoData(memory, HANDOVER, data);
    corrupt(memory, data.fdt);
    expect(errnoOf(khoPopulate(memory, HANDOVER))).toBe(errno);
  });

  it('kho_populate refuses a map with a loop, a wild count, or a page in scratch', () => {
    const { kho, memory } = outgoing();
    must(kho.finalize());
    writeKhoData(memory, HANDOVER, kho.handover()!);
    const map = kho.state().mapBlocks[0]!;
    memory.writeU64(map, map);
    expect(errnoOf(khoPopulate(memory, HANDOVER))).toBe('EINVAL');
    memory.writeU64(map, 0n);
    const count = memory.readU64(map + 8n);
    memory.writeU64(map + 8n, 1n << 50n);
    expect(errnoOf(khoPopulate(memory, HANDOVER))).toBe('EINVAL');
    memory.writeU64(map + 8n, count);
    expect(errnoOf(khoPopulate(memory, HANDOVER))).toBe('ok');
    memory.writeU64(map + 16n, hpaOf(66));
    expect(errnoOf(khoPopulate(memory, HANDOVER))).toBe('EINVAL');
  });

  it('no corruption of what is handed over does worse than an errno', () => {
    const old = outgoing();
    must(old.kho.addSubtree('LUO', must(old.kho.allocPreserve(PAGE_SIZE, 'x')).hpa));
    must(old.kho.finalize());
    const data = old.kho.handover()!;
    writeKhoData(old.memory, HANDOVER, data);
    const places = [HANDOVER, data.fdt, old.kho.state().mapBlocks[0]!];
    const change = fc.tuple(fc.constantFrom(...places), fc.nat({ max: 200 }), fc.nat({ max: 255 }));
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 3 }), (changes) => {
        const { memory } = old;
        const sound = places.map((page) => memory.read(page, 256));
        for (const [page, at, value] of changes) memory.writeU8(page + u64(at), value);
        expect(['ok', 'EINVAL', 'ENOENT']).toContain(errnoOf(khoPopulate(memory, HANDOVER)));
        places.forEach((page, index) => memory.write(page, sound[index]!));
      }),
      { numRuns: 500 },
    );
  });
});
