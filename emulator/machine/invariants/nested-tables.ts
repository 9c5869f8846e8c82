/**
 * nested-tables: nobody but hardware's own flags changes the nested page tables while vCPUs run alone, and no guest uses a
 * translation that they no longer have.
 *
 * Source: the RFC, "Nested Page Table Updates" ("absolutely no updates"); SDM, "Invalidating Cached Guest-Physical
 * Mappings".
 * Invariant: the tables are those of the EPT pointer when the gap began; accessed and dirty flags are hardware's. At both
 * ends of it, where KVM has some vCPUs and not others, it may map what was not mapped: no core caches the lack of a page.
 */
import { hex } from '../../../abi/uint.js';
import { EXIT_REASON } from '../../../abi/exit-reasons.js';
import { VMCS_SLOT } from '../../../abi/vmcs-fields.js';
import { EPTE } from '../../vmx/ept/entries.js';
import { eptTables, walkEpt } from '../../vmx/ept/walk.js';
import type { Lane } from '../lane.js';
import type { Ledger } from '../ledger.js';
import type { Invariant } from './invariant.js';

const ID = 'nested-tables';
const FLAGS = EPTE.ACCESSED | EPTE.DIRTY;
const ENTRIES = 512n;

/** Entries by their address, without the flags; those that are 0 are left out. */
type Image = ReadonlyMap<bigint, bigint>;

interface Taken {
  readonly eptp: bigint;
  readonly image: Image;
}

export function nestedTables(): Invariant {
  /** By vCPU, what the tables were when its gap began. */
  let taken: ReadonlyMap<number, Taken> = new Map();

  const hold = (lane: Lane, ledger: Ledger): void => {
    const before = taken.get(lane.id);
    if (before === undefined) return;
    const now = imageOf(lane, before.eptp);
    const changed =
      changedEntry(before.image, now) ?? (mayGrow(lane) ? undefined : newEntry(before.image, now));
    ledger.expect(
      ID,
      changed === undefined,
      changed ?? 0n,
      () =>
        `vCPU ${lane.id}: the EPT entry at ${hex(changed!)} was ${hex(before.image.get(changed!) ?? 0n)} when the gap began and is ${hex(now.get(changed!) ?? 0n)}`,
    );
  };

  return {
    id: ID,
    holdsWhen:
      'while detached no EPT entry changes but for its flags, and no guest uses a stale one',

    atGap(lane): void {
      // A payload that has cleared its VMCS has no tables.
      const eptp = lane.pcpu.vmx.current?.get(VMCS_SLOT.EPT_POINTER);
      if (eptp === undefined) return;
      taken = new Map(taken).set(lane.id, { eptp, image: imageOf(lane, eptp) });
    },

    atExit(lane, ledger): void {
      if (lane.exit.wasAttached || !isOfEpt(lane.exit.basic)) return;
      hold(lane, ledger);
    },

    atAccess(lane, ledger, { gpa }, hpa): void {
      const eptp = lane.vmcs.get(VMCS_SLOT.EPT_POINTER);
      const walk = walkEpt(lane.memory.bytes, lane.pcpu.capabilities, eptp, gpa, 0n);
      ledger.expect(
        ID,
        walk.kind === 'mapped' && walk.hpa === hpa,
        gpa,
        () =>
          `vCPU ${lane.id}: its core still translates gpa ${hex(gpa)} to ${hex(hpa)}, which the tables no longer do`,
      );
    },

    atAdopt(lane, ledger): void {
      hold(lane, ledger);
      const rest = new Map(taken);
      rest.delete(lane.id);
      taken = rest;
    },

    state: () => taken,
    restore: (state) => {
      // SAFETY: it is what state() gave.
      taken = state as typeof taken;
    },
  };
}

const isOfEpt = (basic: number): boolean =>
  basic === EXIT_REASON.EXIT_REASON_EPT_VIOLATION ||
  basic === EXIT_REASON.EXIT_REASON_EPT_MISCONFIG;

function imageOf(lane: Lane, eptp: bigint): Image {
  const { bytes } = lane.memory;
  const image = new Map<bigint, bigint>();
  for (const { table } of eptTables(bytes, eptp)) {
    for (let index = 0n; index < ENTRIES; index++) {
      const entry = bytes.readU64(table + index * 8n);
      if (entry !== 0n) image.set(table + index * 8n, entry & ~FLAGS);
    }
  }
  return image;
}

/** The address of an entry that was there and is another now, if any. */
function changedEntry(before: Image, now: Image): bigint | undefined {
  return [...before].find(([at, entry]) => now.get(at) !== entry)?.[0];
}

/** The address of an entry that was not there, if any. */
function newEntry(before: Image, now: Image): bigint | undefined {
  return [...now.keys()].find((at) => !before.has(at));
}

/** A KVM that has one of the vCPUs maps pages for it, which no other need know of. */
function mayGrow(lane: Lane): boolean {
  return lane.peers().some((one) => one !== lane && one.vcpu.isAttached);
}
