/**
 * Every VMCS field: its name, encoding, width and area, and the dense slot that the models keep its value in.
 *
 * Source: SDM, "Field Encoding in VMCS"; names are Linux's (arch/x86/include/asm/vmx.h: enum vmcs_field), for fields
 * that Linux has not, the SDM's words in the same style. `confirmed` says where the encoding was read; null is
 * general knowledge.
 * Invariant: slots are dense, in encoding order; a 64-bit field's HIGH access shares the slot of its full access.
 */
import { HarnessBug } from './errors.js';
import { low32 } from './uint.js';

/** Bits of a field, `natural` is 64 on a processor that supports Intel 64. */
export type VmcsWidth = 16 | 32 | 64 | 'natural';
/** The area of the VMCS that a field belongs to; exit-info fields are read-only. */
export type VmcsArea = 'control' | 'exit-info' | 'guest' | 'host';
/** Where an encoding was read: Linux, kvm-unit-tests, the SDM, or nowhere (general knowledge). */
export type VmcsConfirmation = 'linux' | 'kut' | 'sdm' | null;
type Row = readonly [
  name: string,
  encoding: number,
  width: VmcsWidth,
  type: VmcsArea,
  confirmed: VmcsConfirmation,
];

// prettier-ignore
const ROWS = [
  // 16-bit control fields.
  ['VIRTUAL_PROCESSOR_ID',           0x0000, 16,        'control',   'linux'],
  ['POSTED_INTR_NV',                 0x0002, 16,        'control',   'linux'],
  ['EPTP_INDEX',                     0x0004, 16,        'control',   null],
  ['HLAT_PREFIX_SIZE',               0x0006, 16,        'control',   null],
  ['LAST_PID_POINTER_INDEX',         0x0008, 16,        'control',   'linux'],
  // 16-bit guest-state fields.
  ['GUEST_ES_SELECTOR',              0x0800, 16,        'guest',     'linux'],
  ['GUEST_CS_SELECTOR',              0x0802, 16,        'guest',     'linux'],
  ['GUEST_SS_SELECTOR',              0x0804, 16,        'guest',     'linux'],
  ['GUEST_DS_SELECTOR',              0x0806, 16,        'guest',     'linux'],
  ['GUEST_FS_SELECTOR',              0x0808, 16,        'guest',     'linux'],
  ['GUEST_GS_SELECTOR',              0x080a, 16,        'guest',     'linux'],
  ['GUEST_LDTR_SELECTOR',            0x080c, 16,        'guest',     'linux'],
  ['GUEST_TR_SELECTOR',              0x080e, 16,        'guest',     'linux'],
  ['GUEST_INTR_STATUS',              0x0810, 16,        'guest',     'linux'],
  ['GUEST_PML_INDEX',                0x0812, 16,        'guest',     'linux'],
  ['GUEST_UINV',                     0x0814, 16,        'guest',     null],
  // 16-bit host-state fields.
  ['HOST_ES_SELECTOR',               0x0c00, 16,        'host',      'linux'],
  ['HOST_CS_SELECTOR',               0x0c02, 16,        'host',      'linux'],
  ['HOST_SS_SELECTOR',               0x0c04, 16,        'host',      'linux'],
  ['HOST_DS_SELECTOR',               0x0c06, 16,        'host',      'linux'],
  ['HOST_FS_SELECTOR',               0x0c08, 16,        'host',      'linux'],
  ['HOST_GS_SELECTOR',               0x0c0a, 16,        'host',      'linux'],
  ['HOST_TR_SELECTOR',               0x0c0c, 16,        'host',      'linux'],
  // 64-bit control fields.
  ['IO_BITMAP_A',                    0x2000, 64,        'control',   'linux'],
  ['IO_BITMAP_B',                    0x2002, 64,        'control',   'linux'],
  ['MSR_BITMAP',                     0x2004, 64,        'control',   'linux'],
  ['VM_EXIT_MSR_STORE_ADDR',         0x2006, 64,        'control',   'linux'],
  ['VM_EXIT_MSR_LOAD_ADDR',          0x2008, 64,        'control',   'linux'],
  ['VM_ENTRY_MSR_LOAD_ADDR',         0x200a, 64,        'control',   'linux'],
  ['EXECUTIVE_VMCS_POINTER',         0x200c, 64,        'control',   null],
  ['PML_ADDRESS',                    0x200e, 64,        'control',   'linux'],
  ['TSC_OFFSET',                     0x2010, 64,        'control',   'linux'],
  ['VIRTUAL_APIC_PAGE_ADDR',         0x2012, 64,        'control',   'linux'],
  ['APIC_ACCESS_ADDR',               0x2014, 64,        'control',   'linux'],
  ['POSTED_INTR_DESC_ADDR',          0x2016, 64,        'control',   'linux'],
  ['VM_FUNCTION_CONTROL',            0x2018, 64,        'control',   'linux'],
  ['EPT_POINTER',                    0x201a, 64,        'control',   'linux'],
  ['EOI_EXIT_BITMAP0',               0x201c, 64,        'control',   'linux'],
  ['EOI_EXIT_BITMAP1',               0x201e, 64,        'control',   'linux'],
  ['EOI_EXIT_BITMAP2',               0x2020, 64,        'control',   'linux'],
  ['EOI_EXIT_BITMAP3',               0x2022, 64,        'control',   'linux'],
  ['EPTP_LIST_ADDRESS',              0x2024, 64,        'control',   'linux'],
  ['VMREAD_BITMAP',                  0x2026, 64,        'control',   'linux'],
  ['VMWRITE_BITMAP',                 0x2028, 64,        'control',   'linux'],
  ['VE_INFORMATION_ADDRESS',         0x202a, 64,        'control',   'linux'],
  ['XSS_EXIT_BITMAP',                0x202c, 64,        'control',   'linux'],
  ['ENCLS_EXITING_BITMAP',           0x202e, 64,        'control',   'linux'],
  ['SPP_TABLE_POINTER',              0x2030, 64,        'control',   null],
  ['TSC_MULTIPLIER',                 0x2032, 64,        'control',   'linux'],
  ['TERTIARY_VM_EXEC_CONTROL',       0x2034, 64,        'control',   'linux'],
  ['ENCLV_EXITING_BITMAP',           0x2036, 64,        'control',   null],
  ['LOW_PASID_DIRECTORY_ADDR',       0x2038, 64,        'control',   null],
  ['HIGH_PASID_DIRECTORY_ADDR',      0x203a, 64,        'control',   null],
  ['SHARED_EPT_POINTER',             0x203c, 64,        'control',   null],
  ['PCONFIG_EXITING_BITMAP',         0x203e, 64,        'control',   null],
  ['HLAT_POINTER',                   0x2040, 64,        'control',   null],
  ['PID_POINTER_TABLE',              0x2042, 64,        'control',   'linux'],
  ['SECONDARY_VM_EXIT_CONTROLS',     0x2044, 64,        'control',   'linux'],
  ['IA32_SPEC_CTRL_MASK',            0x204a, 64,        'control',   null],
  ['IA32_SPEC_CTRL_SHADOW',          0x204c, 64,        'control',   null],
  ['INJECTED_EVENT_DATA',            0x2052, 64,        'control',   'linux'],
  // 64-bit VM-exit information fields (read-only).
  ['GUEST_PHYSICAL_ADDRESS',         0x2400, 64,        'exit-info', 'linux'],
  ['ORIGINAL_EVENT_DATA',            0x2404, 64,        'exit-info', 'linux'],
  // 64-bit guest-state fields.
  ['VMCS_LINK_POINTER',              0x2800, 64,        'guest',     'linux'],
  ['GUEST_IA32_DEBUGCTL',            0x2802, 64,        'guest',     'linux'],
  ['GUEST_IA32_PAT',                 0x2804, 64,        'guest',     'linux'],
  ['GUEST_IA32_EFER',                0x2806, 64,        'guest',     'linux'],
  ['GUEST_IA32_PERF_GLOBAL_CTRL',    0x2808, 64,        'guest',     'linux'],
  ['GUEST_PDPTR0',                   0x280a, 64,        'guest',     'linux'],
  ['GUEST_PDPTR1',                   0x280c, 64,        'guest',     'linux'],
  ['GUEST_PDPTR2',                   0x280e, 64,        'guest',     'linux'],
  ['GUEST_PDPTR3',                   0x2810, 64,        'guest',     'linux'],
  ['GUEST_BNDCFGS',                  0x2812, 64,        'guest',     'linux'],
  ['GUEST_IA32_RTIT_CTL',            0x2814, 64,        'guest',     'linux'],
  ['GUEST_IA32_LBR_CTL',             0x2816, 64,        'guest',     null],
  ['GUEST_IA32_PKRS',                0x2818, 64,        'guest',     null],
  ['GUEST_IA32_FRED_CONFIG',         0x281a, 64,        'guest',     'linux'],
  ['GUEST_IA32_FRED_RSP1',           0x281c, 64,        'guest',     'linux'],
  ['GUEST_IA32_FRED_RSP2',           0x281e, 64,        'guest',     'linux'],
  ['GUEST_IA32_FRED_RSP3',           0x2820, 64,        'guest',     'linux'],
  ['GUEST_IA32_FRED_STKLVLS',        0x2822, 64,        'guest',     'linux'],
  ['GUEST_IA32_FRED_SSP1',           0x2824, 64,        'guest',     'linux'],
  ['GUEST_IA32_FRED_SSP2',           0x2826, 64,        'guest',     'linux'],
  ['GUEST_IA32_FRED_SSP3',           0x2828, 64,        'guest',     'linux'],
  // 64-bit host-state fields.
  ['HOST_IA32_PAT',                  0x2c00, 64,        'host',      'linux'],
  ['HOST_IA32_EFER',                 0x2c02, 64,        'host',      'linux'],
  ['HOST_IA32_PERF_GLOBAL_CTRL',     0x2c04, 64,        'host',      'linux'],
  ['HOST_IA32_PKRS',                 0x2c06, 64,        'host',      null],
  ['HOST_IA32_FRED_CONFIG',          0x2c08, 64,        'host',      'linux'],
  ['HOST_IA32_FRED_RSP1',            0x2c0a, 64,        'host',      'linux'],
  ['HOST_IA32_FRED_RSP2',            0x2c0c, 64,        'host',      'linux'],
  ['HOST_IA32_FRED_RSP3',            0x2c0e, 64,        'host',      'linux'],
  ['HOST_IA32_FRED_STKLVLS',         0x2c10, 64,        'host',      'linux'],
  ['HOST_IA32_FRED_SSP1',            0x2c12, 64,        'host',      'linux'],
  ['HOST_IA32_FRED_SSP2',            0x2c14, 64,        'host',      'linux'],
  ['HOST_IA32_FRED_SSP3',            0x2c16, 64,        'host',      'linux'],
  // 32-bit control fields.
  ['PIN_BASED_VM_EXEC_CONTROL',      0x4000, 32,        'control',   'linux'],
  ['CPU_BASED_VM_EXEC_CONTROL',      0x4002, 32,        'control',   'linux'],
  ['EXCEPTION_BITMAP',               0x4004, 32,        'control',   'linux'],
  ['PAGE_FAULT_ERROR_CODE_MASK',     0x4006, 32,        'control',   'linux'],
  ['PAGE_FAULT_ERROR_CODE_MATCH',    0x4008, 32,        'control',   'linux'],
  ['CR3_TARGET_COUNT',               0x400a, 32,        'control',   'linux'],
  ['VM_EXIT_CONTROLS',               0x400c, 32,        'control',   'linux'],
  ['VM_EXIT_MSR_STORE_COUNT',        0x400e, 32,        'control',   'linux'],
  ['VM_EXIT_MSR_LOAD_COUNT',         0x4010, 32,        'control',   'linux'],
  ['VM_ENTRY_CONTROLS',              0x4012, 32,        'control',   'linux'],
  ['VM_ENTRY_MSR_LOAD_COUNT',        0x4014, 32,        'control',   'linux'],
  ['VM_ENTRY_INTR_INFO_FIELD',       0x4016, 32,        'control',   'linux'],
  ['VM_ENTRY_EXCEPTION_ERROR_CODE',  0x4018, 32,        'control',   'linux'],
  ['VM_ENTRY_INSTRUCTION_LEN',       0x401a, 32,        'control',   'linux'],
  ['TPR_THRESHOLD',                  0x401c, 32,        'control',   'linux'],
  ['SECONDARY_VM_EXEC_CONTROL',      0x401e, 32,        'control',   'linux'],
  ['PLE_GAP',                        0x4020, 32,        'control',   'linux'],
  ['PLE_WINDOW',                     0x4022, 32,        'control',   'linux'],
  ['NOTIFY_WINDOW',                  0x4024, 32,        'control',   'linux'],
  // 32-bit VM-exit information fields (read-only).
  ['VM_INSTRUCTION_ERROR',           0x4400, 32,        'exit-info', 'linux'],
  ['VM_EXIT_REASON',                 0x4402, 32,        'exit-info', 'linux'],
  ['VM_EXIT_INTR_INFO',              0x4404, 32,        'exit-info', 'linux'],
  ['VM_EXIT_INTR_ERROR_CODE',        0x4406, 32,        'exit-info', 'linux'],
  ['IDT_VECTORING_INFO_FIELD',       0x4408, 32,        'exit-info', 'linux'],
  ['IDT_VECTORING_ERROR_CODE',       0x440a, 32,        'exit-info', 'linux'],
  ['VM_EXIT_INSTRUCTION_LEN',        0x440c, 32,        'exit-info', 'linux'],
  ['VMX_INSTRUCTION_INFO',           0x440e, 32,        'exit-info', 'linux'],
  // 32-bit guest-state fields.
  ['GUEST_ES_LIMIT',                 0x4800, 32,        'guest',     'linux'],
  ['GUEST_CS_LIMIT',                 0x4802, 32,        'guest',     'linux'],
  ['GUEST_SS_LIMIT',                 0x4804, 32,        'guest',     'linux'],
  ['GUEST_DS_LIMIT',                 0x4806, 32,        'guest',     'linux'],
  ['GUEST_FS_LIMIT',                 0x4808, 32,        'guest',     'linux'],
  ['GUEST_GS_LIMIT',                 0x480a, 32,        'guest',     'linux'],
  ['GUEST_LDTR_LIMIT',               0x480c, 32,        'guest',     'linux'],
  ['GUEST_TR_LIMIT',                 0x480e, 32,        'guest',     'linux'],
  ['GUEST_GDTR_LIMIT',               0x4810, 32,        'guest',     'linux'],
  ['GUEST_IDTR_LIMIT',               0x4812, 32,        'guest',     'linux'],
  ['GUEST_ES_AR_BYTES',              0x4814, 32,        'guest',     'linux'],
  ['GUEST_CS_AR_BYTES',              0x4816, 32,        'guest',     'linux'],
  ['GUEST_SS_AR_BYTES',              0x4818, 32,        'guest',     'linux'],
  ['GUEST_DS_AR_BYTES',              0x481a, 32,        'guest',     'linux'],
  ['GUEST_FS_AR_BYTES',              0x481c, 32,        'guest',     'linux'],
  ['GUEST_GS_AR_BYTES',              0x481e, 32,        'guest',     'linux'],
  ['GUEST_LDTR_AR_BYTES',            0x4820, 32,        'guest',     'linux'],
  ['GUEST_TR_AR_BYTES',              0x4822, 32,        'guest',     'linux'],
  ['GUEST_INTERRUPTIBILITY_INFO',    0x4824, 32,        'guest',     'linux'],
  ['GUEST_ACTIVITY_STATE',           0x4826, 32,        'guest',     'linux'],
  ['GUEST_SMBASE',                   0x4828, 32,        'guest',     null],
  ['GUEST_SYSENTER_CS',              0x482a, 32,        'guest',     'linux'],
  ['VMX_PREEMPTION_TIMER_VALUE',     0x482e, 32,        'guest',     'linux'],
  // 32-bit host-state fields.
  ['HOST_IA32_SYSENTER_CS',          0x4c00, 32,        'host',      'linux'],
  // Natural-width control fields.
  ['CR0_GUEST_HOST_MASK',            0x6000, 'natural', 'control',   'linux'],
  ['CR4_GUEST_HOST_MASK',            0x6002, 'natural', 'control',   'linux'],
  ['CR0_READ_SHADOW',                0x6004, 'natural', 'control',   'linux'],
  ['CR4_READ_SHADOW',                0x6006, 'natural', 'control',   'linux'],
  ['CR3_TARGET_VALUE0',              0x6008, 'natural', 'control',   'linux'],
  ['CR3_TARGET_VALUE1',              0x600a, 'natural', 'control',   'linux'],
  ['CR3_TARGET_VALUE2',              0x600c, 'natural', 'control',   'linux'],
  ['CR3_TARGET_VALUE3',              0x600e, 'natural', 'control',   'linux'],
  // Natural-width VM-exit information fields (read-only).
  ['EXIT_QUALIFICATION',             0x6400, 'natural', 'exit-info', 'linux'],
  ['IO_RCX',                         0x6402, 'natural', 'exit-info', null],
  ['IO_RSI',                         0x6404, 'natural', 'exit-info', null],
  ['IO_RDI',                         0x6406, 'natural', 'exit-info', null],
  ['IO_RIP',                         0x6408, 'natural', 'exit-info', null],
  ['GUEST_LINEAR_ADDRESS',           0x640a, 'natural', 'exit-info', 'linux'],
  // Natural-width guest-state fields.
  ['GUEST_CR0',                      0x6800, 'natural', 'guest',     'linux'],
  ['GUEST_CR3',                      0x6802, 'natural', 'guest',     'linux'],
  ['GUEST_CR4',                      0x6804, 'natural', 'guest',     'linux'],
  ['GUEST_ES_BASE',                  0x6806, 'natural', 'guest',     'linux'],
  ['GUEST_CS_BASE',                  0x6808, 'natural', 'guest',     'linux'],
  ['GUEST_SS_BASE',                  0x680a, 'natural', 'guest',     'linux'],
  ['GUEST_DS_BASE',                  0x680c, 'natural', 'guest',     'linux'],
  ['GUEST_FS_BASE',                  0x680e, 'natural', 'guest',     'linux'],
  ['GUEST_GS_BASE',                  0x6810, 'natural', 'guest',     'linux'],
  ['GUEST_LDTR_BASE',                0x6812, 'natural', 'guest',     'linux'],
  ['GUEST_TR_BASE',                  0x6814, 'natural', 'guest',     'linux'],
  ['GUEST_GDTR_BASE',                0x6816, 'natural', 'guest',     'linux'],
  ['GUEST_IDTR_BASE',                0x6818, 'natural', 'guest',     'linux'],
  ['GUEST_DR7',                      0x681a, 'natural', 'guest',     'linux'],
  ['GUEST_RSP',                      0x681c, 'natural', 'guest',     'linux'],
  ['GUEST_RIP',                      0x681e, 'natural', 'guest',     'linux'],
  ['GUEST_RFLAGS',                   0x6820, 'natural', 'guest',     'linux'],
  ['GUEST_PENDING_DBG_EXCEPTIONS',   0x6822, 'natural', 'guest',     'linux'],
  ['GUEST_SYSENTER_ESP',             0x6824, 'natural', 'guest',     'linux'],
  ['GUEST_SYSENTER_EIP',             0x6826, 'natural', 'guest',     'linux'],
  ['GUEST_S_CET',                    0x6828, 'natural', 'guest',     'kut'],
  ['GUEST_SSP',                      0x682a, 'natural', 'guest',     'kut'],
  ['GUEST_INTR_SSP_TABLE',           0x682c, 'natural', 'guest',     'kut'],
  // Natural-width host-state fields.
  ['HOST_CR0',                       0x6c00, 'natural', 'host',      'linux'],
  ['HOST_CR3',                       0x6c02, 'natural', 'host',      'linux'],
  ['HOST_CR4',                       0x6c04, 'natural', 'host',      'linux'],
  ['HOST_FS_BASE',                   0x6c06, 'natural', 'host',      'linux'],
  ['HOST_GS_BASE',                   0x6c08, 'natural', 'host',      'linux'],
  ['HOST_TR_BASE',                   0x6c0a, 'natural', 'host',      'linux'],
  ['HOST_GDTR_BASE',                 0x6c0c, 'natural', 'host',      'linux'],
  ['HOST_IDTR_BASE',                 0x6c0e, 'natural', 'host',      'linux'],
  ['HOST_IA32_SYSENTER_ESP',         0x6c10, 'natural', 'host',      'linux'],
  ['HOST_IA32_SYSENTER_EIP',         0x6c12, 'natural', 'host',      'linux'],
  ['HOST_RSP',                       0x6c14, 'natural', 'host',      'linux'],
  ['HOST_RIP',                       0x6c16, 'natural', 'host',      'linux'],
  ['HOST_S_CET',                     0x6c18, 'natural', 'host',      'kut'],
  ['HOST_SSP',                       0x6c1a, 'natural', 'host',      'kut'],
  ['HOST_INTR_SSP_TABLE',            0x6c1c, 'natural', 'host',      'kut'],
] as const satisfies readonly Row[];

/** The name of a VMCS field, as Linux spells it. */
export type FieldName = (typeof ROWS)[number][0];

/** One VMCS field. */
export interface VmcsField {
  readonly name: FieldName;
  /** The encoding of the full access. */
  readonly encoding: number;
  readonly width: VmcsWidth;
  readonly type: VmcsArea;
  /** `full-and-high`: a 64-bit field, whose upper half is also reached at `encoding + 1`. */
  readonly access: 'full' | 'full-and-high';
  /** VMWRITE refuses it where IA32_VMX_MISC does not allow writing VM-exit information. */
  readonly readOnly: boolean;
  readonly confirmed: VmcsConfirmation;
  /** Index into a Vmcs's values. */
  readonly slot: number;
}

/** Every field, in encoding order; index = slot. */
export const VMCS_FIELDS: readonly VmcsField[] = ROWS.map(
  ([name, encoding, width, type, confirmed], slot): VmcsField => ({
    name,
    encoding,
    width,
    type,
    access: width === 64 ? 'full-and-high' : 'full',
    readOnly: type === 'exit-info',
    confirmed,
    slot,
  }),
);

/** How many fields, and so slots, there are. */
export const VMCS_FIELD_COUNT: number = VMCS_FIELDS.length;

/** The slot of each field by name. */
export const VMCS_SLOT = Object.fromEntries(
  VMCS_FIELDS.map((field) => [field.name, field.slot]),
) as Readonly<Record<FieldName, number>>;

/** The encoding of each field by name. */
export const VMCS_ENCODING = Object.fromEntries(
  VMCS_FIELDS.map((field) => [field.name, field.encoding]),
) as Readonly<Record<FieldName, number>>;

/** "No such field" in `slotByEncoding`. */
export const NO_SLOT = 0xffff;

/** The slot of each encoding below 0x10000, NO_SLOT elsewhere; HIGH accesses are not in it. */
export const slotByEncoding: Uint16Array = new Uint16Array(0x10000).fill(NO_SLOT);
for (const field of VMCS_FIELDS) slotByEncoding[field.encoding] = field.slot;

/** The slot of the field whose full access has this encoding, -1 for none; a HIGH access is none. */
export function slotOf(encoding: number): number {
  const slot = encoding >>> 0 < 0x10000 ? slotByEncoding[encoding]! : NO_SLOT;
  return slot === NO_SLOT ? -1 : slot;
}

/** The field in a slot. @throws HarnessBug when there is no such slot. */
export function fieldAt(slot: number): VmcsField {
  const field = VMCS_FIELDS[slot];
  if (field === undefined) throw new HarnessBug(`no VMCS field has slot ${slot}`);
  return field;
}

/** An encoding taken apart: `high` is the access type bit, `reserved` is set when a reserved bit is 1. */
export interface DecodedEncoding {
  readonly high: boolean;
  readonly index: number;
  readonly type: VmcsArea;
  readonly width: VmcsWidth;
  readonly reserved: boolean;
}

const AREAS = ['control', 'exit-info', 'guest', 'host'] as const;
const WIDTHS = [16, 64, 32, 'natural'] as const;

/** Takes an encoding apart (SDM, "Structure of VMCS Component Encoding"). */
export function decodeEncoding(encoding: number): DecodedEncoding {
  return {
    high: (encoding & 1) !== 0,
    index: (encoding >>> 1) & 0x1ff,
    type: AREAS[(encoding >>> 10) & 3]!,
    width: WIDTHS[(encoding >>> 13) & 3]!,
    reserved: (encoding & ~0x6fff) !== 0,
  };
}

/** A resolved VMREAD or VMWRITE operand: the slot and whether it is the upper half of a 64-bit field. */
export interface VmcsAccess {
  readonly slot: number;
  readonly high: boolean;
}

/** The field and half that an encoding names, undefined for an unsupported VMCS component. */
export function accessOf(encoding: bigint): VmcsAccess | undefined {
  if (encoding > 0xffffn) return undefined;
  const number = low32(encoding);
  const full = slotOf(number & ~1);
  if (full < 0) return undefined;
  if ((number & 1) === 0) return { slot: full, high: false };
  return fieldAt(full).access === 'full-and-high' ? { slot: full, high: true } : undefined;
}

const BITS = { 16: 16, 32: 32, 64: 64, natural: 64 } as const;

/** Bits of each slot's field: 16, 32 or 64; VMWRITE ignores the source operand's bits above. */
export const slotBits: Uint8Array = Uint8Array.from(VMCS_FIELDS, (field) => BITS[field.width]);
