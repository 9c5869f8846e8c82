/**
 * Checks of VM entry on APIC virtualization, posted interrupts and IPI virtualization.
 *
 * Source: SDM, "Checks on VMX Controls" > "VM-Execution Control Fields".
 */
import { joinHalves, low32 } from '../../../abi/uint.js';
import { VMCS_SLOT } from '../../../abi/vmcs-fields.js';
import { EXIT_CONTROL, PIN, PRIMARY, SECONDARY, TERTIARY } from '../../../abi/vmx-controls.js';
import { VALID_VMCS_PAGES, type VmcsDescription } from '../description.js';
import {
  clearPrimary,
  clearSecondary,
  needs,
  pageRows,
  setPrimary,
  setSecondary,
} from './control-examples.js';
import { controlRules } from './rule.js';
import {
  SECONDARY_READS,
  TERTIARY_READS,
  exit,
  isWithinWidth,
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

const {
  LAST_PID_POINTER_INDEX,
  PID_POINTER_TABLE,
  POSTED_INTR_DESC_ADDR,
  POSTED_INTR_NV,
  TPR_THRESHOLD,
  VIRTUAL_APIC_PAGE_ADDR,
} = VMCS_SLOT;

const { spare } = VALID_VMCS_PAGES;

const IPI_VIRT = low32(TERTIARY.IPI_VIRT);
/** Offset of the task-priority register in the virtual-APIC page. */
const VTPR_OFFSET = 0x80n;
const TPR_SHADOW_BIT = primaryBits(PRIMARY.TPR_SHADOW);
const POSTED_BIT = pinBits(PIN.POSTED_INTR);

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

const tprShadowOff = (valid: VmcsDescription): VmcsDescription =>
  clearPrimary(valid, PRIMARY.TPR_SHADOW);

// prettier-ignore
const NEEDS_TPR_SHADOW = [
  ['virtualize x2APIC mode', SECONDARY.VIRTUALIZE_X2APIC_MODE],
  ['APIC-register virtualization', SECONDARY.APIC_REGISTER_VIRT],
  ['virtual-interrupt delivery', SECONDARY.VIRTUAL_INTR_DELIVERY],
] as const;

/** Checks of VM entry on APIC virtualization, posted interrupts and IPI virtualization. */
export const APIC_CONTROL_RULES = controlRules([
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
