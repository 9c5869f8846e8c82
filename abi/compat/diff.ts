/**
 * `abi diff`: may NEW take over from OLD on a running VM, and may the next kernel read what OLD wrote.
 *
 * Invariant: an ABI against itself has no finding.
 */
import { CONTRACT_CONSTANTS } from '../contract.js';
import { hex } from '../uint.js';
import { compareStructs } from './compare.js';
import { finding } from './rules.js';
import type { Finding, RuleId } from './rules.js';
import { RECORDS, SHARED, closureOf } from './shape.js';
import type { AbiShape, ConstantShape, StructShape } from './shape.js';

const RECORD_NAMES: ReadonlySet<string> = new Set(RECORDS.map(({ name }) => name));
const KNOWN: ReadonlySet<string> = new Set([...SHARED, ...RECORDS].map(({ name }) => name));

/**
 * What changed from `before` to `now` in the structures that are shared or preserved, and in those inside them; in all
 * structures when neither side has one of those.
 */
export function diffAbi(before: AbiShape, now: AbiShape): Finding[] {
  const all = [...before.structs, ...now.structs];
  const isForeign = !all.some(({ name }) => KNOWN.has(name));
  const shared = closureOf(all, KNOWN);
  const isCompared = ({ name }: StructShape): boolean => isForeign || shared.has(name);
  const structs = before.structs
    .filter(isCompared)
    .flatMap((old) => compareNamed(old, now.structs, hasRecords(before) && !hasRecords(now)));
  const versions = compareVersions(before, now, new Set(structs.map(({ struct }) => struct)));
  return [...structs, ...compareConstants(before, now, isForeign), ...versions];
}

const hasRecords = ({ structs }: AbiShape): boolean =>
  structs.some(({ name }) => RECORD_NAMES.has(name));

function compareNamed(
  old: StructShape,
  structs: readonly StructShape[],
  isLockAgainstPayload: boolean,
): Finding[] {
  const candidates = structs.filter(({ name }) => name === old.name);
  if (candidates.length > 0) return candidates.flatMap((now) => compareStructs(old, now));
  // A payload describes no record, and need not use every structure of the contract.
  if (isLockAgainstPayload && RECORD_NAMES.has(old.name)) return [];
  const isUnused = isLockAgainstPayload && old.name !== CONTROL_BLOCK;
  const rule = isUnused ? 'struct-unused' : 'struct-missing';
  return [finding(rule, old.name, '', `${old.size} bytes`, 'not there')];
}

const CONTROL_BLOCK = SHARED[0]!.name;

/** Enumerators of the contract and those of the same enumerations; all of them between foreign files. */
function compareConstants(before: AbiShape, now: AbiShape, isForeign: boolean): Finding[] {
  const enumerations = (side: AbiShape): Set<string> =>
    new Set([...side.constants.values()].map(({ enumeration }) => enumeration));
  const [had, has] = [enumerations(before), enumerations(now)];
  const contract = new Set(
    [...before.constants, ...now.constants]
      .filter(([name]) => Object.hasOwn(CONTRACT_CONSTANTS, name))
      .map(([, { enumeration }]) => enumeration),
  );
  const isCompared = ({ enumeration }: ConstantShape): boolean =>
    isForeign || contract.size === 0 || contract.has(enumeration);
  const changed = [...before.constants].flatMap(([name, old]) => {
    if (!isCompared(old)) return [];
    const actual = now.constants.get(name);
    const isDropped = actual === undefined && !has.has(old.enumeration);
    if (actual?.value === old.value || isDropped) return [];
    const rule = actual === undefined ? 'constant-missing' : 'constant-value';
    const text = actual?.value.toString() ?? 'not there';
    return [finding(rule, '', name, old.value.toString(), text)];
  });
  const added = [...now.constants].filter(
    ([name, one]) => isCompared(one) && !before.constants.has(name) && had.has(one.enumeration),
  );
  return [
    ...changed,
    ...added.map(([name, { value }]) =>
      finding('constant-added', '', name, 'none', value.toString()),
    ),
  ];
}

function compareVersions(before: AbiShape, now: AbiShape, changed: ReadonlySet<string>): Finding[] {
  return [...before.versions].flatMap(([name, old]) => {
    const fresh = now.versions.get(name);
    if (fresh === undefined) return [];
    const [was, is] = [`version ${old.version}`, `version ${fresh.version}`];
    const one = (rule: RuleId, expected: string, actual: string): Finding[] => [
      finding(rule, name, 'header', expected, actual),
    ];
    if (fresh.magic !== old.magic) return one('magic-changed', hex(old.magic), hex(fresh.magic));
    if (fresh.compatible !== old.compatible) {
      return one('record-compatible', old.compatible ?? 'none', fresh.compatible ?? 'none');
    }
    if (fresh.version < old.version) return one('version-lowered', was, is);
    const isSilent = fresh.version === old.version && changed.has(name);
    return isSilent ? one('version-unchanged', `above ${was}`, is) : [];
  });
}
