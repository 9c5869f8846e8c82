/**
 * Checks of VM entry on VPID, EPT, the controls that build on EPT, and TSC scaling.
 *
 * Source: SDM, "Checks on VMX Controls" > "VM-Execution Control Fields".
 */
import { VMCS_SLOT } from '../../../abi/vmcs-fields.js';
import { SECONDARY } from '../../../abi/vmx-controls.js';
import { DEFAULT_CAPABILITIES, EPT_VPID_CAP } from '../capabilities.js';
import { VALID_VMCS_PAGES } from '../description.js';
import { needs, pageRows, setSecondary } from './control-examples.js';
import { controlRules, type RuleRow } from './rule.js';
import {
  SECONDARY_READS,
  isPage,
  isWithinWidth,
  onlyBits,
  secondary,
  withBits,
  withoutBits,
} from './values.js';

const {
  EPT_POINTER,
  EPTP_LIST_ADDRESS,
  TSC_MULTIPLIER,
  VIRTUAL_PROCESSOR_ID,
  VM_FUNCTION_CONTROL,
} = VMCS_SLOT;

const { spare } = VALID_VMCS_PAGES;

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

/** Checks of VM entry on VPID, EPT and the controls that build on EPT. */
export const TRANSLATION_CONTROL_RULES = controlRules([
  needs(
    'if enable VPID is 1, the VPID must not be 0',
    [...SECONDARY_READS, 'VIRTUAL_PROCESSOR_ID'],
    (v) => !secondary(v, SECONDARY.ENABLE_VPID) || v.low(VIRTUAL_PROCESSOR_ID) !== 0,
    () => ({ VIRTUAL_PROCESSOR_ID: 0n }),
  ),
  needs(
    'if use TSC scaling is 1, the TSC multiplier must not be 0',
    [...SECONDARY_READS, 'TSC_MULTIPLIER'],
    (v) =>
      !secondary(v, SECONDARY.TSC_SCALING) ||
      v.low(TSC_MULTIPLIER) !== 0 ||
      v.high(TSC_MULTIPLIER) !== 0,
    (valid) => ({ ...setSecondary(valid, SECONDARY.TSC_SCALING), TSC_MULTIPLIER: 0n }),
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
]);
