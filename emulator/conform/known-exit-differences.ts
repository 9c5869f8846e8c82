/**
 * Where the second machine is known to differ from the SDM in what a VM exit saves: not ours to match.
 *
 * Source: each row names the SDM's rule; all were seen on Bochs 2.7.
 * Invariant: a row explains one pattern of bits in one field and nothing else.
 */
import { EXIT_REASON } from '../../abi/exit-reasons.js';
import { INTERRUPTIBILITY, INTR_INFO, INTR_TYPE, VECTOR } from '../../abi/interruption.js';
import { RFLAGS } from '../cpu/registers.js';
import { GUEST } from './guest-area.js';

const {
  EXIT_REASON_EXCEPTION_NMI: EXCEPTION,
  EXIT_REASON_EXTERNAL_INTERRUPT: EXTERNAL_INTERRUPT,
  EXIT_REASON_INTERRUPT_WINDOW: INTERRUPT_WINDOW,
  EXIT_REASON_NMI_WINDOW: NMI_WINDOW,
  EXIT_REASON_HLT: HLT,
  EXIT_REASON_MONITOR_TRAP_FLAG: TRAP_FLAG,
  EXIT_REASON_APIC_ACCESS: APIC_ACCESS,
  EXIT_REASON_EPT_VIOLATION: EPT_VIOLATION,
  EXIT_REASON_EPT_MISCONFIG: EPT_MISCONFIG,
  EXIT_REASON_PREEMPTION_TIMER: TIMER,
  EXIT_REASON_TRIPLE_FAULT: TRIPLE_FAULT,
} = EXIT_REASON;
const HLT_STATE = 1n;
const WAIT_FOR_SIPI = 3n;
const BLOCKING_BY_SMI = 4n;
/** Bits of the qualification of an EPT violation: what EPT allows. */
const EPT_READABLE = 0x08;
const EPT_EXECUTABLE = 0x20;

/** A value that differs. */
export interface ExitDifference {
  readonly what: string;
  readonly model: bigint;
  readonly second: bigint;
  /** Of the case. */
  readonly title: string;
  /** What the model's exit reports. */
  readonly reason: number;
  readonly interruptionInfo: number;
}

/** One known difference. */
export interface KnownExitDifference {
  readonly id: string;
  readonly sdm: string;
  readonly bochs: string;
  readonly explains: (difference: ExitDifference) => boolean;
}

/** Explains values by name in the cases of these titles: what the model has there, and the second machine. */
function inCases(
  titles: readonly string[],
  values: Readonly<
    Partial<Record<string, readonly [model: number | bigint, second: number | bigint]>>
  >,
): KnownExitDifference['explains'] {
  return ({ title, what, model, second }) => {
    const pair = values[what];
    return (
      pair !== undefined &&
      titles.includes(title) &&
      BigInt(pair[0]) === model &&
      BigInt(pair[1]) === second
    );
  };
}

/** An exit that is a double fault or a triple one. */
function isAbort({ reason, interruptionInfo }: ExitDifference): boolean {
  if (reason === TRIPLE_FAULT) return true;
  return reason === EXCEPTION && (interruptionInfo & INTR_INFO.VECTOR_MASK) === VECTOR.DF;
}

/** An exit that is a fault of the guest's instruction. */
function isFault(seen: ExitDifference): boolean {
  const { reason, interruptionInfo } = seen;
  if (isAbort(seen)) return false;
  if (reason === EXCEPTION) {
    return (interruptionInfo & INTR_INFO.TYPE_MASK) >>> 8 === INTR_TYPE.HARD_EXCEPTION;
  }
  return reason === EPT_VIOLATION || reason === EPT_MISCONFIG || reason === APIC_ACCESS;
}

/** The walk of guest tables at `gpa` that EPT lets be read, and executed or not. */
function accessedFlag(title: string, gpa: bigint, rights: number): KnownExitDifference['explains'] {
  return inCases([title], {
    VM_EXIT_REASON: [EPT_VIOLATION, HLT],
    EXIT_QUALIFICATION: [0x82 | rights, 0],
    GUEST_LINEAR_ADDRESS: [GUEST.CODE, 0],
    GUEST_PHYSICAL_ADDRESS: [gpa, 0],
  });
}

const ACCESSED_FLAGS = [
  accessedFlag(
    'a walk that sets an accessed flag in read-only guest tables',
    GUEST.READ_ONLY,
    EPT_READABLE,
  ),
  accessedFlag(
    'a walk that sets an accessed flag in read-execute guest tables',
    GUEST.READ_EXECUTE,
    EPT_READABLE | EPT_EXECUTABLE,
  ),
];

export const KNOWN_EXIT_DIFFERENCES: readonly KnownExitDifference[] = [
  {
    id: 'resume-flag-of-faults',
    sdm: 'a fault, an EPT violation and an APIC access that exit save RF = 1, as the flags pushed on the stack would have it',
    bochs: 'saves RF = 0 unless the fault occurs while another is delivered',
    explains: (seen) =>
      seen.what === 'GUEST_RFLAGS' &&
      isFault(seen) &&
      seen.model === (seen.second | RFLAGS.RF) &&
      seen.model !== seen.second,
  },
  {
    id: 'resume-flag-of-aborts',
    sdm: '#DF is an abort, and a triple fault is delivered nowhere: their exits save the RF that is in RFLAGS',
    bochs: 'the first fault sets RF, and the exit saves it',
    explains: (seen) =>
      seen.what === 'GUEST_RFLAGS' &&
      isAbort(seen) &&
      seen.second === (seen.model | RFLAGS.RF) &&
      seen.model !== seen.second,
  },
  {
    id: 'external-interrupt-with-interrupts-off',
    sdm: 'with external-interrupt exiting, RFLAGS.IF does not block external interrupts',
    bochs: 'keeps them pending until IF changes, here until the preemption timer expires',
    explains: inCases(['an external interrupt exits with interrupts off, too'], {
      VM_EXIT_REASON: [EXTERNAL_INTERRUPT, TIMER],
      VM_EXIT_INTR_INFO: [0x8000_0040, 0],
    }),
  },
  {
    id: 'monitor-trap-flag',
    sdm: 'with the monitor trap flag a VM exit is pending behind each instruction',
    bochs: 'offers the control and never exits for it, here until the preemption timer expires',
    explains: inCases(['the monitor trap flag exits behind one instruction'], {
      VM_EXIT_REASON: [TRAP_FLAG, TIMER],
    }),
  },
  {
    id: 'windows-in-the-hlt-state',
    sdm: 'an open interrupt or NMI window exits from the HLT state that VM entry loaded',
    bochs: 'waits until something else wakes the guest, here the preemption timer',
    explains: (seen) =>
      inCases(['an interrupt window is open in the HLT state'], {
        VM_EXIT_REASON: [INTERRUPT_WINDOW, TIMER],
      })(seen) ||
      inCases(['an NMI window is open in the HLT state'], {
        VM_EXIT_REASON: [NMI_WINDOW, TIMER],
        GUEST_ACTIVITY_STATE: [HLT_STATE, 0],
      })(seen),
  },
  {
    id: 'nmi-blocking-that-vm-entry-lifts',
    sdm: 'VM entry loads blocking by NMI, or with virtual NMIs leaves no NMI of the processor blocked by it',
    bochs: 'NMIs that root operation had blocked stay so, here until the preemption timer expires',
    explains: inCases(
      [
        'an NMI that is pending at VM entry, which lifts blocking by NMI, exits at once',
        'blocking by MOV SS holds an NMI back for one instruction',
        'with virtual NMIs, blocking by NMI is the guest’s and holds no NMI of the processor back',
      ],
      {
        VM_EXIT_REASON: [EXCEPTION, TIMER],
        VM_EXIT_INTR_INFO: [0x8000_0202, 0],
        GUEST_INTERRUPTIBILITY_INFO: [0, INTERRUPTIBILITY.NMI],
      },
    ),
  },
  {
    id: 'activity-state-of-a-pending-interrupt',
    sdm: 'an exit saves the activity state that VM entry loaded when nothing has woken the guest',
    bochs:
      'an interrupt that is pending at VM entry into the HLT state makes it active before it exits',
    explains: inCases(
      ['an interrupt that is pending at VM entry into the HLT state exits at once'],
      { GUEST_ACTIVITY_STATE: [HLT_STATE, 0] },
    ),
  },
  {
    id: 'accessed-flag-without-ept',
    sdm: 'the update of an accessed flag in the guest’s tables is a write, which EPT must allow',
    bochs: 'writes it whatever EPT says, and the guest goes on, here to a HLT',
    explains: (seen) => ACCESSED_FLAGS.some((explains) => explains(seen)),
  },
  {
    id: 'address-bit-12-of-a-large-page',
    sdm: 'bits 20:12 of the EPT entry of a 2 MiB page are reserved',
    bochs: 'does not look at bit 12, and the guest goes on, here to a HLT',
    explains: inCases(['a 2 MiB page with bit 12 of its address'], {
      VM_EXIT_REASON: [EPT_MISCONFIG, HLT],
      GUEST_PHYSICAL_ADDRESS: [GUEST.HOLE, 0],
      GUEST_RIP: [GUEST.CODE, GUEST.CODE + 2n],
      GUEST_RFLAGS: [RFLAGS.FIXED | RFLAGS.RF, RFLAGS.FIXED],
    }),
  },
  {
    id: 'low-bits-in-the-page-modification-log',
    sdm: 'an entry of the page-modification log has bits 11:0 clear',
    bochs: 'logs the address of the access as it is',
    explains: inCases(
      ['a page-modification log gets the page of each dirty flag that is set, from its end'],
      { 'memory 0x15ff0': [GUEST.READ_WRITE, GUEST.READ_WRITE + 0x123n] },
    ),
  },
  {
    id: 'state-after-a-sipi',
    sdm: 'an exit saves the activity state that it found, and blocking by SMI only in SMM',
    bochs: 'saves the active state, and blocking by SMI',
    explains: inCases(['a SIPI to a guest that waits for it'], {
      GUEST_ACTIVITY_STATE: [WAIT_FOR_SIPI, 0],
      GUEST_INTERRUPTIBILITY_INFO: [0, BLOCKING_BY_SMI],
    }),
  },
];

/** The known difference that covers a value, or null. */
export function knownExitDifference(difference: ExitDifference): KnownExitDifference | null {
  return KNOWN_EXIT_DIFFERENCES.find(({ explains }) => explains(difference)) ?? null;
}
