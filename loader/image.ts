/**
 * A validated payload image: what the file says, checked, as plain data at its link-time addresses.
 *
 * Source: DESIGN ("The payload"). Addresses are link-time; `offset` is always a file offset.
 * Invariant: every byte array is a copy; segments ascend, share no page and are never writable and executable.
 */

/** W^X by construction: there is no value for a writable and executable page. */
export type Permissions = 'R' | 'RW' | 'RX';

/** One PT_LOAD with a size; `bytes` are the file part, the rest up to `sizeBytes` is zero. */
export interface Segment {
  /** The allocated sections it holds, as a reader knows them: `.data .ccb .bss`. */
  readonly name: string;
  readonly address: bigint;
  readonly sizeBytes: number;
  readonly offset: number;
  readonly permissions: Permissions;
  readonly bytes: Uint8Array;
}

/** One section; SHT_NOBITS sections have `sizeBytes` zeros. */
export interface Section {
  readonly name: string;
  readonly type: number;
  readonly flags: bigint;
  readonly address: bigint;
  readonly offset: number;
  readonly sizeBytes: number;
  readonly alignment: bigint;
  readonly entrySizeBytes: bigint;
  readonly link: number;
  readonly isAllocated: boolean;
  readonly bytes: Uint8Array;
}

/** A name for an address of an allocated section. */
export interface ImageSymbol {
  readonly name: string;
  readonly address: bigint;
  /** 0 for a label. */
  readonly sizeBytes: number;
  readonly kind: 'function' | 'object' | 'label';
  readonly isGlobal: boolean;
  readonly section: string;
}

/** R_X86_64_RELATIVE: the 8 bytes at `address` become the load address of `addend`. */
export interface Relocation {
  readonly address: bigint;
  readonly addend: bigint;
}

/** One entry of a note section. */
export interface Note {
  readonly section: string;
  readonly owner: string;
  readonly type: number;
  readonly bytes: Uint8Array;
}

/** A half-open range of link-time addresses. */
export interface AddressRange {
  readonly start: bigint;
  readonly end: bigint;
}

/** The control block and the entry points that it names. */
export interface ImageCcb {
  readonly address: bigint;
  readonly sizeBytes: number;
  readonly entryPoints: Readonly<Record<string, bigint>>;
}

export interface CaretakerImage {
  readonly type: 'ET_DYN' | 'ET_EXEC';
  readonly entry: bigint;
  /** The lowest page and the end of the highest; what is between two segments stays unmapped. */
  readonly pages: AddressRange;
  readonly segments: readonly Segment[];
  readonly sections: readonly Section[];
  /** Sorted by address; at one address the best name comes last. */
  readonly symbols: readonly ImageSymbol[];
  readonly relocations: readonly Relocation[];
  /** Whole pages that are read-only once relocated (PT_GNU_RELRO), or null. */
  readonly relro: AddressRange | null;
  readonly notes: readonly Note[];
  readonly ccb: ImageCcb;
}

/** The section named `name`. */
export function sectionNamed(image: CaretakerImage, name: string): Section | undefined {
  return image.sections.find((section) => section.name === name);
}
