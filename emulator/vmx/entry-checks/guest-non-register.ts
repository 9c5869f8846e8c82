/**
 * Checks of VM entry on the guest's non-register state and page-directory-pointer-table entries.
 *
 * Source: SDM, "Checks on Guest Non-Register State", "Checks on Guest Page-Directory-Pointer-Table Entries".
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
import { toIndex } from '../../../abi/uint.js';
import { ENTRY_FAIL } from '../../../abi/vm-errors.js';
import { VMCS_SLOT } from '../../../abi/vmcs-fields.js';
import { PIN, SECONDARY } from '../../../abi/vmx-controls.js';
import { CR } from '../capabilities.js';
import { NO_VMCS, VALID_VMCS_PAGES, type VmcsDescription } from '../description.js';
import { injectedType, injectedVector, injects, injectsType } from './entry-controls.js';
import { protectedModeGuest } from './guest-registers.js';
import { guestRules, type EntryCpu, type Read, type RuleRow, type VmcsView } from './rule.js';
import {
  SECONDARY_READS,
  ia32e,
  isPage,
  pin,
  pinBits,
  readPhysical,
  secondary,
  withBits,
  withoutBits,
} from './values.js';

const {
  GUEST_ACTIVITY_STATE,
  GUEST_CR0,
  GUEST_CR3,
  GUEST_CR4,
  GUEST_IA32_DEBUGCTL,
  GUEST_INTERRUPTIBILITY_INFO,
  GUEST_PENDING_DBG_EXCEPTIONS,
  GUEST_RFLAGS,
  GUEST_SS_AR_BYTES,
  VMCS_LINK_POINTER,
} = VMCS_SLOT;

const IF = 0x200;
const TF = 0x100;
const BTF = 2;
const { spare } = VALID_VMCS_PAGES;
const STI_OR_MOV_SS = INTERRUPTIBILITY.STI | INTERRUPTIBILITY.MOV_SS;
/** Without SGX and outside SMM, bits 2 and 4 are refused by rules of their own. */
const PENDING_ALLOWED =
  PENDING_DBG.B_MASK | PENDING_DBG.BLD | PENDING_DBG.ENABLED_BREAKPOINT | PENDING_DBG.BS;

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
    holds: (v) =>
      v.high(GUEST_PENDING_DBG_EXCEPTIONS) === 0 &&
      (v.low(GUEST_PENDING_DBG_EXCEPTIONS) & ~PENDING_ALLOWED) === 0,
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

const linked = (v: VmcsView): boolean =>
  v.low(VMCS_LINK_POINTER) !== 0xffff_ffff || v.high(VMCS_LINK_POINTER) !== 0xffff_ffff;

const LINK_POINTER_ROWS: RuleRow[] = [
  {
    rule: 'if the VMCS link pointer is not all ones, it must be the physical address of a page',
    reads: ['VMCS_LINK_POINTER'],
    holds: (v, cpu) => !linked(v) || isPage(v, VMCS_LINK_POINTER, cpu),
    breaks: () => ({ VMCS_LINK_POINTER: NO_VMCS & ~1n }),
    qualification: ENTRY_FAIL.ENTRY_FAIL_VMCS_LINK_PTR,
  },
  {
    rule: 'the page at the VMCS link pointer must begin with the VMCS revision, bit 31 set as VMCS shadowing says',
    reads: [...SECONDARY_READS, 'VMCS_LINK_POINTER'],
    volatile: true,
    holds: (v, cpu) => {
      if (!linked(v)) return true;
      const revision = toIndex(readPhysical(cpu.memory, v.get(VMCS_LINK_POINTER)) & 0xffff_ffffn);
      const shadow = secondary(v, SECONDARY.SHADOW_VMCS) ? 0x8000_0000 : 0;
      return revision === cpu.capabilities.revision + shadow;
    },
    breaks: () => ({ VMCS_LINK_POINTER: spare }),
    setting: { memory: [[spare, 0x1234n]] },
    qualification: ENTRY_FAIL.ENTRY_FAIL_VMCS_LINK_PTR,
  },
];

const PDPTE_RESERVED_LOW = 0x1e6;

/** Whether the guest will use PAE paging. */
const paePaging = (v: VmcsView): boolean =>
  !ia32e(v) && (v.low(GUEST_CR0) & CR.CR0_PG) !== 0 && (v.low(GUEST_CR4) & CR.CR4_PAE) !== 0;
const PAE_READS: readonly Read[] = [
  ...SECONDARY_READS,
  'VM_ENTRY_CONTROLS',
  'GUEST_CR0',
  'GUEST_CR4',
];
const paeGuest = (valid: VmcsDescription): VmcsDescription => ({
  ...protectedModeGuest(valid),
  GUEST_CR4: withBits(valid, 'GUEST_CR4', CR.CR4_PAE),
});

function isPdpte(low: number, high: number, cpu: EntryCpu): boolean {
  if ((low & 1) === 0) return true;
  return (
    (low & PDPTE_RESERVED_LOW) === 0 && high >>> (cpu.capabilities.physicalAddressBits - 32) === 0
  );
}

const PDPTR_SLOT = {
  GUEST_PDPTR0: VMCS_SLOT.GUEST_PDPTR0,
  GUEST_PDPTR1: VMCS_SLOT.GUEST_PDPTR1,
  GUEST_PDPTR2: VMCS_SLOT.GUEST_PDPTR2,
  GUEST_PDPTR3: VMCS_SLOT.GUEST_PDPTR3,
} as const;

const PDPTE_ROWS: RuleRow[] = [
  ...(['GUEST_PDPTR0', 'GUEST_PDPTR1', 'GUEST_PDPTR2', 'GUEST_PDPTR3'] as const).map(
    (name): RuleRow => ({
      rule: `with PAE paging and EPT, reserved bits of a present ${name} must be 0`,
      reads: [...PAE_READS, name],
      holds: (v, cpu) =>
        !paePaging(v) ||
        !secondary(v, SECONDARY.ENABLE_EPT) ||
        isPdpte(v.low(PDPTR_SLOT[name]), v.high(PDPTR_SLOT[name]), cpu),
      breaks: (valid) => ({ ...paeGuest(valid), [name]: 0x3n }),
      qualification: ENTRY_FAIL.ENTRY_FAIL_PDPTE,
    }),
  ),
  {
    rule: 'with PAE paging and no EPT, reserved bits of the present PDPTEs at GUEST_CR3 must be 0',
    reads: [...PAE_READS, 'GUEST_CR3'],
    volatile: true,
    holds: (v, cpu) => {
      if (!paePaging(v) || secondary(v, SECONDARY.ENABLE_EPT)) return true;
      const table = BigInt((v.low(GUEST_CR3) & 0xffff_ffe0) >>> 0);
      return [0n, 8n, 16n, 24n].every((offset) => {
        const entry = readPhysical(cpu.memory, table + offset);
        return isPdpte(toIndex(entry & 0xffff_ffffn), toIndex(entry >> 32n), cpu);
      });
    },
    breaks: (valid) => ({
      ...paeGuest(valid),
      SECONDARY_VM_EXEC_CONTROL: withoutBits(
        valid,
        'SECONDARY_VM_EXEC_CONTROL',
        SECONDARY.ENABLE_EPT,
      ),
    }),
    setting: { memory: [[VALID_VMCS_PAGES.guestCr3 + 16n, 0x3n]] },
    qualification: ENTRY_FAIL.ENTRY_FAIL_PDPTE,
  },
];

export const GUEST_NON_REGISTER_RULES = guestRules([
  ...ACTIVITY_ROWS,
  ...INTERRUPTIBILITY_ROWS,
  ...PENDING_DEBUG_ROWS,
  ...LINK_POINTER_ROWS,
  ...PDPTE_ROWS,
]);
