/**
 * An ELF file whose fields are read and set by their names, to corrupt one at a time.
 *
 * Source: System V ABI, "Object Files". Written apart from loader/: nothing of the loader's reading is reused here.
 */

// prettier-ignore
const FIELDS = {
  ehdr: {
    magic: [0, 4], class: [4, 1], data: [5, 1], identVersion: [6, 1], osabi: [7, 1], abiVersion: [8, 1], type: [16, 2], machine: [18, 2],
    version: [20, 4], entry: [24, 8], phoff: [32, 8], shoff: [40, 8], flags: [48, 4], ehsize: [52, 2], phentsize: [54, 2],
    phnum: [56, 2], shentsize: [58, 2], shnum: [60, 2], shstrndx: [62, 2],
  },
  phdr: { type: [0, 4], flags: [4, 4], offset: [8, 8], vaddr: [16, 8], paddr: [24, 8], filesz: [32, 8], memsz: [40, 8], align: [48, 8] },
  shdr: {
    name: [0, 4], type: [4, 4], flags: [8, 8], addr: [16, 8], offset: [24, 8], size: [32, 8], link: [40, 4], info: [44, 4],
    addralign: [48, 8], entsize: [56, 8],
  },
  sym: { name: [0, 4], info: [4, 1], other: [5, 1], shndx: [6, 2], value: [8, 8], size: [16, 8] },
  rela: { offset: [0, 8], info: [8, 8], addend: [16, 8] },
  dyn: { tag: [0, 8], value: [8, 8] },
} as const;

type Fields<K extends keyof typeof FIELDS> = keyof (typeof FIELDS)[K];

/** An assembled file whose fields are set by name. */
export class ElfFile {
  bytes: Uint8Array;
  readonly #sections: readonly string[];

  constructor(bytes: Uint8Array, sections: readonly string[]) {
    this.bytes = bytes;
    this.#sections = sections;
  }

  get(at: number, sizeBytes: number): number {
    let value = 0;
    for (let i = sizeBytes - 1; i >= 0; i--) value = value * 256 + this.bytes[at + i]!;
    return value;
  }

  set(at: number, sizeBytes: number, value: number | bigint): void {
    let rest = BigInt.asUintN(64, BigInt(value));
    for (let i = 0; i < sizeBytes; i++) {
      this.bytes[at + i] = Number(rest & 0xffn);
      rest >>= 8n;
    }
  }

  /** Sets a field of the ELF header. */
  ehdr(field: Fields<'ehdr'>, value: number | bigint): void {
    const [offset, size] = FIELDS.ehdr[field];
    this.set(offset, size, value);
  }

  /** Sets a field of program header `index`: 0 read-only, 1 text, 2 data, 3 PT_DYNAMIC, 4 PT_NOTE, 5 PT_GNU_STACK. */
  phdr(index: number, field: Fields<'phdr'>, value: number | bigint): void {
    const [offset, size] = FIELDS.phdr[field];
    this.set(64 + index * 56 + offset, size, value);
  }

  getPhdr(index: number, field: Fields<'phdr'>): number {
    const [offset, size] = FIELDS.phdr[field];
    return this.get(64 + index * 56 + offset, size);
  }

  /** Sets a field of the section header of `name`. */
  shdr(name: string, field: Fields<'shdr'>, value: number | bigint): void {
    const [offset, size] = FIELDS.shdr[field];
    this.set(this.#sectionHeader(name) + offset, size, value);
  }

  getShdr(name: string, field: Fields<'shdr'>): number {
    const [offset, size] = FIELDS.shdr[field];
    return this.get(this.#sectionHeader(name) + offset, size);
  }

  /** Sets a field of entry `index` of .symtab. */
  sym(index: number, field: Fields<'sym'>, value: number | bigint): void {
    const [offset, size] = FIELDS.sym[field];
    this.set(this.getShdr('.symtab', 'offset') + index * 24 + offset, size, value);
  }

  /** Sets a field of relocation `index`. */
  rela(index: number, field: Fields<'rela'>, value: number | bigint): void {
    const [offset, size] = FIELDS.rela[field];
    this.set(this.getShdr('.rela.dyn', 'offset') + index * 24 + offset, size, value);
  }

  /** Sets a field of the dynamic entry with this tag. */
  dyn(tag: number, field: Fields<'dyn'>, value: number | bigint): void {
    const start = this.getShdr('.dynamic', 'offset');
    for (let at = start; at < start + this.getShdr('.dynamic', 'size'); at += 16) {
      if (this.get(at, 8) !== tag) continue;
      const [offset, size] = FIELDS.dyn[field];
      this.set(at + offset, size, value);
      return;
    }
    throw new Error(`no dynamic entry ${String(tag)}`);
  }

  /** Sets bytes of a section's contents. */
  contents(name: string, offset: number, sizeBytes: number, value: number | bigint): void {
    this.set(this.getShdr(name, 'offset') + offset, sizeBytes, value);
  }

  #sectionHeader(name: string): number {
    const index = this.#sections.indexOf(name);
    if (index < 0) throw new Error(`no section ${name}`);
    return this.get(40, 8) + index * 64;
  }
}
