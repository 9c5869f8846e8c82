/**
 * Checks of VM entry on the VM-entry control fields, event injection among them.
 *
 * Source: SDM, "Checks on VMX Controls" > "VM-Entry Control Fields".
 * Not modelled: FRED's nested exceptions, SGX's 15th bit of the error code, entry from SMM.
 */
import {
  ERROR_CODE_VECTORS,
  INTR_INFO,
  INTR_TYPE,
  VECTOR,
  encodeInterruption,
} from '../../../abi/interruption.js';
import { VMCS_SLOT } from '../../../abi/vmcs-fields.js';
import { ENTRY_CONTROL, PRIMARY, SECONDARY } from '../../../abi/vmx-controls.js';
import { CR } from '../capabilities.js';
import type { VmcsDescription } from '../description.js';
import { msrAreaRows } from './exit-controls.js';
import { controlRules, type VmcsView } from './rule.js';
import { SECONDARY_READS, entry, isAllowed, secondary, withBits, withoutBits } from './values.js';

const {
  GUEST_CR0,
  VM_ENTRY_CONTROLS,
  VM_ENTRY_EXCEPTION_ERROR_CODE,
  VM_ENTRY_INSTRUCTION_LEN,
  VM_ENTRY_INTR_INFO_FIELD,
} = VMCS_SLOT;

/** Whether VM entry injects an event. */
export function injects(v: VmcsView): boolean {
  return (v.low(VM_ENTRY_INTR_INFO_FIELD) & INTR_INFO.VALID) !== 0;
}

/** The interruption type to be injected. */
export function injectedType(v: VmcsView): number {
  return (v.low(VM_ENTRY_INTR_INFO_FIELD) & INTR_INFO.TYPE_MASK) >>> INTR_INFO.TYPE_SHIFT;
}

/** The vector to be injected. */
export function injectedVector(v: VmcsView): number {
  return v.low(VM_ENTRY_INTR_INFO_FIELD) & INTR_INFO.VECTOR_MASK;
}

/** Whether VM entry injects an event of this type. */
export function injectsType(v: VmcsView, type: number): boolean {
  return injects(v) && injectedType(v) === type;
}

function deliversCode(v: VmcsView): boolean {
  return (v.low(VM_ENTRY_INTR_INFO_FIELD) & INTR_INFO.DELIVER_CODE) !== 0;
}

/** Whether the guest may be outside protected mode, where no exception has an error code. */
function protectedMode(v: VmcsView): boolean {
  return !secondary(v, SECONDARY.UNRESTRICTED_GUEST) || (v.low(GUEST_CR0) & CR.CR0_PE) !== 0;
}

function isSoftware(type: number): boolean {
  return (
    type === INTR_TYPE.SOFT_INTR ||
    type === INTR_TYPE.PRIV_SW_EXCEPTION ||
    type === INTR_TYPE.SOFT_EXCEPTION
  );
}

const inject = (word: number): VmcsDescription => ({ VM_ENTRY_INTR_INFO_FIELD: BigInt(word) });
const code = { deliverCode: true } as const;

export const ENTRY_CONTROL_RULES = controlRules([
  {
    rule: 'reserved bits in the VM-entry controls must be set as IA32_VMX_(TRUE_)ENTRY_CTLS says',
    reads: ['VM_ENTRY_CONTROLS'],
    holds: (v, cpu) => isAllowed(v.low(VM_ENTRY_CONTROLS), cpu.capabilities.entry),
    breaks: (valid) => ({ VM_ENTRY_CONTROLS: withoutBits(valid, 'VM_ENTRY_CONTROLS', 1) }),
  },
  {
    rule: 'an injected event must not have the reserved type 1, nor type 7 without the monitor trap flag',
    reads: ['VM_ENTRY_INTR_INFO_FIELD'],
    holds: (v, cpu) => {
      if (!injects(v)) return true;
      const type = injectedType(v);
      if (type === INTR_TYPE.RESERVED) return false;
      return (
        type !== INTR_TYPE.OTHER_EVENT ||
        (cpu.capabilities.primary.allowed1 & PRIMARY.MONITOR_TRAP_FLAG) !== 0
      );
    },
    breaks: () => inject(encodeInterruption('RESERVED', 0)),
  },
  {
    rule: 'an injected NMI must have vector 2',
    reads: ['VM_ENTRY_INTR_INFO_FIELD'],
    holds: (v) => !injectsType(v, INTR_TYPE.NMI_INTR) || injectedVector(v) === VECTOR.NMI,
    breaks: () => inject(encodeInterruption('NMI_INTR', 3)),
  },
  {
    rule: 'an injected hardware exception must have a vector of at most 31',
    reads: ['VM_ENTRY_INTR_INFO_FIELD'],
    holds: (v) => !injectsType(v, INTR_TYPE.HARD_EXCEPTION) || injectedVector(v) <= 31,
    breaks: () => inject(encodeInterruption('HARD_EXCEPTION', 32)),
  },
  {
    rule: 'an injected other event must have vector 0 (pending MTF VM exit)',
    reads: ['VM_ENTRY_INTR_INFO_FIELD'],
    holds: (v) => !injectsType(v, INTR_TYPE.OTHER_EVENT) || injectedVector(v) === 0,
    breaks: () => inject(encodeInterruption('OTHER_EVENT', 1)),
  },
  {
    rule: 'an injected event that is no hardware exception must not deliver an error code',
    reads: ['VM_ENTRY_INTR_INFO_FIELD'],
    holds: (v) => !injects(v) || !deliversCode(v) || injectedType(v) === INTR_TYPE.HARD_EXCEPTION,
    breaks: () => inject(encodeInterruption('SOFT_INTR', 0x80, code)),
  },
  {
    rule: 'an exception injected outside protected mode must not deliver an error code',
    reads: [...SECONDARY_READS, 'VM_ENTRY_INTR_INFO_FIELD', 'GUEST_CR0'],
    holds: (v) => !injects(v) || !deliversCode(v) || protectedMode(v),
    breaks: (valid) => ({
      ...inject(encodeInterruption('HARD_EXCEPTION', VECTOR.GP, code)),
      SECONDARY_VM_EXEC_CONTROL: withBits(
        valid,
        'SECONDARY_VM_EXEC_CONTROL',
        SECONDARY.UNRESTRICTED_GUEST,
      ),
      GUEST_CR0: withoutBits(valid, 'GUEST_CR0', CR.CR0_PE, CR.CR0_PG),
    }),
  },
  {
    rule: 'an injected exception without an error code by its vector must not deliver one (unless IA32_VMX_BASIC[56] is 1)',
    reads: ['VM_ENTRY_INTR_INFO_FIELD'],
    holds: (v, cpu) =>
      !injects(v) ||
      !deliversCode(v) ||
      cpu.capabilities.freeErrorCodes ||
      ERROR_CODE_VECTORS.has(injectedVector(v)),
    breaks: () => inject(encodeInterruption('HARD_EXCEPTION', VECTOR.UD, code)),
  },
  {
    rule: 'an exception with an error code by its vector must deliver it in protected mode (unless IA32_VMX_BASIC[56] is 1)',
    reads: [...SECONDARY_READS, 'VM_ENTRY_INTR_INFO_FIELD', 'GUEST_CR0'],
    holds: (v, cpu) =>
      !injectsType(v, INTR_TYPE.HARD_EXCEPTION) ||
      deliversCode(v) ||
      cpu.capabilities.freeErrorCodes ||
      !protectedMode(v) ||
      !ERROR_CODE_VECTORS.has(injectedVector(v)),
    breaks: () => inject(encodeInterruption('HARD_EXCEPTION', VECTOR.PF)),
  },
  {
    rule: 'reserved bits 30:12 of the VM-entry interruption information must be 0',
    reads: ['VM_ENTRY_INTR_INFO_FIELD'],
    holds: (v) => !injects(v) || (v.low(VM_ENTRY_INTR_INFO_FIELD) & INTR_INFO.ENTRY_RESERVED) === 0,
    breaks: () => inject((encodeInterruption('EXT_INTR', 0x30) | INTR_INFO.UNBLOCK_NMI) >>> 0),
  },
  {
    rule: 'if an error code is delivered, its bits 31:16 must be 0',
    reads: ['VM_ENTRY_INTR_INFO_FIELD', 'VM_ENTRY_EXCEPTION_ERROR_CODE'],
    holds: (v) =>
      !injects(v) || !deliversCode(v) || v.low(VM_ENTRY_EXCEPTION_ERROR_CODE) >>> 16 === 0,
    breaks: () => ({
      ...inject(encodeInterruption('HARD_EXCEPTION', VECTOR.GP, code)),
      VM_ENTRY_EXCEPTION_ERROR_CODE: 0x1_0000n,
    }),
  },
  {
    rule: 'an injected software interrupt or exception must have an instruction length of 0 (if IA32_VMX_MISC[30] is 1) or 1 to 15',
    reads: ['VM_ENTRY_INTR_INFO_FIELD', 'VM_ENTRY_INSTRUCTION_LEN'],
    holds: (v, cpu) => {
      if (!injects(v) || !isSoftware(injectedType(v))) return true;
      const length = v.low(VM_ENTRY_INSTRUCTION_LEN);
      return length <= 15 && (length !== 0 || cpu.capabilities.zeroLengthInjection);
    },
    breaks: () => ({
      ...inject(encodeInterruption('SOFT_INTR', 0x80)),
      VM_ENTRY_INSTRUCTION_LEN: 16n,
    }),
  },
  ...msrAreaRows('VM-entry MSR-load', 'VM_ENTRY_MSR_LOAD_COUNT', 'VM_ENTRY_MSR_LOAD_ADDR'),
  {
    rule: 'outside SMM, entry to SMM must be 0',
    reads: ['VM_ENTRY_CONTROLS'],
    holds: (v) => !entry(v, ENTRY_CONTROL.SMM),
    breaks: (valid) => ({
      VM_ENTRY_CONTROLS: withBits(valid, 'VM_ENTRY_CONTROLS', ENTRY_CONTROL.SMM),
    }),
  },
  {
    rule: 'outside SMM, deactivate dual-monitor treatment must be 0',
    reads: ['VM_ENTRY_CONTROLS'],
    holds: (v) => !entry(v, ENTRY_CONTROL.DEACT_DUAL_MONITOR),
    breaks: (valid) => ({
      VM_ENTRY_CONTROLS: withBits(valid, 'VM_ENTRY_CONTROLS', ENTRY_CONTROL.DEACT_DUAL_MONITOR),
    }),
  },
]);
