/**
 * `abi check`: a binary against the contract of a profile.
 *
 * Invariant: what the binary does not describe is named, never passed over.
 */
import { compareStructs } from './compare.js';
import { PROFILES } from './profiles.js';
import type { Profile, ProfileName } from './profiles.js';
import { finding } from './rules.js';
import type { Finding } from './rules.js';
import type { AbiShape, StructShape } from './shape.js';

/** What the binary makes of a profile's contract. */
export function checkAbi(binary: AbiShape, profile: ProfileName): Finding[] {
  const { structs, required, constants }: Profile = PROFILES[profile];
  return [
    ...structs.flatMap((expected) =>
      checkStruct(expected, binary, required.includes(expected.name)),
    ),
    ...[...constants].flatMap(([name, value]) => {
      const actual = binary.constants.get(name)?.value;
      // A compiler drops an enumeration that nothing uses.
      if (actual === undefined || value === null || actual === value) return [];
      return [finding('constant-value', '', name, value.toString(), actual.toString())];
    }),
  ];
}

function checkStruct(expected: StructShape, binary: AbiShape, isRequired: boolean): Finding[] {
  const found = binary.structs.filter(({ name }) => name === expected.name);
  if (found.length === 0) {
    const rule = isRequired ? 'struct-missing' : 'struct-unused';
    return [finding(rule, expected.name, '', `${expected.size} bytes`, 'not in the binary')];
  }
  const conflict = found.length > 1;
  const findings = found.flatMap((shape) => compareStructs(expected, shape)).map(atCheck);
  if (!conflict) return findings;
  const sizes = found.map(({ size }) => `${size} bytes`).join(' and ');
  return [finding('struct-conflict', expected.name, '', 'one layout', sizes), ...findings];
}

/** Against the contract nothing is appended: the contract would say so. */
function atCheck(one: Finding): Finding {
  const isStrict = one.rule === 'field-appended' || one.rule === 'reserved-reshaped';
  return isStrict ? { ...one, rule: 'field-unexpected', severity: 'error' } : one;
}
