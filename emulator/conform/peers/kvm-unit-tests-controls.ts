/**
 * kvm-unit-tests' cases on the control fields of VM entry, as attempts of ours.
 *
 * Source: kvm-unit-tests x86/vmx_tests.c, what vmx_controls_test() calls; SDM, "Checks on VMX Controls".
 * Invariant: the guest state breaks a rule in every attempt, as there, so that legal controls never run a guest.
 */
import type { FieldName } from '../../../abi/vmcs-fields.js';
import { EXIT_CONTROL, PIN, PRIMARY, SECONDARY } from '../../../abi/vmx-controls.js';
import { VALID_VMCS_PAGES, type VmcsDescription } from '../../vmx/description.js';
import type { AllowedBits } from '../../vmx/capabilities.js';
import { withBits, withoutBits } from '../../vmx/entry-checks/values.js';
import { addressValues, entryRow, range, type PeerAttempt, type PeerRow } from './peer-row.js';
import { EVENT_ROWS } from './kvm-unit-tests-events.js';

const { spare, virtualApic } = VALID_VMCS_PAGES;

const pin = (base: VmcsDescription, ...bits: number[]): VmcsDescription => ({
  PIN_BASED_VM_EXEC_CONTROL: withBits(base, 'PIN_BASED_VM_EXEC_CONTROL', ...bits),
});
const primary = (base: VmcsDescription, ...bits: number[]): VmcsDescription => ({
  CPU_BASED_VM_EXEC_CONTROL: withBits(base, 'CPU_BASED_VM_EXEC_CONTROL', ...bits),
});
const secondary = (base: VmcsDescription, ...bits: number[]): VmcsDescription => ({
  SECONDARY_VM_EXEC_CONTROL: withBits(base, 'SECONDARY_VM_EXEC_CONTROL', ...bits),
});
const without = (base: VmcsDescription, field: FieldName, ...bits: number[]): VmcsDescription => ({
  [field]: withoutBits(base, field, ...bits),
});

/** Sets what must be 0 and clears what must be 1, a bit at a time. */
function reserved(
  base: VmcsDescription,
  field: FieldName,
  { allowed0, allowed1 }: AllowedBits,
  refusedBy: string,
): PeerAttempt[] {
  return range(0, 31).flatMap((bit): PeerAttempt[] => {
    const mask = 1 << bit;
    if ((allowed0 & mask) !== 0) return [{ overrides: without(base, field, mask), refusedBy }];
    if ((allowed1 & mask) !== 0) return [];
    return [{ overrides: { [field]: withBits(base, field, mask) }, refusedBy }];
  });
}

/** Values of an address field with its control on, where two rules judge them, and off, where none does. */
function pageField(
  field: FieldName,
  control: string,
  on: (base: VmcsDescription) => VmcsDescription,
  off: (base: VmcsDescription) => VmcsDescription,
): (base: VmcsDescription, width: number) => PeerAttempt[] {
  const rule = {
    none: undefined,
    low: `if ${control} is 1, bits 11:0 of ${field} must be 0`,
    high: `if ${control} is 1, ${field} must not set bits beyond the physical-address width`,
  };
  return (base, width) =>
    addressValues(width, 0x1000n).flatMap(([value, fault]): PeerAttempt[] => {
      const refusedBy = rule[fault];
      const enabled = { ...on(base), [field]: value };
      return [
        refusedBy === undefined ? { overrides: enabled } : { overrides: enabled, refusedBy },
        { overrides: { ...off(base), [field]: value } },
      ];
    });
}

const ioBitmaps = (base: VmcsDescription): VmcsDescription => ({
  ...primary(base, PRIMARY.USE_IO_BITMAPS),
  IO_BITMAP_A: spare,
  IO_BITMAP_B: spare,
});
const withoutPrimary =
  (bit: number) =>
  (base: VmcsDescription): VmcsDescription =>
    without(base, 'CPU_BASED_VM_EXEC_CONTROL', bit);
const withoutSecondary =
  (bit: number) =>
  (base: VmcsDescription): VmcsDescription =>
    without(base, 'SECONDARY_VM_EXEC_CONTROL', bit);

const APIC_CONTROLS = [
  [SECONDARY.VIRTUALIZE_X2APIC_MODE, 'virtualize x2APIC mode'],
  [SECONDARY.APIC_REGISTER_VIRT, 'APIC-register virtualization'],
  [SECONDARY.VIRTUAL_INTR_DELIVERY, 'virtual-interrupt delivery'],
] as const;

function apicVirtualControls(base: VmcsDescription): PeerAttempt[] {
  const combinations = range(1, 7).flatMap((mask): PeerAttempt[] => {
    const chosen = APIC_CONTROLS.filter((_, i) => (mask & (1 << i)) !== 0);
    const virtualized = secondary(base, ...chosen.map(([bit]) => bit));
    return [
      { overrides: virtualized },
      {
        overrides: { ...virtualized, ...withoutPrimary(PRIMARY.TPR_SHADOW)(base) },
        refusedBy: `if use TPR shadow is 0, ${chosen[0]![1]} must be 0`,
      },
    ];
  });
  const { VIRTUALIZE_APIC_ACCESSES: accesses, VIRTUALIZE_X2APIC_MODE: x2apic } = SECONDARY;
  return [
    ...combinations,
    { overrides: {} },
    { overrides: { ...secondary(base, accesses), APIC_ACCESS_ADDR: spare } },
    {
      overrides: { ...secondary(base, accesses, x2apic), APIC_ACCESS_ADDR: spare },
      refusedBy: 'if virtualize x2APIC mode is 1, virtualize APIC accesses must be 0',
    },
    { overrides: secondary(base, x2apic) },
  ];
}

const deliversInterrupts = (base: VmcsDescription): VmcsDescription => ({
  ...secondary(base, SECONDARY.VIRTUAL_INTR_DELIVERY),
});

function postedInterrupts(base: VmcsDescription, width: number): PeerAttempt[] {
  const posted = {
    ...deliversInterrupts(base),
    ...pin(base, PIN.POSTED_INTR),
    POSTED_INTR_DESC_ADDR: spare,
  };
  const rule = (text: string): string => `if process posted interrupts is 1, ${text}`;
  const unaligned = rule('bits 5:0 of the posted-interrupt descriptor address must be 0');
  return [
    { overrides: posted },
    {
      overrides: { ...posted, ...withoutSecondary(SECONDARY.VIRTUAL_INTR_DELIVERY)(base) },
      refusedBy: rule('virtual-interrupt delivery must be 1'),
    },
    {
      overrides: { ...posted, ...without(base, 'VM_EXIT_CONTROLS', EXIT_CONTROL.ACK_INTR_ON_EXIT) },
      refusedBy: rule('acknowledge interrupt on exit must be 1'),
    },
    ...range(0, 7).map((bit) => ({ overrides: { ...posted, POSTED_INTR_NV: 1n << BigInt(bit) } })),
    ...range(8, 15).map((bit) => ({
      overrides: { ...posted, POSTED_INTR_NV: 1n << BigInt(bit) },
      refusedBy: rule('bits 15:8 of the notification vector must be 0'),
    })),
    ...[0xf0n, 0xffn, 0x0fn].map((value) => ({
      overrides: { ...posted, POSTED_INTR_DESC_ADDR: value },
      refusedBy: unaligned,
    })),
    ...[0x8000n, 0n, 0xc000n].map((value) => ({
      overrides: { ...posted, POSTED_INTR_DESC_ADDR: value },
    })),
    ...addressValues(width, 64n).map(([value, fault]): PeerAttempt => {
      const overrides = { ...posted, POSTED_INTR_DESC_ADDR: value };
      if (fault === 'none') return { overrides };
      const high = rule(
        'the descriptor address must not set bits beyond the physical-address width',
      );
      return { overrides, refusedBy: fault === 'low' ? unaligned : high };
    }),
  ];
}

const VTPR = virtualApic + 0x80n;
const UPPER_BITS =
  'if use TPR shadow is 1 and virtual-interrupt delivery is 0, bits 31:4 of the TPR threshold must be 0';
const ABOVE_VTPR =
  'if use TPR shadow is 1 and APIC accesses and interrupt delivery are not virtualized, the TPR threshold must not exceed VTPR[7:4]';

/** Thresholds with each neighbouring class of VTPR, under every combination of the controls that switch the checks off. */
function tprThresholds(base: VmcsDescription): PeerAttempt[] {
  const settings = [
    { on: false, deliver: false, accesses: false },
    { on: true, deliver: false, accesses: false },
    { on: true, deliver: true, accesses: false },
    { on: true, deliver: false, accesses: true },
    { on: true, deliver: true, accesses: true },
  ];
  return settings.flatMap(({ on, deliver, accesses }) => {
    const controls = {
      ...(on ? {} : withoutPrimary(PRIMARY.TPR_SHADOW)(base)),
      ...secondary(
        base,
        ...(deliver ? [SECONDARY.VIRTUAL_INTR_DELIVERY] : []),
        ...(accesses ? [SECONDARY.VIRTUALIZE_APIC_ACCESSES] : []),
      ),
      APIC_ACCESS_ADDR: spare,
    };
    const large = [...range(4, 31).map((bit) => 1n << BigInt(bit)), 0xffff_ffffn, 0x7fff_ffffn];
    const upper = large.map((TPR_THRESHOLD): PeerAttempt => {
      const overrides = { ...controls, TPR_THRESHOLD };
      const memory = [[VTPR, 0xffn]] as const;
      return on && !deliver ? { overrides, memory, refusedBy: UPPER_BITS } : { overrides, memory };
    });
    const classes = range(0, 15).flatMap((threshold) =>
      [threshold - 1, threshold, threshold + 1].map((level): PeerAttempt => {
        const priority = level & 15;
        const overrides = { ...controls, TPR_THRESHOLD: BigInt(threshold) };
        const memory = [[VTPR, BigInt(priority << 4)]] as const;
        const isRefused = on && !deliver && !accesses && threshold > priority;
        return isRefused ? { overrides, memory, refusedBy: ABOVE_VTPR } : { overrides, memory };
      }),
    );
    return [...upper, ...classes];
  });
}

function nmiControls(base: VmcsDescription): PeerAttempt[] {
  const pins = (...bits: number[]): VmcsDescription => ({
    PIN_BASED_VM_EXEC_CONTROL:
      withoutBits(base, 'PIN_BASED_VM_EXEC_CONTROL', PIN.NMI_EXITING, PIN.VIRTUAL_NMIS) |
      BigInt(bits.reduce((all, bit) => all | bit, 0)),
  });
  const window = primary(base, PRIMARY.NMI_WINDOW_EXITING);
  return [
    { overrides: pins() },
    {
      overrides: pins(PIN.VIRTUAL_NMIS),
      refusedBy: 'if NMI exiting is 0, virtual NMIs must be 0',
    },
    { overrides: pins(PIN.NMI_EXITING, PIN.VIRTUAL_NMIS) },
    { overrides: pins(PIN.NMI_EXITING) },
    {
      overrides: { ...pins(), ...window },
      refusedBy: 'if virtual NMIs is 0, NMI-window exiting must be 0',
    },
    { overrides: { ...pins(PIN.NMI_EXITING, PIN.VIRTUAL_NMIS), ...window } },
  ];
}

function eptPointers(base: VmcsDescription, width: number): PeerAttempt[] {
  const pointer = base.EPT_POINTER! & ~0x1fffn;
  const whole = 0x1en; // write-back, 4 levels
  const eptp = (low: bigint, refusedBy?: string): PeerAttempt => {
    const overrides = { EPT_POINTER: pointer | low };
    return refusedBy === undefined ? { overrides } : { overrides, refusedBy };
  };
  const type =
    'if enable EPT is 1, the EPT memory type must be one that IA32_VMX_EPT_VPID_CAP offers';
  const length = 'if enable EPT is 1, the EPT page-walk length must be 4';
  const rest =
    'if enable EPT is 1, bits 11:8 of EPTP and those beyond the physical-address width must be 0';
  const unrestricted = secondary(base, SECONDARY.UNRESTRICTED_GUEST);
  const noEpt = (bits: number): VmcsDescription => ({
    SECONDARY_VM_EXEC_CONTROL:
      withoutBits(base, 'SECONDARY_VM_EXEC_CONTROL', SECONDARY.ENABLE_EPT) | BigInt(bits),
  });
  return [
    ...range(0, 7).map((memory) =>
      eptp((whole & ~7n) | BigInt(memory), memory === 0 || memory === 6 ? undefined : type),
    ),
    ...range(0, 7).map((levels) =>
      eptp(6n | (BigInt(levels) << 3n), levels === 3 ? undefined : length),
    ),
    eptp(whole),
    eptp(whole | 0x40n),
    ...range(1, 15).map((bits) => eptp(whole | (BigInt(bits) << 8n), rest)),
    ...range(width, 63).map((bit) => eptp(whole | (1n << BigInt(bit)), rest)),
    { overrides: noEpt(0) },
    {
      overrides: noEpt(SECONDARY.UNRESTRICTED_GUEST),
      refusedBy: 'if unrestricted guest is 1, enable EPT must be 1',
    },
    { overrides: unrestricted },
  ];
}

function needsEpt(base: VmcsDescription, bit: number, name: string): PeerAttempt[] {
  const noEpt = withoutBits(base, 'SECONDARY_VM_EXEC_CONTROL', SECONDARY.ENABLE_EPT);
  return [
    { overrides: { SECONDARY_VM_EXEC_CONTROL: noEpt } },
    {
      overrides: { SECONDARY_VM_EXEC_CONTROL: noEpt | BigInt(bit) },
      refusedBy: `if ${name} is 1, enable EPT must be 1`,
    },
    { overrides: secondary(base, bit) },
  ];
}

function msrList(name: string, count: FieldName, address: FieldName, width: number): PeerAttempt[] {
  const end = 1n << BigInt(width);
  const low = `if the ${name} count is not 0, bits 3:0 of the address must be 0`;
  const high = `if the ${name} count is not 0, neither its first nor its last byte may lie beyond the physical-address width`;
  const at = (value: bigint, entries: bigint, refusedBy?: string): PeerAttempt => {
    const overrides = { [count]: entries, [address]: value };
    return refusedBy === undefined ? { overrides } : { overrides, refusedBy };
  };
  return [
    ...range(0, 3).map((bit) => at(spare | (1n << BigInt(bit)), 1n, low)),
    ...addressValues(width, 16n, 4).map(([value, fault]) =>
      at(value, 1n, fault === 'none' ? undefined : fault === 'low' ? low : high),
    ),
    at(end - 16n, 2n, high),
    at(end - 32n, 2n),
    at(end - 48n, 2n),
  ];
}

const isBroken = (attempt: PeerAttempt): PeerAttempt => ({
  ...attempt,
  overrides: { GUEST_RFLAGS: 0n, ...attempt.overrides },
});

/** The cases. */
export const CONTROL_ROWS: readonly PeerRow[] = [
  entryRow(
    'test_pin_based_ctls',
    'each reserved bit of the pin-based controls',
    (base, { pin: bits }) =>
      reserved(
        base,
        'PIN_BASED_VM_EXEC_CONTROL',
        bits,
        'reserved bits in the pin-based controls must be set as IA32_VMX_(TRUE_)PINBASED_CTLS says',
      ),
  ),
  entryRow(
    'test_primary_processor_based_ctls',
    'each reserved bit of the primary controls',
    (base, { primary: bits }) =>
      reserved(
        base,
        'CPU_BASED_VM_EXEC_CONTROL',
        bits,
        'reserved bits in the primary controls must be set as IA32_VMX_(TRUE_)PROCBASED_CTLS says',
      ),
  ),
  entryRow(
    'test_secondary_processor_based_ctls',
    'each reserved bit of the secondary controls, and none when they are not activated',
    (base, { secondary: bits }) => [
      ...reserved(
        base,
        'SECONDARY_VM_EXEC_CONTROL',
        bits,
        'if activated, reserved bits in the secondary controls must be 0',
      ),
      {
        overrides: {
          ...withoutPrimary(PRIMARY.ACTIVATE_SECONDARY)(base),
          SECONDARY_VM_EXEC_CONTROL: 0xffff_ffffn,
        },
      },
    ],
  ),
  entryRow(
    'test_cr3_targets',
    'counts of CR3 targets up to and above what is offered',
    (_base, { cr3Targets }) => [
      ...range(0, cr3Targets).map((count) => ({ overrides: { CR3_TARGET_COUNT: BigInt(count) } })),
      ...[BigInt(cr3Targets + 1), 0x7fff_ffffn, 0x8000_0000n, 0xffff_ffffn].map(
        (CR3_TARGET_COUNT) => ({
          overrides: { CR3_TARGET_COUNT },
          refusedBy: 'the CR3-target count must not be greater than IA32_VMX_MISC allows',
        }),
      ),
    ],
  ),
  entryRow(
    'test_io_bitmaps',
    'addresses of both I/O bitmaps, used and not used',
    (base, { physicalAddressBits }) =>
      (['IO_BITMAP_A', 'IO_BITMAP_B'] as const).flatMap((field) =>
        pageField(
          field,
          'use I/O bitmaps',
          ioBitmaps,
          withoutPrimary(PRIMARY.USE_IO_BITMAPS),
        )(base, physicalAddressBits),
      ),
  ),
  entryRow(
    'test_msr_bitmap',
    'addresses of the MSR bitmap, used and not used',
    (base, { physicalAddressBits }) =>
      pageField(
        'MSR_BITMAP',
        'use MSR bitmaps',
        (valid) => primary(valid, PRIMARY.USE_MSR_BITMAPS),
        withoutPrimary(PRIMARY.USE_MSR_BITMAPS),
      )(base, physicalAddressBits),
  ),
  entryRow(
    'test_apic_virt_addr',
    'addresses of the virtual-APIC page, used and not used',
    (base, { physicalAddressBits }) =>
      pageField(
        'VIRTUAL_APIC_PAGE_ADDR',
        'use TPR shadow',
        (valid) => primary(valid, PRIMARY.TPR_SHADOW),
        withoutPrimary(PRIMARY.TPR_SHADOW),
      )(base, physicalAddressBits),
  ),
  entryRow(
    'test_apic_access_addr',
    'addresses of the APIC-access page, used and not used',
    (base, { physicalAddressBits }) =>
      pageField(
        'APIC_ACCESS_ADDR',
        'virtualize APIC accesses',
        (valid) => secondary(valid, SECONDARY.VIRTUALIZE_APIC_ACCESSES),
        withoutSecondary(SECONDARY.VIRTUALIZE_APIC_ACCESSES),
      )(base, physicalAddressBits),
  ),
  entryRow(
    'test_apic_virtual_ctls',
    'what of the APIC is virtualized needs the TPR shadow, and x2APIC mode excludes APIC accesses',
    apicVirtualControls,
  ),
  entryRow(
    'test_virtual_intr_ctls',
    'virtual-interrupt delivery needs external-interrupt exiting',
    (base) => [
      { overrides: without(base, 'PIN_BASED_VM_EXEC_CONTROL', PIN.EXT_INTR_EXITING) },
      { overrides: deliversInterrupts(base) },
      {
        overrides: {
          ...deliversInterrupts(base),
          ...without(base, 'PIN_BASED_VM_EXEC_CONTROL', PIN.EXT_INTR_EXITING),
        },
        refusedBy: 'if virtual-interrupt delivery is 1, external-interrupt exiting must be 1',
      },
    ],
  ),
  entryRow(
    'test_posted_intr',
    'posted interrupts: the controls that they need, vector and descriptor',
    (base, { physicalAddressBits }) => postedInterrupts(base, physicalAddressBits),
  ),
  entryRow(
    'test_tpr_threshold',
    'TPR thresholds against VTPR under each setting of the APIC controls',
    tprThresholds,
  ),
  entryRow(
    'test_nmi_ctrls',
    'virtual NMIs need NMI exiting, NMI-window exiting needs virtual NMIs',
    nmiControls,
  ),
  entryRow('test_pml', 'PML needs EPT; addresses of its page', (base, { physicalAddressBits }) => [
    ...needsEpt(base, SECONDARY.ENABLE_PML, 'enable PML').map((one) => ({
      ...one,
      overrides: { PML_ADDRESS: spare, ...one.overrides },
    })),
    ...pageField(
      'PML_ADDRESS',
      'enable PML',
      (valid) => secondary(valid, SECONDARY.ENABLE_PML),
      withoutSecondary(SECONDARY.ENABLE_PML),
    )(base, physicalAddressBits),
  ]),
  entryRow('test_vpid', 'VPID 0 is refused where VPIDs are used', (base) => [
    { overrides: { ...withoutSecondary(SECONDARY.ENABLE_VPID)(base), VIRTUAL_PROCESSOR_ID: 0n } },
    {
      overrides: { VIRTUAL_PROCESSOR_ID: 0n },
      refusedBy: 'if enable VPID is 1, the VPID must not be 0',
    },
    ...range(0, 15).map((bit) => ({ overrides: { VIRTUAL_PROCESSOR_ID: 1n << BigInt(bit) } })),
  ]),
  entryRow(
    'test_ept_eptp',
    'memory types, lengths, flags and reserved bits of EPTP; an unrestricted guest needs EPT',
    (base, { physicalAddressBits }) => eptPointers(base, physicalAddressBits),
  ),
  entryRow('test_mode_based_execute_control', 'mode-based execute control needs EPT', (base) =>
    needsEpt(base, SECONDARY.MODE_BASED_EPT_EXEC, 'mode-based execute control for EPT'),
  ),
  entryRow('test_vmx_preemption_timer', 'saving the preemption timer needs the timer', (base) => [
    { overrides: without(base, 'VM_EXIT_CONTROLS', EXIT_CONTROL.SAVE_VMX_PREEMPTION_TIMER) },
    { overrides: {} },
    {
      overrides: without(base, 'PIN_BASED_VM_EXEC_CONTROL', PIN.PREEMPTION_TIMER),
      refusedBy: 'if activate VMX-preemption timer is 0, save VMX-preemption timer value must be 0',
    },
    {
      overrides: {
        ...without(base, 'PIN_BASED_VM_EXEC_CONTROL', PIN.PREEMPTION_TIMER),
        ...without(base, 'VM_EXIT_CONTROLS', EXIT_CONTROL.SAVE_VMX_PREEMPTION_TIMER),
      },
    },
  ]),
  entryRow(
    'test_exit_msr_store',
    'addresses and ends of the list of MSRs that VM exit stores',
    (_base, { physicalAddressBits }) =>
      msrList(
        'VM-exit MSR-store',
        'VM_EXIT_MSR_STORE_COUNT',
        'VM_EXIT_MSR_STORE_ADDR',
        physicalAddressBits,
      ),
  ),
  entryRow(
    'test_entry_msr_load',
    'addresses and ends of the list of MSRs that VM entry loads',
    (_base, { physicalAddressBits }) =>
      msrList(
        'VM-entry MSR-load',
        'VM_ENTRY_MSR_LOAD_COUNT',
        'VM_ENTRY_MSR_LOAD_ADDR',
        physicalAddressBits,
      ),
  ),
  ...EVENT_ROWS,
].map((row) => {
  const { holder } = row;
  if (holder.kind !== 'entry') return row;
  const attempts: typeof holder.attempts = (base, capabilities) =>
    holder.attempts(base, capabilities).map(isBroken);
  return { ...row, holder: { kind: 'entry', attempts } };
});
