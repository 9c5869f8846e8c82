/**
 * A fuzzer's input: what happens to one vCPU, in order.
 *
 * Source: the RFC, "Caretaker VM Exit Flow", "Stray Hardware Interrupts"; SDM, "Recording VM-Exit Information".
 * Invariant: plain data; every value of these types can be encoded (codec.ts) and is made legal before it is run
 * (legal.ts), so that a mutation may put any number anywhere.
 * Not modelled: two vCPUs in one input; explore has their interleavings.
 */

/** A VM exit as it is asked for; what is absent is undefined for the exit, as hardware leaves it. */
export interface ExitOp {
  readonly kind: 'exit';
  /** Basic reason, 0 to 255: also reserved ones. */
  readonly basic: number;
  /** Bits 31:24 of the exit-reason word, as a byte. */
  readonly modifiers: number;
  /** Bytes of the instruction. */
  readonly instructionLength: number;
  /** Bits of INTERRUPTIBILITY. */
  readonly interruptibility: number;
  /** Bit 0: halted; bit 1: RFLAGS.IF; bit 2: RFLAGS.TF; bit 3: outside 64-bit mode. */
  readonly mode: number;
  readonly qualification?: bigint;
  /** VM-exit interruption information and its error code. */
  readonly interruption?: readonly [info: number, errorCode: number];
  /** IDT-vectoring information and its error code. */
  readonly vectoring?: readonly [info: number, errorCode: number];
  /** RAX, RCX and RDX of the guest; the other registers are random. */
  readonly registers?: readonly [rax: bigint, rcx: bigint, rdx: bigint];
  readonly rip?: bigint;
  readonly guestPhysicalAddress?: bigint;
}

/** One thing that happens. */
export type Op =
  | ExitOp
  /** A physical interrupt at the core. */
  | { readonly kind: 'interrupt'; readonly vector: number }
  | { readonly kind: 'nmi' }
  /** A machine check; bit 0 of `status` is RIPV. */
  | { readonly kind: 'machine-check'; readonly status: number }
  /** The guest runs for `mantissa << exponent` ticks. */
  | { readonly kind: 'time'; readonly exponent: number; readonly mantissa: number }
  /** KVM comes back, or leaves: it writes KVM_DETACHED only while the vCPU is stopped in KVM. */
  | { readonly kind: 'flip'; readonly attached: boolean }
  /** KVM asks the payload to stop. */
  | { readonly kind: 'stop' }
  /** KVM changes the shared configuration, as it may while the vCPU is stopped. */
  | {
      readonly kind: 'configure';
      readonly what: number;
      readonly index: number;
      readonly value: number;
    };

/** What is done, and in which state it begins. */
export interface FuzzInput {
  /** Index into the bases that an executor offers; taken modulo their number. */
  readonly base: number;
  readonly ops: readonly Op[];
}

/** An exit of a reason from 64-bit code that can be interrupted, with nothing else to it. */
export function plainExit(basic: number): ExitOp {
  return {
    kind: 'exit',
    basic,
    modifiers: 0,
    instructionLength: 1,
    interruptibility: 0,
    mode: 2,
  };
}

/** Longest sequence that is run; what follows is ignored. */
export const MAX_OPS = 32;
/** Longest time of one op in ticks: two thirty-seconds of a second at 2 GHz. */
export const MAX_EXPONENT = 19;
