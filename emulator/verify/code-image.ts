/**
 * The code of a file as the rules see it: the bytes of .text, where functions begin, where control comes in.
 *
 * Source: a payload image that the loader accepted, or the section and symbol tables of any linked ELF file.
 * Invariant: positions are offsets from the start of .text; addresses are link-time.
 * Not modelled: executable sections beside .text; the loader refuses a payload that has any.
 */
import { CARETAKER_CCB } from '../../abi/ccb.js';
import { fieldOf } from '../../abi/layout.js';
import { hex, toIndex } from '../../abi/uint.js';
import { readCodeSection } from '../../loader/code-section.js';
import type { CaretakerImage } from '../../loader/image.js';
import { sectionNamed } from '../../loader/image.js';

/** A place in .text that has a name. */
export interface Place {
  readonly name: string;
  readonly at: number;
}

/** Code and what points into it. */
export interface CodeImage {
  readonly text: Uint8Array;
  readonly address: bigint;
  /** Where functions begin, in order of position. */
  readonly functions: readonly Place[];
  /** Names of any kind, in order of position: what an instruction is said to be in. */
  readonly labels: readonly Place[];
  /** Where control comes from outside; empty when nobody says. */
  readonly entryPoints: readonly Place[];
  /** Code whose address the image holds as data. */
  readonly pointers: readonly number[];
  /** The address of the routing handler's pointer, or null where the contract has none. */
  readonly routingHandler: bigint | null;
}

const byPosition = (one: Place, other: Place): number => one.at - other.at;

/** The code of an accepted payload. */
export function codeOfImage(image: CaretakerImage): CodeImage {
  const text = sectionNamed(image, '.text')!;
  const at = (address: bigint): number => toIndex(address - text.address);
  const inText = (address: bigint): boolean =>
    address >= text.address && address < text.address + BigInt(text.sizeBytes);
  const symbols = image.symbols.filter(({ section }) => section === '.text');
  const entryPoints = Object.entries(image.ccb.entryPoints);
  return {
    text: text.bytes,
    address: text.address,
    functions: symbols
      .filter(({ kind }) => kind === 'function')
      .map(({ name, address }) => ({ name, at: at(address) }))
      .sort(byPosition),
    labels: symbols.map(({ name, address }) => ({ name, at: at(address) })).sort(byPosition),
    entryPoints: entryPoints.map(([name, address]) => ({ name, at: at(address) })),
    pointers: image.relocations
      .map(({ addend }) => addend)
      .filter(inText)
      .map(at),
    routingHandler: image.ccb.address + BigInt(fieldOf(CARETAKER_CCB, 'routing_handler').offset),
  };
}

/** The code of any linked ELF file; undefined when it has none that can be judged. @throws DwarfError. */
export function codeOfFile(file: Uint8Array): CodeImage | undefined {
  const section = readCodeSection(file);
  if (section === undefined) return undefined;
  const functions = section.functions
    .map(({ name, address }) => ({ name, at: toIndex(address - section.address) }))
    .sort(byPosition);
  return {
    text: section.bytes,
    address: section.address,
    functions,
    labels: functions,
    entryPoints: [],
    pointers: [],
    routingHandler: null,
  };
}

/** `name` or `name+0x12`: the label before a position. */
export function whereIs({ labels }: CodeImage, at: number): string {
  const label = labels.findLast((one) => one.at <= at);
  if (label === undefined) return `.text+${hex(at)}`;
  return label.at === at ? label.name : `${label.name}+${hex(at - label.at)}`;
}
