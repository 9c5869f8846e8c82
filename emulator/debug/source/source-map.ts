/**
 * Addresses of a placed payload to functions, files and lines, and back.
 *
 * Source: loader/dwarf/{lines,functions}.ts, loader/symbols.ts; addr2line for what an address outside every function is
 * called: the symbol before it.
 * Invariant: addresses are those of the placed image; the chain at an address of .text is never empty.
 */
import { u64 } from '../../../abi/uint.js';
import type { SourceFrame } from '../../../loader/dwarf/functions.js';
import type { LineBeginning, SourceLine } from '../../../loader/dwarf/lines.js';
import type { AddressRange } from '../../../loader/image.js';
import { symbolNamed, symbolise } from '../../../loader/symbols.js';
import type { SymbolisedAddress } from '../../../loader/symbols.js';
import type { PayloadProgram } from './payload-program.js';

/** The source of one instance of a payload. */
export class SourceMap {
  readonly program: PayloadProgram;
  /** Load address minus link-time address, modulo 2^64. */
  readonly slide: bigint;

  constructor(program: PayloadProgram, slide: bigint) {
    this.program = program;
    this.slide = slide;
  }

  /** The link-time address of an address. */
  linked(address: bigint): bigint {
    return u64(address - this.slide);
  }

  /** The address of a link-time address. */
  placed(address: bigint): bigint {
    return u64(address + this.slide);
  }

  /** Whether the image lies at an address. */
  has(address: bigint): boolean {
    const { start, end } = this.program.image.pages;
    const linked = this.linked(address);
    return linked >= start && linked < end;
  }

  /** Whether code lies at an address. */
  hasCode(address: bigint): boolean {
    const linked = this.linked(address);
    return this.program.image.segments.some(
      ({ permissions, address: start, sizeBytes }) =>
        permissions === 'RX' && linked >= start && linked < start + BigInt(sizeBytes),
    );
  }

  /** The line of the instruction at an address. */
  lineAt(address: bigint): SourceLine | null {
    return this.program.ask(({ lines }) => lines.at(this.linked(address))) ?? null;
  }

  /** The function at an address and those inlined into it there, innermost first; assembly is named by its symbol. */
  chainAt(address: bigint): readonly SourceFrame[] {
    const linked = this.linked(address);
    const chain = this.program.ask(({ functions }) => functions.chainAt(linked)) ?? [];
    if (chain.length > 0) return chain;
    const symbol = this.has(address) ? symbolise(this.program.image, linked) : undefined;
    if (symbol === undefined) return [];
    return [{ name: symbol.name, isInlined: false, place: this.lineAt(address) ?? undefined }];
  }

  /** The symbol at or before an address of the image. */
  symbolAt(address: bigint): SymbolisedAddress | null {
    return this.has(address) ? (symbolise(this.program.image, this.linked(address)) ?? null) : null;
  }

  /** The address of a symbol. */
  addressOf(name: string): bigint | null {
    const symbol = symbolNamed(this.program.image, name);
    return symbol === undefined ? null : this.placed(symbol.address);
  }

  /** Where the code of a line begins, or of the first line after it that has code. */
  addressesOf(file: string, line: number): readonly bigint[] {
    const found = this.program.ask(({ lines }) => lines.addressesOf(file, line)) ?? [];
    return found.map((address) => this.placed(address));
  }

  /** The code of the call that is inlined at an address, the innermost one; none outside of any. */
  inlinedRanges(address: bigint): readonly AddressRange[] {
    const linked = this.linked(address);
    const ranges = this.program.ask(({ functions }) => functions.inlinedRangesAt(linked)) ?? [];
    return ranges.map(({ start, end }) => ({ start: this.placed(start), end: this.placed(end) }));
  }

  /** What of a line begins at an address. */
  beginningAt(address: bigint): LineBeginning {
    return this.program.ask(({ lines }) => lines.beginningAt(this.linked(address))) ?? 'nothing';
  }

  /** Paths of the files that have code. */
  get files(): readonly string[] {
    return this.program.ask(({ lines }) => lines.files) ?? [];
  }
}
