/**
 * The register file that the engine and the models share: one slot of 64 bits each, in one buffer.
 *
 * Slots up to ENGINE_SLOTS are the engine's: written into Unicorn when a run begins and read back when it stops. The
 * rest is the model's own (the engine never holds them); they live here so that a snapshot is one copy.
 * Invariant: the numbers of RAX..R15 are the ones that ModRM, REX and the exit qualification use.
 */
// prettier-ignore
export const REG = {
  RAX: 0, RCX: 1, RDX: 2, RBX: 3, RSP: 4, RBP: 5, RSI: 6, RDI: 7,
  R8: 8, R9: 9, R10: 10, R11: 11, R12: 12, R13: 13, R14: 14, R15: 15,
  RIP: 16, RFLAGS: 17, FS_BASE: 18, GS_BASE: 19,
  // The model's own from here on: the instructions that read or write them are trap sites.
  CR0: 20, CR2: 21, CR3: 22, CR4: 23, CR8: 24, EFER: 25, DR6: 26, DR7: 27, SSP: 28,
  GDTR_BASE: 29, GDTR_LIMIT: 30, IDTR_BASE: 31, IDTR_LIMIT: 32,
  CS: 33, SS: 34, DS: 35, ES: 36, FS: 37, GS: 38, TR: 39, LDTR: 40, TR_BASE: 41, TR_LIMIT: 42,
  XCR0: 43, DR0: 44, DR1: 45, DR2: 46, DR3: 47,
} as const;

export type RegisterName = keyof typeof REG;

/** Slots [0, ENGINE_SLOTS) are held by Unicorn while it runs. */
export const ENGINE_SLOTS = 20;
/** Slots of the whole file. */
export const REGISTER_SLOTS = 48;

/** The 15 general registers that a payload must save; RSP is the VMCS's. */
// prettier-ignore
export const GENERAL_REGISTERS = [
  'RAX', 'RCX', 'RDX', 'RBX', 'RBP', 'RSI', 'RDI',
  'R8', 'R9', 'R10', 'R11', 'R12', 'R13', 'R14', 'R15',
] as const satisfies readonly RegisterName[];

// prettier-ignore
export const RFLAGS = {
  CF: 0x1n, FIXED: 0x2n, PF: 0x4n, AF: 0x10n, ZF: 0x40n, SF: 0x80n, TF: 0x100n, IF: 0x200n, DF: 0x400n, OF: 0x800n,
  RF: 0x10000n, VM: 0x20000n,
} as const;

/** The arithmetic flags that a VMX instruction writes. */
export const RFLAGS_ARITHMETIC = 0x8d5n;

/** One pCPU's registers as one buffer with a 64-bit and a 32-bit view; the low half of slot `n` is `words[2 * n]`. */
export class RegisterFile {
  readonly values: BigUint64Array;
  readonly words: Uint32Array;

  constructor(buffer: ArrayBuffer = new ArrayBuffer(REGISTER_SLOTS * 8)) {
    this.values = new BigUint64Array(buffer);
    this.words = new Uint32Array(buffer);
  }

  get(name: RegisterName): bigint {
    return this.values[REG[name]]!;
  }

  set(name: RegisterName, value: bigint): void {
    this.values[REG[name]] = value;
  }
}
