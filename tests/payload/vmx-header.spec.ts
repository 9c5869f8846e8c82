import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { EXIT_REASON } from '../../abi/exit-reasons.js';
import { INTERRUPTIBILITY, INTR_INFO, INTR_TYPE, VECTOR } from '../../abi/interruption.js';
import { MSR } from '../../abi/msrs.js';
import { VMCS_ENCODING } from '../../abi/vmcs-fields.js';
import { ENTRY_CONTROL, EXIT_CONTROL, PIN, PRIMARY } from '../../abi/vmx-controls.js';
import { ICR, ICR_DELIVERY, ICR_SHORTHAND, LVT, X2APIC } from '../../abi/x2apic.js';

const HEADER = new URL('../../abi/include/caretaker/vmx.h', import.meta.url);
const defined = readDefines(readFileSync(HEADER, 'utf8'));

describe('vmx.h has the numbers of the TypeScript tables', () => {
  const fields = Object.keys(defined).filter((name) => name in VMCS_ENCODING);
  const reasons = Object.keys(defined).filter((name) => name in EXIT_REASON);

  it('for every VMCS field it names', () => {
    expect(fields.length).toBeGreaterThan(35);
    expect(pick(defined, fields)).toEqual(pick(VMCS_ENCODING, fields));
  });

  it('for every exit reason it names', () => {
    expect(reasons.length).toBeGreaterThan(30);
    expect(pick(defined, reasons)).toEqual(pick(EXIT_REASON, reasons));
    const unknown = Object.keys(defined).filter((name) => /^EXIT_REASON_/.test(name));
    expect(unknown).toEqual(reasons);
  });

  // prettier-ignore
  it.each([
    ['PIN_BASED_EXT_INTR_MASK', PIN.EXT_INTR_EXITING],
    ['PIN_BASED_NMI_EXITING', PIN.NMI_EXITING],
    ['PIN_BASED_VIRTUAL_NMIS', PIN.VIRTUAL_NMIS],
    ['PIN_BASED_VMX_PREEMPTION_TIMER', PIN.PREEMPTION_TIMER],
    ['CPU_BASED_INTR_WINDOW_EXITING', PRIMARY.INTR_WINDOW_EXITING],
    ['CPU_BASED_NMI_WINDOW_EXITING', PRIMARY.NMI_WINDOW_EXITING],
    ['CPU_BASED_HLT_EXITING', PRIMARY.HLT_EXITING],
    ['CPU_BASED_USE_TSC_OFFSETTING', PRIMARY.USE_TSC_OFFSETTING],
    ['VM_EXIT_ACK_INTR_ON_EXIT', EXIT_CONTROL.ACK_INTR_ON_EXIT],
    ['VM_ENTRY_IA32E_MODE', ENTRY_CONTROL.IA32E_MODE],
    ['INTR_INFO_INTR_TYPE_MASK', INTR_INFO.TYPE_MASK],
    ['INTR_INFO_DELIVER_CODE_MASK', INTR_INFO.DELIVER_CODE],
    ['INTR_INFO_UNBLOCK_NMI', INTR_INFO.UNBLOCK_NMI],
    ['INTR_INFO_VALID_MASK', INTR_INFO.VALID],
    ['INTR_TYPE_NMI_INTR', INTR_TYPE.NMI_INTR << 8],
    ['INTR_TYPE_HARD_EXCEPTION', INTR_TYPE.HARD_EXCEPTION << 8],
    ['INTR_TYPE_SOFT_INTR', INTR_TYPE.SOFT_INTR << 8],
    ['INTR_TYPE_PRIV_SW_EXCEPTION', INTR_TYPE.PRIV_SW_EXCEPTION << 8],
    ['INTR_TYPE_SOFT_EXCEPTION', INTR_TYPE.SOFT_EXCEPTION << 8],
    ['GUEST_INTR_STATE_STI', INTERRUPTIBILITY.STI],
    ['GUEST_INTR_STATE_MOV_SS', INTERRUPTIBILITY.MOV_SS],
    ['GUEST_INTR_STATE_NMI', INTERRUPTIBILITY.NMI],
    ['X86_TRAP_NMI', VECTOR.NMI],
    ['X86_TRAP_DF', VECTOR.DF],
    ['X86_TRAP_GP', VECTOR.GP],
    ['X86_TRAP_PF', VECTOR.PF],
    ['X86_TRAP_MC', VECTOR.MC],
    ['MSR_IA32_MCG_STATUS', MSR.IA32_MCG_STATUS],
    ['MSR_IA32_S_CET', MSR.IA32_S_CET],
    ['MSR_IA32_TSC_DEADLINE', MSR.IA32_TSC_DEADLINE],
    ['MSR_GS_BASE', MSR.IA32_GS_BASE],
    ['MSR_TSC_AUX', MSR.IA32_TSC_AUX],
    ['APIC_ICR_RESERVED', ICR.RESERVED],
    ['APIC_MODE_MASK', ICR.DELIVERY_MASK],
    ['APIC_DEST_LOGICAL', ICR.LOGICAL],
    ['APIC_SHORT_MASK', ICR.SHORTHAND_MASK],
    ['APIC_DM_LOWEST', ICR_DELIVERY.LOWEST_PRIORITY << ICR.DELIVERY_SHIFT],
    ['APIC_DM_NMI', ICR_DELIVERY.NMI << ICR.DELIVERY_SHIFT],
    ['APIC_DEST_SELF', ICR_SHORTHAND.SELF << ICR.SHORTHAND_SHIFT],
    ['APIC_DEST_ALLINC', ICR_SHORTHAND.ALL_INCLUDING_SELF << ICR.SHORTHAND_SHIFT],
    ['APIC_DEST_ALLBUT', ICR_SHORTHAND.ALL_EXCLUDING_SELF << ICR.SHORTHAND_SHIFT],
    ['APIC_LVT_MASKED', LVT.MASKED],
    ['APIC_LVT_TIMER_MODE', LVT.TIMER_MODE_MASK],
    ['APIC_LVT_TIMER_TSCDEADLINE', LVT.TIMER_TSC_DEADLINE],
  ])('for %s', (name, value) => {
    expect(defined[name]).toBe(value >>> 0);
  });

  // prettier-ignore
  it.each([
    ['APIC_ID', X2APIC.APICID], ['APIC_TASKPRI', X2APIC.TPR], ['APIC_PROCPRI', X2APIC.PPR], ['APIC_EOI', X2APIC.EOI],
    ['APIC_LDR', X2APIC.LDR], ['APIC_SPIV', X2APIC.SIVR], ['APIC_ISR', X2APIC.ISR0], ['APIC_TMR', X2APIC.TMR0], ['APIC_IRR', X2APIC.IRR0],
    ['APIC_ICR', X2APIC.ICR], ['APIC_LVTT', X2APIC.LVT_TIMER], ['APIC_SELF_IPI', X2APIC.SELF_IPI],
  ])('for the x2APIC register %s', (name, index) => {
    expect(defined['APIC_BASE_MSR']! + (defined[name]! >> 4)).toBe(index);
  });
});

/** The object-like macros whose value is one number. */
function readDefines(text: string): Readonly<Record<string, number>> {
  const rows = [...text.matchAll(/^#define (\w+)\s+(0x[0-9a-f]+|\d+)\b/gm)];
  return Object.fromEntries(rows.map(([, name, value]) => [name!, Number(value)]));
}

function pick(from: Readonly<Record<string, number>>, names: readonly string[]): object {
  return Object.fromEntries(names.map((name) => [name, from[name]]));
}
