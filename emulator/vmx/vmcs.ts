/**
 * A VMCS that is active on a pCPU: the processor's own copy of the fields, and the regions they come from.
 *
 * Source: SDM, "Virtual-Machine Control Structures", "Software Use of the VMCS and Related Structures".
 * Invariant: a field's value never has bits above the field's width; `written` lists exactly the slots whose WRITTEN
 * flag is set, each once, so its capacity is the number of fields.
 * Not modelled: shadow VMCSs as current VMCS, virtual VMCS access from non-root operation.
 */
import { HarnessBug } from '../../abi/errors.js';
import { VMCS_FIELDS, VMCS_FIELD_COUNT, VMCS_SLOT, slotBits } from '../../abi/vmcs-fields.js';
import type { FieldName } from '../../abi/vmcs-fields.js';
import type { HostImage } from './host-image.js';

// prettier-ignore
/** Bits of Vmcs.flags; the engine binding reads and sets them too. */
export const VMCS_FLAG = {
  /** VMREAD may be answered in line. */
  INLINE_READ:   1,
  /** VMWRITE may be answered in line. */
  INLINE_WRITE:  2,
  /** The architecture leaves the value undefined; in line, neither answer nor clear it: stop to the model. */
  POISON:        4,
  /** Written since the last sweep(); whoever sets it appends the slot to `written`. */
  WRITTEN:       8,
} as const;

/** The byte that undefined VMCS data is made of. */
export const POISON_BYTE = 0xc5;
const POISON_WORD = 0xc5c5_c5c5;
/** 32-bit words of the set of entry-check rules to run; room for 512 rules. */
export const RULE_SET_WORDS = 16;

const LOW_MASK = Uint32Array.from(slotBits, (bits) => (bits === 16 ? 0xffff : 0xffff_ffff));
const HIGH_MASK = Uint32Array.from(slotBits, (bits) => (bits === 64 ? 0xffff_ffff : 0));
const DEFAULT_FLAGS = Uint8Array.from(VMCS_FIELDS, (field) =>
  field.readOnly ? VMCS_FLAG.INLINE_READ : VMCS_FLAG.INLINE_READ | VMCS_FLAG.INLINE_WRITE,
);

/** Launch state: VMLAUNCH needs `clear`, VMRESUME needs `launched`. */
export type LaunchState = 'clear' | 'launched';

/** A VMCS as plain data. */
export interface VmcsState {
  readonly regionPa: bigint;
  readonly revision: number;
  readonly launchState: LaunchState;
  readonly activeOn: number | null;
  readonly stale: boolean;
  readonly entryTsc: number;
  readonly values: BigUint64Array;
  readonly flags: Uint8Array;
  readonly written: Uint16Array;
  readonly checked: Uint32Array;
  readonly pendingRules: Uint32Array;
  /** What was known of the host-state area; a function of the values, and never changed. */
  readonly hostImage: HostImage | null;
}

export class Vmcs {
  readonly regionPa: bigint;
  readonly revision: number;
  launchState: LaunchState = 'clear';
  /** The pCPU that it is active on, null once VMCLEAR has made it inactive. */
  activeOn: number | null = null;
  /** Its data was never written back by VMCLEAR: VMLAUNCH fails with error 4 and VMRESUME with error 6. */
  stale = false;
  /** TSC at the last VM entry, for the VMX-preemption timer. */
  entryTsc = 0;
  readonly values: BigUint64Array;
  /** The same memory; the low half of slot `n` is `words[2 * n]`. */
  readonly words: Uint32Array;
  readonly flags: Uint8Array;
  /** Slots written since the last sweep(); `writtenCount[0]` of them are valid. */
  readonly written: Uint16Array;
  readonly writtenCount: Uint32Array;
  /** Values at the last sweep(), so that writing the same value again costs no check. */
  readonly checked: Uint32Array;
  /** Entry-check rules that must run again before the next VM entry. */
  readonly pendingRules: Uint32Array;
  /** The host-state area as register values, null when a field of it was written since it was made. */
  hostImage: HostImage | null = null;

  constructor(regionPa: bigint, revision: number) {
    this.regionPa = regionPa;
    this.revision = revision;
    this.values = new BigUint64Array(VMCS_FIELD_COUNT);
    this.words = new Uint32Array(this.values.buffer);
    this.flags = DEFAULT_FLAGS.slice();
    this.written = new Uint16Array(VMCS_FIELD_COUNT);
    this.writtenCount = new Uint32Array(1);
    this.checked = new Uint32Array(this.words.length);
    this.pendingRules = new Uint32Array(RULE_SET_WORDS).fill(0xffff_ffff);
  }

  /** The low 32 bits of a slot, unsigned. */
  low(slot: number): number {
    return this.words[2 * slot]!;
  }

  /** The high 32 bits of a slot, unsigned. */
  high(slot: number): number {
    return this.words[2 * slot + 1]!;
  }

  /** The whole value of a slot. */
  get(slot: number): bigint {
    return this.values[slot]!;
  }

  /** The whole value of a field by name; slow, for tests, tools and rare paths. */
  read(name: FieldName): bigint {
    return this.values[VMCS_SLOT[name]]!;
  }

  /** Writes a field by name, cut to its width. */
  write(name: FieldName, value: bigint): void {
    this.set(VMCS_SLOT[name], value);
  }

  /** Writes a slot, cut to the field's width. */
  set(slot: number, value: bigint): void {
    this.values[slot] = value;
    this.words[2 * slot]! &= LOW_MASK[slot]!;
    this.words[2 * slot + 1]! &= HIGH_MASK[slot]!;
    this.#touch(slot);
  }

  /** Writes a slot from 32 bits, zero-extended, without a bigint. */
  setLow(slot: number, value: number): void {
    this.words[2 * slot] = value & LOW_MASK[slot]!;
    this.words[2 * slot + 1] = 0;
    this.#touch(slot);
  }

  /** Writes a slot from two halves without a bigint. */
  setHalves(slot: number, low: number, high: number): void {
    this.words[2 * slot] = low & LOW_MASK[slot]!;
    this.words[2 * slot + 1] = high & HIGH_MASK[slot]!;
    this.#touch(slot);
  }

  /** Records VM-exit information: a value of the processor's own, which no entry check reads. */
  record(slot: number, low: number, high = 0): void {
    this.words[2 * slot] = low & LOW_MASK[slot]!;
    this.words[2 * slot + 1] = high & HIGH_MASK[slot]!;
    this.flags[slot]! &= ~VMCS_FLAG.POISON;
  }

  /** Makes a slot undefined. */
  poison(slot: number): void {
    if (this.isPoison(slot)) return;
    this.words[2 * slot] = POISON_WORD & LOW_MASK[slot]!;
    this.words[2 * slot + 1] = POISON_WORD & HIGH_MASK[slot]!;
    this.#touch(slot);
    this.flags[slot]! |= VMCS_FLAG.POISON;
  }

  /** Whether the architecture leaves the slot's value undefined. */
  isPoison(slot: number): boolean {
    return (this.flags[slot]! & VMCS_FLAG.POISON) !== 0;
  }

  /** Makes every field undefined. */
  poisonAll(): void {
    for (let slot = 0; slot < VMCS_FIELD_COUNT; slot++) this.poison(slot);
  }

  /** Slots written since the last sweep, in the order of their first write. */
  writtenSlots(): Uint16Array {
    return this.written.subarray(0, this.writtenCount[0]);
  }

  /** Takes the image of a VMCS region's data; a value that is the poison pattern is poison. */
  load(image: BigUint64Array): void {
    if (image.length !== VMCS_FIELD_COUNT) {
      throw new HarnessBug(`a VMCS image has ${VMCS_FIELD_COUNT} values, not ${image.length}`);
    }
    for (let slot = 0; slot < VMCS_FIELD_COUNT; slot++) {
      this.set(slot, image[slot]!);
      if (isPoisonPattern(slot, this)) this.flags[slot]! |= VMCS_FLAG.POISON;
    }
  }

  /** Everything as plain data. */
  state(): VmcsState {
    return {
      regionPa: this.regionPa,
      revision: this.revision,
      launchState: this.launchState,
      activeOn: this.activeOn,
      stale: this.stale,
      entryTsc: this.entryTsc,
      values: this.values.slice(),
      flags: this.flags.slice(),
      written: this.writtenSlots().slice(),
      checked: this.checked.slice(),
      pendingRules: this.pendingRules.slice(),
      hostImage: this.hostImage,
    };
  }

  /** Puts a state of the same region back in place, so that views held by the binding stay valid. */
  restore(state: VmcsState): void {
    if (state.regionPa !== this.regionPa || state.revision !== this.revision) {
      throw new HarnessBug('a VMCS state belongs to another region');
    }
    this.launchState = state.launchState;
    this.activeOn = state.activeOn;
    this.stale = state.stale;
    this.entryTsc = state.entryTsc;
    this.values.set(state.values);
    this.flags.set(state.flags);
    this.written.set(state.written);
    this.writtenCount[0] = state.written.length;
    this.checked.set(state.checked);
    this.pendingRules.set(state.pendingRules);
    this.hostImage = state.hostImage;
  }

  static fromState(state: VmcsState): Vmcs {
    const vmcs = new Vmcs(state.regionPa, state.revision);
    vmcs.restore(state);
    return vmcs;
  }

  #touch(slot: number): void {
    const flags = this.flags[slot]! & ~VMCS_FLAG.POISON;
    if ((flags & VMCS_FLAG.WRITTEN) === 0) {
      const count = this.writtenCount[0]!;
      this.written[count] = slot;
      this.writtenCount[0] = count + 1;
    }
    this.flags[slot] = flags | VMCS_FLAG.WRITTEN;
  }
}

function isPoisonPattern(slot: number, vmcs: Vmcs): boolean {
  return (
    vmcs.words[2 * slot] === (POISON_WORD & LOW_MASK[slot]!) >>> 0 &&
    vmcs.words[2 * slot + 1] === (POISON_WORD & HIGH_MASK[slot]!) >>> 0
  );
}
