/**
 * Checks of VM entry on the guest's activity, interruptibility and pending debug exceptions.
 *
 * Source: SDM, "Checks on Guest Non-Register State".
 * Not modelled: SMM, SGX and RTM: their interruptibility and pending-debug bits are reserved here. This processor is
 * one that refuses NMI injection under blocking by STI.
 */
import {
  ACTIVITY,
  INTERRUPTIBILITY,
  INTR_TYPE,
  PENDING_DBG,
  VECTOR,
  encodeInterruption,
} from '../../../abi/interruption.js';
import { ENTRY_FAIL } from '../../../abi/vm-errors.js';
import { VMCS_SLOT } from '../../../abi/vmcs-fields.js';
import { PIN } from '../../../abi/vmx-controls.js';
import type { VmcsDescription } from '../description.js';
import { injectedType, injectedVector, injects, injectsType } from './entry-controls.js';
import { guestRules, type Read, type RuleRow, type VmcsView } from './rule.js';
import { pin, pinBits } from './values.js';

const {
  GUEST_ACTIVITY_STATE,
  GUEST_IA32_DEBUGCTL,
  GUEST_INTERRUPTIBILITY_INFO,
  GUEST_PENDING_DBG_EXCEPTIONS,
  GUEST_RFLAGS,
  GUEST_SS_AR_BYTES,
} = VMCS_SLOT;

const IF = 0x200;
const TF = 0x100;
const BTF = 2;
const STI_OR_MOV_SS = INTERRUPTIBILITY.STI | INTERRUPTIBILITY.MOV_SS;
/** Without SGX and outside SMM, bits 2 and 4 are refused by rules of their own. */
const PENDING_ALLOWED = PENDING_DBG.B_MASK | PENDING_DBG.ENABLED_BREAKPOINT | PENDING_DBG.BS;
/** IA32_DEBUGCTL's bit for bus-lock detection; without it the pending bit is reserved too. */
const DEBUGCTL_BLD = 4n;

const activity = (v: VmcsView): number => v.low(GUEST_ACTIVITY_STATE);
const blocks = (v: VmcsView, bits: number): boolean =>
  (v.low(GUEST_INTERRUPTIBILITY_INFO) & bits) !== 0;
const inject = (word: number): VmcsDescription => ({ VM_ENTRY_INTR_INFO_FIELD: BigInt(word) });
const externalInterrupt = inject(encodeInterruption('EXT_INTR', 0x30));
const nmi = inject(encodeInterruption('NMI_INTR', VECTOR.NMI));

/** Events that wake a logical processor from the HLT state, so that they may be injected into it. */
function wakesHlt(v: VmcsView): boolean {
  switch (injectedType(v)) {
    case INTR_TYPE.EXT_INTR:
    case INTR_TYPE.NMI_INTR:
      return true;
    case INTR_TYPE.HARD_EXCEPTION:
      return injectedVector(v) === VECTOR.DB || injectedVector(v) === VECTOR.MC;
    case INTR_TYPE.OTHER_EVENT:
      return injectedVector(v) === 0;
    default:
      return false;
  }
}

/** Events that wake a logical processor from the shutdown state. */
function wakesShutdown(v: VmcsView): boolean {
  const type = injectedType(v);
  return (
    type === INTR_TYPE.NMI_INTR ||
    (type === INTR_TYPE.HARD_EXCEPTION && injectedVector(v) === VECTOR.MC)
  );
}

const ACTIVITY_ROWS: RuleRow[] = [
  {
    rule: 'the activity state must be one that the processor supports',
    reads: ['GUEST_ACTIVITY_STATE'],
    holds: (v, cpu) =>
      activity(v) <= ACTIVITY.WAIT_SIPI &&
      ((cpu.capabilities.activityStates >>> activity(v)) & 1) !== 0,
    breaks: () => ({ GUEST_ACTIVITY_STATE: 4n }),
  },
  {
    rule: 'the activity state must not be HLT if the DPL of SS is not 0',
    reads: ['GUEST_ACTIVITY_STATE', 'GUEST_SS_AR_BYTES'],
    holds: (v) => activity(v) !== ACTIVITY.HLT || (v.low(GUEST_SS_AR_BYTES) & 0x60) === 0,
    breaks: () => ({
      GUEST_ACTIVITY_STATE: 1n,
      GUEST_SS_SELECTOR: 0x1bn,
      GUEST_SS_AR_BYTES: 0xc0f3n,
      GUEST_CS_SELECTOR: 0x13n,
      GUEST_CS_AR_BYTES: 0xa0fbn,
    }),
  },
  {
    rule: 'the activity state must be active under blocking by STI or by MOV SS',
    reads: ['GUEST_ACTIVITY_STATE', 'GUEST_INTERRUPTIBILITY_INFO'],
    holds: (v) => activity(v) === ACTIVITY.ACTIVE || !blocks(v, STI_OR_MOV_SS),
    breaks: () => ({ GUEST_ACTIVITY_STATE: 1n, GUEST_INTERRUPTIBILITY_INFO: 1n }),
  },
  {
    rule: 'into the HLT state only an external interrupt, NMI, #DB, #MC or pending MTF may be injected',
    reads: ['GUEST_ACTIVITY_STATE', 'VM_ENTRY_INTR_INFO_FIELD'],
    holds: (v) => activity(v) !== ACTIVITY.HLT || !injects(v) || wakesHlt(v),
    breaks: () => ({
      GUEST_ACTIVITY_STATE: 1n,
      ...inject(encodeInterruption('HARD_EXCEPTION', VECTOR.UD)),
    }),
  },
  {
    rule: 'into the shutdown state only an NMI or #MC may be injected',
    reads: ['GUEST_ACTIVITY_STATE', 'VM_ENTRY_INTR_INFO_FIELD'],
    holds: (v) => activity(v) !== ACTIVITY.SHUTDOWN || !injects(v) || wakesShutdown(v),
    breaks: () => ({ GUEST_ACTIVITY_STATE: 2n, ...externalInterrupt }),
  },
  {
    rule: 'into the wait-for-SIPI state nothing may be injected',
    reads: ['GUEST_ACTIVITY_STATE', 'VM_ENTRY_INTR_INFO_FIELD'],
    holds: (v) => activity(v) !== ACTIVITY.WAIT_SIPI || !injects(v),
    breaks: () => ({ GUEST_ACTIVITY_STATE: 3n, ...nmi }),
  },
];

const INTERRUPTIBILITY_ROWS: RuleRow[] = [
  {
    rule: 'reserved bits 31:5 of the interruptibility state must be 0',
    reads: ['GUEST_INTERRUPTIBILITY_INFO'],
    holds: (v) => !blocks(v, INTERRUPTIBILITY.RESERVED),
    breaks: () => ({ GUEST_INTERRUPTIBILITY_INFO: 0x20n }),
  },
  {
    rule: 'blocking by STI and by MOV SS must not both be 1',
    reads: ['GUEST_INTERRUPTIBILITY_INFO'],
    holds: (v) => (v.low(GUEST_INTERRUPTIBILITY_INFO) & STI_OR_MOV_SS) !== STI_OR_MOV_SS,
    breaks: () => ({ GUEST_INTERRUPTIBILITY_INFO: 3n }),
  },
  {
    rule: 'blocking by STI must be 0 if the IF flag of GUEST_RFLAGS is 0',
    reads: ['GUEST_INTERRUPTIBILITY_INFO', { field: 'GUEST_RFLAGS', bits: IF }],
    holds: (v) => !blocks(v, INTERRUPTIBILITY.STI) || (v.low(GUEST_RFLAGS) & IF) !== 0,
    breaks: () => ({ GUEST_INTERRUPTIBILITY_INFO: 1n, GUEST_RFLAGS: 2n }),
  },
  {
    rule: 'blocking by STI and by MOV SS must be 0 if an external interrupt is injected',
    reads: ['GUEST_INTERRUPTIBILITY_INFO', 'VM_ENTRY_INTR_INFO_FIELD'],
    holds: (v) => !blocks(v, STI_OR_MOV_SS) || !injectsType(v, INTR_TYPE.EXT_INTR),
    breaks: () => ({ GUEST_INTERRUPTIBILITY_INFO: 1n, ...externalInterrupt }),
  },
  {
    rule: 'blocking by MOV SS must be 0 if an NMI is injected',
    reads: ['GUEST_INTERRUPTIBILITY_INFO', 'VM_ENTRY_INTR_INFO_FIELD'],
    holds: (v) => !blocks(v, INTERRUPTIBILITY.MOV_SS) || !injectsType(v, INTR_TYPE.NMI_INTR),
    breaks: () => ({ GUEST_INTERRUPTIBILITY_INFO: 2n, ...nmi }),
  },
  {
    rule: 'outside SMM, blocking by SMI must be 0',
    reads: ['GUEST_INTERRUPTIBILITY_INFO'],
    holds: (v) => !blocks(v, INTERRUPTIBILITY.SMI),
    breaks: () => ({ GUEST_INTERRUPTIBILITY_INFO: 4n }),
  },
  {
    rule: 'blocking by STI must be 0 if an NMI is injected (this processor requires it)',
    reads: ['GUEST_INTERRUPTIBILITY_INFO', 'VM_ENTRY_INTR_INFO_FIELD'],
    holds: (v) => !blocks(v, INTERRUPTIBILITY.STI) || !injectsType(v, INTR_TYPE.NMI_INTR),
    breaks: () => ({ GUEST_INTERRUPTIBILITY_INFO: 1n, ...nmi }),
    qualification: ENTRY_FAIL.ENTRY_FAIL_NMI,
  },
  {
    rule: 'with virtual NMIs, blocking by NMI must be 0 if an NMI is injected',
    reads: ['GUEST_INTERRUPTIBILITY_INFO', 'VM_ENTRY_INTR_INFO_FIELD', pinBits(PIN.VIRTUAL_NMIS)],
    holds: (v) =>
      !blocks(v, INTERRUPTIBILITY.NMI) ||
      !pin(v, PIN.VIRTUAL_NMIS) ||
      !injectsType(v, INTR_TYPE.NMI_INTR),
    breaks: () => ({ GUEST_INTERRUPTIBILITY_INFO: 8n, ...nmi }),
  },
  {
    rule: 'enclave interruption must be 0 without SGX',
    reads: ['GUEST_INTERRUPTIBILITY_INFO'],
    holds: (v) => !blocks(v, INTERRUPTIBILITY.ENCLAVE_INTR),
    breaks: () => ({ GUEST_INTERRUPTIBILITY_INFO: 0x10n }),
  },
];

/** Whether a pending single-step trap must be told exactly: the processor is blocked or halted. */
const stepIsChecked = (v: VmcsView): boolean =>
  blocks(v, STI_OR_MOV_SS) || activity(v) === ACTIVITY.HLT;
const singleSteps = (v: VmcsView): boolean =>
  (v.low(GUEST_RFLAGS) & TF) !== 0 && (v.low(GUEST_IA32_DEBUGCTL) & BTF) === 0;
const STEP_READS: readonly Read[] = [
  'GUEST_PENDING_DBG_EXCEPTIONS',
  'GUEST_INTERRUPTIBILITY_INFO',
  'GUEST_ACTIVITY_STATE',
  { field: 'GUEST_RFLAGS', bits: TF },
  { field: 'GUEST_IA32_DEBUGCTL', bits: BTF },
];

const PENDING_DEBUG_ROWS: RuleRow[] = [
  {
    rule: 'reserved bits of the pending debug exceptions must be 0',
    reads: ['GUEST_PENDING_DBG_EXCEPTIONS'],
    holds: (v, cpu) => {
      const busLock = (cpu.capabilities.debugctl & DEBUGCTL_BLD) === 0n ? 0 : PENDING_DBG.BLD;
      return (
        v.high(GUEST_PENDING_DBG_EXCEPTIONS) === 0 &&
        (v.low(GUEST_PENDING_DBG_EXCEPTIONS) & ~(PENDING_ALLOWED | busLock)) === 0
      );
    },
    breaks: () => ({ GUEST_PENDING_DBG_EXCEPTIONS: 0x10n }),
  },
  {
    rule: 'under blocking by STI or MOV SS or in HLT, pending BS must be 1 if TF is 1 and BTF is 0',
    reads: STEP_READS,
    holds: (v) =>
      !stepIsChecked(v) ||
      !singleSteps(v) ||
      (v.low(GUEST_PENDING_DBG_EXCEPTIONS) & PENDING_DBG.BS) !== 0,
    breaks: () => ({ GUEST_INTERRUPTIBILITY_INFO: 1n, GUEST_RFLAGS: 0x302n }),
  },
  {
    rule: 'under blocking by STI or MOV SS or in HLT, pending BS must be 0 if TF is 0 or BTF is 1',
    reads: STEP_READS,
    holds: (v) =>
      !stepIsChecked(v) ||
      singleSteps(v) ||
      (v.low(GUEST_PENDING_DBG_EXCEPTIONS) & PENDING_DBG.BS) === 0,
    breaks: () => ({ GUEST_ACTIVITY_STATE: 1n, GUEST_PENDING_DBG_EXCEPTIONS: 0x4000n }),
  },
];

export const GUEST_NON_REGISTER_RULES = guestRules([
  ...ACTIVITY_ROWS,
  ...INTERRUPTIBILITY_ROWS,
  ...PENDING_DEBUG_ROWS,
]);
