/**
 * Where VM exits come from: a guest says what it does next, and the machine turns that into time, events and exits.
 *
 * Source: DESIGN ("One VM exit, as the data flows"). A guest's general registers are the pCPU's; the rest of its
 * state is the VMCS guest-state area, which it may change only while it runs.
 * Invariant: a guest is a pure function of its seed and of what it sees; state() and restore() continue it exactly.
 * Not modelled: guest code; a guest here is a script or a recorded mix.
 */
import type { FieldName } from '../../abi/vmcs-fields.js';
import type { RegisterName } from '../cpu/registers.js';
import type { GuestAccess } from '../vmx/ept/guest-access.js';
import type { VmExit } from '../vmx/vm-exit.js';

/** What hardware reports of an exit, and what the guest did before it. */
export interface GuestExit extends VmExit {
  /** General registers that the instruction needs, set just before the exit. */
  readonly registers?: Readonly<Partial<Record<RegisterName, bigint>>> | undefined;
  /** Guest-state fields that the guest changed since it was entered. */
  readonly fields?: Readonly<Partial<Record<FieldName, bigint | undefined>>> | undefined;
}

/**
 * A guest's exit with every property in its place, for the caller to fill: exits of one shape keep what looks at them
 * fast.
 */
export function guestExit(
  basic: number,
  qualification?: bigint,
  instructionLength?: number,
  registers?: GuestExit['registers'],
): { -readonly [Field in keyof Required<GuestExit>]: GuestExit[Field] } {
  return {
    basic,
    reasonBits: undefined,
    qualification,
    instructionLength,
    interruptionInfo: undefined,
    interruptionErrorCode: undefined,
    idtVectoringInfo: undefined,
    idtVectoringErrorCode: undefined,
    guestLinearAddress: undefined,
    guestPhysicalAddress: undefined,
    instructionInfo: undefined,
    registers,
    fields: undefined,
  };
}

/** Accesses to consecutive pages, the first at the access's own address. */
export interface GuestAccesses {
  readonly kind: 'access';
  readonly after: number;
  readonly access: GuestAccess;
  readonly pages: number;
  /** Guest-state fields that the guest changed before. */
  readonly fields?: GuestExit['fields'];
  /** Where the guest was when its access exited; absent before. */
  readonly exitedAt?: bigint;
}

/** What a guest does next; `after` is in TSC ticks from now. */
export type GuestAction =
  /** Runs for a while, then does something that exits. */
  | { readonly kind: 'exit'; readonly after: number; readonly exit: GuestExit }
  /** Touches memory, one page after the other; what the nested page tables do not allow exits and is tried again. */
  | GuestAccesses
  /** Runs, or stays halted, until something from outside exits. */
  | { readonly kind: 'wait' }
  /** A device asserts a physical interrupt vector at this vCPU's core. */
  | { readonly kind: 'interrupt'; readonly after: number; readonly vector: number }
  /** A posted interrupt wakes the halted guest without an exit. */
  | { readonly kind: 'wake'; readonly after: number }
  /** The handler of an NMI comes to its end, and its IRET ends the guest's blocking of NMIs. */
  | { readonly kind: 'iret'; readonly after: number }
  /** Has run to its end: no more exits of its own. */
  | { readonly kind: 'done' };

/** What a guest can see of itself. */
export interface GuestView {
  readonly vcpuId: number;
  /** Guest TSC, in ticks. */
  readonly tsc: number;
  readonly isHalted: boolean;
  /** RFLAGS.IF. */
  readonly isInterruptible: boolean;
  /** Whether the payload holds a TSC deadline for it. */
  readonly hasDeadline: boolean;
}

export interface Guest {
  /** Called when the guest has been entered and after each of its actions without an exit. */
  next(view: GuestView): GuestAction;
  /** An interrupt or exception was delivered to the guest. */
  onEvent(vector: number): void;
  /** What the handler of an interrupt that was just delivered does before the guest goes on; null when that is all the same. */
  handle?(vector: number): GuestAction | null;
  state(): unknown;
  restore(state: unknown): void;
}
