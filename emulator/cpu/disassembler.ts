/**
 * Instructions as text, for people: debugger, reports, traces.
 *
 * Source: capstone, in Intel syntax; its raw exports, five times faster than its class.
 * Invariant: addresses are unsigned; a byte that is no instruction becomes one `.byte`; lengths agree with the sweep's.
 * Not modelled: symbols; the caller knows them.
 */
import { loadCapstone } from 'capstone-wasm';
import { hex, u64 } from '../../abi/uint.js';
import { readForm } from './instruction-format.js';
import { systemInstruction } from './system-instructions.js';

/** One instruction as text. */
export interface DisassembledInstruction {
  readonly address: bigint;
  readonly bytes: Uint8Array;
  /** Mnemonic and operands, as `mov rax, qword ptr [rbx]`. */
  readonly text: string;
}

interface RawCapstone {
  _malloc(bytes: number): number;
  _cs_open(architecture: number, mode: number, handle: number): number;
  _cs_disasm(
    handle: number,
    code: number,
    size: number,
    address: bigint,
    count: number,
    out: number,
  ): number;
  _cs_free(instructions: number, count: number): void;
  readonly HEAPU8: Uint8Array;
}

const CS_ARCH_X86 = 3;
const CS_MODE_64 = 8;
// Offsets in cs_insn.
const SIZE_AT = 16;
const MNEMONIC_AT = 42;
const OPERANDS_AT = 74;
const MAX_LENGTH = 15;

let loading: Promise<RawCapstone> | undefined;

export class Disassembler {
  readonly #raw: RawCapstone;
  readonly #handle: number;
  readonly #code: number;
  readonly #out: number;

  private constructor(raw: RawCapstone) {
    this.#raw = raw;
    this.#code = raw._malloc(16);
    this.#out = raw._malloc(4);
    raw._cs_open(CS_ARCH_X86, CS_MODE_64, this.#out);
    this.#handle = new DataView(raw.HEAPU8.buffer).getUint32(this.#out, true);
  }

  /** Loads the library on first use. */
  static async create(): Promise<Disassembler> {
    loading ??= (async () => {
      const raw = {};
      await loadCapstone(raw);
      // SAFETY: the loader fills the object with the module's exports.
      return raw as RawCapstone;
    })();
    return new Disassembler(await loading);
  }

  /** The instructions in `bytes`, which begin at `address`; at most `count`. */
  disassemble(bytes: Uint8Array, address: bigint, count = Infinity): DisassembledInstruction[] {
    const found: DisassembledInstruction[] = [];
    for (let at = 0; at < bytes.length && found.length < count;) {
      const one = this.#one(bytes, at, u64(address + BigInt(at)));
      found.push(one);
      at += one.bytes.length;
    }
    return found;
  }

  /** Bytes of the first instruction as the library alone sees it; the test of the sweep's own lengths. */
  libraryLength(bytes: Uint8Array): number | null {
    return this.#capstone(bytes.subarray(0, MAX_LENGTH), 0n)?.length ?? null;
  }

  #one(bytes: Uint8Array, at: number, address: bigint): DisassembledInstruction {
    const slice = bytes.subarray(at, at + MAX_LENGTH);
    const form = readForm(slice, 0, slice.length);
    const own = form === null ? null : systemInstruction(form);
    const known = form === null ? null : this.#capstone(slice, address);
    if (known?.length === form?.length && known !== null) {
      return { address, bytes: slice.slice(0, known.length), text: known.text };
    }
    // Newer than the library: the name alone, without operands.
    if (form !== null && own !== null) {
      return { address, bytes: slice.slice(0, form.length), text: own.name.toLowerCase() };
    }
    const length = form === null ? 1 : form.length;
    const values = Array.from(slice.subarray(0, length), (byte) => hex(byte, 2));
    return { address, bytes: slice.slice(0, length), text: `.byte ${values.join(', ')}` };
  }

  #capstone(slice: Uint8Array, address: bigint): { length: number; text: string } | null {
    const raw = this.#raw;
    raw.HEAPU8.set(slice, this.#code);
    const count = raw._cs_disasm(this.#handle, this.#code, slice.length, address, 1, this.#out);
    if (count === 0) return null;
    const view = new DataView(raw.HEAPU8.buffer);
    const found = view.getUint32(this.#out, true);
    const length = view.getUint16(found + SIZE_AT, true);
    const mnemonic = this.#text(found + MNEMONIC_AT);
    const operands = this.#text(found + OPERANDS_AT);
    raw._cs_free(found, count);
    return { length, text: operands === '' ? mnemonic : `${mnemonic} ${operands}` };
  }

  #text(at: number): string {
    const heap = this.#raw.HEAPU8;
    return Buffer.from(heap.subarray(at, heap.indexOf(0, at))).toString('latin1');
  }
}
