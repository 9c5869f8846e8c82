/**
 * Checks of VM entry on the host-state area.
 *
 * Source: SDM, "Checks on Host Control Registers, MSRs, and SSP", "Checks on Host Segment and Descriptor-Table
 * Registers", "Checks Related to Address-Space Size".
 * Not modelled: FRED and user-interrupt state; linear-address masking in CR3.
 */
import { EFER } from '../../../abi/msrs.js';
import { low32 } from '../../../abi/uint.js';
import { VMCS_SLOT, type FieldName } from '../../../abi/vmcs-fields.js';
import { ENTRY_CONTROL, EXIT_CONTROL } from '../../../abi/vmx-controls.js';
import { REG } from '../../cpu/registers.js';
import { CR } from '../capabilities.js';
import type { VmcsDescription } from '../description.js';
import { cetMsrRows, sspRows, type CetArea } from './cet.js';
import { hostRules, type EntryCpu, type RuleRow, type VmcsView } from './rule.js';
import {
  exit,
  ia32e,
  isCanonicalField,
  isPat,
  isWithinWidth,
  onlyBits,
  withBits,
  withoutBits,
} from './values.js';

const F = VMCS_SLOT;
const {
  HOST_CR0,
  HOST_CR3,
  HOST_CR4,
  HOST_CS_SELECTOR,
  HOST_IA32_EFER,
  HOST_IA32_PAT,
  HOST_IA32_PERF_GLOBAL_CTRL,
  HOST_IA32_PKRS,
  HOST_RIP,
  HOST_SS_SELECTOR,
  HOST_SSP,
  HOST_TR_SELECTOR,
} = VMCS_SLOT;

const LMA = low32(EFER.LMA);
const LME = low32(EFER.LME);

const host64 = (v: VmcsView): boolean => exit(v, EXIT_CONTROL.HOST_ADDR_SPACE_SIZE);
const longMode = (cpu: EntryCpu): boolean => (cpu.registers.words[2 * REG.EFER]! & LMA) !== 0;

const setExit = (valid: VmcsDescription, bit: number): VmcsDescription => ({
  VM_EXIT_CONTROLS: withBits(valid, 'VM_EXIT_CONTROLS', bit),
});

/** Host and guest outside IA-32e mode, as a 32-bit hypervisor sets them up. */
const legacyHost = (valid: VmcsDescription): VmcsDescription => ({
  VM_EXIT_CONTROLS: withoutBits(valid, 'VM_EXIT_CONTROLS', EXIT_CONTROL.HOST_ADDR_SPACE_SIZE),
  VM_ENTRY_CONTROLS: withoutBits(valid, 'VM_ENTRY_CONTROLS', ENTRY_CONTROL.IA32E_MODE),
  HOST_IA32_EFER: withoutBits(valid, 'HOST_IA32_EFER', LMA, LME),
  HOST_RIP: 0xc100_0000n,
});

const CET_AREA: CetArea = {
  control: 'VM_EXIT_CONTROLS',
  loads: (v) => exit(v, EXIT_CONTROL.LOAD_CET_STATE),
  sCet: 'HOST_S_CET',
  ssp: 'HOST_SSP',
  table: 'HOST_INTR_SSP_TABLE',
};

function canonicalRow(name: FieldName): RuleRow {
  const slot = F[name];
  return {
    rule: `${name} must be canonical`,
    reads: [name],
    holds: (v) => isCanonicalField(v, slot),
    breaks: () => ({ [name]: 0x0000_8000_0000_0000n }),
  };
}

/** Rules on the host's control registers and MSRs. */
const REGISTERS: RuleRow[] = [
  {
    rule: 'HOST_CR0 must not set any bit that VMX operation does not support',
    reads: ['HOST_CR0'],
    holds: (v, cpu) =>
      onlyBits(v, HOST_CR0, cpu.capabilities.cr0Fixed1) &&
      (cpu.capabilities.cr0Fixed0 & ~v.get(HOST_CR0)) === 0n,
    breaks: (valid) => ({ HOST_CR0: withoutBits(valid, 'HOST_CR0', CR.CR0_NE) }),
  },
  {
    rule: 'HOST_CR4 must not set any bit that VMX operation does not support',
    reads: ['HOST_CR4'],
    holds: (v, cpu) =>
      onlyBits(v, HOST_CR4, cpu.capabilities.cr4Fixed1) &&
      (cpu.capabilities.cr4Fixed0 & ~v.get(HOST_CR4)) === 0n,
    breaks: (valid) => ({ HOST_CR4: withoutBits(valid, 'HOST_CR4', CR.CR4_VMXE) }),
  },
  {
    rule: 'if bit 23 (CET) of HOST_CR4 is 1, bit 16 (WP) of HOST_CR0 must be 1',
    reads: ['HOST_CR0', 'HOST_CR4'],
    holds: (v) => (v.low(HOST_CR4) & CR.CR4_CET) === 0 || (v.low(HOST_CR0) & CR.CR0_WP) !== 0,
    breaks: (valid) => ({
      HOST_CR4: withBits(valid, 'HOST_CR4', CR.CR4_CET),
      HOST_CR0: withoutBits(valid, 'HOST_CR0', CR.CR0_WP),
    }),
  },
  {
    rule: 'HOST_CR3 must not set bits beyond the physical-address width',
    reads: ['HOST_CR3'],
    holds: (v, cpu) => isWithinWidth(v, HOST_CR3, cpu),
    breaks: (valid) => ({ HOST_CR3: withBits(valid, 'HOST_CR3', 1n << 46n) }),
  },
  canonicalRow('HOST_IA32_SYSENTER_ESP'),
  canonicalRow('HOST_IA32_SYSENTER_EIP'),
  {
    rule: 'if load IA32_PERF_GLOBAL_CTRL is 1, its reserved bits must be 0',
    reads: ['VM_EXIT_CONTROLS', 'HOST_IA32_PERF_GLOBAL_CTRL'],
    holds: (v, cpu) =>
      !exit(v, EXIT_CONTROL.LOAD_IA32_PERF_GLOBAL_CTRL) ||
      onlyBits(v, HOST_IA32_PERF_GLOBAL_CTRL, cpu.capabilities.perfGlobalCtrl),
    breaks: (valid) => ({
      ...setExit(valid, EXIT_CONTROL.LOAD_IA32_PERF_GLOBAL_CTRL),
      HOST_IA32_PERF_GLOBAL_CTRL: 1n << 63n,
    }),
  },
  {
    rule: 'if load IA32_PAT is 1, each of its bytes must be 0, 1, 4, 5, 6 or 7',
    reads: ['VM_EXIT_CONTROLS', 'HOST_IA32_PAT'],
    holds: (v) => !exit(v, EXIT_CONTROL.LOAD_IA32_PAT) || isPat(v, HOST_IA32_PAT),
    breaks: () => ({ HOST_IA32_PAT: 0x0007_0406_0207_0406n }),
  },
  {
    rule: 'if load IA32_EFER is 1, its reserved bits must be 0',
    reads: ['VM_EXIT_CONTROLS', 'HOST_IA32_EFER'],
    holds: (v) =>
      !exit(v, EXIT_CONTROL.LOAD_IA32_EFER) || onlyBits(v, HOST_IA32_EFER, ~EFER.RESERVED),
    breaks: (valid) => ({ HOST_IA32_EFER: withBits(valid, 'HOST_IA32_EFER', 2) }),
  },
  ...(
    [
      ['LMA', LMA],
      ['LME', LME],
    ] as const
  ).map(([name, bit]): RuleRow => ({
    rule: `if load IA32_EFER is 1, its ${name} bit must equal host address-space size`,
    reads: ['VM_EXIT_CONTROLS', 'HOST_IA32_EFER'],
    holds: (v) =>
      !exit(v, EXIT_CONTROL.LOAD_IA32_EFER) || ((v.low(HOST_IA32_EFER) & bit) !== 0) === host64(v),
    breaks: (valid) => ({ HOST_IA32_EFER: withoutBits(valid, 'HOST_IA32_EFER', bit) }),
  })),
  ...cetMsrRows(CET_AREA),
  ...sspRows(CET_AREA),
  {
    rule: 'if load PKRS is 1, bits 63:32 of HOST_IA32_PKRS must be 0',
    reads: ['VM_EXIT_CONTROLS', 'HOST_IA32_PKRS'],
    holds: (v) => !exit(v, EXIT_CONTROL.LOAD_PKRS) || v.high(HOST_IA32_PKRS) === 0,
    breaks: (valid) => ({
      ...setExit(valid, EXIT_CONTROL.LOAD_PKRS),
      HOST_IA32_PKRS: 1n << 32n,
    }),
  },
];

/** Rules on the host's segment and descriptor-table registers. */
const SEGMENTS: RuleRow[] = [
  ...(['CS', 'SS', 'DS', 'ES', 'FS', 'GS', 'TR'] as const).map((register): RuleRow => {
    const name = `HOST_${register}_SELECTOR` as const;
    const slot = F[name];
    return {
      rule: `RPL and TI of ${name} must be 0`,
      reads: [name],
      holds: (v) => (v.low(slot) & 7) === 0,
      breaks: () => ({ [name]: 0x2bn }),
    };
  }),
  {
    rule: 'HOST_CS_SELECTOR must not be 0',
    reads: ['HOST_CS_SELECTOR'],
    holds: (v) => v.low(HOST_CS_SELECTOR) !== 0,
    breaks: () => ({ HOST_CS_SELECTOR: 0n }),
  },
  {
    rule: 'HOST_TR_SELECTOR must not be 0',
    reads: ['HOST_TR_SELECTOR'],
    holds: (v) => v.low(HOST_TR_SELECTOR) !== 0,
    breaks: () => ({ HOST_TR_SELECTOR: 0n }),
  },
  {
    rule: 'if host address-space size is 0, HOST_SS_SELECTOR must not be 0',
    reads: ['VM_EXIT_CONTROLS', 'HOST_SS_SELECTOR'],
    holds: (v) => host64(v) || v.low(HOST_SS_SELECTOR) !== 0,
    breaks: (valid) => ({ ...legacyHost(valid), HOST_SS_SELECTOR: 0n }),
    setting: { longMode: false },
  },
  ...(
    ['HOST_FS_BASE', 'HOST_GS_BASE', 'HOST_GDTR_BASE', 'HOST_IDTR_BASE', 'HOST_TR_BASE'] as const
  ).map(canonicalRow),
];

/** Rules that tie the host's mode to the mode in which VM entry executes. */
const ADDRESS_SPACE: RuleRow[] = [
  {
    rule: 'outside IA-32e mode at VM entry, IA-32e mode guest must be 0',
    reads: ['VM_ENTRY_CONTROLS'],
    volatile: true,
    holds: (v, cpu) => longMode(cpu) || !ia32e(v),
    breaks: (valid) => ({
      ...legacyHost(valid),
      VM_ENTRY_CONTROLS: valid.VM_ENTRY_CONTROLS!,
    }),
    setting: { longMode: false },
  },
  {
    rule: 'outside IA-32e mode at VM entry, host address-space size must be 0',
    reads: ['VM_EXIT_CONTROLS'],
    volatile: true,
    holds: (v, cpu) => longMode(cpu) || !host64(v),
    breaks: (valid) => ({
      VM_ENTRY_CONTROLS: withoutBits(valid, 'VM_ENTRY_CONTROLS', ENTRY_CONTROL.IA32E_MODE),
    }),
    setting: { longMode: false },
  },
  {
    rule: 'in IA-32e mode at VM entry, host address-space size must be 1',
    reads: ['VM_EXIT_CONTROLS'],
    volatile: true,
    holds: (v, cpu) => !longMode(cpu) || host64(v),
    breaks: legacyHost,
  },
  {
    rule: 'if host address-space size is 0, IA-32e mode guest must be 0',
    reads: ['VM_EXIT_CONTROLS', 'VM_ENTRY_CONTROLS'],
    holds: (v) => host64(v) || !ia32e(v),
    breaks: (valid) => ({
      ...legacyHost(valid),
      VM_ENTRY_CONTROLS: valid.VM_ENTRY_CONTROLS!,
    }),
    setting: { longMode: false },
    neverFirst: true,
  },
  {
    rule: 'if host address-space size is 0, bit 17 (PCIDE) of HOST_CR4 must be 0',
    reads: ['VM_EXIT_CONTROLS', 'HOST_CR4'],
    holds: (v) => host64(v) || (v.low(HOST_CR4) & CR.CR4_PCIDE) === 0,
    breaks: (valid) => ({
      ...legacyHost(valid),
      HOST_CR4: withBits(valid, 'HOST_CR4', CR.CR4_PCIDE),
    }),
    setting: { longMode: false },
  },
  {
    rule: 'if host address-space size is 0, bits 63:32 of HOST_RIP must be 0',
    reads: ['VM_EXIT_CONTROLS', 'HOST_RIP'],
    holds: (v) => host64(v) || v.high(HOST_RIP) === 0,
    breaks: (valid) => ({ ...legacyHost(valid), HOST_RIP: valid.HOST_RIP! }),
    setting: { longMode: false },
  },
  {
    rule: 'if host address-space size is 0 and load CET state is 1, bits 63:32 of HOST_SSP must be 0',
    reads: ['VM_EXIT_CONTROLS', 'HOST_SSP'],
    holds: (v) => host64(v) || !exit(v, EXIT_CONTROL.LOAD_CET_STATE) || v.high(HOST_SSP) === 0,
    breaks: (valid) => ({ ...legacyHost(valid), HOST_SSP: 1n << 32n }),
    setting: { longMode: false },
  },
  {
    rule: 'if host address-space size is 1, bit 5 (PAE) of HOST_CR4 must be 1',
    reads: ['VM_EXIT_CONTROLS', 'HOST_CR4'],
    holds: (v) => !host64(v) || (v.low(HOST_CR4) & CR.CR4_PAE) !== 0,
    breaks: (valid) => ({ HOST_CR4: withoutBits(valid, 'HOST_CR4', CR.CR4_PAE) }),
  },
  {
    rule: 'if host address-space size is 1, HOST_RIP must be canonical',
    reads: ['VM_EXIT_CONTROLS', 'HOST_RIP'],
    holds: (v) => !host64(v) || isCanonicalField(v, HOST_RIP),
    breaks: () => ({ HOST_RIP: 0x0000_8000_0000_0000n }),
  },
];

export const HOST_STATE_RULES = hostRules([...REGISTERS, ...SEGMENTS, ...ADDRESS_SPACE]);
