/**
 * The shadow stacks that KVM allocates for a payload: one for HOST_SSP, one for each IST with its token, and the table.
 *
 * Source: the RFC, "Hardware Interposition" (HOST_SSP and HOST_INTR_SSP_TABLE); SDM, "Shadow Stacks", "Supervisor Shadow
 * Stack Token". Linux has no supervisor shadow stack, so nothing upstream does this.
 * Invariant: a token is free whenever the guest runs; a token and the frame below it lie in one naturally aligned region
 * of 32 bytes; below each stack lies no shadow stack, so that a push too many faults.
 */
import { PAGE_SIZE, type PhysicalBytes } from '../../memory/physical-memory.js';
import type { IdentityRange } from '../../memory/page-tables.js';

const PAGE = BigInt(PAGE_SIZE);
const ISTS = 7;
/** The table, the stack of HOST_SSP, and for each IST a page behind one that is none. */
export const SHADOW_STACK_PAGES = 2 + 2 * ISTS;
/** The highest multiple of 8 in a page that has room for a frame in its own 32 bytes. */
const TOKEN_OFFSET = PAGE - 8n;

/** HOST_SSP: the end of the payload's own shadow stack. */
export function shadowStackTop(base: bigint): bigint {
  return base + 2n * PAGE;
}

const istPage = (base: bigint, ist: number): bigint => base + BigInt(1 + 2 * ist) * PAGE;

/** The token of an IST, 1 to 7. */
export function istToken(base: bigint, ist: number): bigint {
  return istPage(base, ist) + TOKEN_OFFSET;
}

/** Every token. */
export function tokens(base: bigint): readonly bigint[] {
  return Array.from({ length: ISTS }, (_, index) => istToken(base, index + 1));
}

/** Writes free tokens, and the table that names them. */
export function writeShadowStacks(memory: PhysicalBytes, base: bigint): void {
  tokens(base).forEach((token, index) => {
    memory.writeU64(token, token);
    memory.writeU64(base + BigInt(8 * (index + 1)), token);
  });
}

/** How page tables map them. */
export function shadowStackRanges(base: bigint): readonly IdentityRange[] {
  const page = (at: bigint, shadowStack: boolean): IdentityRange => ({
    base: at,
    sizeBytes: PAGE_SIZE,
    writable: false,
    executable: false,
    shadowStack,
  });
  const stacks = Array.from({ length: ISTS }, (_, index) => istPage(base, index + 1));
  return [page(base, false), page(base + PAGE, true), ...stacks.map((at) => page(at, true))];
}
