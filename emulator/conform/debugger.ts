/**
 * Bochs' internal debugger as an observer: where it stops, what it prints there, and the trace between two stops.
 *
 * Source: Bochs' documentation, "Using Bochs and the internal debugger": trace, trace-mem, vmexitbp, pb, r, creg, sreg, xp.
 * Invariant: the machine that is watched executes the same instructions at the same ticks as one that is not. Two boots of
 * one image stop at the same places, so the first one finds the stops and the second one traces between them.
 */
import { hex } from '../../abi/uint.js';
import type { RegisterName } from '../cpu/registers.js';

/** A memory access of a traced instruction; `structure` names an access that the processor made by itself. */
export interface TracedAccess {
  readonly isWrite: boolean;
  readonly physical: bigint;
  readonly sizeBytes: number;
  readonly value: bigint;
  readonly structure: string | null;
}

/** An instruction of the trace with its accesses. */
export interface TracedStep {
  readonly tick: number;
  readonly rip: bigint;
  readonly accesses: TracedAccess[];
}

/** One stop and what was printed until the next. */
export interface DebuggerStop {
  readonly tick: number;
  readonly rip: bigint;
  /** A VM exit has just been delivered. */
  readonly isExit: boolean;
  readonly registers: ReadonlyMap<RegisterName, bigint>;
  /** Words that `xp` printed, by address. */
  readonly words: ReadonlyMap<number, number>;
  /** Empty unless the trace was on. */
  readonly steps: readonly TracedStep[];
}

/** What the debugger is told at a stop. */
export interface StopOrders {
  /** Registers and these words of memory are printed. */
  readonly dump: { readonly address: bigint; readonly words: number } | null;
  readonly isTraced: boolean;
}

/** Commands of the first boot: stop at VM exits and at the addresses, say nothing more. */
export function findingCommands(addresses: readonly bigint[], mostStops: number): string {
  return [...beginning(addresses), ...Array.from({ length: mostStops }, () => 'c')].join('\n');
}

/** Commands of the second boot, one order a stop. */
export function tracingCommands(
  addresses: readonly bigint[],
  orders: readonly StopOrders[],
): string {
  const lines = beginning(addresses);
  let isTraced = false;
  for (const order of orders) {
    if (order.dump !== null) {
      const { words, address } = order.dump;
      lines.push('r', 'creg', 'sreg', `xp /${words}wx ${hex(address)}`);
    }
    if (order.isTraced !== isTraced) {
      isTraced = order.isTraced;
      lines.push(`trace ${isTraced ? 'on' : 'off'}`, `trace-mem ${isTraced ? 'on' : 'off'}`);
    }
    lines.push('c');
  }
  return [...lines, 'trace off', 'trace-mem off', 'c', 'c', ''].join('\n');
}

function beginning(addresses: readonly bigint[]): string[] {
  return ['vmexitbp', ...addresses.map((one) => `pb ${hex(one)}`), 'c'];
}

const AT = /^Next at t=(\d+)$/;
const PLACE = /^\(0\) \[0x[0-9a-f]+\] [0-9a-f]+:([0-9a-f]+) /;
const STEP = /^\(0\)\.\[(\d+)\] \[0x[0-9a-f]+\] [0-9a-f]+:([0-9a-f]+) /;
const ACCESS =
  /^\[CPU0 (\w+)\]: (?:LIN 0x[0-9a-f]+ )?PHY 0x([0-9a-f]+) \(len=(\d+), \w+\):([ 0-9A-Fx]+)(?:\t; ?(.*))?$/;
const DUMP = /^0x([0-9a-f]+) <[^>]*>:\t(.*)$/;
const GENERAL = /^(r[a-z0-9]{1,2}|ssp) ?: ([0-9a-f]{8})_([0-9a-f]{8})$/;
const SEGMENT =
  /^(es|cs|ss|ds|fs|gs|ldtr|tr):0x([0-9a-f]{4}), dh=0x([0-9a-f]{8}), dl=0x([0-9a-f]{8})/;
const TABLE = /^(gdtr|idtr):base=0x([0-9a-f]+), limit=0x([0-9a-f]+)$/;
const CONTROL = /^(CR[0348]|EFER)(?:=|: )0x([0-9a-f]+)/;

/** Reads what the debugger printed. */
export function readStops(output: string): DebuggerStop[] {
  const stops: DebuggerStop[] = [];
  let wasExit = false;
  let tick = 0;
  let reader: StopReader | null = null;
  for (const line of output.split('\n')) {
    if (line.startsWith('(0) Caught VMEXIT')) wasExit = true;
    const at = AT.exec(line);
    if (at !== null) {
      tick = Number.parseInt(at[1]!, 10);
      if (reader !== null) stops.push(reader.stop);
      reader = null;
      continue;
    }
    const place = PLACE.exec(line);
    if (place !== null && reader === null) {
      reader = new StopReader(tick, wordOf(place[1]!), wasExit);
      wasExit = false;
      continue;
    }
    reader?.read(line);
  }
  if (reader !== null) stops.push(reader.stop);
  return stops;
}

class StopReader {
  readonly #registers = new Map<RegisterName, bigint>();
  readonly #words = new Map<number, number>();
  readonly #steps: TracedStep[] = [];
  /** Accesses of a fetch come before the instruction's own line. */
  readonly stop: DebuggerStop;

  constructor(tick: number, rip: bigint, isExit: boolean) {
    this.stop = {
      tick,
      rip,
      isExit,
      registers: this.#registers,
      words: this.#words,
      steps: this.#steps,
    };
  }

  read(line: string): void {
    switch (line[0]) {
      case '(': {
        const step = STEP.exec(line);
        if (step === null) return;
        this.#steps.push({
          tick: Number.parseInt(step[1]!, 10),
          rip: wordOf(step[2]!),
          accesses: [],
        });
        return;
      }
      case '[':
        this.#access(line);
        return;
      case '0': {
        const dump = DUMP.exec(line);
        if (dump === null) return;
        dump[2]!.split('\t').forEach((word, i) => {
          this.#words.set(Number.parseInt(dump[1]!, 16) + 4 * i, Number.parseInt(word, 16));
        });
        return;
      }
      default:
        this.#register(line);
    }
  }

  #access(line: string): void {
    const found = ACCESS.exec(line);
    if (found === null) return;
    const [, kind, physical, size, words, structure] = found;
    const value = words!
      .trim()
      .split(' ')
      .reduce((sum, word) => (sum << 32n) | BigInt(word), 0n);
    this.#steps.at(-1)?.accesses.push({
      isWrite: kind === 'WR' || kind === 'SW',
      physical: wordOf(physical!),
      sizeBytes: Number.parseInt(size!, 10),
      value,
      structure: structure === undefined || structure === '' ? null : structure,
    });
  }

  #register(line: string): void {
    const set = (name: string, value: bigint): void => {
      this.#registers.set(name as RegisterName, value);
    };
    const general = GENERAL.exec(line);
    if (general !== null) {
      set(general[1]!.toUpperCase(), wordOf(general[2]! + general[3]!));
      return;
    }
    if (line.startsWith('eflags ')) {
      set('RFLAGS', BigInt(line.slice(7).split(':')[0]!));
      return;
    }
    const control = CONTROL.exec(line);
    if (control !== null) {
      set(control[1]!, wordOf(control[2]!));
      return;
    }
    const table = TABLE.exec(line);
    if (table !== null) {
      set(`${table[1]!.toUpperCase()}_BASE`, wordOf(table[2]!));
      set(`${table[1]!.toUpperCase()}_LIMIT`, wordOf(table[3]!));
      return;
    }
    const segment = SEGMENT.exec(line);
    if (segment === null) return;
    const [, name, selector, high, low] = segment;
    set(name!.toUpperCase(), wordOf(selector!));
    const wide = wordOf(high!);
    const base = (wide & 0xff00_0000n) | ((wide & 0xffn) << 16n) | (wordOf(low!) >> 16n);
    if (name === 'gs' || name === 'fs' || name === 'tr') set(`${name.toUpperCase()}_BASE`, base);
  }
}

function wordOf(digits: string): bigint {
  return BigInt(['0x', digits].join(''));
}
