/**
 * Functions with their code, and the chain of inlined calls that an address is in.
 *
 * Source: DWARF 5, "Subroutine and Entry Point Entries", "Inlined Subroutines", "Lexical Block Entries".
 * Invariant: chainAt() is innermost first, and every frame but the first stands at the call that it makes.
 */
import { toIndex } from '../../abi/uint.js';
import type { AddressRange } from '../image.js';
import { DW_AT, DW_TAG } from './constants.js';
import type { DebugInfo } from './debug-info.js';
import type { Entry } from './entry.js';
import { refuseDwarf } from './errors.js';
import type { Lines, SourceLine } from './lines.js';
import { addressRangesOf, isInside, rangesOf } from './ranges.js';
import type { CodeRange } from './ranges.js';

/** A function that has code of its own. */
export interface FunctionInfo {
  readonly name: string;
  readonly ranges: readonly AddressRange[];
}

/** One frame of a chain: a function, and where in its source it stands. */
export interface SourceFrame {
  readonly name: string;
  readonly isInlined: boolean;
  readonly place: SourceLine | undefined;
}

/** A scope with its code; those inside it are read when an address is first looked for in it. */
interface Scope {
  readonly entry: Entry;
  readonly ranges: readonly CodeRange[];
  inner: readonly Scope[] | null;
}

/** One range of a function's code; `reach` is the highest end of this range and all before it. */
interface IndexedRange extends CodeRange {
  readonly scope: Scope;
  readonly reach: number;
}

const T = DW_TAG;
const SUBPROGRAMS: ReadonlySet<number> = new Set([T.subprogram]);
const SCOPES: readonly number[] = [T.lexical_block, T.inlined_subroutine];
const MAX_DEPTH = 256;

/** The functions of one file. */
export class Functions {
  readonly #info: DebugInfo;
  readonly #lines: Lines;
  readonly #placed: Scope[] = [];
  readonly #index: readonly IndexedRange[];

  /** @throws DwarfError. */
  constructor(info: DebugInfo, lines: Lines) {
    this.#info = info;
    this.#lines = lines;
    for (const unit of info.units) {
      for (const entry of info.entries(unit, SUBPROGRAMS)) {
        const ranges = rangesOf(info, entry);
        if (ranges.length > 0) this.#placed.push({ entry, ranges, inner: null });
      }
    }
    this.#index = indexed(this.#placed);
  }

  /** All functions that have code, in the order of the file. */
  get all(): FunctionInfo[] {
    return this.#placed.map(({ entry, ranges }) => {
      const big = ranges.map(({ start, end }) => ({ start: BigInt(start), end: BigInt(end) }));
      return { name: this.#nameOf(entry), ranges: big };
    });
  }

  /** The scopes around an address: the function, then blocks and inlined functions, innermost last. */
  scopesAt(address: bigint): Entry[] {
    if (address < 0n || address > BigInt(Number.MAX_SAFE_INTEGER)) return [];
    this.#info.budget.renew();
    const wanted = toIndex(address);
    const scope = this.#functionAt(wanted);
    return scope === undefined ? [] : [scope.entry, ...this.#scopesInside(scope, wanted, 1)];
  }

  /** The function at an address and those inlined into it there, innermost first; empty outside every function. */
  chainAt(address: bigint): SourceFrame[] {
    const scopes = this.scopesAt(address).filter(({ tag }) => tag !== T.lexical_block);
    let place = this.#lines.at(address);
    return scopes.reverse().map((scope) => {
      const isInlined = scope.tag === T.inlined_subroutine;
      const frame = { name: this.#nameOf(scope), isInlined, place };
      if (isInlined) place = this.#callSite(scope);
      return frame;
    });
  }

  /** The code of the innermost call that is inlined at an address; none outside of any. */
  inlinedRangesAt(address: bigint): AddressRange[] {
    const scope = this.scopesAt(address).findLast(({ tag }) => tag !== T.lexical_block);
    return scope?.tag === T.inlined_subroutine ? addressRangesOf(this.#info, scope) : [];
  }

  /** Where the code of a function begins, and each of its inlined copies; none for an unknown name. */
  startsOf(name: string): bigint[] {
    this.#info.budget.renew();
    const starts: bigint[] = [];
    const visit = (scope: Scope, depth: number): void => {
      const [first] = scope.ranges;
      const isFunction = scope.entry.tag !== T.lexical_block;
      if (isFunction && first !== undefined && this.#nameOf(scope.entry) === name) {
        starts.push(BigInt(Math.min(...scope.ranges.map(({ start }) => start))));
      }
      if (depth < MAX_DEPTH) for (const inner of this.#innerOf(scope)) visit(inner, depth + 1);
    };
    for (const scope of this.#placed) visit(scope, 0);
    return starts;
  }

  #nameOf(entry: Entry): string {
    return this.#info.nameOf(entry) ?? '??';
  }

  #functionAt(address: number): Scope | undefined {
    const ranges = this.#index;
    let low = 0;
    let high = ranges.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (ranges[middle]!.start <= address) low = middle + 1;
      else high = middle;
    }
    // Functions do not overlap, so that the last one that begins before the address has it, or none has.
    for (let at = low - 1; at >= 0 && ranges[at]!.reach > address; at--) {
      if (ranges[at]!.end > address) return ranges[at]!.scope;
    }
    return undefined;
  }

  #scopesInside(scope: Scope, wanted: number, depth: number): Entry[] {
    if (depth > MAX_DEPTH) {
      refuseDwarf('BAD_UNIT', 'scopes too deep', this.#info.where(scope.entry));
    }
    const inner = this.#innerOf(scope);
    const found = inner.find(({ ranges }) => isInside(ranges, wanted));
    if (found !== undefined) return [found.entry, ...this.#scopesInside(found, wanted, depth + 1)];
    // An empty range where a unit begins reads as the end of a DWARF 4 list, and gcc makes such ranges: what is inside
    // a scope whose list is lost that way still has its own.
    for (const lost of inner.filter(({ ranges }) => ranges.length === 0)) {
      this.#info.budget.spend(1);
      const scopes = this.#scopesInside(lost, wanted, depth + 1);
      if (scopes.length > 0) return [lost.entry, ...scopes];
    }
    return [];
  }

  #innerOf(scope: Scope): readonly Scope[] {
    scope.inner ??= [...scope.entry.children()]
      .filter(({ tag }) => {
        this.#info.budget.spend(1);
        return SCOPES.includes(tag);
      })
      .map((entry) => ({ entry, ranges: rangesOf(this.#info, entry), inner: null }));
    return scope.inner;
  }

  #callSite(inlined: Entry): SourceLine {
    const file = this.#info.number(inlined, DW_AT.call_file);
    return {
      file: (file === undefined ? undefined : this.#lines.fileOf(inlined.unit, file)) ?? '??',
      line: this.#info.number(inlined, DW_AT.call_line) ?? 0,
      column: this.#info.number(inlined, DW_AT.call_column) ?? 0,
      isStatement: true,
    };
  }
}

function indexed(functions: readonly Scope[]): IndexedRange[] {
  const all = functions.flatMap((scope) => scope.ranges.map((range) => ({ ...range, scope })));
  all.sort((a, b) => a.start - b.start);
  let reach = 0;
  return all.map((range) => {
    reach = Math.max(reach, range.end);
    return { ...range, reach };
  });
}
