import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PTE } from '../../emulator/memory/page-table-entries.js';
import {
  PageTableError,
  buildIdentityTables,
  leafMappings,
  tablePages,
  walk,
} from '../../emulator/memory/page-tables.js';
import type { IdentityRange } from '../../emulator/memory/page-tables.js';
import { PhysicalMemory } from '../../emulator/memory/physical-memory.js';

const PAGE = 0x1000n;

/** 1 MiB of memory; table pages come from 0x1000 up. */
function machine(): { memory: PhysicalMemory; allocate: () => bigint; tables: bigint[] } {
  const memory = new PhysicalMemory(new ArrayBuffer(0x10_0000));
  const tables: bigint[] = [];
  const allocate = (): bigint => {
    const page = PAGE * BigInt(tables.length + 1);
    tables.push(page);
    return page;
  };
  return { memory, allocate, tables };
}

const range = (base: bigint, pages: number, rights = ''): IdentityRange => ({
  base,
  sizeBytes: pages * 0x1000,
  writable: rights.includes('w'),
  executable: rights.includes('x'),
  shadowStack: rights.includes('s'),
});

describe('identity-mapped tables', () => {
  // prettier-ignore
  const ranges = fc
    .array(
      fc.record({
        gap: fc.oneof(fc.integer({ min: 0, max: 3 }), fc.integer({ min: 500, max: 520 }), fc.integer({ min: 262_000, max: 263_000 })),
        pages: fc.integer({ min: 1, max: 20 }),
        rights: fc.constantFrom('', 'w', 'x', 's'),
      }),
      { maxLength: 12 },
    )
    .map((parts) => {
      let next = 0n;
      return parts.map(({ gap, pages, rights }) => {
        const base = next + BigInt(gap) * PAGE;
        next = base + BigInt(pages) * PAGE;
        return range(base, pages, rights);
      });
    });

  it('map each page of each range to itself with its rights, and no page beside them', () => {
    fc.assert(
      fc.property(ranges, (list) => {
        const { memory, allocate } = machine();
        const cr3 = buildIdentityTables(memory, list, allocate);
        const covering = (linear: bigint): IdentityRange | undefined =>
          list.find((r) => r.base <= linear && linear < r.base + BigInt(r.sizeBytes));
        const probes = list.flatMap((r) => {
          const end = r.base + BigInt(r.sizeBytes);
          return [r.base - PAGE, r.base - 1n, r.base, r.base + 5n, end - 1n, end, end + PAGE];
        });
        for (const linear of [...probes, 0n, 1n << 40n].filter((address) => address >= 0n)) {
          const expected = covering(linear);
          const found = walk(memory, cr3, linear);
          if (expected === undefined) {
            expect(found).toMatchObject({ kind: 'absent', reason: 'not-present' });
          } else {
            expect(found).toEqual({
              kind: 'mapped',
              physical: linear,
              writable: expected.writable,
              executable: expected.executable,
              shadowStack: expected.shadowStack,
              level: 1,
            });
          }
        }
        const mapped = leafMappings(memory, cr3);
        const size = (sum: number, r: { sizeBytes: number }): number => sum + r.sizeBytes;
        expect(mapped.reduce(size, 0)).toBe(list.reduce(size, 0));
        expect(mapped.every((run) => run.linear === run.physical)).toBe(true);
        expect(mapped.some((run) => run.writable && run.executable)).toBe(false);
      }),
      { numRuns: 200 },
    );
  });

  it('are on exactly the pages that the allocator gave, whatever those held before', () => {
    const { memory, allocate, tables } = machine();
    memory.fill(0n, 0x10_0000, 0xff);
    const cr3 = buildIdentityTables(
      memory,
      [range(0x8000n, 2, 'w'), range(1n << 39n, 1)],
      allocate,
    );
    expect(cr3).toBe(tables[0]);
    expect(tablePages(memory, cr3)).toEqual(tables);
    expect(tables).toHaveLength(7);
  });

  it('coalesce into one run where addresses and rights continue, across a table boundary too', () => {
    const { memory, allocate } = machine();
    const cr3 = buildIdentityTables(
      memory,
      [range(0x1f_e000n, 3, 'w'), range(0x20_1000n, 1, 'w'), range(0x20_2000n, 1)],
      allocate,
    );
    expect(leafMappings(memory, cr3)).toMatchObject([
      { linear: 0x1f_e000n, sizeBytes: 0x4000, writable: true },
      { linear: 0x20_2000n, sizeBytes: 0x1000, writable: false },
    ]);
  });

  // prettier-ignore
  it.each([
    ['a base inside a page', 'PAGE_TABLE_UNALIGNED', [{ ...range(0x1000n, 1), base: 0x1008n }]],
    ['a size of part of a page', 'PAGE_TABLE_UNALIGNED', [{ ...range(0x1000n, 1), sizeBytes: 0x800 }]],
    ['an empty range', 'PAGE_TABLE_UNALIGNED', [range(0x1000n, 0)]],
    ['two ranges with a common page', 'PAGE_TABLE_OVERLAP', [range(0x2000n, 1), range(0x1000n, 2)]],
    ['a writable and executable range', 'PAGE_TABLE_W_AND_X', [range(0x1000n, 1, 'wx')]],
    ['a writable shadow stack', 'PAGE_TABLE_W_AND_X', [range(0x1000n, 1, 'ws')]],
    ['a range beyond MAXPHYADDR', 'PAGE_TABLE_ADDRESS_TOO_HIGH', [range((1n << 46n) - PAGE, 2)]],
  ])('are not built for %s', (_title, code, list) => {
    const { memory, allocate, tables } = machine();
    expect(() => buildIdentityTables(memory, list, allocate)).toThrow(PageTableError);
    expect(() => buildIdentityTables(memory, list, allocate)).toThrow(expect.objectContaining({ code }));
    expect(tables).toEqual([]);
  });
});

describe('the walk', () => {
  /** Tables at 0x1000 (PML4), 0x2000, 0x3000, 0x4000 that map linear 0 to 0x7000; `change` corrupts one entry. */
  const tables = (change: (memory: PhysicalMemory) => void): PhysicalMemory => {
    const { memory } = machine();
    for (const table of [0x1000n, 0x2000n, 0x3000n, 0x4000n]) {
      const next = table === 0x4000n ? 0x7000n : table + PAGE;
      memory.writeU64(table, next | PTE.P | PTE.RW);
    }
    change(memory);
    return memory;
  };
  const or =
    (at: bigint, bits: bigint) =>
    (memory: PhysicalMemory): void =>
      memory.writeU64(at, memory.readU64(at) | bits);
  const without =
    (at: bigint, bits: bigint) =>
    (memory: PhysicalMemory): void =>
      memory.writeU64(at, memory.readU64(at) & ~bits);
  const large =
    (at: bigint, page: bigint) =>
    (memory: PhysicalMemory): void =>
      memory.writeU64(at, page | PTE.P | PTE.RW | PTE.PS);
  const nothing = (): void => undefined;

  // prettier-ignore
  it.each([
    ['an entry with R/W 0 at any level makes the page read-only: PML4E', without(0x1000n, PTE.RW), { writable: false, shadowStack: false }],
    ['an entry with R/W 0 at any level makes the page read-only: PDE', without(0x3000n, PTE.RW), { writable: false, shadowStack: false }],
    ['a leaf with R/W 0 makes the page read-only', without(0x4000n, PTE.RW), { writable: false, shadowStack: false }],
    ['an entry with XD 1 at any level forbids execution: PDPTE', or(0x2000n, PTE.NX), { executable: false, writable: true }],
    ['a leaf with XD 1 forbids execution', or(0x4000n, PTE.NX), { executable: false }],
    ['all levels with R/W 1 and XD 0 allow both', nothing, { executable: true, writable: true, level: 1 }],
    ['a leaf with R/W 0 and D 1 under writable entries is a shadow-stack page', (m: PhysicalMemory) => { without(0x4000n, PTE.RW)(m); or(0x4000n, PTE.D)(m); }, { shadowStack: true, writable: false }],
    ['PS in a PDE maps 2 MiB', large(0x3000n, 0x60_0000n), { physical: 0x60_0123n, level: 2 }],
    ['PS in a PDPTE maps 1 GiB', large(0x2000n, 0x8000_0000n), { physical: 0x8000_0123n, level: 3 }],
    ['bit 12 of a large page is PAT, not address', large(0x3000n, 0x60_1000n), { physical: 0x60_0123n, level: 2 }],
  ])('%s', (_title, change, expected) => {
    expect(walk(tables(change), 0x1000n, 0x123n)).toMatchObject({ kind: 'mapped', ...expected });
  });

  // prettier-ignore
  it.each([
    ['P 0 in the PML4E', without(0x1000n, PTE.P), 0n, { reason: 'not-present', level: 4 }],
    ['P 0 in the PTE', without(0x4000n, PTE.P), 0n, { reason: 'not-present', level: 1 }],
    ['PS in a PML4E is reserved', or(0x1000n, PTE.PS), 0n, { reason: 'reserved-bit', level: 4 }],
    ['an address bit at MAXPHYADDR is reserved', or(0x4000n, 1n << 46n), 0n, { reason: 'reserved-bit', level: 1 }],
    ['bits 20:13 of a 2 MiB page are reserved', large(0x3000n, 0x60_2000n), 0n, { reason: 'reserved-bit', level: 2 }],
    ['bits 29:13 of a 1 GiB page are reserved', large(0x2000n, 0x20_0000n), 0n, { reason: 'reserved-bit', level: 3 }],
    ['a table outside memory', or(0x2000n, 0x4000_0000n), 0n, { reason: 'table-outside-memory', level: 2 }],
    ['an address with bits 63:47 unequal', nothing, 1n << 47n, { reason: 'not-canonical', level: 4 }],
    ['another page of the same table', nothing, 0x1000n, { reason: 'not-present', level: 1 }],
  ])('finds nothing: %s', (_title, change, linear, expected) => {
    expect(walk(tables(change), 0x1000n, linear)).toEqual({ kind: 'absent', ...expected });
  });

  it('ignores the low 12 bits of CR3 and the ignored bits 62:52 of an entry', () => {
    const memory = tables(or(0x4000n, 0x7ffn << 52n));
    expect(walk(memory, 0x1fffn, 0n)).toMatchObject({ kind: 'mapped', physical: 0x7000n });
  });

  it('agrees with the list of runs on tables of random entries', () => {
    const entry = fc
      .record({
        table: fc.integer({ min: 1, max: 6 }),
        bits: fc.constantFrom(0n, PTE.PS, PTE.NX, PTE.D, 1n << 47n),
        p: fc.boolean(),
        rw: fc.boolean(),
      })
      .map((e) => BigInt(e.table) * PAGE + e.bits + (e.p ? PTE.P : 0n) + (e.rw ? PTE.RW : 0n));
    const slot = fc.constantFrom(0n, 1n, 255n, 256n, 511n);
    const write = fc.tuple(fc.integer({ min: 1, max: 5 }), slot, entry);
    fc.assert(
      fc.property(
        fc.array(write, { maxLength: 25 }),
        fc.array(slot, { minLength: 4, maxLength: 4 }),
        (writes, at) => {
          const { memory } = machine();
          for (const [table, index, value] of writes)
            memory.writeU64(BigInt(table) * PAGE + index * 8n, value);
          const low = at.reduce<bigint>((sum, index) => sum * 512n + index, 0n) * PAGE + 0x10n;
          const linear = low >> 47n === 1n ? low | (0xffffn << 48n) : low;
          const found = walk(memory, PAGE, linear);
          const run = leafMappings(memory, PAGE).find(
            (r) => r.linear <= linear && linear < r.linear + BigInt(r.sizeBytes),
          );
          if (found.kind === 'absent') expect(run).toBeUndefined();
          else {
            const { physical, writable, executable, shadowStack } = found;
            expect(run).toMatchObject({ writable, executable, shadowStack });
            expect(run!.physical + (linear - run!.linear)).toBe(physical);
          }
        },
      ),
      { numRuns: 2000 },
    );
  });
});

describe('tables that name themselves', () => {
  it('end the scan with an error, not with the machine: every entry points at its own table', () => {
    const { memory } = machine();
    for (let i = 0n; i < 512n; i++) memory.writeU64(0x1000n + i * 8n, 0x1000n | PTE.P | PTE.RW);
    expect(() => leafMappings(memory, 0x1000n)).toThrow(
      expect.objectContaining({ code: 'PAGE_TABLE_TOO_LARGE' }),
    );
    expect(tablePages(memory, 0x1000n)).toEqual([0x1000n]);
  });

  it('end the scan although the last level is empty and no page is mapped', () => {
    const { memory } = machine();
    for (const table of [0x1000n, 0x2000n, 0x3000n]) {
      const next = (table + PAGE) | PTE.P | PTE.RW;
      for (let i = 0n; i < 512n; i++) memory.writeU64(table + i * 8n, next);
    }
    expect(() => leafMappings(memory, 0x1000n)).toThrow(PageTableError);
  });
});
