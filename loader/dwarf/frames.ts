/**
 * Call frame information: where the caller's registers are at an address.
 *
 * Source: DWARF 5, "Call Frame Information"; the Linux Standard Base, "Exception Frames", for .eh_frame.
 * Invariant: no entry for an address gives no frame; a bad entry is a BAD_FRAME, never a guess.
 */
import { toIndex } from '../../abi/uint.js';
import type { Budget } from './budget.js';
import { Cursor } from './cursor.js';
import { refuseDwarf } from './errors.js';
import { runFrameProgram } from './frame-program.js';
import type { CommonInformation, FrameRow } from './frame-program.js';
import type { DebugSections } from './sections.js';
import { readInitialLength } from './unit.js';

interface Description {
  readonly start: number;
  readonly end: number;
  readonly common: CommonInformation;
  readonly program: readonly [number, number];
}

// prettier-ignore
const DW_EH_PE = { absptr: 0, udata2: 2, udata4: 3, udata8: 4, sdata2: 10, sdata4: 11, sdata8: 12, pcrel: 0x10 } as const;
const OMITTED = 0xff;

/** The frame descriptions of one file; .debug_frame is preferred. */
export class Frames {
  readonly #section: string;
  readonly #bytes: Uint8Array;
  readonly #address: number;
  readonly #budget: Budget;
  readonly #descriptions: readonly Description[];

  /** `ehFrameAddress` is where .eh_frame lies in memory: its pointers are relative. @throws DwarfError. */
  constructor(sections: DebugSections, budget: Budget, ehFrameAddress = 0n) {
    const debug = sections.get('.debug_frame');
    this.#section = debug === undefined ? '.eh_frame' : '.debug_frame';
    this.#bytes = debug ?? sections.get('.eh_frame') ?? new Uint8Array();
    this.#address = toIndex(ehFrameAddress);
    this.#budget = budget;
    this.#descriptions = this.#readAll().sort((a, b) => a.start - b.start);
  }

  /** Whether the file describes no frame at all. */
  get isEmpty(): boolean {
    return this.#descriptions.length === 0;
  }

  /** The rules for an address; undefined when nothing describes it. @throws DwarfError. */
  at(address: bigint): FrameRow | undefined {
    if (address < 0n || address > BigInt(Number.MAX_SAFE_INTEGER)) return undefined;
    this.#budget.renew();
    const wanted = toIndex(address);
    const found = this.#find(wanted);
    if (found === undefined) return undefined;
    const { common, start, program } = found;
    const first = new Cursor(this.#section, this.#bytes, ...common.program);
    const second = new Cursor(this.#section, this.#bytes, ...program);
    return runFrameProgram(common, first, second, start, wanted, this.#budget);
  }

  /** Descriptions do not overlap. */
  #find(address: number): Description | undefined {
    let low = 0;
    let high = this.#descriptions.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#descriptions[middle]!.start <= address) low = middle + 1;
      else high = middle;
    }
    const found = this.#descriptions[low - 1];
    return found !== undefined && address < found.end ? found : undefined;
  }

  #readAll(): Description[] {
    const commons = new Map<number, CommonInformation>();
    const descriptions: Description[] = [];
    const isEh = this.#section === '.eh_frame';
    for (let offset = 0; offset < this.#bytes.length;) {
      this.#budget.spend(1);
      const start = new Cursor(this.#section, this.#bytes, offset);
      const { length, offsetBytes } = readInitialLength(start);
      const end = start.offset + length;
      if (length === 0 && isEh) break;
      if (end > this.#bytes.length) this.#refuse('longer than its section', offset);
      const cursor = new Cursor(this.#section, this.#bytes, start.offset, end);
      const at = cursor.offset;
      const is64 = offsetBytes === 8;
      const id = is64 ? cursor.u64() : BigInt(cursor.u32());
      const isCommon = id === (isEh ? 0n : is64 ? (1n << 64n) - 1n : 0xffff_ffffn);
      if (isCommon) commons.set(offset, this.#readCommon(cursor, offset));
      else {
        if (id > BigInt(this.#bytes.length)) this.#refuse('no common information there', offset);
        const from = isEh ? at - toIndex(id) : toIndex(id);
        const common = commons.get(from) ?? this.#refuse('no common information there', offset);
        descriptions.push(this.#readDescription(cursor, common));
      }
      offset = end;
    }
    return descriptions;
  }

  #readCommon(cursor: Cursor, offset: number): CommonInformation {
    const version = cursor.u8();
    if (![1, 3, 4].includes(version)) this.#refuse(`version ${version}`, offset);
    const augmentation = cursor.string();
    if (version === 4) cursor.skip(2);
    const codeAlign = cursor.index();
    const dataAlign = cursor.signedIndex();
    const returnRegister = version === 1 ? cursor.u8() : cursor.index();
    let encoding: number = DW_EH_PE.absptr;
    const hasData = augmentation.startsWith('z');
    const dataEnd = hasData ? cursor.index() + cursor.offset : 0;
    for (const letter of augmentation) {
      if (letter === 'R') encoding = cursor.u8();
      else if (letter === 'L') cursor.skip(1);
      else if (letter === 'P') this.#readPointer(cursor, cursor.u8());
      else if (letter !== 'z' && letter !== 'S' && letter !== 'B') break;
    }
    if (hasData) cursor.skip(dataEnd - cursor.offset);
    const program = [cursor.offset, cursor.end] as const;
    const isSignal = augmentation.includes('S');
    return { codeAlign, dataAlign, returnRegister, encoding, hasData, isSignal, program };
  }

  #readDescription(cursor: Cursor, common: CommonInformation): Description {
    const start = this.#readPointer(cursor, common.encoding);
    const length = this.#readPointer(cursor, common.encoding & 0x0f);
    if (common.hasData) cursor.skip(cursor.index());
    return { start, end: start + length, common, program: [cursor.offset, cursor.end] };
  }

  #readPointer(cursor: Cursor, encoding: number): number {
    if (encoding === OMITTED) return 0;
    const place = (encoding & 0x70) === DW_EH_PE.pcrel ? this.#address + cursor.offset : 0;
    // prettier-ignore
    switch (encoding & 0x0f) {
      case DW_EH_PE.absptr: case DW_EH_PE.udata8: return place + cursor.index64();
      case DW_EH_PE.udata2: return place + cursor.u16();
      case DW_EH_PE.udata4: return place + cursor.u32();
      case DW_EH_PE.sdata2: return place + ((cursor.u16() << 16) >> 16);
      case DW_EH_PE.sdata4: return place + (cursor.u32() | 0);
      default: return this.#refuse(`pointer encoding ${encoding}`, cursor.offset);
    }
  }

  #refuse(message: string, offset: number): never {
    refuseDwarf('BAD_FRAME', message, { section: this.#section, offset });
  }
}
