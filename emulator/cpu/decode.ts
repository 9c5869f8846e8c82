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
  | { readonly kind: 'segment'; readonly register: number }
  | { readonly kind: 'immediate'; readonly value: bigint };

/** `name` is the SDM's mnemonic in capitals; for MOV forms `MOV_TO_CR`, `MOV_FROM_CR`, `MOV_TO_SEG` and so on. */
export interface Instruction {
  readonly name: string;
  readonly length: number;
  readonly operands: readonly Operand[];
}
