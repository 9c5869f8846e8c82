/**
 * Two recordings of the same payload, held against each other.
 *
 * Source: SDM, "VM Exits", "VM Entries"; the payload's own instructions must do the same on any processor.
 * Invariant: every value that both machines define is compared and counted; the n-th passage is compared with the n-th.
 * Not compared: where two processors share a clock, the TSC at the end of a passage, because a tick is then not one
 * instruction; what RDTSC answers is the second machine's there, and everything made of it is compared. Registers at the run entry, which KVM chooses; what the architecture leaves undefined.
 */
import { hex, toIndex } from '../../../abi/uint.js';
import { VMCS_FIELDS } from '../../../abi/vmcs-fields.js';
import { GENERAL_REGISTERS, type RegisterName } from '../../cpu/registers.js';
import {
  knownExitDifference,
  type ExitDifference,
  type KnownExitDifference,
} from '../known-exit-differences.js';
import { RECORDED_REGISTERS } from './on-model.js';
import type { Effect, Passage, Recording, Stop } from './recording.js';

/** A value that differs. */
export interface PayloadDifference {
  /** Which passage, or null at the end. */
  readonly passage: number | null;
  readonly what: string;
  readonly model: string;
  readonly second: string;
  readonly known: KnownExitDifference | null;
}

/** What came of the comparison. */
export interface Comparison {
  readonly values: number;
  readonly differences: readonly PayloadDifference[];
}

/** Values that the debugger shows with 32 bits. */
const NARROW: ReadonlySet<RegisterName> = new Set(['GS_BASE', 'FS_BASE', 'TR_BASE']);
/** From the run entry on everything else is KVM's own until VM entry, and each machine has its own KVM. */
const AFTER_RUN = [...GENERAL_REGISTERS, 'RSP', 'RIP', 'RFLAGS', 'CR3'] as const;

export class Comparer {
  readonly differences: PayloadDifference[] = [];
  values = 0;

  compare(model: Recording, second: Recording): Comparison {
    this.#hold(null, 'number of passages', model.passages.length, second.passages.length);
    model.passages.forEach((here, index) => {
      const there = second.passages[index];
      if (there !== undefined) this.#passage(index, here, there);
    });
    this.#memory(model, second);
    return { values: this.values, differences: this.differences };
  }

  #passage(index: number, model: Passage, second: Passage): void {
    this.#text(index, 'begins at', model.from.kind, second.from.kind);
    const isExit = model.from.kind === 'exit';
    if (isExit) this.#stop(index, 'at HOST_RIP', RECORDED_REGISTERS, model.from, second.from);
    this.#path(index, model, second);
    this.#effects(index, model.effects, second.effects);
    this.#text(index, 'ends at', model.to.kind, second.to.kind);
    const compared = isExit ? RECORDED_REGISTERS : AFTER_RUN;
    this.#stop(
      index,
      `at ${model.to.kind}`,
      compared,
      model.to,
      second.to,
      second.ticks === undefined,
    );
  }

  #stop(
    index: number,
    where: string,
    registers: readonly RegisterName[],
    model: Stop,
    second: Stop,
    comparesTsc = true,
  ): void {
    if (comparesTsc) this.#hold(index, `TSC ${where}`, model.tsc, second.tsc);
    for (const name of registers) {
      const there = second.registers.get(name);
      const mask = NARROW.has(name) ? 0xffff_ffffn : -1n;
      const here = model.registers.get(name)! & mask;
      this.#hold(index, `${name} ${where}`, here, there ?? 'none');
    }
    for (const { name } of VMCS_FIELDS) {
      const here = model.vmcs.get(name);
      const there = second.vmcs.get(name);
      if (here === undefined || there === undefined) continue;
      this.#hold(index, `${name} ${where}`, here, there, { what: name, ...exitOf(model) });
    }
  }

  /** Addresses of the instructions; the first one that differs says all. */
  #path(index: number, { path: model }: Passage, { path: second }: Passage): void {
    this.values += Math.max(model.length, second.length);
    const at = model.findIndex((rip, i) => rip !== second[i]);
    if (at < 0 && model.length === second.length) return;
    const from = at < 0 ? model.length : at;
    this.#differ(index, `instruction ${from + 1}`, textOf(model[from]), textOf(second[from]));
  }

  #effects(index: number, model: readonly Effect[], second: readonly Effect[]): void {
    this.values += Math.max(model.length, second.length);
    const length = Math.max(model.length, second.length);
    for (let i = 0; i < length; i++) {
      const [here, there] = [effectText(model[i]), effectText(second[i])];
      if (here === there) continue;
      this.#differ(index, `write ${i + 1} of the payload`, here, there);
      return;
    }
  }

  #memory(model: Recording, second: Recording): void {
    model.memory.forEach(({ what, bytes }, i) => {
      const here = new BigUint64Array(bytes.slice().buffer);
      const there = new BigUint64Array(second.memory[i]!.bytes.slice().buffer);
      here.forEach((value, word) => {
        this.#hold(null, `${what} +${hex(word * 8)}`, value, there[word] ?? 'none');
      });
    });
  }

  #text(index: number, what: string, model: string, second: string): void {
    this.values++;
    if (model !== second) this.#differ(index, what, model, second);
  }

  #hold(
    index: number | null,
    what: string,
    model: bigint | number,
    second: bigint | number | string,
    exit: Omit<ExitDifference, 'model' | 'second'> | null = null,
  ): void {
    this.values++;
    if (model === second) return;
    const known =
      exit !== null && typeof model === 'bigint' && typeof second === 'bigint'
        ? knownExitDifference({ ...exit, model, second })
        : null;
    this.#differ(index, what, textOf(model), textOf(second), known);
  }

  #differ(
    passage: number | null,
    what: string,
    model: string,
    second: string,
    known: KnownExitDifference | null = null,
  ): void {
    this.differences.push({ passage, what, model, second, known });
  }
}

/** The exit that a stop is behind. */
function exitOf({ vmcs }: Stop): Pick<ExitDifference, 'title' | 'reason' | 'interruptionInfo'> {
  return {
    title: '',
    reason: toIndex(vmcs.get('VM_EXIT_REASON') ?? 0n),
    interruptionInfo: toIndex(vmcs.get('VM_EXIT_INTR_INFO') ?? 0n),
  };
}

function textOf(value: bigint | number | string | undefined): string {
  if (value === undefined) return 'none';
  return typeof value === 'string' ? value : hex(value);
}

/** A write in words, RIP included. */
export function effectText(effect: Effect | undefined): string {
  if (effect === undefined) return 'none';
  const value = hex(effect.value);
  return effect.kind === 'vmcs'
    ? `VMWRITE ${effect.field} = ${value} by ${hex(effect.rip)}`
    : `${effect.sizeBytes} bytes at ${hex(effect.address)} = ${value} by ${hex(effect.rip)}`;
}
