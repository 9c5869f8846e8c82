/**
 * `abi diff`: may NEW take over from OLD on a running VM, and may the next kernel read what OLD wrote.
 *
 * Invariant: an ABI against itself has no finding.
 */
import { compareStructs } from './compare.js';
import { finding } from './rules.js';
import type { Finding } from './rules.js';
import { RECORDS, SHARED } from './shape.js';
import type { AbiShape, StructShape } from './shape.js';

const KNOWN: ReadonlySet<string> = new Set([...SHARED, ...RECORDS].map(({ name }) => name));

/**
 * What changed from `before` to `now` in the structures that are shared or preserved; in all structures when neither
 * side has one of those.
 */
export function diffAbi(before: AbiShape, now: AbiShape): Finding[] {
  const all = [...before.structs, ...now.structs];
  const isForeign = !all.some(({ name }) => KNOWN.has(name));
  const isCompared = ({ name }: StructShape): boolean => isForeign || KNOWN.has(name);
  const structs = before.structs.filter(isCompared).flatMap((old) => {
    const candidates = now.structs.filter(({ name }) => name === old.name);
    if (candidates.length === 0) {
      return [finding('struct-missing', old.name, '', `${old.size} bytes`, 'not there')];
    }
    return candidates.flatMap((candidate) => compareStructs(old, candidate));
  });
  const versions = compareVersions(before, now, new Set(structs.map(({ struct }) => struct)));
  return [...structs, ...compareConstants(before, now), ...versions];
}

function compareConstants(before: AbiShape, now: AbiShape): Finding[] {
  const [had, has] = [before, now].map((side) => new Set(side.enumerationOf.values()));
  const changed = [...before.constants].flatMap(([name, value]) => {
    const actual = now.constants.get(name);
    const isDropped = actual === undefined && !has!.has(before.enumerationOf.get(name) ?? '');
    if (actual === value || isDropped) return [];
    const rule = actual === undefined ? 'constant-missing' : 'constant-value';
    return [finding(rule, '', name, value.toString(), actual?.toString() ?? 'not there')];
  });
  const added = [...now.constants].filter(
    ([name]) => !before.constants.has(name) && had!.has(now.enumerationOf.get(name) ?? ''),
  );
  return [
    ...changed,
    ...added.map(([name, value]) => finding('constant-added', '', name, 'none', value.toString())),
  ];
}

function compareVersions(before: AbiShape, now: AbiShape, changed: ReadonlySet<string>): Finding[] {
  return [...before.versions].flatMap(([name, old]) => {
    const fresh = now.versions.get(name);
    if (fresh === undefined) return [];
    const [was, is] = [`version ${old.version}`, `version ${fresh.version}`];
    if (fresh.magic !== old.magic) {
      return [
        finding('magic-changed', name, 'header', old.magic.toString(16), fresh.magic.toString(16)),
      ];
    }
    if (fresh.version < old.version) return [finding('version-lowered', name, 'header', was, is)];
    const isSilent = fresh.version === old.version && changed.has(name);
    return isSilent ? [finding('version-unchanged', name, 'header', `above ${was}`, is)] : [];
  });
}
