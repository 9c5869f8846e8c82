/**
 * Checks of VM entry on the guest's control registers, debug registers and MSRs.
 *
 * Source: SDM, "Checks on Guest Control Registers, Debug Registers, and MSRs".
 * Not modelled: IA32_BNDCFGS, IA32_RTIT_CTL, IA32_LBR_CTL, UINV and FRED state (their load controls are reserved here).
 */
import { EFER } from '../../../abi/msrs.js';
import { low32 } from '../../../abi/uint.js';
import { VMCS_SLOT } from '../../../abi/vmcs-fields.js';
import { ENTRY_CONTROL, SECONDARY } from '../../../abi/vmx-controls.js';
import { CR } from '../capabilities.js';
import type { VmcsDescription } from '../description.js';
import { cetMsrRows } from './cet.js';
import { guestRules } from './rule.js';
import {
  SECONDARY_READS,
  entry,
  ia32e,
  isCanonicalField,
  isPat,
  isWithinWidth,
  onlyBits,
  secondary,
  withBits,
  withoutBits,
} from './values.js';

const {
  GUEST_CR0,
  GUEST_CR3,
  GUEST_CR4,
  GUEST_DR7,
  GUEST_IA32_DEBUGCTL,
  GUEST_IA32_EFER,
  GUEST_IA32_PAT,
  GUEST_IA32_PERF_GLOBAL_CTRL,
  GUEST_IA32_PKRS,
  GUEST_SYSENTER_EIP,
  GUEST_SYSENTER_ESP,
} = VMCS_SLOT;

const LMA = low32(EFER.LMA);
const LME = low32(EFER.LME);
const PE_PG = BigInt(CR.CR0_PE) | BigInt(CR.CR0_PG);

/** Whether the guest's paging is on. */
const paging = (cr0: number): boolean => (cr0 & CR.CR0_PG) !== 0;

const setEntry = (valid: VmcsDescription, bit: number): VmcsDescription => ({
  VM_ENTRY_CONTROLS: withBits(valid, 'VM_ENTRY_CONTROLS', bit),
});

/** A guest in protected mode with 32-bit paging. */
export const protectedModeGuest = (valid: VmcsDescription): VmcsDescription => ({
  VM_ENTRY_CONTROLS: withoutBits(valid, 'VM_ENTRY_CONTROLS', ENTRY_CONTROL.IA32E_MODE),
  GUEST_IA32_EFER: withoutBits(valid, 'GUEST_IA32_EFER', LMA, LME),
  GUEST_CR4: withoutBits(valid, 'GUEST_CR4', CR.CR4_PAE),
  GUEST_CS_AR_BYTES: 0xc09bn,
  GUEST_RIP: 0xc010_0000n,
});

/** The control bit that lets the guest run in real mode, for `breaks`. */
export const unrestrictedGuest = (valid: VmcsDescription): VmcsDescription => ({
  SECONDARY_VM_EXEC_CONTROL: withBits(
    valid,
    'SECONDARY_VM_EXEC_CONTROL',
    SECONDARY.UNRESTRICTED_GUEST,
  ),
});

export const GUEST_REGISTER_RULES = guestRules([
  {
    rule: 'GUEST_CR0 must not set any bit that VMX operation does not support, PE and PG apart for an unrestricted guest',
    reads: [...SECONDARY_READS, 'GUEST_CR0'],
    holds: (v, cpu) => {
      const { cr0Fixed0, cr0Fixed1 } = cpu.capabilities;
      const must = secondary(v, SECONDARY.UNRESTRICTED_GUEST) ? cr0Fixed0 & ~PE_PG : cr0Fixed0;
      return onlyBits(v, GUEST_CR0, cr0Fixed1) && (must & ~v.get(GUEST_CR0)) === 0n;
    },
    breaks: (valid) => ({ GUEST_CR0: withoutBits(valid, 'GUEST_CR0', CR.CR0_NE) }),
  },
  {
    rule: 'if bit 31 (PG) of GUEST_CR0 is 1, bit 0 (PE) must be 1',
    reads: ['GUEST_CR0'],
    holds: (v) => !paging(v.low(GUEST_CR0)) || (v.low(GUEST_CR0) & CR.CR0_PE) !== 0,
    breaks: (valid) => ({
      ...unrestrictedGuest(valid),
      GUEST_CR0: withoutBits(valid, 'GUEST_CR0', CR.CR0_PE),
    }),
  },
  {
    rule: 'GUEST_CR4 must not set any bit that VMX operation does not support',
    reads: ['GUEST_CR4'],
    holds: (v, cpu) =>
      onlyBits(v, GUEST_CR4, cpu.capabilities.cr4Fixed1) &&
      (cpu.capabilities.cr4Fixed0 & ~v.get(GUEST_CR4)) === 0n,
    breaks: (valid) => ({ GUEST_CR4: withoutBits(valid, 'GUEST_CR4', CR.CR4_VMXE) }),
  },
  {
    rule: 'if bit 23 (CET) of GUEST_CR4 is 1, bit 16 (WP) of GUEST_CR0 must be 1',
    reads: ['GUEST_CR0', 'GUEST_CR4'],
    holds: (v) => (v.low(GUEST_CR4) & CR.CR4_CET) === 0 || (v.low(GUEST_CR0) & CR.CR0_WP) !== 0,
    breaks: (valid) => ({
      GUEST_CR4: withBits(valid, 'GUEST_CR4', CR.CR4_CET),
      GUEST_CR0: withoutBits(valid, 'GUEST_CR0', CR.CR0_WP),
    }),
  },
  {
    rule: 'if load debug controls is 1, reserved bits in GUEST_IA32_DEBUGCTL must be 0',
    reads: ['VM_ENTRY_CONTROLS', 'GUEST_IA32_DEBUGCTL'],
    holds: (v, cpu) =>
      !entry(v, ENTRY_CONTROL.LOAD_DEBUG_CONTROLS) ||
      onlyBits(v, GUEST_IA32_DEBUGCTL, cpu.capabilities.debugctl),
    breaks: () => ({ GUEST_IA32_DEBUGCTL: 0x20n }),
  },
  {
    rule: 'if IA-32e mode guest is 1, bit 31 (PG) of GUEST_CR0 must be 1',
    reads: ['VM_ENTRY_CONTROLS', 'GUEST_CR0'],
    holds: (v) => !ia32e(v) || paging(v.low(GUEST_CR0)),
    breaks: (valid) => ({
      ...unrestrictedGuest(valid),
      GUEST_CR0: withoutBits(valid, 'GUEST_CR0', CR.CR0_PG),
    }),
  },
  {
    rule: 'if IA-32e mode guest is 1, bit 5 (PAE) of GUEST_CR4 must be 1',
    reads: ['VM_ENTRY_CONTROLS', 'GUEST_CR4'],
    holds: (v) => !ia32e(v) || (v.low(GUEST_CR4) & CR.CR4_PAE) !== 0,
    breaks: (valid) => ({ GUEST_CR4: withoutBits(valid, 'GUEST_CR4', CR.CR4_PAE) }),
  },
  {
    rule: 'if IA-32e mode guest is 0, bit 17 (PCIDE) of GUEST_CR4 must be 0',
    reads: ['VM_ENTRY_CONTROLS', 'GUEST_CR4'],
    holds: (v) => ia32e(v) || (v.low(GUEST_CR4) & CR.CR4_PCIDE) === 0,
    breaks: (valid) => ({
      ...protectedModeGuest(valid),
      GUEST_CR4: withBits(valid, 'GUEST_CR4', CR.CR4_PCIDE),
    }),
  },
  {
    rule: 'GUEST_CR3 must not set bits beyond the physical-address width',
    reads: ['GUEST_CR3'],
    holds: (v, cpu) => isWithinWidth(v, GUEST_CR3, cpu),
    breaks: (valid) => ({ GUEST_CR3: withBits(valid, 'GUEST_CR3', 1n << 46n) }),
  },
  {
    rule: 'if load debug controls is 1, bits 63:32 of GUEST_DR7 must be 0',
    reads: ['VM_ENTRY_CONTROLS', 'GUEST_DR7'],
    holds: (v) => !entry(v, ENTRY_CONTROL.LOAD_DEBUG_CONTROLS) || v.high(GUEST_DR7) === 0,
    breaks: () => ({ GUEST_DR7: 0x1_0000_0400n }),
  },
  {
    rule: 'GUEST_SYSENTER_ESP must be canonical',
    reads: ['GUEST_SYSENTER_ESP'],
    holds: (v) => isCanonicalField(v, GUEST_SYSENTER_ESP),
    breaks: () => ({ GUEST_SYSENTER_ESP: 0x0000_8000_0000_0000n }),
  },
  {
    rule: 'GUEST_SYSENTER_EIP must be canonical',
    reads: ['GUEST_SYSENTER_EIP'],
    holds: (v) => isCanonicalField(v, GUEST_SYSENTER_EIP),
    breaks: () => ({ GUEST_SYSENTER_EIP: 0x0000_8000_0000_0000n }),
  },
  {
    rule: 'if load IA32_PERF_GLOBAL_CTRL is 1, its reserved bits must be 0',
    reads: ['VM_ENTRY_CONTROLS', 'GUEST_IA32_PERF_GLOBAL_CTRL'],
    holds: (v, cpu) =>
      !entry(v, ENTRY_CONTROL.LOAD_IA32_PERF_GLOBAL_CTRL) ||
      onlyBits(v, GUEST_IA32_PERF_GLOBAL_CTRL, cpu.capabilities.perfGlobalCtrl),
    breaks: (valid) => ({
      ...setEntry(valid, ENTRY_CONTROL.LOAD_IA32_PERF_GLOBAL_CTRL),
      GUEST_IA32_PERF_GLOBAL_CTRL: 1n << 63n,
    }),
  },
  {
    rule: 'if load IA32_PAT is 1, each of its bytes must be 0, 1, 4, 5, 6 or 7',
    reads: ['VM_ENTRY_CONTROLS', 'GUEST_IA32_PAT'],
    holds: (v) => !entry(v, ENTRY_CONTROL.LOAD_IA32_PAT) || isPat(v, GUEST_IA32_PAT),
    breaks: () => ({ GUEST_IA32_PAT: 0x0307_0406_0007_0406n }),
  },
  {
    rule: 'if load IA32_EFER is 1, its reserved bits must be 0',
    reads: ['VM_ENTRY_CONTROLS', 'GUEST_IA32_EFER'],
    holds: (v) =>
      !entry(v, ENTRY_CONTROL.LOAD_IA32_EFER) || onlyBits(v, GUEST_IA32_EFER, ~EFER.RESERVED),
    breaks: (valid) => ({ GUEST_IA32_EFER: withBits(valid, 'GUEST_IA32_EFER', 0x1000) }),
  },
  {
    rule: 'if load IA32_EFER is 1, its LMA bit must equal IA-32e mode guest',
    reads: ['VM_ENTRY_CONTROLS', 'GUEST_IA32_EFER'],
    holds: (v) =>
      !entry(v, ENTRY_CONTROL.LOAD_IA32_EFER) ||
      ((v.low(GUEST_IA32_EFER) & LMA) !== 0) === ia32e(v),
    breaks: (valid) => ({ GUEST_IA32_EFER: withoutBits(valid, 'GUEST_IA32_EFER', LMA) }),
  },
  {
    rule: 'if load IA32_EFER is 1 and PG in GUEST_CR0 is 1, its LMA and LME bits must be equal',
    reads: ['VM_ENTRY_CONTROLS', 'GUEST_IA32_EFER', 'GUEST_CR0'],
    holds: (v) => {
      if (!entry(v, ENTRY_CONTROL.LOAD_IA32_EFER) || !paging(v.low(GUEST_CR0))) return true;
      const efer = v.low(GUEST_IA32_EFER);
      return ((efer & LMA) !== 0) === ((efer & LME) !== 0);
    },
    breaks: (valid) => ({ GUEST_IA32_EFER: withoutBits(valid, 'GUEST_IA32_EFER', LME) }),
  },
  ...cetMsrRows({
    control: 'VM_ENTRY_CONTROLS',
    loads: (v) => entry(v, ENTRY_CONTROL.LOAD_CET_STATE),
    sCet: 'GUEST_S_CET',
    ssp: 'GUEST_SSP',
    table: 'GUEST_INTR_SSP_TABLE',
  }),
  {
    rule: 'if load PKRS is 1, bits 63:32 of GUEST_IA32_PKRS must be 0',
    reads: ['VM_ENTRY_CONTROLS', 'GUEST_IA32_PKRS'],
    holds: (v) => !entry(v, ENTRY_CONTROL.LOAD_PKRS) || v.high(GUEST_IA32_PKRS) === 0,
    breaks: (valid) => ({
      ...setEntry(valid, ENTRY_CONTROL.LOAD_PKRS),
      GUEST_IA32_PKRS: 1n << 32n,
    }),
  },
]);
