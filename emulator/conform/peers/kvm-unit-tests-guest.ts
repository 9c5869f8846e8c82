/**
 * kvm-unit-tests' cases on the guest-state area and on the rest of VM entry, as attempts of ours.
 *
 * Source: kvm-unit-tests x86/vmx_tests.c, what vmx_guest_state_area_test() calls, and the tests of single rules behind it;
 * SDM, "Checks on the Guest State Area", "Loading MSRs".
 * Invariant: an entry that is accepted exits at its first fetch: the base VMCS has an empty EPT.
 */
import { CET, EFER, MSR } from '../../../abi/msrs.js';
import type { FieldName } from '../../../abi/vmcs-fields.js';
import { ENTRY_CONTROL, SECONDARY } from '../../../abi/vmx-controls.js';
import { CR } from '../../vmx/capabilities.js';
import { VALID_VMCS_PAGES, type VmcsDescription } from '../../vmx/description.js';
import { withBits, withoutBits } from '../../vmx/entry-checks/values.js';
import { efers, patBytes, performanceControls } from './loaded-registers.js';
import {
  entryRow,
  notOfferedRow,
  range,
  type PeerAttempt,
  type PeerAttempts,
  type PeerRow,
} from './peer-row.js';

const NON_CANONICAL = 0xaaaa_aaaa_aaaa_aaaan;
const UNUSABLE = 1 << 16;
const { spare } = VALID_VMCS_PAGES;

const canonical =
  (...rows: readonly (readonly [field: FieldName, refusedBy: string])[]): PeerAttempts =>
  () =>
    rows.flatMap(([field, refusedBy]): PeerAttempt[] => [
      { overrides: {} },
      { overrides: { [field]: NON_CANONICAL }, refusedBy },
    ]);

const debugRegister: PeerAttempts = (base) =>
  range(0, 63).flatMap((bit): PeerAttempt[] => {
    const value = { GUEST_DR7: 1n << BigInt(bit) };
    const off = {
      VM_ENTRY_CONTROLS: withoutBits(base, 'VM_ENTRY_CONTROLS', ENTRY_CONTROL.LOAD_DEBUG_CONTROLS),
    };
    const refusedBy = 'if load debug controls is 1, bits 63:32 of GUEST_DR7 must be 0';
    return [
      { overrides: { ...value, ...off } },
      bit < 32 ? { overrides: value } : { overrides: value, refusedBy },
    ];
  });

const usable = (
  base: VmcsDescription,
  name: 'LDTR' | 'SS' | 'DS' | 'ES',
  is: boolean,
): VmcsDescription => {
  const field = `GUEST_${name}_AR_BYTES` as const;
  return { [field]: is ? withoutBits(base, field, UNUSABLE) : withBits(base, field, UNUSABLE) };
};

const selectors: PeerAttempts = (base) => {
  const unrestricted = {
    SECONDARY_VM_EXEC_CONTROL: withBits(
      base,
      'SECONDARY_VM_EXEC_CONTROL',
      SECONDARY.UNRESTRICTED_GUEST,
    ),
  };
  const rpl = { GUEST_SS_SELECTOR: base.GUEST_SS_SELECTOR! | 3n };
  const refusedBy =
    'SS: in protected mode without unrestricted guest, RPL must equal the RPL of CS';
  return [
    {
      overrides: { GUEST_TR_SELECTOR: base.GUEST_TR_SELECTOR! | 4n },
      refusedBy: 'TR: the TI flag of the selector must be 0',
    },
    { overrides: { ...usable(base, 'LDTR', false), GUEST_LDTR_SELECTOR: 4n } },
    { overrides: { ...usable(base, 'LDTR', false), GUEST_LDTR_SELECTOR: 0n } },
    {
      overrides: { ...usable(base, 'LDTR', true), GUEST_LDTR_SELECTOR: 4n },
      refusedBy: 'LDTR: if usable, the TI flag of the selector must be 0',
    },
    { overrides: { ...usable(base, 'LDTR', true), GUEST_LDTR_SELECTOR: 0n } },
    { overrides: rpl, refusedBy },
    { overrides: {} },
    { overrides: { ...rpl, ...usable(base, 'SS', false) }, refusedBy },
    { overrides: usable(base, 'SS', false) },
    { overrides: { ...rpl, ...unrestricted } },
    { overrides: unrestricted },
    { overrides: { ...rpl, ...unrestricted, ...usable(base, 'SS', false) } },
    { overrides: { ...unrestricted, ...usable(base, 'SS', false) } },
  ];
};

const bases: PeerAttempts = (base) => {
  const high = range(0, 7).map((step) => 1n << BigInt(32 + 4 * step));
  const upper = (
    name: 'CS' | 'SS' | 'DS' | 'ES',
    more: VmcsDescription,
    refusedBy?: string,
  ): PeerAttempt[] =>
    high.map((bit) => {
      const overrides = { ...more, [`GUEST_${name}_BASE`]: bit };
      return refusedBy === undefined ? { overrides } : { overrides, refusedBy };
    });
  return [
    ...(['TR', 'FS', 'GS'] as const).map((name) => ({
      overrides: { [`GUEST_${name}_BASE`]: NON_CANONICAL },
      refusedBy: `${name}: the base must be canonical`,
    })),
    { overrides: { ...usable(base, 'LDTR', false), GUEST_LDTR_BASE: NON_CANONICAL } },
    {
      overrides: { ...usable(base, 'LDTR', true), GUEST_LDTR_BASE: NON_CANONICAL },
      refusedBy: 'LDTR: if usable, the base must be canonical',
    },
    ...upper('CS', {}, 'CS: bits 63:32 of the base must be 0'),
    ...(['SS', 'DS', 'ES'] as const).flatMap((name) => [
      ...upper(name, usable(base, name, false)),
      ...upper(
        name,
        usable(base, name, true),
        `${name}: if usable, bits 63:32 of the base must be 0`,
      ),
    ]),
  ];
};

const limits =
  (field: 'GUEST_GDTR_LIMIT' | 'GUEST_IDTR_LIMIT', name: string): PeerAttempts =>
  (base) =>
    range(16, 31).map((bit) => ({
      overrides: { [field]: base[field]! | (1n << BigInt(bit)) },
      refusedBy: `${name}: bits 31:16 of the limit must be 0`,
    }));

/** A 32-bit guest without or with PAE paging. */
const legacyGuest = (base: VmcsDescription, pae: boolean): VmcsDescription => ({
  VM_ENTRY_CONTROLS: withoutBits(base, 'VM_ENTRY_CONTROLS', ENTRY_CONTROL.IA32E_MODE),
  GUEST_IA32_EFER: withoutBits(base, 'GUEST_IA32_EFER', EFER.LMA, EFER.LME),
  GUEST_CS_AR_BYTES: 0xc09bn,
  GUEST_RIP: 0x10_0000n,
  GUEST_CR4: pae ? base.GUEST_CR4! : withoutBits(base, 'GUEST_CR4', CR.CR4_PAE),
});

const pageTables =
  (pae: boolean, ignored: readonly number[]): PeerAttempts =>
  (base, { physicalAddressBits }) => [
    ...ignored.map((bit) => ({
      overrides: { ...legacyGuest(base, pae), GUEST_CR3: spare | (1n << BigInt(bit)) },
    })),
    ...range(physicalAddressBits, 63).map((bit) => ({
      overrides: { ...legacyGuest(base, pae), GUEST_CR3: spare | (1n << BigInt(bit)) },
      refusedBy: 'GUEST_CR3 must not set bits beyond the physical-address width',
    })),
  ];

const PDPTE = 0x1_0001n;

const pdptes: PeerAttempts = (base, capabilities) => [
  ...pageTables(true, range(0, 4))(base, capabilities),
  ...range(0, 3).flatMap((index) => [
    ...range(52, 63).map((bit) => ({
      overrides: {
        ...legacyGuest(base, true),
        [`GUEST_PDPTR${index}`]: PDPTE | (1n << BigInt(bit)),
      },
      refusedBy: `with PAE paging and EPT, reserved bits of a present GUEST_PDPTR${index} must be 0`,
    })),
    ...range(9, 11).map((bit) => ({
      overrides: {
        ...legacyGuest(base, true),
        [`GUEST_PDPTR${index}`]: PDPTE | (1n << BigInt(bit)),
      },
    })),
  ]),
];

const unpaged: PeerAttempts = (base) => [
  {
    overrides: {
      ...legacyGuest(base, true),
      SECONDARY_VM_EXEC_CONTROL: withBits(
        base,
        'SECONDARY_VM_EXEC_CONTROL',
        SECONDARY.UNRESTRICTED_GUEST,
      ),
      GUEST_CR0: withoutBits(base, 'GUEST_CR0', 0x8000_0000),
    },
  },
];

/** As many MSRs as IA32_VMX_MISC recommends at most, each of which VM entry loads. */
const LONGEST_LIST = 512;

const longestList: PeerAttempts = () => [
  {
    overrides: { VM_ENTRY_MSR_LOAD_COUNT: BigInt(LONGEST_LIST), VM_ENTRY_MSR_LOAD_ADDR: LIST },
    memory: range(0, LONGEST_LIST - 1).flatMap((index) => [
      [LIST + BigInt(16 * index), BigInt(MSR.IA32_SYSENTER_CS)] as const,
      [LIST + BigInt(16 * index + 8), 0x10n] as const,
    ]),
  },
];
/** Memory that neither the monitor nor any page of the base VMCS has. */
const LIST = 0x2_0000n;

/** The cases. */
export const GUEST_ROWS: readonly PeerRow[] = [
  entryRow(
    'vmx_guest_state_area_test: SYSENTER',
    'SYSENTER_ESP and SYSENTER_EIP are canonical',
    canonical(
      ['GUEST_SYSENTER_ESP', 'GUEST_SYSENTER_ESP must be canonical'],
      ['GUEST_SYSENTER_EIP', 'GUEST_SYSENTER_EIP must be canonical'],
    ),
  ),
  entryRow('test_guest_dr7', 'each bit of DR7, loaded and not loaded', debugRegister),
  entryRow(
    'test_load_guest_pat',
    'every memory type in every byte of PAT, loaded and not loaded',
    (base) => patBytes(base, 'GUEST_IA32_PAT', 'VM_ENTRY_CONTROLS', ENTRY_CONTROL.LOAD_IA32_PAT),
  ),
  entryRow('test_guest_efer', 'reserved bits, LMA and LME of EFER, loaded and not loaded', (base) =>
    efers(base, 'GUEST_IA32_EFER', 'VM_ENTRY_CONTROLS', ENTRY_CONTROL.LOAD_IA32_EFER, (bit) =>
      bit === EFER.LMA
        ? 'if load IA32_EFER is 1, its LMA bit must equal IA-32e mode guest'
        : bit === EFER.LME
          ? 'if load IA32_EFER is 1 and PG in GUEST_CR0 is 1, its LMA and LME bits must be equal'
          : 'if load IA32_EFER is 1, its reserved bits must be 0',
    ),
  ),
  entryRow(
    'test_load_guest_perf_global_ctrl',
    'each bit of IA32_PERF_GLOBAL_CTRL, loaded and not loaded',
    (base, { perfGlobalCtrl }) =>
      performanceControls(
        base,
        perfGlobalCtrl,
        'GUEST_IA32_PERF_GLOBAL_CTRL',
        'VM_ENTRY_CONTROLS',
        ENTRY_CONTROL.LOAD_IA32_PERF_GLOBAL_CTRL,
      ),
  ),
  notOfferedRow(
    'test_load_guest_bndcfgs',
    'reserved bits and address of IA32_BNDCFGS',
    'neither machine offers MPX, so the control is reserved',
  ),
  entryRow('test_guest_segment_sel_fields', 'selectors of TR, LDTR and SS', selectors),
  entryRow('test_guest_segment_base_addr_fields', 'bases of every segment, usable and not', bases),
  entryRow(
    'vmx_guest_state_area_test: descriptor tables',
    'bases of GDTR and IDTR are canonical',
    canonical(
      ['GUEST_GDTR_BASE', 'GDTR: the base must be canonical'],
      ['GUEST_IDTR_BASE', 'IDTR: the base must be canonical'],
    ),
  ),
  entryRow(
    'vmx_guest_state_area_test: GDTR limit',
    'upper bits of the limit of GDTR',
    limits('GUEST_GDTR_LIMIT', 'GDTR'),
  ),
  entryRow(
    'vmx_guest_state_area_test: IDTR limit',
    'upper bits of the limit of IDTR',
    limits('GUEST_IDTR_LIMIT', 'IDTR'),
  ),
  entryRow('vmentry_unrestricted_guest_test', 'an unrestricted guest runs without paging', unpaged),
  entryRow(
    'vmentry_movss_shadow_test',
    'VM entry right behind MOV SS fails with error 26, whatever else is wrong',
    () => [
      { overrides: { GUEST_RFLAGS: 0n }, how: 'movss', ends: 'VMfail 26' },
      { overrides: {}, how: 'movss', ends: 'VMfail 26' },
    ],
  ),
  entryRow('vmx_pae_test', 'bits of CR3 and of the PDPTEs of a guest with PAE paging', pdptes),
  entryRow(
    'vmx_pse_test',
    'bits of CR3 of a guest with 32-bit paging',
    pageTables(false, [0, 1, 2, ...range(5, 11)]),
  ),
  entryRow(
    'vmx_cet_test: SUPPRESS and TRACKER',
    'S_CET with both, for the guest and for the host',
    () =>
      (['GUEST_S_CET', 'HOST_S_CET'] as const).map((field) => ({
        overrides: { [field]: CET.SUPPRESS | CET.TRACKER },
        refusedBy: `if load CET state is 1, ${field} must not set both SUPPRESS and TRACKER`,
      })),
  ),
  entryRow('invalid_msr', 'a list of MSRs outside memory fails the entry at its first MSR', () => [
    {
      overrides: { VM_ENTRY_MSR_LOAD_COUNT: 1n, VM_ENTRY_MSR_LOAD_ADDR: 0x1337_0000n },
      ends: 'exit 34 qualification 0x1',
    },
  ]),
  entryRow(
    'atomic_switch_max_msrs_test',
    'the longest recommended list of MSRs is loaded',
    longestList,
  ),
  notOfferedRow(
    'atomic_switch_overflow_msrs_test',
    'one MSR more than recommended',
    'the SDM leaves it undefined; the test is for KVM alone',
  ),
];
