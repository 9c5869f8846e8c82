import { describe, expect, it } from 'vitest';
import { Engine } from '../../emulator/cpu/engine.js';
import { EngineMemory } from '../../emulator/cpu/engine-memory.js';
import { joinExtents } from '../../emulator/cpu/address-space.js';
import { CODE, DATA, MEMORY_BYTES, fixture, mapping } from './suites/fixture.js';

describe('createAddressSpace()', () => {
  it.each([
    { code: 'MAPPING_UNALIGNED', mappings: [mapping(DATA + 1n, 0x1000)] },
    { code: 'MAPPING_UNALIGNED', mappings: [mapping(DATA, 0x800)] },
    { code: 'MAPPING_UNALIGNED', mappings: [mapping(DATA, 0)] },
    { code: 'MAPPING_OUTSIDE_MEMORY', mappings: [mapping(0x100000n, 0x1000)] },
    { code: 'MAPPING_OVERLAP', mappings: [mapping(DATA, 0x2000), mapping(DATA + 0x1000n, 0x1000)] },
    { code: 'MAPPING_NOT_IDENTITY', mappings: [{ ...mapping(DATA, 0x1000), physical: CODE }] },
  ])('refuses $code', ({ code, mappings }) => {
    const engine = new Engine(new EngineMemory(MEMORY_BYTES));
    expect(() => engine.createAddressSpace(mappings)).toThrow(expect.objectContaining({ code }));
  });

  it('an address space of another engine, or a disposed one, cannot be activated', () => {
    const [one, other] = [fixture('f4').engine, fixture('f4').engine];
    const space = one.createAddressSpace([mapping(CODE, 0x1000, 'rx')]);
    expect(() => other.activate(space)).toThrow(
      expect.objectContaining({ code: 'ADDRESS_SPACE_OF_ANOTHER_ENGINE' }),
    );
    one.disposeAddressSpace(space);
    expect(() => one.activate(space)).toThrow(
      expect.objectContaining({ code: 'ADDRESS_SPACE_DISPOSED' }),
    );
  });

  it('nothing is mapped once the active one is disposed', () => {
    const { engine } = fixture('f4');
    engine.disposeAddressSpace(engine.active!);
    expect(engine.run()).toMatchObject({
      kind: 'memory',
      access: 'fetch',
      reason: 'unmapped',
      address: CODE,
    });
  });

  it('a disposed engine refuses to run', () => {
    const { engine, memory } = fixture('f4');
    engine.dispose();
    expect(() => engine.run()).toThrow(expect.objectContaining({ code: 'ENGINE_DISPOSED' }));
    expect(() => {
      engine.watch.clear(DATA, 8);
    }).toThrow(expect.objectContaining({ code: 'ENGINE_DISPOSED' }));
    expect(memory.readU8(CODE)).toBe(0xf4);
  });
});

describe('joinExtents()', () => {
  it('joins what touches or overlaps, and keeps the rest apart', () => {
    const at = (base: number, sizeBytes: number) => ({ base, sizeBytes });
    expect(joinExtents([at(8, 4), at(0, 4), at(4, 2), at(10, 8), at(9, 1)])).toEqual([
      at(0, 6),
      at(8, 10),
    ]);
  });
});

describe('coverage', () => {
  it('is the same for the same code at another address', () => {
    const at = (base: bigint): Uint8Array => {
      const { engine, memory } = fixture('f4', [mapping(base, 0x1000, 'rx')]);
      memory.write(base, Uint8Array.of(0x48, 0x85, 0xdb, 0x74, 0x01, 0x90, 0xeb, 0x00, 0xf4));
      engine.invalidateCode(base, 16);
      engine.registers.set('RIP', base);
      engine.run();
      expect(engine.counters.blocks).toBe(3);
      return engine.coverage.counts;
    };
    expect(Buffer.compare(at(CODE), at(DATA))).toBe(0);
  });
});
