/**
 * The layout lock: the contract as it was released, so that a change of layout without a change of version is seen.
 *
 * Source: layout.lock.json, written by `make abi-lock`.
 * Invariant: a locked structure differs from the contract's only when the version differs too.
 */
import { hex } from './uint.js';
import { CONTRACT, CONTRACT_CONSTANTS } from './contract.js';
import { KHO_RECORDS } from './kho-records.js';
import type { StructLayout } from './layout.js';

/** Field names to `type*count@offset`. */
type LockedLayout = {
  readonly sizeBytes: number;
  readonly fields: Readonly<Record<string, string>>;
};

export interface LayoutLock {
  /** What one kernel writes for the next, by structure. */
  readonly records: Readonly<
    Record<
      string,
      {
        readonly compatible: string;
        readonly magic: string;
        readonly version: number;
        readonly layout: LockedLayout;
      }
    >
  >;
  readonly constants: Readonly<Record<string, number>>;
  readonly structs: Readonly<
    Record<
      string,
      {
        readonly magic: string;
        readonly version: number;
        readonly layouts: Readonly<Record<string, LockedLayout>>;
      }
    >
  >;
}

const lockLayout = (layout: StructLayout): LockedLayout => ({
  sizeBytes: layout.sizeBytes,
  fields: Object.fromEntries(
    layout.fields.map((f) => [
      f.name,
      `${typeof f.type === 'string' ? f.type : f.type.name}*${f.count}@${f.offset}`,
    ]),
  ),
});

/** The lock that the contract in this tree would have. */
export function currentLock(): LayoutLock {
  return {
    records: Object.fromEntries(
      KHO_RECORDS.map(({ layout, compatible, magic, version }) => [
        layout.name,
        { compatible, magic: hex(magic), version, layout: lockLayout(layout) },
      ]),
    ),
    constants: CONTRACT_CONSTANTS,
    structs: Object.fromEntries(
      CONTRACT.map(({ layout, magic, version, parts }) => [
        layout.name,
        {
          magic: hex(magic),
          version,
          layouts: Object.fromEntries([layout, ...parts].map((l) => [l.name, lockLayout(l)])),
        },
      ]),
    ),
  };
}

/** Why `next` may not replace `locked`: one sentence a structure that changed under the same version; empty when it may. */
export function lockViolations(locked: LayoutLock, next: LayoutLock): readonly string[] {
  const changed = Object.entries(locked.structs).flatMap(([name, old]) => {
    const now = next.structs[name];
    if (now === undefined) return [`struct ${name} is locked and gone`];
    if (now.version !== old.version) return [];
    return JSON.stringify(now) === JSON.stringify(old)
      ? []
      : [`struct ${name} changed and its version is still ${old.version}`];
  });
  const constants = Object.entries(locked.constants).flatMap(([name, value]) =>
    next.constants[name] === value
      ? []
      : [`${name} was ${value} and is ${next.constants[name] ?? 'gone'}`],
  );
  const records = Object.entries(locked.records).flatMap(([name, old]) => {
    const now = next.records[name];
    if (now === undefined) return [`struct ${name} is locked and gone`];
    const isRenamed = now.version !== old.version && now.compatible !== old.compatible;
    const isEqual = JSON.stringify(now) === JSON.stringify(old);
    return isEqual || isRenamed
      ? []
      : [`struct ${name} changed and not both its version and its compatible string`];
  });
  return [...changed, ...records, ...constants];
}
