/**
 * Checks of VM entry on the VM-execution controls: reserved bits, bitmaps and NMIs.
 *
 * Source: SDM, "Checks on VMX Controls" > "VM-Execution Control Fields".
 * Not modelled: rules for features that the processor never offers (SGX, Intel PT, sub-page permissions, HLAT, PASID
 * translation): their controls are refused as reserved bits.
 */
import { VMCS_SLOT } from '../../../abi/vmcs-fields.js';
import { PIN, PRIMARY } from '../../../abi/vmx-controls.js';
import { pageRows, setPrimary, setSecondary } from './control-examples.js';
import { controlRules } from './rule.js';
import {
  SECONDARY_READS,
  TERTIARY_READS,
  isAllowed,
  onlyBits,
  pin,
  pinBits,
  primary,
  primaryBits,
  withoutBits,
} from './values.js';

const {
  CPU_BASED_VM_EXEC_CONTROL,
  CR3_TARGET_COUNT,
  PIN_BASED_VM_EXEC_CONTROL,
  SECONDARY_VM_EXEC_CONTROL,
  TERTIARY_VM_EXEC_CONTROL,
} = VMCS_SLOT;

/** Checks of VM entry on the VM-execution controls: reserved bits, bitmaps and NMIs. */
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
]);
