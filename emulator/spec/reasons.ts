/**
 * What a Caretaker may do with each basic exit reason, one row a reason.
 *
 * Source: the RFC, "Caretaker VM Exit Flow" ("The Fast Path", "Host Routing") and "Stray Hardware Interrupts"; CONTRACT
 * ("What the payload handles"); SDM, "VMX Basic Exit Reasons" for what each reason is.
 * Invariant: every reason of abi/exit-reasons.ts has a row; one that is not there is for KVM.
 * Not modelled: what the answer holds (CPUID's outputs, an MSR's value): the invariants judge that.
 */
import { EXIT_REASON, type ExitReasonName } from '../../abi/exit-reasons.js';

/** What answering an exit does to the guest. */
export type Effect =
  /** Its instruction is done: GUEST_RIP advances once, and a single step that is due comes before any other event. */
  | 'completes'
  /** Its instruction raises an exception, which VM entry injects: GUEST_RIP stays. */
  | 'faults'
  /** The guest goes on where it was. */
  | 'resumes';

/** Who may deal with a reason. */
export type ReasonClass =
  /** An instruction that the payload may answer: the RFC's fast path. */
  | 'fast-path'
  /** An instruction that needs KVM or the VMM. */
  | 'kvm-instruction'
  /** Something that happened to the guest and needs KVM or the VMM. */
  | 'kvm-event'
  /** The core's own: the payload asked for it, and nobody else need see it. */
  | 'own'
  /** An interrupt from outside: KVM's while it is attached, the payload's in the gap. */
  | 'external-interrupt'
  /** Reason 0: an NMI, a machine check or an exception, told apart by the interruption information. */
  | 'exception-or-nmi'
  /** VM entry failed; the guest has not run. */
  | 'entry-failure';

/** What each class means, as a sentence for a report. */
export const CLASS_RULES: Readonly<Record<ReasonClass, string>> = {
  'fast-path': 'the payload may answer it where the exit policy lets it',
  'kvm-instruction': 'only KVM or the VMM can emulate the instruction',
  'kvm-event': 'only KVM or the VMM can resolve it',
  own: 'the payload asked for the exit itself and goes on',
  'external-interrupt': "it is the host's while KVM is attached and the payload's in the gap",
  'exception-or-nmi':
    "in the gap NMIs and machine checks are the payload's, other exceptions wait for KVM",
  'entry-failure': 'VM entry failed, which only KVM can repair',
};

// prettier-ignore
const CLASSES: Readonly<Record<ExitReasonName, ReasonClass>> = {
  EXIT_REASON_EXCEPTION_NMI:        'exception-or-nmi',
  EXIT_REASON_EXTERNAL_INTERRUPT:   'external-interrupt',
  EXIT_REASON_TRIPLE_FAULT:         'kvm-event',
  EXIT_REASON_INIT_SIGNAL:          'kvm-event',
  EXIT_REASON_SIPI_SIGNAL:          'kvm-event',
  EXIT_REASON_IO_SMI:               'kvm-event',
  EXIT_REASON_OTHER_SMI:            'kvm-event',
  EXIT_REASON_INTERRUPT_WINDOW:     'own',
  EXIT_REASON_NMI_WINDOW:           'own',
  EXIT_REASON_TASK_SWITCH:          'kvm-event',
  EXIT_REASON_CPUID:                'fast-path',
  EXIT_REASON_GETSEC:               'kvm-instruction',
  EXIT_REASON_HLT:                  'fast-path',
  EXIT_REASON_INVD:                 'kvm-instruction',
  EXIT_REASON_INVLPG:               'kvm-instruction',
  EXIT_REASON_RDPMC:                'kvm-instruction',
  EXIT_REASON_RDTSC:                'fast-path',
  EXIT_REASON_RSM:                  'kvm-instruction',
  EXIT_REASON_VMCALL:               'kvm-instruction',
  EXIT_REASON_VMCLEAR:              'kvm-instruction',
  EXIT_REASON_VMLAUNCH:             'kvm-instruction',
  EXIT_REASON_VMPTRLD:              'kvm-instruction',
  EXIT_REASON_VMPTRST:              'kvm-instruction',
  EXIT_REASON_VMREAD:               'kvm-instruction',
  EXIT_REASON_VMRESUME:             'kvm-instruction',
  EXIT_REASON_VMWRITE:              'kvm-instruction',
  EXIT_REASON_VMOFF:                'kvm-instruction',
  EXIT_REASON_VMON:                 'kvm-instruction',
  EXIT_REASON_CR_ACCESS:            'kvm-instruction',
  EXIT_REASON_DR_ACCESS:            'kvm-instruction',
  EXIT_REASON_IO_INSTRUCTION:       'kvm-instruction',
  EXIT_REASON_MSR_READ:             'fast-path',
  EXIT_REASON_MSR_WRITE:            'fast-path',
  EXIT_REASON_INVALID_STATE:        'entry-failure',
  EXIT_REASON_MSR_LOAD_FAIL:        'entry-failure',
  EXIT_REASON_MWAIT_INSTRUCTION:    'kvm-instruction',
  EXIT_REASON_MONITOR_TRAP_FLAG:    'kvm-event',
  EXIT_REASON_MONITOR_INSTRUCTION:  'kvm-instruction',
  EXIT_REASON_PAUSE_INSTRUCTION:    'fast-path',
  EXIT_REASON_MCE_DURING_VMENTRY:   'entry-failure',
  EXIT_REASON_TPR_BELOW_THRESHOLD:  'kvm-event',
  EXIT_REASON_APIC_ACCESS:          'kvm-event',
  EXIT_REASON_EOI_INDUCED:          'kvm-event',
  EXIT_REASON_GDTR_IDTR:            'kvm-instruction',
  EXIT_REASON_LDTR_TR:              'kvm-instruction',
  EXIT_REASON_EPT_VIOLATION:        'kvm-event',
  EXIT_REASON_EPT_MISCONFIG:        'kvm-event',
  EXIT_REASON_INVEPT:               'kvm-instruction',
  EXIT_REASON_RDTSCP:               'fast-path',
  EXIT_REASON_PREEMPTION_TIMER:     'own',
  EXIT_REASON_INVVPID:              'kvm-instruction',
  EXIT_REASON_WBINVD:               'kvm-instruction',
  EXIT_REASON_XSETBV:               'kvm-instruction',
  EXIT_REASON_APIC_WRITE:           'kvm-event',
  EXIT_REASON_RDRAND:               'kvm-instruction',
  EXIT_REASON_INVPCID:              'kvm-instruction',
  EXIT_REASON_VMFUNC:               'kvm-instruction',
  EXIT_REASON_ENCLS:                'kvm-instruction',
  EXIT_REASON_RDSEED:               'kvm-instruction',
  EXIT_REASON_PML_FULL:             'kvm-event',
  EXIT_REASON_XSAVES:               'kvm-instruction',
  EXIT_REASON_XRSTORS:              'kvm-instruction',
  EXIT_REASON_PCONFIG:              'kvm-instruction',
  EXIT_REASON_SPP_EVENT:            'kvm-event',
  EXIT_REASON_UMWAIT:               'kvm-instruction',
  EXIT_REASON_TPAUSE:               'kvm-instruction',
  EXIT_REASON_LOADIWKEY:            'kvm-instruction',
  EXIT_REASON_ENCLV:                'kvm-instruction',
  EXIT_REASON_ENQCMD_PASID:         'kvm-event',
  EXIT_REASON_ENQCMDS_PASID:        'kvm-event',
  EXIT_REASON_BUS_LOCK:             'kvm-event',
  EXIT_REASON_NOTIFY:               'kvm-event',
  EXIT_REASON_SEAMCALL:             'kvm-instruction',
  EXIT_REASON_TDCALL:               'kvm-instruction',
  EXIT_REASON_RDMSRLIST:            'kvm-instruction',
  EXIT_REASON_WRMSRLIST:            'kvm-instruction',
  EXIT_REASON_URDMSR:               'kvm-instruction',
  EXIT_REASON_UWRMSR:               'kvm-instruction',
  EXIT_REASON_MSR_READ_IMM:         'kvm-instruction',
  EXIT_REASON_MSR_WRITE_IMM:        'kvm-instruction',
};

const BY_NUMBER: ReadonlyMap<number, ReasonClass> = new Map(
  (Object.entries(CLASSES) as [ExitReasonName, ReasonClass][]).map(([name, kind]) => [
    EXIT_REASON[name],
    kind,
  ]),
);

/** The class of a basic exit reason; a reserved one is for KVM to understand. */
export function classOf(basic: number): ReasonClass {
  return BY_NUMBER.get(basic) ?? 'kvm-event';
}
