import { describe, expect, it } from 'vitest';
import { toIndex } from '../../abi/uint.js';
import {
  NO_SLOT,
  VMCS_ENCODING,
  VMCS_FIELDS,
  VMCS_FIELD_COUNT,
  VMCS_SLOT,
  accessOf,
  decodeEncoding,
  fieldAt,
  slotByEncoding,
  slotOf,
  type FieldName,
} from '../../abi/vmcs-fields.js';

describe('the encoding of a VMCS field says its width and its area', () => {
  it.each(VMCS_FIELDS)('$name', (field) => {
    const decoded = decodeEncoding(field.encoding);
    expect(decoded).toMatchObject({ width: field.width, type: field.type });
    expect(decoded.high).toBe(false);
    expect(decoded.reserved).toBe(false);
    expect(slotOf(field.encoding)).toBe(field.slot);
  });
});

describe('slots are dense and unique', () => {
  it('gives every field its own slot in encoding order', () => {
    expect(VMCS_FIELDS.map((field) => field.slot)).toEqual([...Array(VMCS_FIELD_COUNT).keys()]);
    const encodings = VMCS_FIELDS.map((field) => field.encoding);
    expect(encodings).toEqual([...encodings].sort((a, b) => a - b));
    expect(new Set(encodings).size).toBe(VMCS_FIELD_COUNT);
    expect(new Set(VMCS_FIELDS.map((field) => field.name)).size).toBe(VMCS_FIELD_COUNT);
  });

  it('lists exactly the full encodings in slotByEncoding', () => {
    const listed = [...slotByEncoding].filter((slot) => slot !== NO_SLOT);
    expect(listed).toHaveLength(VMCS_FIELD_COUNT);
  });

  it('fits the memory image of a VMCS region', () => {
    expect(8 + 8 * VMCS_FIELD_COUNT).toBeLessThanOrEqual(4096);
  });
});

// Encodings read in Linux and kvm-unit-tests, independent of the table's order.
describe('a field that KVM or the payload uses has the encoding that Linux gives it', () => {
  it.each<[FieldName, number]>([
    ['HOST_ES_SELECTOR', 0xc00],
    ['HOST_TR_SELECTOR', 0xc0c],
    ['HOST_IA32_PAT', 0x2c00],
    ['HOST_IA32_EFER', 0x2c02],
    ['HOST_IA32_PERF_GLOBAL_CTRL', 0x2c04],
    ['HOST_IA32_SYSENTER_CS', 0x4c00],
    ['HOST_CR0', 0x6c00],
    ['HOST_CR3', 0x6c02],
    ['HOST_CR4', 0x6c04],
    ['HOST_FS_BASE', 0x6c06],
    ['HOST_GS_BASE', 0x6c08],
    ['HOST_TR_BASE', 0x6c0a],
    ['HOST_GDTR_BASE', 0x6c0c],
    ['HOST_IDTR_BASE', 0x6c0e],
    ['HOST_IA32_SYSENTER_ESP', 0x6c10],
    ['HOST_IA32_SYSENTER_EIP', 0x6c12],
    ['HOST_RSP', 0x6c14],
    ['HOST_RIP', 0x6c16],
    ['HOST_S_CET', 0x6c18],
    ['HOST_SSP', 0x6c1a],
    ['HOST_INTR_SSP_TABLE', 0x6c1c],
    ['VM_INSTRUCTION_ERROR', 0x4400],
    ['VM_EXIT_REASON', 0x4402],
    ['VM_EXIT_INTR_INFO', 0x4404],
    ['VM_EXIT_INTR_ERROR_CODE', 0x4406],
    ['IDT_VECTORING_INFO_FIELD', 0x4408],
    ['IDT_VECTORING_ERROR_CODE', 0x440a],
    ['VM_EXIT_INSTRUCTION_LEN', 0x440c],
    ['VMX_INSTRUCTION_INFO', 0x440e],
    ['EXIT_QUALIFICATION', 0x6400],
    ['GUEST_LINEAR_ADDRESS', 0x640a],
    ['GUEST_PHYSICAL_ADDRESS', 0x2400],
    ['GUEST_RIP', 0x681e],
    ['GUEST_RSP', 0x681c],
    ['GUEST_RFLAGS', 0x6820],
    ['GUEST_ACTIVITY_STATE', 0x4826],
    ['GUEST_INTERRUPTIBILITY_INFO', 0x4824],
    ['GUEST_PENDING_DBG_EXCEPTIONS', 0x6822],
    ['VMX_PREEMPTION_TIMER_VALUE', 0x482e],
    ['EPT_POINTER', 0x201a],
    ['MSR_BITMAP', 0x2004],
    ['TSC_OFFSET', 0x2010],
    ['VMCS_LINK_POINTER', 0x2800],
    ['POSTED_INTR_DESC_ADDR', 0x2016],
    ['VIRTUAL_APIC_PAGE_ADDR', 0x2012],
    ['PID_POINTER_TABLE', 0x2042],
    ['LAST_PID_POINTER_INDEX', 0x0008],
  ])('%s', (name, encoding) => {
    expect(VMCS_ENCODING[name]).toBe(encoding);
    expect(fieldAt(VMCS_SLOT[name]).name).toBe(name);
  });
});

describe('the HIGH access of a 64-bit field names its upper half, and only a 64-bit field has one', () => {
  it.each<[string, bigint, FieldName | undefined, boolean]>([
    ['full TSC_OFFSET', 0x2010n, 'TSC_OFFSET', false],
    ['high TSC_OFFSET', 0x2011n, 'TSC_OFFSET', true],
    ['high GUEST_PHYSICAL_ADDRESS', 0x2401n, 'GUEST_PHYSICAL_ADDRESS', true],
    ['high of a 32-bit field', 0x4003n, undefined, false],
    ['high of a natural-width field', 0x681fn, undefined, false],
    ['high of a 16-bit field', 0x0801n, undefined, false],
    ['an index past the last one', 0x6ffen, undefined, false],
    ['bits above 15', 0x1_681en, undefined, false],
    ['bits above 31', 0x1_0000_681en, undefined, false],
  ])('%s', (_title, encoding, name, high) => {
    const access = accessOf(encoding);
    expect(access).toEqual(name === undefined ? undefined : { slot: VMCS_SLOT[name], high });
    if ((encoding & 1n) === 1n && encoding < 0x10000n) expect(slotOf(toIndex(encoding))).toBe(-1);
  });
});
