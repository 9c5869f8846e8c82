/**
 * What a user changes in a stopped machine, as data: applied at once, and again at the same time in every replay.
 *
 * Source: DESIGN ("Deterministic time"); SDM, "VMCS Data" for the widths of fields.
 * Invariant: an edit depends on nothing but the machine at its time, so that replays agree.
 */
import { HarnessError, unreachable } from '../../abi/errors.js';
import { msrName } from '../../abi/msrs.js';
import { hex } from '../../abi/uint.js';
import type { FieldName } from '../../abi/vmcs-fields.js';
import type { RegisterName } from '../cpu/registers.js';
import type { GuestExit } from '../guest/guest.js';
import type { HandStep } from '../machine/conductor/by-hand.js';
import type { Lane } from '../machine/lane.js';
import type { Machine } from '../machine/machine.js';

export type EditErrorCode = 'MSR_NOT_SETTABLE' | 'VCPU_NOT_STARTED';
/** A change that the machine has no place for. */
export class EditError extends HarnessError<EditErrorCode> {}

/** One change. */
export type Edit =
  | {
      readonly kind: 'register';
      readonly vcpu: number;
      readonly name: RegisterName;
      readonly value: bigint;
    }
  | { readonly kind: 'memory'; readonly address: bigint; readonly bytes: readonly number[] }
  | {
      readonly kind: 'field';
      readonly vcpu: number;
      readonly name: FieldName;
      readonly value: bigint;
    }
  | { readonly kind: 'msr'; readonly vcpu: number; readonly index: number; readonly value: bigint }
  /** A non-maskable interrupt, a machine check, or an interrupt that arrives at the vCPU's core. */
  | { readonly kind: 'nmi' | 'mce'; readonly vcpu: number }
  | { readonly kind: 'interrupt'; readonly vcpu: number; readonly vector: number }
  /** What the guest does next. */
  | { readonly kind: 'exit'; readonly vcpu: number; readonly exit: GuestExit }
  /** KVM's flag in the control block, as KVM writes it. */
  | { readonly kind: 'flip'; readonly vcpu: number; readonly to: 'attached' | 'detached' }
  /** What the host does next. */
  | { readonly kind: 'host'; readonly step: HandStep };

/** An edit and when it was made. */
export interface TapeEntry {
  readonly time: number;
  readonly edit: Edit;
}

/** Makes a change. @throws EditError, and then nothing has changed; MemoryError for an address that is none. */
export function applyEdit(machine: Machine, edit: Edit): void {
  switch (edit.kind) {
    case 'register':
      laneOf(machine, edit.vcpu).pcpu.registers.set(edit.name, edit.value);
      return;
    case 'memory': {
      const { memory } = machine;
      edit.bytes.forEach((byte, at) => {
        memory.writeU8(edit.address + BigInt(at), byte);
      });
      // Engines that run code from there read it again.
      for (const { engine } of machine.cores) {
        engine.invalidateCode(edit.address, edit.bytes.length);
      }
      machine.tablesChanged();
      return;
    }
    case 'field':
      laneOf(machine, edit.vcpu).vmcs.write(edit.name, edit.value);
      return;
    case 'msr':
      setMsr(machine, edit);
      return;
    case 'nmi':
      laneOf(machine, edit.vcpu).pcpu.pendingNmi = true;
      return;
    case 'mce':
      laneOf(machine, edit.vcpu).pcpu.pendingMachineCheck = true;
      return;
    case 'interrupt':
      laneOf(machine, edit.vcpu).pcpu.apic.request(edit.vector);
      return;
    case 'exit':
      machine.guests.script(laneOf(machine, edit.vcpu), {
        kind: 'exit',
        after: 0,
        exit: edit.exit,
      });
      return;
    case 'flip': {
      const { vcpu } = laneOf(machine, edit.vcpu);
      vcpu.ccbView.set('attach_state', edit.to === 'attached' ? 1 : 0);
      return;
    }
    case 'host':
      machine.hostWishes.push(edit.step);
      return;
    default:
      unreachable(edit);
  }
}

function setMsr(machine: Machine, { vcpu, index, value }: Extract<Edit, { kind: 'msr' }>): void {
  const { msrs } = laneOf(machine, vcpu).pcpu;
  if (msrs.load(index, value)) return;
  const name = msrName(index) ?? `MSR ${hex(index)}`;
  throw new EditError('MSR_NOT_SETTABLE', `${name} cannot be set to ${hex(value)}`, { index });
}

function laneOf({ lanes }: Machine, vcpu: number): Lane {
  const lane = lanes.find(({ id }) => id === vcpu);
  if (lane !== undefined) return lane;
  throw new EditError('VCPU_NOT_STARTED', `vCPU ${vcpu} is changed before it has run`, { vcpu });
}

/** The changes of a session in order of time. */
export class Tape {
  #entries: TapeEntry[] = [];
  /** How many have been applied to the machine at hand. */
  applied = 0;
  /** Other entries than those that the machine at hand has seen were loaded. */
  isStale = false;

  get entries(): readonly TapeEntry[] {
    return this.#entries;
  }

  /** The time of the first entry that has not been applied. */
  get nextTime(): number {
    return this.#entries[this.applied]?.time ?? Infinity;
  }

  /** Another machine, to which nothing has been applied. */
  rewind(): void {
    this.applied = 0;
    this.isStale = false;
  }

  /** Adds what has just been applied at a time; what was recorded later never happens now. */
  record(time: number, edit: Edit): void {
    this.#entries.length = this.applied;
    this.#entries.push({ time, edit });
    this.applied = this.#entries.length;
  }

  /** Applies what is due at a time. */
  play(machine: Machine, time: number): void {
    for (; this.nextTime <= time; this.applied++) {
      applyEdit(machine, this.#entries[this.applied]!.edit);
    }
  }

  /** Takes other entries for a run from the start; the time up to which they say the same as before. */
  load(entries: readonly TapeEntry[]): number {
    const before = this.#entries;
    let same = 0;
    while (same < before.length && same < entries.length && isSame(before[same]!, entries[same]!)) {
      same++;
    }
    this.#entries = [...entries];
    this.applied = 0;
    this.isStale = true;
    return Math.min(before[same]?.time ?? Infinity, entries[same]?.time ?? Infinity);
  }
}

function isSame(one: TapeEntry, other: TapeEntry): boolean {
  const text = (entry: TapeEntry): string =>
    JSON.stringify(entry, (_key, value: unknown) =>
      typeof value === 'bigint' ? value.toString() : value,
    );
  return one === other || text(one) === text(other);
}
