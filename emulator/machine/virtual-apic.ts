/**
 * A vCPU's virtual local APIC as soft state has it: what it was at the exit at hand, and its priorities.
 *
 * Source: SDM, "Task and Processor Priorities", "Interrupt Acceptance for Fixed Interrupts"; abi/soft-state.ts.
 * Invariant: sets are eight words of 32 vectors; what others have posted counts as requested.
 */
import { offsetsOf } from '../../abi/layout.js';
import { CARETAKER_SOFT_STATE } from '../../abi/soft-state.js';

const AT = offsetsOf<'tpr' | 'lvt_timer' | 'irr' | 'isr' | 'posted'>(CARETAKER_SOFT_STATE);
export const SET_WORDS = 8;

/** The virtual APIC at an exit. */
export class ApicAtExit {
  tpr = 0;
  lvtTimer = 0;
  readonly inService = new Uint32Array(SET_WORDS);
  /** IRR, and what others have posted. */
  readonly requested = new Uint32Array(SET_WORDS);

  /** `soft` is the word index of soft state. */
  take(words: Uint32Array, soft: number): void {
    this.tpr = words[soft + (AT.tpr >>> 2)]! & 0xff;
    this.lvtTimer = words[soft + (AT.lvt_timer >>> 2)]!;
    for (let i = 0; i < SET_WORDS; i++) {
      this.inService[i] = words[soft + (AT.isr >>> 2) + i]!;
      this.requested[i] = words[soft + (AT.irr >>> 2) + i]! | words[soft + (AT.posted >>> 2) + i]!;
    }
  }

  copyFrom(other: ApicAtExit): void {
    this.tpr = other.tpr;
    this.lvtTimer = other.lvtTimer;
    this.inService.set(other.inService);
    this.requested.set(other.requested);
  }
}

/** Word `i` of the vectors that wait in soft state now. */
export function requestedNow(words: Uint32Array, soft: number, i: number): number {
  return words[soft + (AT.irr >>> 2) + i]!;
}

/** The highest vector of a set whose words `at` gives, 0 for none. */
export function highestOf(at: (i: number) => number): number {
  for (let i = SET_WORDS - 1; i >= 0; i--) {
    const word = at(i);
    if (word !== 0) return 32 * i + 31 - Math.clz32(word);
  }
  return 0;
}

/** PPR: the higher class of the task's priority and of the vector in service. */
export function processorPriority(tpr: number, inService: number): number {
  return tpr >>> 4 >= inService >>> 4 ? tpr : inService & 0xf0;
}

/** The vector that only RFLAGS.IF and a shadow still hold back in soft state as it is now, 0 for none. */
export function deliverableNow(words: Uint32Array, soft: number): number {
  const vector = highestOf((i) => requestedNow(words, soft, i));
  const inService = highestOf((i) => words[soft + (AT.isr >>> 2) + i]!);
  const priority = processorPriority(words[soft + (AT.tpr >>> 2)]! & 0xff, inService);
  return vector >>> 4 > priority >>> 4 ? vector : 0;
}
