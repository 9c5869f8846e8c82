/**
 * The shadow stacks on which instruction sequences run on both machines: their page, their tokens, the table for ISTs.
 *
 * Source: SDM, "Shadow Stacks", "Supervisor Shadow Stack Token", "Shadow-Stack Pages".
 * Invariant: STACK's page is read-only and dirty, CLEAN's read-only and not dirty, so that it is no shadow stack. The
 * table names a token for each IST; only the first can be taken.
 */
import { toIndex } from '../../abi/uint.js';
import { GUEST, GUEST_SELECTOR } from './guest-area.js';

const PAGE = 0x12_8000n;
const BASE = PAGE + 0xe00n;

// prettier-ignore
/** Addresses on and around the shadow stacks; [BASE, BASE + 0x100) is what is compared. */
export const SHADOW = {
  PAGE,
  /** Read-only and not dirty. */
  CLEAN:     0x12_9000n,
  /** The interrupt SSP table, on an ordinary page. */
  TABLE:     0x12_a000n,
  BASE,
  FREE:      BASE + 0x18n,
  BUSY:      BASE + 0x38n,
  /** A token that names another address. */
  OTHER:     BASE + 0x58n,
  /** A token of its own address, whose frame would lie in another region of 32 bytes. */
  CROSSING:  BASE + 0x68n,
  /** A restore token, and SSP behind it. */
  RESTORE:   BASE + 0x98n,
  /** A frame of a far return to RETURN_TO, with a busy token behind it. */
  FRAME:     BASE + 0xa8n,
  /** SSP at the start. */
  TOP:       BASE + 0xe0n,
} as const;
export const SHADOW_BYTES = 0x100;
/** Where the frame of a far return leads: nothing but HLT lies there. */
export const RETURN_TO = GUEST.CODE + 0x1f0n;

/** Gates of each IST, and one through the first whose handler returns. */
export const IST_GATE = (ist: number): number => 0x50 + ist;
export const RETURNING_THROUGH_IST = 0x59;
/** A handler that does not begin with ENDBR64. */
export const WITHOUT_ENDBRANCH = 0x31;

/** Writes tokens, frames and the table. */
export function layOutShadowStacks(to: {
  values(address: bigint, ...values: readonly bigint[]): unknown;
}): void {
  const behind = SHADOW.FRAME + 24n;
  const content = Array.from({ length: SHADOW_BYTES / 8 }, (_, i) => 0x7000n + BigInt(i));
  const put = (address: bigint, value: bigint): void => {
    content[toIndex((address - BASE) / 8n)] = value;
  };
  put(SHADOW.FREE, SHADOW.FREE);
  put(SHADOW.BUSY, SHADOW.BUSY | 1n);
  put(SHADOW.OTHER, SHADOW.OTHER + 8n);
  put(SHADOW.CROSSING, SHADOW.CROSSING);
  put(SHADOW.RESTORE, (SHADOW.RESTORE + 8n) | 1n);
  put(SHADOW.FRAME, SHADOW.TOP);
  put(SHADOW.FRAME + 8n, RETURN_TO);
  put(SHADOW.FRAME + 16n, BigInt(GUEST_SELECTOR.CODE));
  put(behind, behind | 1n);
  to.values(BASE, ...content);
  to.values(
    SHADOW.TABLE,
    ...[0n, SHADOW.FREE, SHADOW.BUSY, SHADOW.OTHER, SHADOW.FREE + 4n, SHADOW.CROSSING],
    ...[GUEST.DATA + 0x18n, GUEST.UNMAPPED + 0x18n],
  );
}
