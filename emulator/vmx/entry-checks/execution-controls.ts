/**
 * Checks of VM entry on the VM-execution control fields.
 *
 * Source: SDM, "Checks on VMX Controls" > "VM-Execution Control Fields".
 * Not modelled: rules for features that the processor never offers (SGX, Intel PT, sub-page permissions, HLAT, PASID
 * translation): their controls are refused as reserved bits.
 */
import { joinHalves, low32 } from '../../../abi/uint.js';
import { VMCS_SLOT, type FieldName } from '../../../abi/vmcs-fields.js';
import { EXIT_CONTROL, PIN, PRIMARY, SECONDARY, TERTIARY } from '../../../abi/vmx-controls.js';
import { DEFAULT_CAPABILITIES, EPT_VPID_CAP } from '../capabilities.js';
import { VALID_VMCS_PAGES, type VmcsDescription } from '../description.js';
import { controlRules, type Read, type RuleRow } from './rule.js';
import {
  SECONDARY_READS,
  TERTIARY_READS,
  exit,
  isAllowed,
  isPage,
  isWithinWidth,
  onlyBits,
  pin,
  pinBits,
  primary,
  primaryBits,
  readPhysical,
  secondary,
  tertiary,
  withBits,
  withoutBits,
} from './values.js';

const F = VMCS_SLOT;
const {
  CPU_BASED_VM_EXEC_CONTROL,
  CR3_TARGET_COUNT,
  EPT_POINTER,
  EPTP_LIST_ADDRESS,
  LAST_PID_POINTER_INDEX,
  PID_POINTER_TABLE,
  PIN_BASED_VM_EXEC_CONTROL,
  POSTED_INTR_DESC_ADDR,
  POSTED_INTR_NV,
  SECONDARY_VM_EXEC_CONTROL,
  TERTIARY_VM_EXEC_CONTROL,
  TPR_THRESHOLD,
  VIRTUAL_APIC_PAGE_ADDR,
  VIRTUAL_PROCESSOR_ID,
  VM_FUNCTION_CONTROL,
} = VMCS_SLOT;

const { spare } = VALID_VMCS_PAGES;
const IPI_VIRT = low32(TERTIARY.IPI_VIRT);
/** Offset of the task-priority register in the virtual-APIC page. */
const VTPR_OFFSET = 0x80n;

const setPrimary = (valid: VmcsDescription, ...bits: number[]): VmcsDescription => ({
  CPU_BASED_VM_EXEC_CONTROL: withBits(valid, 'CPU_BASED_VM_EXEC_CONTROL', ...bits),
});
const clearPrimary = (valid: VmcsDescription, ...bits: number[]): VmcsDescription => ({
  CPU_BASED_VM_EXEC_CONTROL: withoutBits(valid, 'CPU_BASED_VM_EXEC_CONTROL', ...bits),
});
const setSecondary = (valid: VmcsDescription, ...bits: number[]): VmcsDescription => ({
  SECONDARY_VM_EXEC_CONTROL: withBits(valid, 'SECONDARY_VM_EXEC_CONTROL', ...bits),
});
const clearSecondary = (valid: VmcsDescription, ...bits: number[]): VmcsDescription => ({
  SECONDARY_VM_EXEC_CONTROL: withoutBits(valid, 'SECONDARY_VM_EXEC_CONTROL', ...bits),
});
/** The controls under which posted interrupts are legal. */
const posted = (valid: VmcsDescription): VmcsDescription => ({
  PIN_BASED_VM_EXEC_CONTROL: withBits(valid, 'PIN_BASED_VM_EXEC_CONTROL', PIN.POSTED_INTR),
  ...setSecondary(valid, SECONDARY.VIRTUAL_INTR_DELIVERY),
  POSTED_INTR_DESC_ADDR: spare,
});
const ipiVirtualization = (valid: VmcsDescription): VmcsDescription => ({
  ...setPrimary(valid, PRIMARY.ACTIVATE_TERTIARY),
  TERTIARY_VM_EXEC_CONTROL: TERTIARY.IPI_VIRT,
  PID_POINTER_TABLE: spare,
});

/** A control that, when 1, makes a field the address of a page. */
function pageRows(
  control: string,
  kind: 'primary' | 'secondary',
  bit: number,
  names: readonly FieldName[],
): RuleRow[] {
  const isSet = kind === 'primary' ? primary : secondary;
  return names.flatMap((name): RuleRow[] => {
    const slot = F[name];
    const reads =
      kind === 'primary' ? [primaryBits(bit), name] : ([...SECONDARY_READS, name] as const);
    const on = (valid: VmcsDescription): VmcsDescription =>
      kind === 'primary' ? setPrimary(valid, bit) : setSecondary(valid, bit);
    // A second page field of the same control must be legal in the example.
    const others = Object.fromEntries(names.map((other) => [other, spare])) as VmcsDescription;
    return [
      {
        rule: `if ${control} is 1, bits 11:0 of ${name} must be 0`,
        reads,
        holds: (v) => !isSet(v, bit) || (v.low(slot) & 0xfff) === 0,
        breaks: (valid) => ({ ...on(valid), ...others, [name]: spare | 0x10n }),
      },
      {
        rule: `if ${control} is 1, ${name} must not set bits beyond the physical-address width`,
        reads,
        holds: (v, cpu) => !isSet(v, bit) || isWithinWidth(v, slot, cpu),
        breaks: (valid) => ({ ...on(valid), ...others, [name]: 1n << 46n }),
      },
    ];
  });
}

/** If the first control is 1, the second must have the given value. */
function needs(
  rule: string,
  reads: readonly Read[],
  holds: RuleRow['holds'],
  breaks: RuleRow['breaks'],
): RuleRow {
  return { rule, reads, holds, breaks };
}

const TPR_SHADOW_BIT = primaryBits(PRIMARY.TPR_SHADOW);
const POSTED_BIT = pinBits(PIN.POSTED_INTR);
const tprShadowOff = (valid: VmcsDescription): VmcsDescription =>
  clearPrimary(valid, PRIMARY.TPR_SHADOW);

// prettier-ignore
const NEEDS_TPR_SHADOW = [
  ['virtualize x2APIC mode', SECONDARY.VIRTUALIZE_X2APIC_MODE],
  ['APIC-register virtualization', SECONDARY.APIC_REGISTER_VIRT],
  ['virtual-interrupt delivery', SECONDARY.VIRTUAL_INTR_DELIVERY],
] as const;

// prettier-ignore
const NEEDS_EPT = [
  ['enable PML', SECONDARY.ENABLE_PML],
  ['unrestricted guest', SECONDARY.UNRESTRICTED_GUEST],
  ['mode-based execute control for EPT', SECONDARY.MODE_BASED_EPT_EXEC],
] as const;

// prettier-ignore
const EPTP_FLAGS = [
  [6, 'accessed and dirty flags for EPT', EPT_VPID_CAP.ACCESSED_DIRTY],
  [7, 'supervisor shadow-stack control', EPT_VPID_CAP.SUPERVISOR_SHADOW_STACK],
] as const;

export const EXECUTION_CONTROL_RULES = controlRules([
  {
    rule: 'reserved bits in the pin-based controls must be set as IA32_VMX_(TRUE_)PINBASED_CTLS says',
    reads: ['PIN_BASED_VM_EXEC_CONTROL'],
    holds: (v, cpu) => isAllowed(v.low(PIN_BASED_VM_EXEC_CONTROL), cpu.capabilities.pin),
    breaks: (valid) => ({
      PIN_BASED_VM_EXEC_CONTROL: withoutBits(valid, 'PIN_BASED_VM_EXEC_CONTROL', 0x2),
    }),
  },
  {
    rule: 'reserved bits in the primary controls must be set as IA32_VMX_(TRUE_)PROCBASED_CTLS says',
    reads: ['CPU_BASED_VM_EXEC_CONTROL'],
    holds: (v, cpu) => isAllowed(v.low(CPU_BASED_VM_EXEC_CONTROL), cpu.capabilities.primary),
    breaks: (valid) => setPrimary(valid, 1),
  },
  {
    rule: 'if activated, reserved bits in the secondary controls must be 0',
    reads: SECONDARY_READS,
    holds: (v, cpu) =>
      !primary(v, PRIMARY.ACTIVATE_SECONDARY) ||
      isAllowed(v.low(SECONDARY_VM_EXEC_CONTROL), cpu.capabilities.secondary),
    breaks: (valid) => setSecondary(valid, 1 << 29),
  },
  {
    rule: 'if activated, reserved bits in the tertiary controls must be 0',
    reads: TERTIARY_READS,
    holds: (v, cpu) =>
      !primary(v, PRIMARY.ACTIVATE_TERTIARY) ||
      onlyBits(v, TERTIARY_VM_EXEC_CONTROL, cpu.capabilities.tertiary),
    breaks: (valid) => ({
      ...setPrimary(valid, PRIMARY.ACTIVATE_TERTIARY),
      TERTIARY_VM_EXEC_CONTROL: 1n << 40n,
    }),
  },
  {
    rule: 'the CR3-target count must not be greater than IA32_VMX_MISC allows',
    reads: ['CR3_TARGET_COUNT'],
    holds: (v, cpu) => v.low(CR3_TARGET_COUNT) <= cpu.capabilities.cr3Targets,
    breaks: () => ({ CR3_TARGET_COUNT: 5n }),
  },
  ...pageRows('use I/O bitmaps', 'primary', PRIMARY.USE_IO_BITMAPS, ['IO_BITMAP_A', 'IO_BITMAP_B']),
  ...pageRows('use MSR bitmaps', 'primary', PRIMARY.USE_MSR_BITMAPS, ['MSR_BITMAP']),
  ...pageRows('use TPR shadow', 'primary', PRIMARY.TPR_SHADOW, ['VIRTUAL_APIC_PAGE_ADDR']),
  {
    rule: 'if use TPR shadow is 1 and virtual-interrupt delivery is 0, bits 31:4 of the TPR threshold must be 0',
    reads: [...SECONDARY_READS, TPR_SHADOW_BIT, 'TPR_THRESHOLD'],
    holds: (v) =>
      !primary(v, PRIMARY.TPR_SHADOW) ||
      secondary(v, SECONDARY.VIRTUAL_INTR_DELIVERY) ||
      v.low(TPR_THRESHOLD) <= 0xf,
    breaks: () => ({ TPR_THRESHOLD: 0x10n }),
  },
  {
    rule: 'if use TPR shadow is 1 and APIC accesses and interrupt delivery are not virtualized, the TPR threshold must not exceed VTPR[7:4]',
    reads: [...SECONDARY_READS, TPR_SHADOW_BIT, 'TPR_THRESHOLD', 'VIRTUAL_APIC_PAGE_ADDR'],
    volatile: true,
    holds: (v, cpu) => {
      const threshold = v.low(TPR_THRESHOLD);
      if (threshold === 0 || !primary(v, PRIMARY.TPR_SHADOW)) return true;
      if (secondary(v, SECONDARY.VIRTUALIZE_APIC_ACCESSES | SECONDARY.VIRTUAL_INTR_DELIVERY)) {
        return true;
      }
      const vtpr = low32(readPhysical(cpu.memory, v.get(VIRTUAL_APIC_PAGE_ADDR) + VTPR_OFFSET));
      return (threshold & 0xf) <= ((vtpr >>> 4) & 0xf);
    },
    breaks: () => ({ TPR_THRESHOLD: 3n }),
    setting: { memory: [[VALID_VMCS_PAGES.virtualApic + VTPR_OFFSET, 0x20n]] },
  },
  {
    rule: 'if NMI exiting is 0, virtual NMIs must be 0',
    reads: [pinBits(PIN.NMI_EXITING | PIN.VIRTUAL_NMIS)],
    holds: (v) => pin(v, PIN.NMI_EXITING) || !pin(v, PIN.VIRTUAL_NMIS),
    breaks: (valid) => ({
      PIN_BASED_VM_EXEC_CONTROL: withoutBits(valid, 'PIN_BASED_VM_EXEC_CONTROL', PIN.NMI_EXITING),
    }),
  },
  {
    rule: 'if virtual NMIs is 0, NMI-window exiting must be 0',
    reads: [pinBits(PIN.VIRTUAL_NMIS), primaryBits(PRIMARY.NMI_WINDOW_EXITING)],
    holds: (v) => pin(v, PIN.VIRTUAL_NMIS) || !primary(v, PRIMARY.NMI_WINDOW_EXITING),
    breaks: (valid) => ({
      ...setPrimary(valid, PRIMARY.NMI_WINDOW_EXITING),
      PIN_BASED_VM_EXEC_CONTROL: withoutBits(valid, 'PIN_BASED_VM_EXEC_CONTROL', PIN.VIRTUAL_NMIS),
    }),
  },
  ...pageRows('virtualize APIC accesses', 'secondary', SECONDARY.VIRTUALIZE_APIC_ACCESSES, [
    'APIC_ACCESS_ADDR',
  ]),
  ...NEEDS_TPR_SHADOW.map(([control, bit]) =>
    needs(
      `if use TPR shadow is 0, ${control} must be 0`,
      [...SECONDARY_READS, TPR_SHADOW_BIT],
      (v) => primary(v, PRIMARY.TPR_SHADOW) || !secondary(v, bit),
      (valid) => ({ ...tprShadowOff(valid), ...setSecondary(valid, bit) }),
    ),
  ),
  needs(
    'if use TPR shadow is 0, IPI virtualization must be 0',
    [...TERTIARY_READS, TPR_SHADOW_BIT],
    (v) => primary(v, PRIMARY.TPR_SHADOW) || !tertiary(v, IPI_VIRT),
    (valid) => ({
      ...ipiVirtualization(valid),
      CPU_BASED_VM_EXEC_CONTROL:
        withBits(valid, 'CPU_BASED_VM_EXEC_CONTROL', PRIMARY.ACTIVATE_TERTIARY) &
        ~BigInt(PRIMARY.TPR_SHADOW),
    }),
  ),
  needs(
    'if virtualize x2APIC mode is 1, virtualize APIC accesses must be 0',
    SECONDARY_READS,
    (v) =>
      !secondary(v, SECONDARY.VIRTUALIZE_X2APIC_MODE) ||
      !secondary(v, SECONDARY.VIRTUALIZE_APIC_ACCESSES),
    (valid) => ({
      ...setSecondary(valid, SECONDARY.VIRTUALIZE_X2APIC_MODE, SECONDARY.VIRTUALIZE_APIC_ACCESSES),
      APIC_ACCESS_ADDR: spare,
    }),
  ),
  needs(
    'if virtual-interrupt delivery is 1, external-interrupt exiting must be 1',
    [...SECONDARY_READS, pinBits(PIN.EXT_INTR_EXITING)],
    (v) => !secondary(v, SECONDARY.VIRTUAL_INTR_DELIVERY) || pin(v, PIN.EXT_INTR_EXITING),
    (valid) => ({
      ...setSecondary(valid, SECONDARY.VIRTUAL_INTR_DELIVERY),
      PIN_BASED_VM_EXEC_CONTROL: withoutBits(
        valid,
        'PIN_BASED_VM_EXEC_CONTROL',
        PIN.EXT_INTR_EXITING,
      ),
    }),
  ),
  needs(
    'if process posted interrupts is 1, virtual-interrupt delivery must be 1',
    [...SECONDARY_READS, POSTED_BIT],
    (v) => !pin(v, PIN.POSTED_INTR) || secondary(v, SECONDARY.VIRTUAL_INTR_DELIVERY),
    (valid) => ({
      ...posted(valid),
      ...clearSecondary(valid, SECONDARY.VIRTUAL_INTR_DELIVERY),
    }),
  ),
  needs(
    'if process posted interrupts is 1, acknowledge interrupt on exit must be 1',
    [POSTED_BIT, 'VM_EXIT_CONTROLS'],
    (v) => !pin(v, PIN.POSTED_INTR) || exit(v, EXIT_CONTROL.ACK_INTR_ON_EXIT),
    (valid) => ({
      ...posted(valid),
      VM_EXIT_CONTROLS: withoutBits(valid, 'VM_EXIT_CONTROLS', EXIT_CONTROL.ACK_INTR_ON_EXIT),
    }),
  ),
  needs(
    'if process posted interrupts is 1, bits 15:8 of the notification vector must be 0',
    [POSTED_BIT, 'POSTED_INTR_NV'],
    (v) => !pin(v, PIN.POSTED_INTR) || v.low(POSTED_INTR_NV) <= 0xff,
    (valid) => ({ ...posted(valid), POSTED_INTR_NV: 0x100n }),
  ),
  needs(
    'if process posted interrupts is 1, bits 5:0 of the posted-interrupt descriptor address must be 0',
    [POSTED_BIT, 'POSTED_INTR_DESC_ADDR'],
    (v) => !pin(v, PIN.POSTED_INTR) || (v.low(POSTED_INTR_DESC_ADDR) & 0x3f) === 0,
    (valid) => ({ ...posted(valid), POSTED_INTR_DESC_ADDR: spare | 0x20n }),
  ),
  needs(
    'if process posted interrupts is 1, the descriptor address must not set bits beyond the physical-address width',
    [POSTED_BIT, 'POSTED_INTR_DESC_ADDR'],
    (v, cpu) => !pin(v, PIN.POSTED_INTR) || isWithinWidth(v, POSTED_INTR_DESC_ADDR, cpu),
    (valid) => ({ ...posted(valid), POSTED_INTR_DESC_ADDR: 1n << 50n }),
  ),
  needs(
    'if enable VPID is 1, the VPID must not be 0',
    [...SECONDARY_READS, 'VIRTUAL_PROCESSOR_ID'],
    (v) => !secondary(v, SECONDARY.ENABLE_VPID) || v.low(VIRTUAL_PROCESSOR_ID) !== 0,
    () => ({ VIRTUAL_PROCESSOR_ID: 0n }),
  ),
  needs(
    'if enable EPT is 1, the EPT memory type must be one that IA32_VMX_EPT_VPID_CAP offers',
    [...SECONDARY_READS, 'EPT_POINTER'],
    (v, cpu) => {
      if (!secondary(v, SECONDARY.ENABLE_EPT)) return true;
      const type = v.low(EPT_POINTER) & 7;
      const cap = cpu.capabilities.eptVpidCap;
      if (type === 0) return (cap & EPT_VPID_CAP.UC) !== 0n;
      return type === 6 && (cap & EPT_VPID_CAP.WB) !== 0n;
    },
    (valid) => ({ EPT_POINTER: withoutBits(valid, 'EPT_POINTER', 2) }),
  ),
  needs(
    'if enable EPT is 1, the EPT page-walk length must be 4',
    [...SECONDARY_READS, 'EPT_POINTER'],
    (v) => !secondary(v, SECONDARY.ENABLE_EPT) || ((v.low(EPT_POINTER) >>> 3) & 7) === 3,
    (valid) => ({ EPT_POINTER: withBits(valid, 'EPT_POINTER', 0x38) }),
  ),
  needs(
    'if enable EPT is 1, bits 11:8 of EPTP and those beyond the physical-address width must be 0',
    [...SECONDARY_READS, 'EPT_POINTER'],
    (v, cpu) =>
      !secondary(v, SECONDARY.ENABLE_EPT) ||
      ((v.low(EPT_POINTER) & 0xf00) === 0 && isWithinWidth(v, EPT_POINTER, cpu)),
    (valid) => ({ EPT_POINTER: withBits(valid, 'EPT_POINTER', 0x100) }),
  ),
  ...EPTP_FLAGS.map(([bit, feature, cap]): RuleRow => ({
    rule: `if enable EPT is 1, bit ${bit} of EPTP must be 0 without support of ${feature}`,
    reads: [...SECONDARY_READS, 'EPT_POINTER'],
    holds: (v, cpu) =>
      !secondary(v, SECONDARY.ENABLE_EPT) ||
      ((v.low(EPT_POINTER) >>> bit) & 1) === 0 ||
      (cpu.capabilities.eptVpidCap & cap) !== 0n,
    breaks: (valid) => ({ EPT_POINTER: withBits(valid, 'EPT_POINTER', 1 << bit) }),
    setting: { capabilities: { eptVpidCap: DEFAULT_CAPABILITIES.eptVpidCap & ~cap } },
  })),
  ...NEEDS_EPT.map(([control, bit]) =>
    needs(
      `if ${control} is 1, enable EPT must be 1`,
      SECONDARY_READS,
      (v) => !secondary(v, bit) || secondary(v, SECONDARY.ENABLE_EPT),
      (valid) => ({
        SECONDARY_VM_EXEC_CONTROL:
          withBits(valid, 'SECONDARY_VM_EXEC_CONTROL', bit) & ~BigInt(SECONDARY.ENABLE_EPT),
      }),
    ),
  ),
  ...pageRows('enable PML', 'secondary', SECONDARY.ENABLE_PML, ['PML_ADDRESS']),
  needs(
    'if enable VM functions is 1, reserved bits in the VM-function controls must be 0',
    [...SECONDARY_READS, 'VM_FUNCTION_CONTROL'],
    (v, cpu) =>
      !secondary(v, SECONDARY.ENABLE_VMFUNC) ||
      onlyBits(v, VM_FUNCTION_CONTROL, cpu.capabilities.vmFunctions),
    (valid) => ({ ...setSecondary(valid, SECONDARY.ENABLE_VMFUNC), VM_FUNCTION_CONTROL: 2n }),
  ),
  needs(
    'if EPTP switching is 1, enable EPT must be 1',
    [...SECONDARY_READS, 'VM_FUNCTION_CONTROL'],
    (v) =>
      !secondary(v, SECONDARY.ENABLE_VMFUNC) ||
      (v.low(VM_FUNCTION_CONTROL) & 1) === 0 ||
      secondary(v, SECONDARY.ENABLE_EPT),
    (valid) => ({
      SECONDARY_VM_EXEC_CONTROL:
        withBits(valid, 'SECONDARY_VM_EXEC_CONTROL', SECONDARY.ENABLE_VMFUNC) &
        ~BigInt(SECONDARY.ENABLE_EPT),
      VM_FUNCTION_CONTROL: 1n,
    }),
  ),
  needs(
    'if EPTP switching is 1, the EPTP-list address must be the physical address of a page',
    [...SECONDARY_READS, 'VM_FUNCTION_CONTROL', 'EPTP_LIST_ADDRESS'],
    (v, cpu) =>
      !secondary(v, SECONDARY.ENABLE_VMFUNC) ||
      (v.low(VM_FUNCTION_CONTROL) & 1) === 0 ||
      isPage(v, EPTP_LIST_ADDRESS, cpu),
    (valid) => ({
      ...setSecondary(valid, SECONDARY.ENABLE_VMFUNC),
      VM_FUNCTION_CONTROL: 1n,
      EPTP_LIST_ADDRESS: spare | 8n,
    }),
  ),
  ...pageRows('VMCS shadowing', 'secondary', SECONDARY.SHADOW_VMCS, [
    'VMREAD_BITMAP',
    'VMWRITE_BITMAP',
  ]),
  ...pageRows('EPT-violation #VE', 'secondary', SECONDARY.EPT_VIOLATION_VE, [
    'VE_INFORMATION_ADDRESS',
  ]),
  needs(
    'if IPI virtualization is 1, bits 2:0 of the PID-pointer table address must be 0',
    [...TERTIARY_READS, 'PID_POINTER_TABLE'],
    (v) => !tertiary(v, IPI_VIRT) || (v.low(PID_POINTER_TABLE) & 7) === 0,
    (valid) => ({ ...ipiVirtualization(valid), PID_POINTER_TABLE: spare | 4n }),
  ),
  needs(
    'if IPI virtualization is 1, no byte of the PID-pointer table may lie beyond the physical-address width',
    [...TERTIARY_READS, 'PID_POINTER_TABLE', 'LAST_PID_POINTER_INDEX'],
    (v, cpu) => {
      if (!tertiary(v, IPI_VIRT)) return true;
      const base = joinHalves(v.high(PID_POINTER_TABLE), v.low(PID_POINTER_TABLE));
      const last = base + 8n * BigInt(v.low(LAST_PID_POINTER_INDEX)) + 7n;
      return last >> BigInt(cpu.capabilities.physicalAddressBits) === 0n;
    },
    (valid) => ({
      ...ipiVirtualization(valid),
      PID_POINTER_TABLE: (1n << 46n) - 0x1000n,
      LAST_PID_POINTER_INDEX: 0x200n,
    }),
  ),
]);
