/**
 * What an invariant is: hooks at the points of an exit's life, each looking at one vCPU.
 *
 * Source: DESIGN ("Invariants").
 * Invariant: a hook reads and never changes the machine; it reports through the ledger, and needs no `this`.
 */
import type { KvmVcpu } from '../../host/kvm/vcpu.js';
import type { GuestAccess } from '../../vmx/ept/guest-access.js';
import type { InvariantId } from '../../vmx/stop-reason.js';
import type { CompletionQueue } from '../completions.js';
import type { Lane } from '../lane.js';
import type { Ledger } from '../ledger.js';

export interface Invariant {
  readonly id: InvariantId;
  /** Completes the sentence "holds when ...". */
  readonly holdsWhen: string;
  /**
   * KVM's call of the run entry is looked at as an exit is that needs no answer: atExit at the call, atResume at the VM
   * entry behind it, with the record of the call as lane.exit.
   */
  readonly holdsForRun?: true;
  /** HOST_RIP is about to execute; lane.exit is new. */
  readonly atExit?: (lane: Lane, ledger: Ledger) => void;
  /** The payload is at VMRESUME or VMLAUNCH after an exit; lane.exit.outcome is known. */
  readonly atResume?: (lane: Lane, ledger: Ledger) => void;
  /** The payload is at the first instruction of the routing handler. */
  readonly atRoute?: (lane: Lane, ledger: Ledger) => void;
  /** The payload is at the routing handler without an exit to hand over: after a stop, or with a host event. */
  atHandOver?(lane: Lane, ledger: Ledger): void;
  /** The payload says `serialized`. */
  atStop?(lane: Lane, ledger: Ledger): void;
  /** The payload has parked the core. */
  atPark?(lane: Lane, ledger: Ledger): void;
  /** The payload polls for the first time in an exit. */
  readonly atBlock?: (lane: Lane, ledger: Ledger) => void;
  /** The vCPU has been detached and its core is about to run alone. */
  readonly atGap?: (lane: Lane, ledger: Ledger) => void;
  /** A kernel has the vCPU again and writes KVM_ATTACHED next; `before` is the vCPU as the kernel before knew it. */
  readonly atAdopt?: (lane: Lane, ledger: Ledger, before: KvmVcpu) => void;
  /** The first exit after that is answered, and the kernel is about to replace the VMCS. */
  readonly beforeTakeOver?: (lane: Lane, ledger: Ledger) => void;
  /** The kernel has replaced the VMCS. */
  readonly atTakeOver?: (lane: Lane, ledger: Ledger) => void;
  /** An event was delivered to the guest by VM entry. */
  readonly atDelivery?: (lane: Lane, ledger: Ledger, vector: number) => void;
  /** The guest touched memory, and the core translated its address so. */
  readonly atAccess?: (lane: Lane, ledger: Ledger, access: GuestAccess, hpa: bigint) => void;
  /** The guest's driver has read from guest memory how many completions a queue of its device has. */
  readonly atCompletionsSeen?: (
    lane: Lane,
    ledger: Ledger,
    queue: CompletionQueue,
    count: bigint,
  ) => void;
  /** The interrupt of a queue's n-th completion must have been handed to the queue's vCPU by now. */
  readonly atHandOverDue?: (
    lane: Lane,
    ledger: Ledger,
    queue: CompletionQueue,
    completed: number,
  ) => void;
  /** The run is over. */
  readonly atEnd?: (lane: Lane, ledger: Ledger) => void;
  /** What it remembers between two hooks, as data that nobody changes; an invariant that remembers has both. */
  readonly state?: () => unknown;
  readonly restore?: (state: unknown) => void;
}
