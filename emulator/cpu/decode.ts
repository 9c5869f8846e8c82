/**
 * The decoded form of the instructions that the models execute: name, length and operands.
 *
 * Source: SDM, "Instruction Format"; names are the SDM's mnemonics.
 * Invariant: plain data; what makes it from bytes is system-instructions.ts.
 */

/** A decoded system instruction: what a trap site's model needs to execute it. Operands are registers by number or memory. */
export type Operand =
  | { readonly kind: 'register'; readonly register: number; readonly sizeBytes: number }
  | {
      readonly kind: 'memory';
      readonly base: number | 'rip' | null;
      readonly index: number | null;
      readonly scale: 1 | 2 | 4 | 8;
      /** Signed; for `rip` the sum with the address of the next instruction is the operand's. */
      readonly displacement: bigint;
      readonly segment: 'fs' | 'gs' | null;
    }
  | { readonly kind: 'control'; readonly register: number }
  | { readonly kind: 'debug'; readonly register: number }
  /** ES, CS, SS, DS, FS, GS are 0 to 5. */
  | { readonly kind: 'segment'; readonly register: number }
  | { readonly kind: 'immediate'; readonly value: bigint };

/**
 * `name` is the SDM's mnemonic in capitals; for MOV forms `MOV_TO_CR`, `MOV_FROM_CR`, `MOV_TO_SEG` and so on, for far
 * transfers `CALL_FARQ` and `JMP_FARQ`, D or W for the smaller ones, for FS and GS `PUSH_SEG` and `POP_SEG`. Operands are in the SDM's order.
 */
export interface Instruction {
  readonly name: string;
  readonly length: number;
  readonly operands: readonly Operand[];
  /** Touches x87, MMX, SSE or AVX state: the guest's, which a payload must leave alone. */
  readonly isFpu: boolean;
}

/** A memory operand alone. */
export type MemoryOperand = Extract<Operand, { kind: 'memory' }>;
