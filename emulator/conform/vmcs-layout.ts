/**
 * Where the second machine keeps each VMCS field in a region, learnt from the machine itself.
 *
 * Source: SDM, "VMCS Data": the format is the processor's own, so it is asked: each field gets a value of its own, and the
 * region shows where it went. Bochs writes every VMWRITE through to the region.
 * Invariant: only fields that were found are read from a region.
 */
import { toIndex, u64 } from '../../abi/uint.js';
import { VMCS_FIELDS, type FieldName, type VmcsField } from '../../abi/vmcs-fields.js';
import type { VmcsDescription } from '../vmx/description.js';
import { LAYOUT } from './layout.js';
import { MonitorProgram } from './program.js';
import type { SecondMachine } from './second-machine.js';

const REGION_BYTES = 4096;
const HEADER_BYTES = 16;
const STEP = 8;

export class VmcsLayout {
  readonly #fields: ReadonlyMap<number, VmcsField>;
  readonly #offsets: ReadonlyMap<FieldName, number>;

  constructor(offsets: ReadonlyMap<FieldName, number>) {
    this.#offsets = offsets;
    const named = new Map(VMCS_FIELDS.map((field) => [field.name, field]));
    this.#fields = new Map([...offsets].map(([name, offset]) => [offset, named.get(name)!]));
  }

  /** 32-bit words of a region up to its last field. */
  get words(): number {
    return Math.max(...this.#offsets.values()) / 4 + 2;
  }

  /** Whether the machine has a field. */
  has(name: FieldName): boolean {
    return this.#offsets.has(name);
  }

  /** The field that lies at an offset of a region. */
  fieldAt(offset: number): FieldName | undefined {
    return this.#fields.get(offset)?.name;
  }

  /** The fields of a region, given its 32-bit words by offset. */
  read(word: (offset: number) => number | undefined): Map<FieldName, bigint> {
    const values = new Map<FieldName, bigint>();
    for (const [name, offset] of this.#offsets) {
      const low = word(offset);
      const high = word(offset + 4);
      if (low === undefined || high === undefined) continue;
      values.set(name, valueOf(this.#fields.get(offset)!, low, high));
    }
    return values;
  }
}

/** Access rights are kept as a descriptor has them, one byte further up. */
const ACCESS_RIGHTS = /_AR_BYTES$/;
const ACCESS_RIGHTS_SHIFT = 8;

function valueOf({ name, width }: VmcsField, low: number, high: number): bigint {
  if (ACCESS_RIGHTS.test(name)) return BigInt(low >>> ACCESS_RIGHTS_SHIFT);
  if (width === 16) return BigInt(low & 0xffff);
  return width === 32 ? BigInt(low) : (BigInt(high) << 32n) | BigInt(low);
}

/** Learns the layout. */
export function learnVmcsLayout(machine: SecondMachine): VmcsLayout {
  const marks = new Map(VMCS_FIELDS.map((field) => [field, markOf(field)]));
  const description = Object.fromEntries(
    [...marks].map(([{ name }, value]) => [name, value]),
  ) as VmcsDescription;
  const program = new MonitorProgram()
    .region()
    .vmwrite(description)
    .dump(LAYOUT.VMCS_REGION, REGION_BYTES);
  const dump = machine.run(program).find((answer) => answer.kind === 'memory')!;
  const view = new DataView(dump.bytes.slice().buffer);
  const offsets = new Map<FieldName, number>();
  for (let offset = HEADER_BYTES; offset < REGION_BYTES; offset += STEP) {
    const [low, high] = [view.getUint32(offset, true), view.getUint32(offset + 4, true)];
    for (const [field, mark] of marks) {
      if (valueOf(field, low, high) !== mark || (field.width === 16 && low !== toIndex(mark)))
        continue;
      if (!offsets.has(field.name)) offsets.set(field.name, offset);
    }
  }
  return new VmcsLayout(offsets);
}

/** A value that no other field has and that is not 0 in any half. */
function markOf({ name, slot, width }: VmcsField): bigint {
  // Bits 8 to 11 of access rights are reserved and need not be kept.
  if (ACCESS_RIGHTS.test(name)) return BigInt(0x8093 + ((slot & 7) << 12));
  if (width === 16) return u64(0xa000 + slot);
  const low = BigInt(0x5a5a_0000 + slot);
  return width === 32 ? low : (BigInt(0x0000_3c3c) << 32n) | BigInt(0x4b4b_0000 + slot);
}
