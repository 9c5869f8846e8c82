/**
 * What an ICR write asks for: the message, and the local APICs that it addresses.
 *
 * Source: SDM, "Interrupt Command Register (ICR)", "Logical Destination Mode in x2APIC Mode", "Lowest Priority Delivery
 * Mode", table of valid ICR combinations.
 * Invariant: pure, so that the physical bus, KVM's virtual one and the account of what a guest asked for agree.
 */
import { ICR, ICR_DELIVERY, ICR_SHORTHAND, decodeIcr, type IcrWord } from '../../../abi/x2apic.js';

/** A local APIC as a destination names it. */
export interface IpiAddressee {
  /** The 32-bit x2APIC id. */
  readonly id: number;
  /** The logical destination register: cluster in the high half, one bit in the low. */
  readonly logicalId: number;
}

const BROADCAST = 0xffff_ffff;
/** Vectors below are illegal in a fixed or lowest-priority message. */
export const FIRST_LEGAL_VECTOR = 16;

/** LDR of an x2APIC id, which software cannot change. */
export function logicalIdOf(id: number): number {
  return (((id >>> 4) << 16) | (1 << (id & 15))) >>> 0;
}

/** Which of these an ICR addresses, in their order. */
export function addressed<Addressee extends IpiAddressee>(
  all: readonly Addressee[],
  sourceId: number,
  icr: IcrWord,
): readonly Addressee[] {
  switch (icr.shorthand) {
    case ICR_SHORTHAND.SELF:
      return all.filter(({ id }) => id === sourceId);
    case ICR_SHORTHAND.ALL_INCLUDING_SELF:
      return all;
    case ICR_SHORTHAND.ALL_EXCLUDING_SELF:
      return all.filter(({ id }) => id !== sourceId);
    default:
      return all.filter((one) => isAddressed(one, icr));
  }
}

/** The message of an ICR write, or why there is none. */
export type IpiRequest =
  | { readonly kind: 'fixed' | 'lowest-priority'; readonly vector: number }
  | { readonly kind: 'nmi' | 'init' | 'smi' }
  | { readonly kind: 'startup'; readonly vector: number }
  /** Reserved bits are set: WRMSR raises #GP. */
  | { readonly kind: 'fault' }
  /** A mode, a vector or a combination that is not valid, or an INIT level de-assert: nothing is sent. */
  | { readonly kind: 'none' };

/** Takes the two halves of an ICR write apart. */
export function requestOf(low: number, high: number): IpiRequest {
  if ((low & ICR.RESERVED) !== 0) return { kind: 'fault' };
  const { delivery, shorthand, vector } = decodeIcr(low, high);
  const includesSelf =
    shorthand === ICR_SHORTHAND.SELF || shorthand === ICR_SHORTHAND.ALL_INCLUDING_SELF;
  if (includesSelf && delivery !== ICR_DELIVERY.FIXED) return { kind: 'none' };
  switch (delivery) {
    case ICR_DELIVERY.FIXED:
    case ICR_DELIVERY.LOWEST_PRIORITY:
      if (vector < FIRST_LEGAL_VECTOR) return { kind: 'none' };
      return { kind: delivery === ICR_DELIVERY.FIXED ? 'fixed' : 'lowest-priority', vector };
    case ICR_DELIVERY.SMI:
      return { kind: 'smi' };
    case ICR_DELIVERY.NMI:
      return { kind: 'nmi' };
    case ICR_DELIVERY.INIT:
      return { kind: isDeassert(low) ? 'none' : 'init' };
    case ICR_DELIVERY.STARTUP:
      return { kind: 'startup', vector };
    default:
      return { kind: 'none' };
  }
}

/** An INIT level de-assert, which has had no effect since the Pentium 4. */
export function isDeassert(low: number): boolean {
  return (low & ICR.TRIGGER_LEVEL) !== 0 && (low & ICR.LEVEL_ASSERT) === 0;
}

function isAddressed({ id, logicalId }: IpiAddressee, icr: IcrWord): boolean {
  if (icr.destination === BROADCAST) return true;
  if (!icr.logical) return icr.destination === id;
  const isSameCluster = icr.destination >>> 16 === logicalId >>> 16;
  return isSameCluster && (icr.destination & logicalId & 0xffff) !== 0;
}
