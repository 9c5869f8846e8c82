/**
 * The host-state area as register and MSR values, so that a VM exit copies words instead of reading fields.
 *
 * Source: SDM, "Loading Host State" and its sections on control registers, segment registers, RIP, RSP and RFLAGS.
 * Invariant: loadHostImage() changes no register that VM exit does not load; DR0-3, DR6, CR2, XCR0 and the general
 * registers keep the guest's values.
 * Not modelled: a 32-bit host with PAE paging (PDPTEs), FRED state, the hidden parts of segment registers other than
 * the bases of FS, GS and TR and the limit of TR.
 */
import { EFER, MSR, msrName } from '../../abi/msrs.js';
import { hex, high32, low32 } from '../../abi/uint.js';
import { VMCS_SLOT, type FieldName } from '../../abi/vmcs-fields.js';
import { ENTRY_CONTROL, EXIT_CONTROL } from '../../abi/vmx-controls.js';
import { REG, RFLAGS, type RegisterName } from '../cpu/registers.js';
import { CR } from './capabilities.js';
import type { VmxPcpu } from './ports.js';
import type { Vmcs } from './vmcs.js';

/** What a VM exit loads, prepared. */
export interface HostImage {
  /** Word indices into the register file, and the words that go there. */
  readonly at: Uint16Array;
  readonly words: Uint32Array;
  /** The bits of CR0 that VM exit loads; the others keep the guest's value. */
  readonly cr0: number;
  /** EFER, or null where the exit controls keep the guest's and only LMA and LME are loaded. */
  readonly efer: bigint | null;
  readonly longMode: boolean;
  readonly msrs: readonly (readonly [index: number, value: bigint])[];
  /** Where and at which count of changes `msrs` were loaded last: as long as it stands they still are. */
  loadedOn: VmxPcpu | null;
  loadedAt: number | undefined;
  /** MSRs that VM entry loaded and VM exit does not load: the guest's value stays. */
  readonly kept: readonly (readonly [index: number, slot: number])[];
  /** The guest's SSP stays: VM entry loaded it and VM exit does not. */
  readonly keepsSsp: boolean;
}

/** Bits of CR0 that VM exit does not change: ET, CD, NW, reserved bits 15:6, 17 and 28:19. */
const CR0_KEPT = 0x7ffa_ffd0;
const DR7_AFTER_EXIT = 0x400n;
const TABLE_LIMIT = 0xffffn;
const TR_LIMIT = 0x67n;

const FROM_FIELD: readonly (readonly [RegisterName, FieldName])[] = [
  ['RIP', 'HOST_RIP'],
  ['RSP', 'HOST_RSP'],
  ['CR3', 'HOST_CR3'],
  ['CS', 'HOST_CS_SELECTOR'],
  ['SS', 'HOST_SS_SELECTOR'],
  ['DS', 'HOST_DS_SELECTOR'],
  ['ES', 'HOST_ES_SELECTOR'],
  ['FS', 'HOST_FS_SELECTOR'],
  ['GS', 'HOST_GS_SELECTOR'],
  ['TR', 'HOST_TR_SELECTOR'],
  ['FS_BASE', 'HOST_FS_BASE'],
  ['GS_BASE', 'HOST_GS_BASE'],
  ['TR_BASE', 'HOST_TR_BASE'],
  ['GDTR_BASE', 'HOST_GDTR_BASE'],
  ['IDTR_BASE', 'HOST_IDTR_BASE'],
];

const CONSTANT: readonly (readonly [RegisterName, bigint])[] = [
  ['RFLAGS', RFLAGS.FIXED],
  ['DR7', DR7_AFTER_EXIT],
  ['LDTR', 0n],
  ['TR_LIMIT', TR_LIMIT],
  ['GDTR_LIMIT', TABLE_LIMIT],
  ['IDTR_LIMIT', TABLE_LIMIT],
];

/** State that an exit control loads and an entry control loads: [exit bit, entry bit, MSR, host field, guest field]. */
const CONTROLLED = [
  [
    EXIT_CONTROL.LOAD_IA32_PAT,
    ENTRY_CONTROL.LOAD_IA32_PAT,
    MSR.IA32_PAT,
    'HOST_IA32_PAT',
    'GUEST_IA32_PAT',
  ],
  [
    EXIT_CONTROL.LOAD_IA32_PERF_GLOBAL_CTRL,
    ENTRY_CONTROL.LOAD_IA32_PERF_GLOBAL_CTRL,
    MSR.IA32_PERF_GLOBAL_CTRL,
    'HOST_IA32_PERF_GLOBAL_CTRL',
    'GUEST_IA32_PERF_GLOBAL_CTRL',
  ],
  [
    EXIT_CONTROL.LOAD_PKRS,
    ENTRY_CONTROL.LOAD_PKRS,
    MSR.IA32_PKRS,
    'HOST_IA32_PKRS',
    'GUEST_IA32_PKRS',
  ],
  [
    EXIT_CONTROL.LOAD_CET_STATE,
    ENTRY_CONTROL.LOAD_CET_STATE,
    MSR.IA32_S_CET,
    'HOST_S_CET',
    'GUEST_S_CET',
  ],
  [
    EXIT_CONTROL.LOAD_CET_STATE,
    ENTRY_CONTROL.LOAD_CET_STATE,
    MSR.IA32_INTERRUPT_SSP_TABLE_ADDR,
    'HOST_INTR_SSP_TABLE',
    'GUEST_INTR_SSP_TABLE',
  ],
] as const;

/** Reads the host-state area once. */
export function makeHostImage(vmcs: Vmcs): HostImage {
  const exit = vmcs.low(VMCS_SLOT.VM_EXIT_CONTROLS);
  const entry = vmcs.low(VMCS_SLOT.VM_ENTRY_CONTROLS);
  const longMode = (exit & EXIT_CONTROL.HOST_ADDR_SPACE_SIZE) !== 0;
  const loadsCet = (exit & EXIT_CONTROL.LOAD_CET_STATE) !== 0;
  const cr4 = longMode
    ? vmcs.read('HOST_CR4') | BigInt(CR.CR4_PAE)
    : vmcs.read('HOST_CR4') & ~BigInt(CR.CR4_PCIDE);
  const registers: (readonly [RegisterName, bigint])[] = [
    ...FROM_FIELD.map(([register, field]) => [register, vmcs.read(field)] as const),
    ...CONSTANT,
    ['CR4', cr4],
    ...(loadsCet ? [['SSP', vmcs.read('HOST_SSP')] as const] : []),
  ];
  const loaded = CONTROLLED.filter(([bit]) => (exit & bit) !== 0);
  const kept = CONTROLLED.filter(([exitBit, bit]) => (exit & exitBit) === 0 && (entry & bit) !== 0);
  return {
    at: Uint16Array.from(registers.flatMap(([name]) => [2 * REG[name], 2 * REG[name] + 1])),
    words: Uint32Array.from(registers.flatMap(([, value]) => [low32(value), high32(value)])),
    cr0: vmcs.low(VMCS_SLOT.HOST_CR0) & ~CR0_KEPT,
    efer: (exit & EXIT_CONTROL.LOAD_IA32_EFER) === 0 ? null : vmcs.read('HOST_IA32_EFER'),
    longMode,
    msrs: [
      [MSR.IA32_DEBUGCTL, 0n],
      [MSR.IA32_SYSENTER_CS, vmcs.read('HOST_IA32_SYSENTER_CS')],
      [MSR.IA32_SYSENTER_ESP, vmcs.read('HOST_IA32_SYSENTER_ESP')],
      [MSR.IA32_SYSENTER_EIP, vmcs.read('HOST_IA32_SYSENTER_EIP')],
      ...loaded.map(([, , index, field]) => [index, vmcs.read(field)] as const),
    ],
    loadedOn: null,
    loadedAt: undefined,
    kept: kept.map(([, , index, , field]) => [index, VMCS_SLOT[field]] as const),
    keepsSsp: !loadsCet && (entry & ENTRY_CONTROL.LOAD_CET_STATE) !== 0,
  };
}

/** Whose state VM exit finds where it loads nothing: the guest's, or root operation's when VM entry refused the guest's. */
export type StateBefore = 'guest' | 'root';

/**
 * Loads a host image into the registers and MSRs of a pCPU; an MSR with its value when it refuses that, else null. VM entry
 * has checked all of them, so only a VMCS that was changed during VMX non-root operation has such a value.
 */
export function loadHostImage(
  pcpu: VmxPcpu,
  vmcs: Vmcs,
  image: HostImage,
  before: StateBefore,
): string | null {
  const { words } = pcpu.registers;
  const { at, words: source } = image;
  for (let i = 0; i < at.length; i++) words[at[i]!] = source[i]!;
  words[2 * REG.CR0] = (words[2 * REG.CR0]! & CR0_KEPT) | image.cr0;
  if (image.keepsSsp && before === 'guest') pcpu.registers.set('SSP', vmcs.read('GUEST_SSP'));
  loadEfer(pcpu, vmcs, image, before);
  const { changes } = pcpu.msrs;
  if (changes === undefined || image.loadedOn !== pcpu || image.loadedAt !== changes) {
    for (const [index, value] of image.msrs) {
      if (!pcpu.msrs.write(index, value)) return refused(index, value);
    }
    image.loadedOn = pcpu;
    image.loadedAt = pcpu.msrs.changes;
  }
  if (before === 'root') return null;
  for (const [index, slot] of image.kept) {
    const value = vmcs.get(slot);
    if (!pcpu.msrs.write(index, value)) return refused(index, value);
  }
  return null;
}

function loadEfer(pcpu: VmxPcpu, vmcs: Vmcs, image: HostImage, before: StateBefore): void {
  if (image.efer !== null) {
    pcpu.registers.values[REG.EFER] = image.efer;
    return;
  }
  const entry = vmcs.low(VMCS_SLOT.VM_ENTRY_CONTROLS);
  const kept =
    before === 'root' || (entry & ENTRY_CONTROL.LOAD_IA32_EFER) === 0
      ? pcpu.registers.get('EFER')
      : vmcs.read('GUEST_IA32_EFER');
  const mode = image.longMode ? EFER.LMA | EFER.LME : 0n;
  pcpu.registers.set('EFER', (kept & ~(EFER.LMA | EFER.LME)) | mode);
}

function refused(index: number, value: bigint): string {
  return `MSR ${msrName(index) ?? hex(index)} takes no ${hex(value)}, which VM entry would have refused`;
}
