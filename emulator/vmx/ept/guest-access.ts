/**
 * A guest's access to memory as hardware makes it: cached translation or walk, accessed and dirty flags, the
 * page-modification log, and the VM exit when there is no way through.
 *
 * Source: SDM, "EPT-Induced VM Exits", "Exit Qualification for EPT Violations", "Accessed and Dirty Flags for EPT",
 * "Page-Modification Logging".
 * Invariant: an access that exits has changed nothing: neither flags nor the log.
 * Not modelled: the guest's own page tables, of which an access says what they gave; nested events of a walk of them.
 */
import { EXIT_REASON } from '../../../abi/exit-reasons.js';
import { VMCS_SLOT } from '../../../abi/vmcs-fields.js';
import { SECONDARY, PRIMARY } from '../../../abi/vmx-controls.js';
import { EPT_VPID_CAP } from '../capabilities.js';
import type { VmxPcpu } from '../ports.js';
import type { VmExit } from '../vm-exit.js';
import type { Vmcs } from '../vmcs.js';
import { EPTE, EPTP } from './entries.js';
import { walkEpt, type EptRights, type EptWalk } from './walk.js';

/** What a guest does to a guest-physical address; `walk` is the processor's own read of the guest's page tables. */
export type AccessKind = 'read' | 'write' | 'fetch' | 'walk';

export interface GuestAccess {
  readonly gpa: bigint;
  /** Guest-linear address that leads there. */
  readonly gla: bigint;
  readonly kind: AccessKind;
  /** The event whose delivery the access is part of. */
  readonly idtVectoringInfo?: number | undefined;
  readonly idtVectoringErrorCode?: number | undefined;
}

/** What became of it. */
export type AccessResult =
  | { readonly kind: 'done'; readonly hpa: bigint; readonly isCached: boolean }
  | { readonly kind: 'exit'; readonly exit: VmExit };

/** Bits of the exit qualification of an EPT violation. */
const QUALIFICATION = {
  READ: 1n << 0n,
  WRITE: 1n << 1n,
  FETCH: 1n << 2n,
  RIGHTS_SHIFT: 3n,
  LINEAR_VALID: 1n << 7n,
  /** The access was to the translation itself, not to a paging-structure entry on the way. */
  TRANSLATED: 1n << 8n,
  /** The guest's own tables: the page may be written, may not be executed. */
  WRITABLE: 1n << 10n,
  EXECUTE_DISABLE: 1n << 11n,
} as const;

const PML_ENTRIES = 512;

/** Makes the access on a pCPU in VMX non-root operation. */
export function accessGuestMemory(pcpu: VmxPcpu, vmcs: Vmcs, access: GuestAccess): AccessResult {
  const { gpa } = access;
  if (!has(vmcs, SECONDARY.ENABLE_EPT)) return { kind: 'done', hpa: gpa, isCached: false };
  const eptp = vmcs.get(VMCS_SLOT.EPT_POINTER);
  const tracks = (eptp & EPTP.ACCESSED_DIRTY) !== 0n;
  const needs = rightsNeeded(access.kind, tracks);
  const isWrite = (needs & EPTE.W) !== 0n;
  const cached = pcpu.eptTlb.find(eptp, gpa);
  if (cached !== undefined && (cached.rights & needs) === needs) {
    if (!isWrite || !tracks || cached.isDirty)
      return { kind: 'done', hpa: cached.hpa | (gpa & 0xfffn), isCached: true };
  }
  const walk = walkEpt(pcpu.memory, pcpu.capabilities, eptp, gpa, needs);
  if (walk.kind === 'violation') {
    pcpu.eptTlb.forget(eptp, gpa);
    return { kind: 'exit', exit: violation(pcpu, access, walk, tracks) };
  }
  if (walk.kind === 'misconfiguration') {
    const basic = EXIT_REASON.EXIT_REASON_EPT_MISCONFIG;
    return { kind: 'exit', exit: { ...exitOf(basic, access), guestPhysicalAddress: gpa } };
  }
  const isLogged = tracks && isWrite && markDirty(pcpu, vmcs, gpa, walk.entries.at(-1)!);
  if (isLogged === 'full')
    return { kind: 'exit', exit: exitOf(EXIT_REASON.EXIT_REASON_PML_FULL, access) };
  if (tracks) for (const at of walk.entries) setFlag(pcpu, at, EPTE.ACCESSED);
  const hpa = walk.hpa & ~0xfffn;
  pcpu.eptTlb.put(eptp, gpa, { hpa, rights: walk.rights, isDirty: tracks && isWrite });
  return { kind: 'done', hpa: walk.hpa, isCached: false };
}

const has = (vmcs: Vmcs, control: number): boolean =>
  (vmcs.low(VMCS_SLOT.CPU_BASED_VM_EXEC_CONTROL) & PRIMARY.ACTIVATE_SECONDARY) !== 0 &&
  (vmcs.low(VMCS_SLOT.SECONDARY_VM_EXEC_CONTROL) & control) !== 0;

/** With accessed and dirty flags, the processor's reads of guest paging structures count as writes. */
function rightsNeeded(kind: AccessKind, tracks: boolean): EptRights {
  switch (kind) {
    case 'read':
      return EPTE.R;
    case 'write':
      return EPTE.W;
    case 'fetch':
      return EPTE.X;
    case 'walk':
      return tracks ? EPTE.R | EPTE.W : EPTE.R;
  }
}

function violation(
  { capabilities }: VmxPcpu,
  access: GuestAccess,
  walk: Extract<EptWalk, { kind: 'violation' }>,
  tracks: boolean,
): VmExit {
  const { kind, gpa, gla } = access;
  let qualification =
    ACCESS_BITS[kind] | (walk.rights << QUALIFICATION.RIGHTS_SHIFT) | QUALIFICATION.LINEAR_VALID;
  if (kind === 'walk' && tracks) qualification |= QUALIFICATION.WRITE;
  if (kind !== 'walk') {
    qualification |= QUALIFICATION.TRANSLATED;
    if ((capabilities.eptVpidCap & EPT_VPID_CAP.ADVANCED_VIOLATIONS) !== 0n)
      qualification |= GUEST_PAGE_BITS[kind];
  }
  return {
    ...exitOf(EXIT_REASON.EXIT_REASON_EPT_VIOLATION, access),
    qualification,
    guestPhysicalAddress: gpa,
    guestLinearAddress: gla,
  };
}

const ACCESS_BITS = {
  read: QUALIFICATION.READ,
  write: QUALIFICATION.WRITE,
  fetch: QUALIFICATION.FETCH,
  walk: QUALIFICATION.READ,
} as const;

/** A kernel's data is writable and not executable in its own tables, its text the other way round. */
const GUEST_PAGE_BITS = {
  read: QUALIFICATION.WRITABLE | QUALIFICATION.EXECUTE_DISABLE,
  write: QUALIFICATION.WRITABLE | QUALIFICATION.EXECUTE_DISABLE,
  fetch: 0n,
} as const;

/** An exit with every property in its place. */
function exitOf(basic: number, access: GuestAccess): VmExit {
  return {
    basic,
    reasonBits: undefined,
    qualification: undefined,
    instructionLength: undefined,
    interruptionInfo: undefined,
    interruptionErrorCode: undefined,
    idtVectoringInfo: access.idtVectoringInfo,
    idtVectoringErrorCode: access.idtVectoringErrorCode,
    guestLinearAddress: undefined,
    guestPhysicalAddress: undefined,
    instructionInfo: undefined,
  };
}

/** Sets the leaf's dirty flag, and logs the page when that changes it; `full` when the log has no room. */
function markDirty(pcpu: VmxPcpu, vmcs: Vmcs, gpa: bigint, leaf: bigint): boolean | 'full' {
  if ((pcpu.memory.readU64(leaf) & EPTE.DIRTY) !== 0n) return false;
  if (has(vmcs, SECONDARY.ENABLE_PML)) {
    const index = vmcs.low(VMCS_SLOT.GUEST_PML_INDEX);
    if (index >= PML_ENTRIES) return 'full';
    pcpu.memory.writeU64(vmcs.get(VMCS_SLOT.PML_ADDRESS) + BigInt(8 * index), gpa & ~0xfffn);
    vmcs.setLow(VMCS_SLOT.GUEST_PML_INDEX, (index - 1) & 0xffff);
  }
  setFlag(pcpu, leaf, EPTE.DIRTY);
  return true;
}

function setFlag({ memory }: VmxPcpu, at: bigint, flag: bigint): void {
  const entry = memory.readU64(at);
  if ((entry & flag) === 0n) memory.writeU64(at, entry | flag);
}
