/**
 * kvm-unit-tests' cases on the host-state area, as attempts of ours.
 *
 * Source: kvm-unit-tests x86/vmx_tests.c, what vmx_host_state_area_test() calls; SDM, "Checks on Host Control Registers,
 * MSRs, and SSP" and what follows it.
 * Invariant: the guest state breaks a rule in every attempt, as there; no legal host state leads the monitor astray.
 */
import { EFER } from '../../../abi/msrs.js';
import type { FieldName } from '../../../abi/vmcs-fields.js';
import { EXIT_CONTROL } from '../../../abi/vmx-controls.js';
import { CR } from '../../vmx/capabilities.js';
import type { VmcsDescription } from '../../vmx/description.js';
import { withBits, withoutBits } from '../../vmx/entry-checks/values.js';
import { efers, patBytes, performanceControls } from './loaded-registers.js';
import { entryRow, range, type PeerAttempt, type PeerAttempts, type PeerRow } from './peer-row.js';

const NON_CANONICAL = 0xaaaa_aaaa_aaaa_aaaan;

function controlRegister(
  field: 'HOST_CR0' | 'HOST_CR4',
  fixed0: bigint,
  fixed1: bigint,
): (base: VmcsDescription) => PeerAttempt[] {
  const refusedBy = `${field} must not set any bit that VMX operation does not support`;
  return (base) =>
    range(0, 63).flatMap((at): PeerAttempt[] => {
      const bit = 1n << BigInt(at);
      if ((fixed1 & bit) === 0n) return [{ overrides: { [field]: base[field]! | bit }, refusedBy }];
      if ((fixed0 & bit) === 0n) return [];
      return [{ overrides: { [field]: base[field]! & ~bit }, refusedBy }];
    });
}

const canonical = (...fields: readonly FieldName[]): PeerAttempt[] =>
  fields.flatMap((field): PeerAttempt[] => [
    { overrides: {} },
    { overrides: { [field]: NON_CANONICAL }, refusedBy: `${field} must be canonical` },
  ]);

const SELECTORS = ['CS', 'SS', 'DS', 'ES', 'FS', 'GS', 'TR'] as const;

const selectors: PeerAttempts = (base) => [
  ...SELECTORS.flatMap((name) =>
    [1n, 2n, 4n, 7n].map((bits): PeerAttempt => {
      const field = `HOST_${name}_SELECTOR` as const;
      return {
        overrides: { [field]: (base[field] ?? 0n) | bits },
        refusedBy: `RPL and TI of ${field} must be 0`,
      };
    }),
  ),
  { overrides: { HOST_CS_SELECTOR: 0n }, refusedBy: 'HOST_CS_SELECTOR must not be 0' },
  { overrides: { HOST_TR_SELECTOR: 0n }, refusedBy: 'HOST_TR_SELECTOR must not be 0' },
  { overrides: { HOST_SS_SELECTOR: 0n } },
  ...canonical('HOST_FS_BASE', 'HOST_GS_BASE', 'HOST_TR_BASE'),
];

const addressSpaceSize: PeerAttempts = (base) => [
  { overrides: {} },
  { overrides: { HOST_CR4: withBits(base, 'HOST_CR4', CR.CR4_PCIDE) } },
  {
    overrides: { HOST_CR4: withoutBits(base, 'HOST_CR4', CR.CR4_PAE) },
    refusedBy: 'if host address-space size is 1, bit 5 (PAE) of HOST_CR4 must be 1',
  },
  {
    overrides: { HOST_RIP: NON_CANONICAL },
    refusedBy: 'if host address-space size is 1, HOST_RIP must be canonical',
  },
];

/** The cases. */
export const HOST_ROWS: readonly PeerRow[] = [
  entryRow(
    'test_host_ctl_regs',
    'each bit of CR0 and CR4 that VMX fixes, each bit of CR3 beyond the width',
    (base, processor) => [
      ...controlRegister('HOST_CR0', processor.cr0Fixed0, processor.cr0Fixed1)(base),
      ...controlRegister('HOST_CR4', processor.cr4Fixed0, processor.cr4Fixed1)(base),
      ...range(processor.physicalAddressBits, 63).map((bit) => ({
        overrides: { HOST_CR3: base.HOST_CR3! | (1n << BigInt(bit)) },
        refusedBy: 'HOST_CR3 must not set bits beyond the physical-address width',
      })),
    ],
  ),
  entryRow(
    'vmx_host_state_area_test: SYSENTER',
    'SYSENTER_ESP and SYSENTER_EIP are canonical',
    () => canonical('HOST_IA32_SYSENTER_ESP', 'HOST_IA32_SYSENTER_EIP'),
  ),
  entryRow('test_host_efer', 'reserved bits, LMA and LME of EFER, loaded and not loaded', (base) =>
    efers(base, 'HOST_IA32_EFER', 'VM_EXIT_CONTROLS', EXIT_CONTROL.LOAD_IA32_EFER, (bit) =>
      bit === EFER.LMA || bit === EFER.LME
        ? `if load IA32_EFER is 1, its ${bit === EFER.LMA ? 'LMA' : 'LME'} bit must equal host address-space size`
        : 'if load IA32_EFER is 1, its reserved bits must be 0',
    ),
  ),
  entryRow(
    'test_load_host_pat',
    'every memory type in every byte of PAT, loaded and not loaded',
    (base) => patBytes(base, 'HOST_IA32_PAT', 'VM_EXIT_CONTROLS', EXIT_CONTROL.LOAD_IA32_PAT),
  ),
  entryRow(
    'test_load_host_perf_global_ctrl',
    'each bit of IA32_PERF_GLOBAL_CTRL, loaded and not loaded',
    (base, { perfGlobalCtrl }) =>
      performanceControls(
        base,
        perfGlobalCtrl,
        'HOST_IA32_PERF_GLOBAL_CTRL',
        'VM_EXIT_CONTROLS',
        EXIT_CONTROL.LOAD_IA32_PERF_GLOBAL_CTRL,
      ),
  ),
  entryRow(
    'test_host_segment_regs',
    'RPL and TI of each selector, null selectors, bases of FS, GS and TR',
    selectors,
  ),
  entryRow('test_host_desc_tables', 'bases of GDTR and IDTR are canonical', () =>
    canonical('HOST_GDTR_BASE', 'HOST_IDTR_BASE'),
  ),
  entryRow('test_host_addr_size', 'CR4.PAE and RIP of a 64-bit host', addressSpaceSize),
].map((row) => {
  const { holder } = row;
  if (holder.kind !== 'entry') return row;
  const attempts: PeerAttempts = (base, capabilities) =>
    holder
      .attempts(base, capabilities)
      .map((one) => ({ ...one, overrides: { GUEST_RFLAGS: 0n, ...one.overrides } }));
  return { ...row, holder: { kind: 'entry', attempts } };
});
