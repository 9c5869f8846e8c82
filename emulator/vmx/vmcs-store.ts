/**
 * Which VMCS is active on which pCPU, and what lies in its region in memory meanwhile.
 *
 * Source: SDM, "Software Use of the VMCS and Related Structures", "VMCLEAR", "VMPTRLD", "VMXOFF".
 * Invariant: while a VMCS is active its data is in the processor (the Vmcs object) and the region holds poison after its
 * first eight bytes; VMCLEAR on that pCPU is the only way back. So data taken to another pCPU without VMCLEAR is poison.
 * DEVIATION: a region of zeroes reads as fields of zero after VMCLEAR, as on every processor seen so far; the SDM leaves
 * the values of fields that were never written to the implementation.
 */
import { HarnessBug } from '../../abi/errors.js';
import { u64 } from '../../abi/uint.js';
import { VMCS_FIELD_COUNT } from '../../abi/vmcs-fields.js';
import type { PhysicalBytes } from '../memory/physical-memory.js';
import { POISON_BYTE, Vmcs, type VmcsState } from './vmcs.js';

/** Offset of the VMX-abort indicator in a VMCS region. */
export const ABORT_INDICATOR_OFFSET = 4;
/** Offset of the field values in a VMCS region; the layout is this processor's own. */
export const VMCS_DATA_OFFSET = 8;
/** Bytes of a VMCS region. */
export const VMCS_REGION_BYTES = 4096;

const MARKER_OFFSET = VMCS_DATA_OFFSET + 8 * VMCS_FIELD_COUNT;
/** Left by VMCLEAR: the data before it was written by a VMCLEAR, the launch state is clear. */
const CLEAR_MARKER = 0x5241_454c_4353_4d56n;

/** The store as plain data. */
export interface VmcsStoreState {
  readonly active: readonly VmcsState[];
}

/** All active VMCSs of a machine. */
export class VmcsStore {
  readonly #memory: PhysicalBytes;
  readonly #active = new Map<number, Map<bigint, Vmcs>>();

  constructor(memory: PhysicalBytes) {
    this.#memory = memory;
  }

  /** The VMCS of this region if it is active on this pCPU. */
  activeOn(pcpuId: number, regionPa: bigint): Vmcs | undefined {
    return this.#active.get(pcpuId)?.get(regionPa);
  }

  /** A field as the pCPU's active VMCS or the cleared region holds it. */
  peek(pcpuId: number, regionPa: bigint, slot: number): bigint {
    const active = this.activeOn(pcpuId, regionPa);
    if (active !== undefined) return active.get(slot);
    return this.#memory.readU64(regionPa + BigInt(VMCS_DATA_OFFSET + 8 * slot));
  }

  /** The pCPUs on which this region's VMCS is active; more than one is a software error. */
  holders(regionPa: bigint): number[] {
    return [...this.#active].filter(([, ofPcpu]) => ofPcpu.has(regionPa)).map(([id]) => id);
  }

  /** Whether the data of this region's VMCS is in memory: VMCLEAR has put it there, and nobody has loaded it since. */
  isInMemory(regionPa: bigint): boolean {
    return this.#memory.readU64(regionPa + BigInt(MARKER_OFFSET)) === CLEAR_MARKER;
  }

  /** Every active VMCS, by pCPU. */
  *all(): Generator<Vmcs> {
    for (const ofPcpu of this.#active.values()) yield* ofPcpu.values();
  }

  /** VMPTRLD's effect once the operand is checked: the VMCS becomes active on the pCPU. */
  activate(pcpuId: number, regionPa: bigint, revision: number): Vmcs {
    const held = this.activeOn(pcpuId, regionPa);
    if (held !== undefined) return held;
    const vmcs = this.#load(regionPa, revision);
    vmcs.activeOn = pcpuId;
    this.#poisonRegion(regionPa);
    this.#of(pcpuId).set(regionPa, vmcs);
    return vmcs;
  }

  /** VMCLEAR's effect once the operand is checked: data goes to memory, launch state becomes clear. */
  clear(pcpuId: number, regionPa: bigint): void {
    const ofPcpu = this.#of(pcpuId);
    const vmcs = ofPcpu.get(regionPa);
    if (vmcs !== undefined) {
      this.#memory.write(regionPa + BigInt(VMCS_DATA_OFFSET), bytesOf(vmcs));
      vmcs.activeOn = null;
      vmcs.launchState = 'clear';
      ofPcpu.delete(regionPa);
    }
    this.#memory.writeU64(regionPa + BigInt(MARKER_OFFSET), CLEAR_MARKER);
  }

  /** VMXOFF's effect: VMCSs still active on the pCPU are lost, their regions stay poison. */
  dropAll(pcpuId: number): void {
    for (const vmcs of this.#of(pcpuId).values()) vmcs.activeOn = null;
    this.#of(pcpuId).clear();
  }

  state(): VmcsStoreState {
    return { active: [...this.all()].map((vmcs) => vmcs.state()) };
  }

  /** Puts a state back; a VMCS that is active in both keeps its object. */
  restore(state: VmcsStoreState): void {
    const before = new Map([...this.#active].map(([id, ofPcpu]) => [id, new Map(ofPcpu)]));
    this.#active.clear();
    for (const one of state.active) {
      if (one.activeOn === null) throw new HarnessBug('a stored VMCS is active nowhere');
      const kept = before.get(one.activeOn)?.get(one.regionPa);
      if (kept?.revision === one.revision) kept.restore(one);
      this.#of(one.activeOn).set(
        one.regionPa,
        kept?.revision === one.revision ? kept : Vmcs.fromState(one),
      );
    }
  }

  #of(pcpuId: number): Map<bigint, Vmcs> {
    let ofPcpu = this.#active.get(pcpuId);
    if (ofPcpu === undefined) {
      ofPcpu = new Map();
      this.#active.set(pcpuId, ofPcpu);
    }
    return ofPcpu;
  }

  #load(regionPa: bigint, revision: number): Vmcs {
    const vmcs = new Vmcs(regionPa, revision);
    const bytes = this.#memory.read(regionPa + BigInt(VMCS_DATA_OFFSET), 8 * VMCS_FIELD_COUNT);
    vmcs.load(new BigUint64Array(bytes.buffer));
    if (this.#memory.readU64(regionPa + BigInt(MARKER_OFFSET)) !== CLEAR_MARKER) {
      // Never cleared: data and launch state are undefined. The worst launch state for either instruction is taken.
      vmcs.poisonAll();
      vmcs.launchState = 'launched';
      vmcs.stale = true;
    }
    return vmcs;
  }

  #poisonRegion(regionPa: bigint): void {
    this.#memory.fill(
      u64(regionPa) + BigInt(VMCS_DATA_OFFSET),
      VMCS_REGION_BYTES - VMCS_DATA_OFFSET,
      POISON_BYTE,
    );
  }
}

function bytesOf(vmcs: Vmcs): Uint8Array {
  return new Uint8Array(vmcs.values.buffer, 0, vmcs.values.byteLength);
}
