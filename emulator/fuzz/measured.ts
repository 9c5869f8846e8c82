/**
 * The ops of a busy guest, with the registers and timers that such exits have: what a campaign on the measured mix draws.
 *
 * Source: emulator/guest/mix.ts, and what that names.
 * Invariant: a function of its seed and of how often it was asked.
 */
import { RFLAGS } from '../cpu/registers.js';
import type { Random } from '../clock/random.js';
import { doorbell, eptViolation, hlt } from '../guest/exits.js';
import type { GuestAccesses, GuestExit, GuestView } from '../guest/guest.js';
import { BUSY, DOORBELL, MixGuest } from '../guest/mix.js';
import type { ExitOp, Op } from '../stage/input.js';
import { VECTORS } from './dictionary.js';

/** Ticks between two exits of a guest that makes some thousands a second. */
const MEAN_TICKS = 500_000;
/** Pages of 4 GiB: the guest touches any of them. */
const ANY_PAGE = 1 << 20;
/** The guest is asked for another action when what it means to do is no op: at most so often. */
const ASKED_AT_MOST = 64;
/** Eight milliseconds: most of the guest's timers have expired by then. */
const TIME: Op = { kind: 'time', exponent: 16, mantissa: 255 };
/** Bit 1 of an exit's mode is RFLAGS.IF. */
const INTERRUPTS_ON = 2;

/** A guest whose exits become ops; `tsc` is the guest's time when an input begins. */
export class MeasuredGuest {
  readonly #guest: MixGuest;
  readonly #view: GuestView;

  constructor(random: Random, tsc: number) {
    this.#guest = new MixGuest({
      mix: BUSY,
      seed: random.nextU32(),
      meanTicks: MEAN_TICKS,
      otherApicIds: [],
      deviceVectors: VECTORS,
      memoryPages: ANY_PAGE,
    });
    this.#view = { vcpuId: 0, tsc, isHalted: false, isInterruptible: true, hasDeadline: true };
  }

  /** What it does next: an exit, an interrupt, or time that passes until its timer. */
  op(): Op {
    const action = this.#guest.next(this.#view);
    switch (action.kind) {
      case 'exit':
        return opOf(action.exit);
      case 'access':
        return opOf({ ...exitOf(action.access), fields: action.fields });
      case 'interrupt':
        return { kind: 'interrupt', vector: action.vector };
      default:
        return TIME;
    }
  }

  /** The next exit of its own. */
  exit(): ExitOp {
    for (let asked = 0; asked < ASKED_AT_MOST; asked++) {
      const op = this.op();
      if (op.kind === 'exit') return op;
    }
    return opOf(hlt());
  }
}

/** An input has no nested page tables: what the guest touches exits as it most often does. */
function exitOf({ gpa, gla }: GuestAccesses['access']): GuestExit {
  return gpa === DOORBELL ? doorbell(gpa) : eptViolation(gpa, gla);
}

/** The op that asks for an exit as a guest makes it. */
function opOf(exit: GuestExit): ExitOp {
  const { registers, fields, qualification, guestPhysicalAddress } = exit;
  const flags = fields?.GUEST_RFLAGS ?? RFLAGS.IF;
  return {
    kind: 'exit',
    basic: exit.basic,
    modifiers: 0,
    instructionLength: (exit.instructionLength ?? 1) - 1,
    interruptibility: 0,
    mode: (flags & RFLAGS.IF) !== 0n ? INTERRUPTS_ON : 0,
    ...(registers && {
      registers: [registers.RAX ?? 0n, registers.RCX ?? 0n, registers.RDX ?? 0n] as const,
    }),
    ...(qualification !== undefined && { qualification }),
    ...(guestPhysicalAddress !== undefined && { guestPhysicalAddress }),
  };
}
