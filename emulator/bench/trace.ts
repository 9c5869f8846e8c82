/**
 * A trace of one vCPU's exits for the plain C harness: everything that goes into each stay in the payload, and what it
 * came to.
 *
 * Source: harness.c, which reads it.
 * Invariant: what the harness holds after a segment is what `#memory` and `#fields` hold; a stay that is left out (a
 * limit, an exception) shows as a difference before the next one.
 */
import { slotByEncoding } from '../../abi/vmcs-fields.js';
import { executableExtents, joinExtents, type AddressSpace } from '../cpu/address-space.js';
import type { EngineStop } from '../cpu/port.js';
import { ENGINE_SLOTS, REG } from '../cpu/registers.js';
import { INLINE, sweep } from '../cpu/sweep.js';
import { UNDEFINED_NAME } from '../cpu/system-instructions.js';
import type { Lane } from '../machine/lane.js';
import type { Machine } from '../machine/machine.js';
import { PAGE_SIZE } from '../memory/physical-memory.js';
import { VMCS_FLAG } from '../vmx/vmcs.js';

const MAGIC = 0x3145_4341_5254_4b43n;
/** Registers that a stay gives back: all but FS and GS base. */
const GIVEN_BACK = 18;
/** Owners of the pages that a payload can change, and KVM for it. */
const OWNERS: ReadonlySet<string> = new Set(['payload', 'shared-metadata']);
const SHOWN_FLAGS = VMCS_FLAG.INLINE_READ | VMCS_FLAG.INLINE_WRITE | VMCS_FLAG.POISON;
const VALUES_PER_PAGE = PAGE_SIZE / 8;

/** Watches the engine of one lane while the machine runs. */
export class TraceRecorder {
  readonly #machine: Machine;
  readonly #lane: Lane;
  readonly #values: BigUint64Array;
  readonly #spaces: AddressSpace[] = [];
  readonly #pages: readonly number[];
  /** Memory and VMCS as the harness will have them. */
  readonly #memory: BigUint64Array;
  readonly #fields: BigUint64Array;
  readonly #flags: Uint8Array;
  readonly #first: BigUint64Array;
  readonly #segments: bigint[][] = [];
  readonly #stops = new Set<bigint>();
  #exits = 0;
  #seenExits: number;

  constructor(machine: Machine, lane: Lane) {
    this.#machine = machine;
    this.#lane = lane;
    this.#values = new BigUint64Array(machine.memory.buffer);
    this.#pages = machine.memory
      .regions()
      .filter(({ owner, label }) => OWNERS.has(owner) && !label.endsWith('tables'))
      .flatMap(({ base, sizeBytes }) =>
        Array.from({ length: sizeBytes / PAGE_SIZE }, (_, page) => base + page * PAGE_SIZE),
      );
    this.#memory = new BigUint64Array(this.#pages.length * VALUES_PER_PAGE);
    this.#remember();
    this.#first = this.#memory.slice();
    this.#fields = new BigUint64Array(lane.vmcs.values.length);
    // No slot has these flags, so that the first segment brings every field.
    this.#flags = new Uint8Array(lane.vmcs.flags.length).fill(0xff);
    this.#seenExits = lane.exit.sequence;
  }

  /** Runs the machine until the lane had `exits` exits. */
  record(exits: number): void {
    const { engine } = this.#lane;
    const run = engine.run.bind(engine);
    engine.run = (limit) => {
      const before = this.#before();
      const stop = run(limit);
      this.#after(before, stop);
      return stop;
    };
    this.#machine.runUntil(() => this.#exits >= exits, Infinity);
    engine.run = run;
  }

  /** The words of the file. */
  words(): BigUint64Array {
    const words: bigint[] = [MAGIC, BigInt(this.#machine.memory.sizeBytes)];
    const push = (...more: readonly (bigint | number)[]): void => {
      for (const word of more) words.push(BigInt(word));
    };
    push(this.#spaces.length);
    for (const { mappings } of this.#spaces) {
      push(mappings.length);
      for (const { linear, sizeBytes, writable, executable } of mappings) {
        push(linear, sizeBytes, (writable ? 1 : 0) | (executable ? 2 : 0));
      }
    }
    const ranges = joinExtents(this.#spaces.flatMap(({ mappings }) => executableExtents(mappings)));
    const isCode = (page: number): boolean =>
      ranges.some(({ base, sizeBytes }) => page >= base && page < base + sizeBytes);
    const code = ranges.flatMap(({ base, sizeBytes }) =>
      Array.from({ length: sizeBytes / PAGE_SIZE }, (_, page) => base + page * PAGE_SIZE),
    );
    const data = this.#pages.filter((page) => !isCode(page));
    push(code.length + data.length);
    for (const page of code) {
      push(page + 1, ...this.#values.subarray(page / 8, page / 8 + VALUES_PER_PAGE));
    }
    for (const page of data) {
      const at = this.#pages.indexOf(page) * VALUES_PER_PAGE;
      push(page, ...this.#first.subarray(at, at + VALUES_PER_PAGE));
    }
    const stops = new Map<bigint, bigint>([...this.#stops].map((address) => [address, 0n]));
    push(ranges.length);
    for (const { base, sizeBytes } of ranges) {
      const bytes = this.#machine.memory.bytes.subarray(base, base + sizeBytes);
      const { flags, sites } = sweep(bytes);
      push(base, sizeBytes, ...new BigUint64Array(flags.buffer));
      for (const { offset, instruction, inline, rm, reg } of sites) {
        if (instruction.name === UNDEFINED_NAME) continue;
        const packed = inline | (rm << 8) | (reg << 16) | (instruction.length << 24);
        stops.set(BigInt(base + offset), inline === INLINE.NONE ? 0n : BigInt(packed));
      }
    }
    push(stops.size);
    for (const [address, packed] of stops) push(address, packed);
    push(...new BigUint64Array(slotByEncoding.buffer));
    push(this.#fields.length, this.#segments.length);
    const body = this.#segments.flat();
    const all = new BigUint64Array(words.length + body.length);
    all.set(words);
    all.set(body, words.length);
    return all;
  }

  #before(): bigint[] {
    const { exit, engine, vmcs, pcpu } = this.#lane;
    const isExit = exit.sequence !== this.#seenExits;
    const segment: bigint[] = [isExit ? 1n : 0n, BigInt(this.#space())];
    segment.push(BigInt(engine.tscBase + engine.counters.instructions));
    segment.push(...pcpu.registers.values.subarray(0, ENGINE_SLOTS));
    const changes: bigint[] = [];
    this.#pages.forEach((page, index) => {
      for (let value = 0; value < VALUES_PER_PAGE; value++) {
        const now = this.#values[page / 8 + value]!;
        if (now !== this.#memory[index * VALUES_PER_PAGE + value])
          changes.push(BigInt(page + 8 * value), now);
      }
    });
    segment.push(BigInt(changes.length / 2), ...changes);
    const fields: bigint[] = [];
    vmcs.values.forEach((value, slot) => {
      const flags = vmcs.flags[slot]! & SHOWN_FLAGS;
      if (value === this.#fields[slot] && flags === this.#flags[slot]) return;
      fields.push(BigInt(slot) | (BigInt(flags) << 32n), value);
    });
    segment.push(BigInt(fields.length / 2), ...fields);
    segment.push(BigInt(engine.counters.instructions));
    return segment;
  }

  #after(segment: bigint[], stop: EngineStop): void {
    if (stop.kind !== 'site' && stop.kind !== 'breakpoint') return;
    const { exit, engine, vmcs, pcpu } = this.#lane;
    const { values } = pcpu.registers;
    const begun = segment.pop()!;
    segment.push(values[REG.RIP]!, BigInt(engine.counters.instructions) - begun);
    segment.push(...values.subarray(0, GIVEN_BACK));
    this.#segments.push(segment);
    if (stop.kind === 'breakpoint') this.#stops.add(values[REG.RIP]!);
    if (exit.sequence !== this.#seenExits) this.#exits++;
    this.#seenExits = exit.sequence;
    this.#remember();
    this.#fields.set(vmcs.values);
    vmcs.flags.forEach((flags, slot) => (this.#flags[slot] = flags & SHOWN_FLAGS));
  }

  #remember(): void {
    this.#pages.forEach((page, index) => {
      const values = this.#values.subarray(page / 8, page / 8 + VALUES_PER_PAGE);
      this.#memory.set(values, index * VALUES_PER_PAGE);
    });
  }

  /** Number of the active address space in the trace. */
  #space(): number {
    const { active } = this.#lane.engine;
    if (active === undefined) throw new RangeError('a run without an address space');
    const known = this.#spaces.indexOf(active);
    return known >= 0 ? known : this.#spaces.push(active) - 1;
  }
}
