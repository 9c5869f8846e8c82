/**
 * Flattened device trees, as far as KHO uses them: a container for named values.
 *
 * Source: Devicetree Specification, "Flattened Devicetree (DTB) Format", version 17.
 * Invariant: structure tokens and the header are big endian as the format says; values are opaque bytes, and what KHO
 * puts in them is native endian. decodeFdt(encodeFdt(tree)) is the tree.
 * Not modelled: memory reservations (the list is empty), phandles, #address-cells.
 */
import { HarnessError } from '../../../abi/errors.js';
import { u64 } from '../../../abi/uint.js';

const MAGIC = 0xd00dfeed;
const VERSION = 17;
const LAST_COMPATIBLE_VERSION = 16;
const HEADER_BYTES = 40;
const RESERVATION_BYTES = 16;
const BEGIN_NODE = 1;
const END_NODE = 2;
const PROPERTY = 3;
const NOP = 4;
const END = 9;
const MAX_DEPTH = 32;

/** A node: its name, values in order, children in order. */
export interface FdtNode {
  readonly name: string;
  readonly properties: readonly FdtProperty[];
  readonly children: readonly FdtNode[];
}

/** A named value. */
export interface FdtProperty {
  readonly name: string;
  readonly value: Uint8Array;
}

export type FdtErrorCode =
  'FDT_BAD_MAGIC' | 'FDT_BAD_VERSION' | 'FDT_TRUNCATED' | 'FDT_BAD_STRUCTURE';

/** Bytes that are no flattened device tree. */
export class FdtError extends HarnessError<FdtErrorCode> {}

/** A property with a terminated string. */
export function stringProperty(name: string, text: string): FdtProperty {
  return { name, value: new TextEncoder().encode(`${text}\0`) };
}

/** A property with one native-endian u64. */
export function u64Property(name: string, value: bigint): FdtProperty {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, u64(value), true);
  return { name, value: bytes };
}

/** The string of a property, undefined where it is missing or unterminated. */
export function stringOf(node: FdtNode, name: string): string | undefined {
  const value = node.properties.find((property) => property.name === name)?.value;
  const end = value?.indexOf(0) ?? -1;
  return value === undefined || end < 0 ? undefined : new TextDecoder().decode(value.slice(0, end));
}

/** The u64 of a property, undefined where it is missing or not eight bytes. */
export function u64Of(node: FdtNode, name: string): bigint | undefined {
  const value = node.properties.find((property) => property.name === name)?.value;
  if (value?.length !== 8) return undefined;
  return new DataView(value.buffer, value.byteOffset, 8).getBigUint64(0, true);
}

/** The child with that name. */
export function childOf(node: FdtNode, name: string): FdtNode | undefined {
  return node.children.find((child) => child.name === name);
}

/** The tree as bytes. */
export function encodeFdt(root: FdtNode): Uint8Array {
  const strings = new StringBlock();
  const words: number[] = [];
  encodeNode(root, words, strings);
  words.push(0, 0, 0, END);
  const structAt = HEADER_BYTES + RESERVATION_BYTES;
  const stringsAt = structAt + words.length;
  const total = stringsAt + strings.bytes.length;
  const out = new Uint8Array(total);
  const header = [
    MAGIC,
    total,
    structAt,
    stringsAt,
    HEADER_BYTES,
    VERSION,
    LAST_COMPATIBLE_VERSION,
    0,
    strings.bytes.length,
    words.length,
  ];
  const view = new DataView(out.buffer);
  header.forEach((word, index) => view.setUint32(index * 4, word));
  out.set(words, structAt);
  out.set(strings.bytes, stringsAt);
  return out;
}

/** The length that a header declares, undefined where there is no header. */
export function fdtSize(bytes: Uint8Array): number | undefined {
  if (bytes.length < 8) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return view.getUint32(0) === MAGIC ? view.getUint32(4) : undefined;
}

/** Reads a tree. @throws FdtError with what is wrong and where. */
export function decodeFdt(bytes: Uint8Array): FdtNode {
  if (bytes.length < HEADER_BYTES) throw new FdtError('FDT_TRUNCATED', 'no room for a header');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const word = (index: number): number => view.getUint32(index * 4);
  if (word(0) !== MAGIC) throw new FdtError('FDT_BAD_MAGIC', 'no 0xd00dfeed at offset 0');
  if (word(5) < VERSION || word(6) > VERSION) {
    throw new FdtError('FDT_BAD_VERSION', `version ${word(5)}, compatible with ${word(6)}`);
  }
  const [total, structAt, stringsAt] = [word(1), word(2), word(3)];
  const [stringBytes, structBytes] = [word(8), word(9)];
  if (
    total > bytes.length ||
    structAt + structBytes > total ||
    stringsAt + stringBytes > total ||
    structAt % 4 !== 0
  ) {
    throw new FdtError('FDT_TRUNCATED', `blocks reach beyond ${total} bytes`, { total });
  }
  return new Reader(
    bytes.subarray(structAt, structAt + structBytes),
    bytes.subarray(stringsAt, stringsAt + stringBytes),
  ).tree();
}

class StringBlock {
  readonly bytes: number[] = [];
  readonly #offsets = new Map<string, number>();

  offset(name: string): number {
    const known = this.#offsets.get(name);
    if (known !== undefined) return known;
    const at = this.bytes.length;
    this.bytes.push(...new TextEncoder().encode(name), 0);
    this.#offsets.set(name, at);
    return at;
  }
}

function encodeNode(node: FdtNode, out: number[], strings: StringBlock): void {
  const word = (value: number): void => {
    out.push((value >>> 24) & 0xff, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff);
  };
  const padded = (bytes: Iterable<number>): void => {
    out.push(...bytes);
    while (out.length % 4 !== 0) out.push(0);
  };
  word(BEGIN_NODE);
  padded([...new TextEncoder().encode(node.name), 0]);
  for (const property of node.properties) {
    word(PROPERTY);
    word(property.value.length);
    word(strings.offset(property.name));
    padded(property.value);
  }
  for (const child of node.children) encodeNode(child, out, strings);
  word(END_NODE);
}

class Reader {
  #at = 0;
  readonly #view: DataView;
  readonly #struct: Uint8Array;
  readonly #strings: Uint8Array;

  constructor(struct: Uint8Array, strings: Uint8Array) {
    this.#struct = struct;
    this.#strings = strings;
    this.#view = new DataView(struct.buffer, struct.byteOffset, struct.length);
  }

  tree(): FdtNode {
    this.#expect(BEGIN_NODE);
    const root = this.#node(0);
    this.#expect(END);
    return root;
  }

  #node(depth: number): FdtNode {
    if (depth >= MAX_DEPTH) throw this.#bad('nested too deep');
    const name = this.#text(this.#struct, this.#at);
    this.#skip(new TextEncoder().encode(name).length + 1);
    const properties: FdtProperty[] = [];
    const children: FdtNode[] = [];
    for (;;) {
      const token = this.#token();
      if (token === BEGIN_NODE) children.push(this.#node(depth + 1));
      else if (token === PROPERTY && children.length === 0) properties.push(this.#property());
      else if (token === END_NODE) return { name, properties, children };
      else throw this.#bad(`token ${token} inside a node`);
    }
  }

  #property(): FdtProperty {
    const length = this.#word();
    const name = this.#text(this.#strings, this.#word());
    if (this.#at + length > this.#struct.length) throw this.#bad('value beyond the block');
    const value = this.#struct.slice(this.#at, this.#at + length);
    this.#skip(length);
    return { name, value };
  }

  #expect(token: number): void {
    const found = this.#token();
    if (found !== token) throw this.#bad(`token ${found}, expected ${token}`);
  }

  #token(): number {
    let token = this.#word();
    while (token === NOP) token = this.#word();
    return token;
  }

  #word(): number {
    if (this.#at + 4 > this.#struct.length) throw this.#bad('the block ends too early');
    const value = this.#view.getUint32(this.#at);
    this.#at += 4;
    return value;
  }

  #skip(bytes: number): void {
    this.#at = Math.ceil((this.#at + bytes) / 4) * 4;
  }

  #text(from: Uint8Array, at: number): string {
    const end = from.indexOf(0, at);
    if (at >= from.length || end < 0) throw this.#bad('unterminated name');
    return new TextDecoder().decode(from.subarray(at, end));
  }

  #bad(what: string): FdtError {
    return new FdtError('FDT_BAD_STRUCTURE', `${what} at structure offset ${this.#at}`, {
      offset: this.#at,
    });
  }
}
