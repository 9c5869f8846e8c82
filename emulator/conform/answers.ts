/**
 * What the monitor printed, as values.
 *
 * Source: rom/monitor.c: a letter and hexadecimal words a line, in the order of the program; the sentinel last.
 */
import type { FieldName } from '../../abi/vmcs-fields.js';
import { ConformError } from './errors.js';

/** The host registers of an answer, in the monitor's order. */
// prettier-ignore
export const HOST_REGISTERS = [
  'CR0', 'CR3', 'CR4', 'DR7', 'CS', 'SS', 'DS', 'ES', 'FS', 'GS', 'TR', 'LDTR',
  'GDTR_BASE', 'GDTR_LIMIT', 'IDTR_BASE', 'IDTR_LIMIT', 'EFER', 'FS_BASE', 'GS_BASE',
  'SYSENTER_CS', 'SYSENTER_ESP', 'SYSENTER_EIP', 'PAT', 'S_CET', 'INTR_SSP_TABLE',
  'CR2', 'CR8', 'DR0', 'DR6', 'NMIS', 'INTERRUPTS',
] as const;

/** One of the host's registers. */
export type HostRegister = (typeof HOST_REGISTERS)[number];

/** How an entry ended. */
export interface EntryAnswer {
  readonly kind: 'exit' | 'vmfail-invalid' | 'vmfail-valid' | 'neither';
  /** VM-instruction error of VMfailValid, else 0. */
  readonly error: number;
  readonly fields: ReadonlyMap<FieldName, bigint>;
}

/** One line of the monitor. */
export type Answer =
  | { readonly kind: 'entry'; readonly entry: EntryAnswer }
  | { readonly kind: 'registers'; readonly values: readonly bigint[] }
  | { readonly kind: 'host'; readonly values: ReadonlyMap<HostRegister, bigint> }
  | { readonly kind: 'label'; readonly number: number }
  | { readonly kind: 'msr'; readonly index: number; readonly value: bigint | null }
  | { readonly kind: 'wrmsr'; readonly faulted: boolean }
  | { readonly kind: 'vmwrite-failed'; readonly encoding: number }
  | { readonly kind: 'memory'; readonly address: bigint; readonly bytes: Uint8Array }
  | {
      readonly kind: 'vmx';
      readonly result: 'VMsucceed' | 'VMfailInvalid' | 'VMfailValid' | 'exception';
      /** The VM-instruction error, or the vector of an exception. */
      readonly error: number;
      readonly value: bigint;
      /** The arithmetic flags behind it. */
      readonly flags: bigint;
    }
  /** The monitor itself met an exception that it did not expect, and ended. */
  | { readonly kind: 'exception'; readonly vector: number; readonly rip: bigint }
  | { readonly kind: 'cpuid'; readonly values: readonly number[] }
  | { readonly kind: 'taken'; readonly count: number }
  | { readonly kind: 'nmi'; readonly before: number; readonly after: number };

const ENTRY_KINDS = ['exit', 'vmfail-invalid', 'vmfail-valid', 'neither'] as const;
const VMX_RESULTS = ['VMsucceed', 'VMfailInvalid', 'VMfailValid', 'exception'] as const;
/** The last line of a program that ran to its end. */
const SENTINEL = 'DONE';

/** Whether the monitor has printed anything. */
export function hasBegun(output: string): boolean {
  return linesOf(output).length > 0;
}

/** Whether a program ran to its end. */
export function endedWell(output: string): boolean {
  return linesOf(output).at(-1) === SENTINEL;
}

/**
 * Reads the monitor's output; `whole` is whether the program must have run to its end.
 *
 * @throws ConformError BOCHS_BROKEN when it did not.
 */
export function readAnswers(
  output: string,
  fields: readonly FieldName[] = [],
  whole = true,
): Answer[] {
  const lines = linesOf(output);
  if (whole && lines.at(-1) !== SENTINEL) {
    const last = lines.slice(-3).join(' | ');
    throw new ConformError('BOCHS_BROKEN', `the monitor did not end its program: ${last}`, {
      last,
    });
  }
  const answers = lines.filter((line) => !/^(DONE|BROKEN)/.test(line));
  return answers.map((line) => readLine(line, fields));
}

function linesOf(output: string): string[] {
  return output
    .split('\n')
    .filter((line) =>
      /^([A-Za-z]( [0-9a-f]+)*|D [0-9a-f]+ [0-9a-f*. ]*|DONE|BROKEN.*)$/.test(line),
    );
}

function readLine(line: string, fields: readonly FieldName[]): Answer {
  const [letter, ...words] = line.split(' ');
  const wide = words.map((word) => (letter === 'D' ? 0n : wordOf(word)));
  const number = (index: number): number => parseInt(words[index] ?? '0', 16);
  switch (letter) {
    case 'E':
      return { kind: 'entry', entry: entryOf(number(0), number(1), wide.slice(2), fields) };
    case 'R':
      return { kind: 'registers', values: wide };
    case 'H':
      return { kind: 'host', values: new Map(HOST_REGISTERS.map((name, i) => [name, wide[i]!])) };
    case 'L':
      return { kind: 'label', number: number(0) };
    case 'M':
      return { kind: 'msr', index: number(0), value: wide[1] ?? null };
    case 'w':
      return { kind: 'wrmsr', faulted: number(0) !== 0 };
    case 'W':
      return { kind: 'vmwrite-failed', encoding: number(0) };
    case 'D':
      return {
        kind: 'memory',
        address: wordOf(words[0]!),
        bytes: bytesOf(words.slice(1).join(' ')),
      };
    case 'V':
      return {
        kind: 'vmx',
        result: VMX_RESULTS[number(0)]!,
        error: number(1),
        value: wide[2]!,
        flags: wide[3]!,
      };
    case 'C':
      return { kind: 'cpuid', values: words.map((_, i) => number(i)) };
    case 'X':
      return { kind: 'exception', vector: number(0), rip: wide[2] ?? 0n };
    case 'T':
      return { kind: 'taken', count: number(0) };
    case 'N':
      return { kind: 'nmi', before: number(0), after: number(1) };
    default:
      throw new ConformError('ANSWER_MALFORMED', `the monitor printed: ${line}`, { line });
  }
}

/** Two digits a byte, and runs: `*5a 100.` is 0x100 times 0x5a. */
function bytesOf(text: string): Uint8Array {
  const plain = text.replaceAll(/\*(..) ([0-9a-f]+)\./g, (_run, byte: string, length: string) =>
    byte.repeat(parseInt(length, 16)),
  );
  return Uint8Array.from(Buffer.from(plain, 'hex'));
}

/** A word as the monitor prints it, without a prefix. */
function wordOf(digits: string): bigint {
  return BigInt(['0x', digits].join(''));
}

function entryOf(
  kind: number,
  error: number,
  values: readonly bigint[],
  fields: readonly FieldName[],
): EntryAnswer {
  return {
    kind: ENTRY_KINDS[kind] ?? 'neither',
    error,
    fields: new Map(fields.map((name, i) => [name, values[i] ?? 0n])),
  };
}

/** The answers between labels, by label. */
export function byLabel(answers: readonly Answer[]): ReadonlyMap<number, readonly Answer[]> {
  const groups = new Map<number, Answer[]>();
  let current: Answer[] = [];
  for (const answer of answers) {
    if (answer.kind === 'label') {
      current = [];
      groups.set(answer.number, current);
    } else current.push(answer);
  }
  return groups;
}
