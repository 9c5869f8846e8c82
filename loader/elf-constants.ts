/**
 * The numbers of the ELF format that the loader compares with, in the format's own spelling.
 *
 * Source: System V ABI, "Object Files" and "Program Loading and Dynamic Linking"; x86-64 psABI, "Object Files".
 */
// prettier-ignore
export const ELF = {
  ELFCLASS64: 2, ELFDATA2LSB: 1, EV_CURRENT: 1, ELFOSABI_SYSV: 0, ELFOSABI_GNU: 3,
  ET_EXEC: 2, ET_DYN: 3, EM_X86_64: 62,
  EHDR_BYTES: 64, PHDR_BYTES: 56, SHDR_BYTES: 64, SYM_BYTES: 24, RELA_BYTES: 24, DYN_BYTES: 16,
} as const;

// prettier-ignore
export const PT = {
  NULL: 0, LOAD: 1, DYNAMIC: 2, INTERP: 3, NOTE: 4, PHDR: 6, TLS: 7,
  GNU_EH_FRAME: 0x6474e550, GNU_STACK: 0x6474e551, GNU_RELRO: 0x6474e552, GNU_PROPERTY: 0x6474e553,
} as const;

export const PF = { X: 1, W: 2, R: 4 } as const;

// prettier-ignore
export const SHT = {
  NULL: 0, PROGBITS: 1, SYMTAB: 2, STRTAB: 3, RELA: 4, HASH: 5, DYNAMIC: 6, NOTE: 7, NOBITS: 8, DYNSYM: 11,
  GNU_HASH: 0x6ffffff6,
} as const;

// prettier-ignore
export const SHF = {
  WRITE: 0x1n, ALLOC: 0x2n, EXECINSTR: 0x4n, MERGE: 0x10n, STRINGS: 0x20n, INFO_LINK: 0x40n, LINK_ORDER: 0x80n,
  GNU_RETAIN: 0x20_0000n,
} as const;

export const SHN = { UNDEF: 0, LORESERVE: 0xff00, ABS: 0xfff1 } as const;

export const STT = { NOTYPE: 0, OBJECT: 1, FUNC: 2, SECTION: 3, FILE: 4 } as const;

export const STB = { LOCAL: 0, GLOBAL: 1, WEAK: 2 } as const;

// prettier-ignore
export const DT = {
  NULL: 0n, NEEDED: 1n, PLTRELSZ: 2n, HASH: 4n, STRTAB: 5n, SYMTAB: 6n, RELA: 7n, RELASZ: 8n, RELAENT: 9n,
  STRSZ: 10n, SYMENT: 11n, SYMBOLIC: 16n, REL: 17n, RELSZ: 18n, RELENT: 19n, PLTREL: 20n, DEBUG: 21n,
  TEXTREL: 22n, JMPREL: 23n, BIND_NOW: 24n, FLAGS: 30n,
  GNU_HASH: 0x6ffffef5n, RELACOUNT: 0x6ffffff9n, FLAGS_1: 0x6ffffffbn,
} as const;

export const DF = { SYMBOLIC: 2n, TEXTREL: 4n, BIND_NOW: 8n } as const;

export const R_X86_64_RELATIVE = 8;
export const NT_GNU_BUILD_ID = 3;
