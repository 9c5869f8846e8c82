/** The part of elfy 1.0.0 that loader/elf.ts uses; the package brings no types. */
declare module 'elfy' {
  /** Flag names that are set; unused here. */
  type Flags = Readonly<Record<string, boolean>>;

  interface ElfyProgram {
    readonly type: string | undefined;
    readonly offset: number;
    readonly vaddr: number;
    readonly filesz: number;
    readonly memsz: number;
    readonly flags: Flags;
    /** Aliases the input. */
    readonly data: Uint8Array;
  }

  interface ElfySection {
    readonly name: string;
    readonly type: string | number;
    readonly addr: number;
    readonly off: number;
    readonly size: number;
    readonly link: number;
    readonly flags: Flags;
    /** Aliases the input. */
    readonly data: Uint8Array;
  }

  interface ElfyFile {
    readonly class: string;
    readonly endian: string;
    readonly type: string | undefined;
    readonly machine: string | undefined;
    readonly entry: number;
    readonly body: {
      readonly programs: readonly ElfyProgram[];
      readonly sections: readonly ElfySection[];
    };
  }

  const elfy: { parse(file: Buffer): ElfyFile };
  export default elfy;
  export type { ElfyFile, ElfyProgram, ElfySection };
}
