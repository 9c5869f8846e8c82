/** The rules of compatibility, one change a row. */
import { describe, expect, it } from 'vitest';
import { checkAbi } from '../../abi/compat/check.js';
import { diffAbi } from '../../abi/compat/diff.js';
import { PROFILES } from '../../abi/compat/profiles.js';
import type { ProfileName } from '../../abi/compat/profiles.js';
import { RULES, isCompatible } from '../../abi/compat/rules.js';
import type { RuleId } from '../../abi/compat/rules.js';
import { RECORDS, SHARED } from '../../abi/compat/shape.js';
import type { AbiShape, FieldShape, StructShape } from '../../abi/compat/shape.js';

const field = (name: string, offset: number, size: number, canonical: string): FieldShape => {
  return { name, offset, size, canonical, bitOffset: null, bitSize: null };
};

const bits = (name: string, bitOffset: number, bitSize: number): FieldShape => {
  return { ...field(name, 12, 4, 'u32'), bitOffset, bitSize };
};

const OLD: StructShape = {
  name: 'caretaker_stall',
  size: 40,
  align: 8,
  fields: [
    field('a', 0, 8, 'u64'),
    field('b', 8, 4, 'u32'),
    bits('c', 0, 3),
    field('reserved', 16, 16, 'u64[2]'),
    field('d', 32, 8, 's64'),
  ],
};

const abi = (
  struct: StructShape,
  version = 2,
  constants: Record<string, bigint> = { ON: 1n, OFF: 0n },
): AbiShape => ({
  structs: [struct],
  constants: new Map(
    Object.entries(constants).map(([name, value]) => [name, { enumeration: 'power', value }]),
  ),
  versions: new Map([['caretaker_stall', { magic: 1n, version }]]),
});

const without = (name: string, ...more: FieldShape[]): StructShape => {
  return { ...OLD, fields: [...OLD.fields.filter((one) => one.name !== name), ...more] };
};

const rulesOf = (now: AbiShape): RuleId[] =>
  diffAbi(abi(OLD), now)
    .map(({ rule }) => rule)
    .filter((rule) => rule !== 'version-unchanged');

describe('abi diff', () => {
  it('finds nothing between an ABI and itself', () => {
    expect(diffAbi(abi(OLD), abi(OLD))).toEqual([]);
    const records: AbiShape = { ...abi(OLD), structs: [...SHARED, ...RECORDS] };
    expect(diffAbi(records, records)).toEqual([]);
  });

  // prettier-ignore
  it.each<[RuleId, string, AbiShape]>([
    ['struct-missing', 'a structure that is gone', { ...abi(OLD), structs: [] }],
    ['struct-size', 'a structure that shrank', abi({ ...OLD, size: 32 })],
    ['struct-align', 'a structure that is packed', abi({ ...OLD, align: 1 })],
    ['field-missing', 'a field that became reserved', abi(without('a', field('reserved_a', 0, 8, 'u64')))],
    ['field-renamed', 'a field with another meaning', abi(without('a', field('z', 0, 8, 'u64')))],
    ['field-moved', 'a field that moved', abi(without('b', field('b', 36, 4, 'u32')))],
    ['field-resized', 'a field that grew', abi(without('b', field('b', 8, 8, 'u64')))],
    ['field-retyped', 'a field of another form', abi(without('a', field('a', 0, 8, 'u32[2]')))],
    ['field-signedness', 'a field with a sign', abi(without('d', field('d', 32, 8, 'u64')))],
    ['field-bits', 'a bit field at other bits', abi(without('c', bits('c', 1, 3)))],
    ['field-appended', 'a field in reserved bytes', abi(without('reserved', field('e', 16, 8, 'u64'), field('reserved', 24, 8, 'u64')))],
    ['field-unexpected', 'a field in padding', abi({ ...OLD, fields: [...OLD.fields, field('e', 15, 1, 'u8')] })],
    ['reserved-reshaped', 'reserved bytes in other words', abi(without('reserved', field('reserved', 16, 16, 'u32[4]')))],
    ['constant-value', 'an enumerator with another number', abi(OLD, 2, { ON: 2n, OFF: 0n })],
    ['constant-missing', 'an enumerator that is gone', abi(OLD, 2, { OFF: 0n })],
    ['constant-added', 'an enumerator more', abi(OLD, 2, { ON: 1n, OFF: 0n, DIM: 2n })],
    ['version-lowered', 'a version that fell', abi(OLD, 1)],
    ['magic-changed', 'another magic', { ...abi(OLD), versions: new Map([['caretaker_stall', { magic: 2n, version: 2 }]]) }],
  ])('%s: %s', (rule, _what, now) => {
    expect(rulesOf(now)).toContain(rule);
    expect(isCompatible(diffAbi(abi(OLD), now))).toBe(RULES[rule].severity !== 'error');
  });

  it('warns of a layout that changed under the same version', () => {
    const now = abi(without('reserved', field('e', 16, 16, 'u64[2]')));
    expect(diffAbi(abi(OLD), now).map(({ rule }) => rule)).toEqual([
      'field-appended',
      'version-unchanged',
    ]);
  });

  it('says nothing of an enumeration that the compiler dropped as a whole', () => {
    expect(rulesOf(abi(OLD, 2, {}))).toEqual([]);
  });

  it('leaves alone what a payload keeps to itself, unless nothing is shared', () => {
    const own = (size: number): StructShape => ({ ...OLD, name: 'private', size });
    const both = (size: number): AbiShape => ({ ...abi(OLD), structs: [OLD, own(size)] });
    expect(diffAbi(both(40), both(48))).toEqual([]);
    expect(diffAbi(abi(own(40)), abi(own(48))).map(({ rule }) => rule)).toEqual(['struct-size']);
  });

  it('covers the records that one kernel writes and the next reads', () => {
    const [record] = RECORDS;
    const moved = {
      ...record!,
      fields: record!.fields.map((one) => (one.name === 'eptp' ? { ...one, offset: 88 } : one)),
    };
    expect(
      diffAbi(abi(record!), abi(moved)).map(({ rule, field: name }) => [rule, name]),
    ).toContainEqual(['field-moved', 'eptp']);
  });
});

describe('abi check', () => {
  it.each(Object.keys(PROFILES) as ProfileName[])(
    'finds nothing in the contract itself: %s',
    (profile) => {
      const { structs } = PROFILES[profile];
      expect(checkAbi({ ...abi(OLD), structs, constants: new Map() }, profile)).toEqual([]);
    },
  );

  it('takes a field in reserved bytes for an error: the contract would have it', () => {
    const structs = SHARED.map((one) =>
      one.name !== 'caretaker_stall'
        ? one
        : {
            ...one,
            fields: one.fields.map((f) => (f.name === 'reserved' ? { ...f, name: 'cpu' } : f)),
          },
    );
    const findings = checkAbi({ ...abi(OLD), structs, constants: new Map() }, 'rfc');
    expect(findings).toMatchObject([{ rule: 'field-unexpected', severity: 'error', field: 'cpu' }]);
  });

  it('names a required structure that is not there, and notes the others', () => {
    const findings = checkAbi({ ...abi(OLD), structs: [], constants: new Map() }, 'rfc');
    expect(
      findings.filter(({ severity }) => severity === 'error').map(({ struct }) => struct),
    ).toEqual(['caretaker_ccb']);
  });

  it('names two layouts of one structure in a binary', () => {
    const structs = [...SHARED, { ...SHARED[0]!, size: 1 }];
    const rules = checkAbi({ ...abi(OLD), structs, constants: new Map() }, 'rfc').map(
      ({ rule }) => rule,
    );
    expect(rules).toContain('struct-conflict');
  });

  it('holds the enumerators against their numbers', () => {
    const constants = new Map([['KVM_ATTACHED', { enumeration: 'attach_state', value: 2n }]]);
    const findings = checkAbi({ ...abi(OLD), structs: SHARED, constants }, 'rfc');
    expect(findings).toMatchObject([{ rule: 'constant-value', field: 'KVM_ATTACHED' }]);
  });
});
