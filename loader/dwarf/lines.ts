/**
 * Addresses to source lines and back.
 *
 * Source: DWARF 5, "Line Number Information". Invariant: an address belongs to the last row at or below it in its
 * sequence, and to no row outside every sequence.
 */
import { toIndex } from '../../abi/uint.js';
import { DW_AT } from './constants.js';
import type { DebugInfo } from './debug-info.js';
import { readLineHeader } from './line-header.js';
import type { LineHeader, SourceFile } from './line-header.js';
import { runLineProgram } from './line-program.js';
import type { Unit } from './unit.js';

/** The place in the source that an instruction comes from; `line` 0 when the compiler names none. */
export interface SourceLine {
  readonly file: string;
  readonly line: number;
  readonly column: number;
  readonly isStatement: boolean;
}

/** What of a line begins at an address. */
export type LineBeginning = 'statement' | 'row' | 'nothing';

/** A row with its file: code from `address` up to the next row. */
interface PlacedRow extends SourceLine {
  readonly address: number;
  readonly end: number;
}

/** The line tables of one file. */
export class Lines {
  readonly #rows: PlacedRow[] = [];
  /** Where a debugger may stop; also rows without length, which share their address with the next. */
  readonly #stops: PlacedRow[] = [];
  readonly #files = new Map<number, LineHeader['files']>();
  readonly #info: DebugInfo;
  #starts: ReadonlySet<bigint> | undefined;

  /** @throws DwarfError. */
  constructor(info: DebugInfo) {
    this.#info = info;
    for (const unit of info.units) this.#readTable(unit);
    // A later row of one address replaces an earlier one, which has no length.
    this.#rows.sort((a, b) => (a.address === b.address ? a.end - b.end : a.address - b.address));
  }

  /** The line of the instruction at an address. */
  at(address: bigint): SourceLine | undefined {
    const row = this.#rowAt(address);
    if (row === undefined) return undefined;
    const { file, line, column, isStatement } = row;
    return { file, line, column, isStatement };
  }

  /** What begins at an address: a statement of the source, a row of the table that is none, or nothing. */
  beginningAt(address: bigint): LineBeginning {
    if (this.beginsStatement(address)) return 'statement';
    const row = this.#rowAt(address);
    return row !== undefined && BigInt(row.address) === address ? 'row' : 'nothing';
  }

  #rowAt(address: bigint): PlacedRow | undefined {
    if (address < 0n || address > BigInt(Number.MAX_SAFE_INTEGER)) return undefined;
    const wanted = toIndex(address);
    const rows = this.#rows;
    let low = 0;
    let high = rows.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (rows[middle]!.address <= wanted) low = middle + 1;
      else high = middle;
    }
    const row = rows[low - 1];
    return row === undefined || wanted >= row.end ? undefined : row;
  }

  /**
   * The addresses where code of a line begins; of the first line after it that has code when it has none itself.
   * `file` is a whole path or the end of one.
   */
  addressesOf(file: string, line: number): bigint[] {
    return this.codeOf(file, line)?.addresses ?? [];
  }

  /** The same with the line that has the code; undefined when none at or after `line` has. */
  codeOf(file: string, line: number): { line: number; addresses: bigint[] } | undefined {
    const isNamed = (path: string): boolean => path === file || path.endsWith(`/${file}`);
    const stops = this.#stops.filter((row) => row.line >= line && isNamed(row.file));
    const nearest = stops.reduce((best, row) => Math.min(best, row.line), Infinity);
    const own = stops.filter((row) => row.line === nearest).sort((a, b) => a.address - b.address);
    if (own.length === 0) return undefined;
    // One address a stretch of code: rows that go on where the last one ended are the same stop.
    const starts = own.filter(({ address }, index) => {
      const last = own[index - 1];
      return last === undefined || (last.end !== address && last.address !== address);
    });
    return { line: nearest, addresses: starts.map(({ address }) => BigInt(address)) };
  }

  /** Whether a statement begins at an address. */
  beginsStatement(address: bigint): boolean {
    this.#starts ??= new Set(
      this.#stops.filter(({ line }) => line > 0).map((row) => BigInt(row.address)),
    );
    return this.#starts.has(address);
  }

  /** The last line of a file that has code; 0 when none has. */
  lastLineOf(file: string): number {
    const isNamed = (path: string): boolean => path === file || path.endsWith(`/${file}`);
    return this.#stops.reduce(
      (last, row) => (isNamed(row.file) ? Math.max(last, row.line) : last),
      0,
    );
  }

  /** Paths of all files that have code. */
  get files(): string[] {
    return [...new Set(this.#rows.map(({ file }) => file))];
  }

  /** The path of a file that an attribute of `unit` names by number. */
  fileOf(unit: Unit, number: number): string | undefined {
    const offset = this.#info.number(this.#info.root(unit), DW_AT.stmt_list);
    return offset === undefined ? undefined : this.#files.get(offset)?.[number]?.path;
  }

  #readTable(unit: Unit): void {
    const root = this.#info.root(unit);
    const offset = this.#info.number(root, DW_AT.stmt_list);
    // Several units share one table; type units have no code.
    if (offset === undefined || this.#files.has(offset)) return;
    const directory = this.#info.text(root, DW_AT.comp_dir) ?? '';
    const header = readLineHeader(this.#info, offset, directory);
    this.#files.set(offset, header.files);
    const nowhere: SourceFile = { name: '??', path: '??' };
    for (const { rows, end } of runLineProgram(header, this.#info.budget)) {
      rows.forEach((row, index) => {
        const next = rows[index + 1]?.address ?? end;
        const { address, line, column, isStatement } = row;
        const file = (header.files[row.file] ?? nowhere).path;
        const placed = { address, end: next, file, line, column, isStatement };
        if (isStatement) this.#stops.push(placed);
        if (next > address) this.#rows.push(placed);
      });
    }
  }
}
