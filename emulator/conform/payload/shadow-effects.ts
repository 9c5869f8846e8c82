/**
 * What an instruction of the payload pushes on a shadow stack, told from SSP before and behind it.
 *
 * Source: SDM, "Shadow Stacks", "Supervisor Shadow Stack Token"; the pushes are no stores of the engine's, so that no
 * watchpoint of it sees them.
 * Invariant: the order is the processor's: the token first, then CS, LIP and SSP, from the highest address down.
 */
import { u64 } from '../../../abi/uint.js';
import type { PhysicalBytes } from '../../memory/physical-memory.js';
import type { Effect } from './recording.js';

const QUADWORD = 8n;
const FRAME = 24n;

/** `tokens` are those of the interrupt SSP table. */
export function shadowEffects(
  memory: PhysicalBytes,
  tokens: readonly bigint[],
  rip: bigint,
  before: bigint,
  behind: bigint,
): Effect[] {
  return addressesOf(tokens, before, behind).map((address) => ({
    kind: 'memory',
    rip,
    address,
    sizeBytes: 8,
    value: memory.readU64(address),
  }));
}

function addressesOf(tokens: readonly bigint[], before: bigint, behind: bigint): bigint[] {
  const frameBelow = (top: bigint): bigint[] => [top - QUADWORD, top - 2n * QUADWORD, top - FRAME];
  if (behind === before + QUADWORD) return []; // a near return
  const pushed = u64(before - behind);
  if (pushed === QUADWORD) return [behind];
  if (pushed === FRAME) return frameBelow(before);
  const [entered, left] = [behind + FRAME, before + FRAME];
  if (tokens.includes(entered)) return [entered, ...frameBelow(entered)];
  return tokens.includes(left) ? [left] : [];
}
