/**
 * The lines of the payload's source that a campaign has executed.
 *
 * Source: the block trace of the engines; DWARF through loader/dwarf; lcov's tracefile format (geninfo(1), "FILES").
 * Invariant: a line counts as executed when an instruction of a block that ran came from it; a line without code has no
 * place in the account. A payload without debug information has no lines, which is said and not an error.
 * Not modelled: how often a line ran: the count of a line is 1 or 0.
 */
import { toIndex } from '../../abi/uint.js';
import { DebugInfo } from '../../loader/dwarf/debug-info.js';
import { DwarfError } from '../../loader/dwarf/errors.js';
import { Lines } from '../../loader/dwarf/lines.js';
import { sectionsOfImage } from '../../loader/dwarf/sections.js';
import type { CaretakerImage } from '../../loader/image.js';
import { readForm, type InstructionForm } from '../cpu/instruction-format.js';

/** One instruction of .text: its line as an index, or -1, and whether a block ends behind it. */
interface PlacedInstruction {
  readonly line: number;
  readonly endsBlock: boolean;
  readonly next: number;
}

export class SourceLines {
  readonly #lines: Lines | null;
  readonly #instructions = new Map<number, PlacedInstruction>();
  /** `file:line` of every line with code. */
  readonly #names: string[] = [];
  readonly #ran: boolean[] = [];
  readonly #seenBlocks = new Set<bigint>();

  constructor(image: CaretakerImage) {
    this.#lines = openLines(image);
    const indexes = new Map<string, number>();
    for (const { address, bytes, permissions } of image.segments) {
      if (permissions !== 'RX') continue;
      const base = toIndex(address);
      for (let at = 0; at < bytes.length;) {
        const form = readForm(bytes, at, bytes.length);
        const next = at + (form?.length ?? 1);
        if (form !== null) {
          const line = this.#indexOf(indexes, BigInt(base + at));
          this.#instructions.set(base + at, {
            line,
            endsBlock: endsBlock(form),
            next: base + next,
          });
        }
        at = next;
      }
    }
  }

  /** Adds blocks that ran, at their addresses in the file. */
  add(blocks: readonly bigint[]): void {
    for (const block of blocks) {
      if (this.#seenBlocks.has(block)) continue;
      this.#seenBlocks.add(block);
      let at = toIndex(block);
      for (let one = this.#instructions.get(at); one !== undefined;) {
        if (one.line >= 0) this.#ran[one.line] = true;
        if (one.endsBlock) break;
        at = one.next;
        one = this.#instructions.get(at);
      }
    }
  }

  /** Blocks that ran, at their addresses in the file. */
  ran(): readonly bigint[] {
    return [...this.#seenBlocks];
  }

  /** How many blocks ran. */
  get blocks(): number {
    return this.#seenBlocks.size;
  }
  /** Lines that ran. */
  get executed(): number {
    return this.#ran.filter(Boolean).length;
  }
  /** Lines with code. */
  get total(): number {
    return this.#names.length;
  }

  /** `path:line` of the instruction at an address in the file, or null. */
  nameOf(address: bigint): string | null {
    const line = this.#lines?.at(address);
    return line === undefined || line.line === 0 ? null : `${line.file}:${line.line}`;
  }

  /** The account as an lcov tracefile. */
  lcov(): string {
    const byFile = new Map<string, [line: number, ran: boolean][]>();
    for (const [index, name] of this.#names.entries()) {
      const colon = name.lastIndexOf(':');
      const file = name.slice(0, colon);
      const rows = byFile.get(file) ?? [];
      rows.push([Number(name.slice(colon + 1)), this.#ran[index] ?? false]);
      byFile.set(file, rows);
    }
    return [...byFile].map(([file, rows]) => recordOf(file, rows)).join('');
  }

  #indexOf(indexes: Map<string, number>, address: bigint): number {
    const name = this.nameOf(address);
    if (name === null) return -1;
    const known = indexes.get(name);
    if (known !== undefined) return known;
    indexes.set(name, this.#names.length);
    this.#ran.push(false);
    return this.#names.push(name) - 1;
  }
}

function openLines(image: CaretakerImage): Lines | null {
  try {
    return new Lines(new DebugInfo(sectionsOfImage(image)));
  } catch (error) {
    if (error instanceof DwarfError) return null;
    throw error;
  }
}

function recordOf(file: string, rows: [line: number, ran: boolean][]): string {
  rows.sort(([a], [b]) => a - b);
  const hit = rows.filter(([, ran]) => ran).length;
  const data = rows.map(([line, ran]) => `DA:${line},${ran ? 1 : 0}\n`).join('');
  return `TN:\nSF:${file}\n${data}LF:${rows.length}\nLH:${hit}\nend_of_record\n`;
}

/** Jumps, calls, returns, interrupts, and what leaves VMX root operation (SDM, "Opcode Map"). */
function endsBlock({ map, opcode, reg, mod, rm }: InstructionForm): boolean {
  if (map === 'one') {
    const isJump = (opcode >= 0x70 && opcode <= 0x7f) || (opcode >= 0xe0 && opcode <= 0xe3);
    return isJump || ENDINGS.has(opcode) || (opcode === 0xff && (reg & 7) >= 2 && (reg & 7) <= 5);
  }
  if (map !== '0f') return false;
  const entersGuest = opcode === 0x01 && mod === 3 && (reg & 7) === 0 && (rm & 6) === 2;
  return (opcode >= 0x80 && opcode <= 0x8f) || opcode === 0x0b || entersGuest;
}
const ENDINGS: ReadonlySet<number> = new Set([
  0xc2, 0xc3, 0xca, 0xcb, 0xcc, 0xcd, 0xcf, 0xe8, 0xe9, 0xeb, 0xf4,
]);
