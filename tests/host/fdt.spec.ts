import { execFileSync, spawnSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  childOf,
  decodeFdt,
  encodeFdt,
  FdtError,
  type FdtErrorCode,
  stringOf,
  stringProperty,
  u64Of,
  u64Property,
  type FdtNode,
} from '../../emulator/host/kho/fdt.js';

const LUO_TREE: FdtNode = {
  name: '',
  properties: [stringProperty('compatible', 'luo-v1'), u64Property('liveupdate-number', 3n)],
  children: [
    {
      name: 'luo-session',
      properties: [
        stringProperty('compatible', 'luo-session-v3'),
        u64Property('luo-session-header', 0x12_3000n),
      ],
      children: [],
    },
  ],
};

const nodeName = fc.stringMatching(/^[a-z][a-z0-9-]{0,12}$/);
const property = fc.record({ name: nodeName, value: fc.uint8Array({ maxLength: 20 }) });
const treeOfDepth = (depth: number): fc.Arbitrary<FdtNode> =>
  fc.record({
    name: nodeName,
    properties: fc.array(property, { maxLength: 4 }),
    children: depth === 0 ? fc.constant([]) : fc.array(treeOfDepth(depth - 1), { maxLength: 3 }),
  });

const hasDtc = spawnSync('dtc', ['--version']).status === 0;

describe('flattened device tree', () => {
  it('decoding what was encoded gives the same tree', () => {
    fc.assert(
      fc.property(treeOfDepth(3), (root) => {
        expect(decodeFdt(encodeFdt(root))).toEqual(root);
      }),
    );
  });

  it('values are native endian and strings terminated', () => {
    const [compatible, number] = LUO_TREE.properties;
    expect(compatible?.value.at(-1)).toBe(0);
    expect([...(number?.value ?? [])]).toEqual([3, 0, 0, 0, 0, 0, 0, 0]);
  });

  it('properties and children are found by name', () => {
    const root = decodeFdt(encodeFdt(LUO_TREE));
    expect(stringOf(root, 'compatible')).toBe('luo-v1');
    expect(u64Of(root, 'liveupdate-number')).toBe(3n);
    expect(u64Of(childOf(root, 'luo-session')!, 'luo-session-header')).toBe(0x12_3000n);
    expect(u64Of(root, 'compatible')).toBeUndefined();
    expect(childOf(root, 'nobody')).toBeUndefined();
  });

  it.skipIf(!hasDtc)('dtc reads the same tree (skipped without dtc)', () => {
    const args = ['-q', '-I', 'dtb', '-O', 'dts', '-'];
    const source = execFileSync('dtc', args, { input: encodeFdt(LUO_TREE), encoding: 'utf8' });
    expect(source).toContain('compatible = "luo-v1";');
    expect(source).toContain('liveupdate-number = <0x3000000 0x00>;');
    expect(source).toMatch(/luo-session \{\s+compatible = "luo-session-v3";/);
    expect(source).toContain('luo-session-header = <0x301200 0x00>;');
  });

  it.skipIf(!hasDtc)('what dtc writes is read back (skipped without dtc)', () => {
    const source =
      '/dts-v1/; / { compatible = "kho-v1"; LUO { fdt = [00 10 00 00 00 00 00 00]; }; };';
    const bytes = execFileSync('dtc', ['-q', '-I', 'dts', '-O', 'dtb', '-'], { input: source });
    const root = decodeFdt(new Uint8Array(bytes));
    expect(stringOf(root, 'compatible')).toBe('kho-v1');
    expect(u64Of(childOf(root, 'LUO')!, 'fdt')).toBe(0x1000n);
  });

  it.each<[string, FdtErrorCode, (bytes: Uint8Array) => unknown]>([
    ['no magic', 'FDT_BAD_MAGIC', (b) => b.fill(0, 0, 4)],
    ['a later incompatible version', 'FDT_BAD_VERSION', (b) => b.fill(0x20, 24, 28)],
    ['a size beyond the bytes', 'FDT_TRUNCATED', (b) => b.fill(0xff, 6, 8)],
    ['a structure block cut short', 'FDT_BAD_STRUCTURE', (b) => b.fill(8, 39, 40)],
    ['an unknown token', 'FDT_BAD_STRUCTURE', (b) => b.fill(7, 67, 68)],
  ])('%s is refused with %s', (_what, code, corrupt) => {
    const bytes = encodeFdt(LUO_TREE);
    corrupt(bytes);
    expect(() => decodeFdt(bytes)).toThrow(expect.objectContaining({ code }));
  });

  it('no corruption does worse than an FdtError', () => {
    const bytes = encodeFdt(LUO_TREE);
    const at = fc.nat({ max: bytes.length - 1 });
    fc.assert(
      fc.property(fc.array(fc.tuple(at, fc.nat({ max: 255 })), { maxLength: 4 }), (changes) => {
        const copy = bytes.slice();
        for (const [offset, value] of changes) copy[offset] = value;
        try {
          decodeFdt(copy);
        } catch (error) {
          expect(error).toBeInstanceOf(FdtError);
        }
      }),
      { numRuns: 500 },
    );
  });
});
