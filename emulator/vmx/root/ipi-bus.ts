/**
 * Routes the messages that local APICs send through their ICR to the local APICs they name.
 *
 * Source: SDM, "Interrupt Command Register (ICR)", "Logical Destination Mode in x2APIC Mode", "Lowest Priority Delivery
 * Mode", table of valid ICR combinations.
 * Invariant: a message is delivered at once and to the targets in order of APIC id; the choice of lowest priority is the
 * lowest processor priority, then the lowest id, so a run is deterministic.
 * Not modelled: delivery latency, focus processors, I/O APIC messages, interrupt remapping.
 */
import { ICR, ICR_DELIVERY, ICR_SHORTHAND, decodeIcr, type IcrWord } from '../../../abi/x2apic.js';

/** What one local APIC receives. */
export type IpiMessage =
  | { readonly kind: 'fixed'; readonly vector: number; readonly isLevel: boolean }
  | { readonly kind: 'smi' }
  | { readonly kind: 'nmi' }
  | { readonly kind: 'init' }
  | { readonly kind: 'startup'; readonly vector: number };

/** A local APIC as the bus sees it. */
export interface IpiTarget {
  /** The 32-bit x2APIC id. */
  readonly id: number;
  /** The logical destination register: cluster in the high half, one bit in the low. */
  readonly logicalId: number;
  /** The processor priority, for lowest-priority delivery. */
  readonly priority: number;
  receive(message: IpiMessage): void;
}

/** What became of an ICR write. */
export type IpiOutcome =
  | { readonly kind: 'delivered'; readonly targets: readonly number[] }
  /** No local APIC answers to the destination. */
  | { readonly kind: 'unclaimed' }
  /** An INIT level de-assert, which has had no effect since the Pentium 4. */
  | { readonly kind: 'ignored' }
  /** A combination of mode and shorthand that the SDM calls invalid; nothing is sent. */
  | { readonly kind: 'invalid'; readonly detail: string };

/** Where a local APIC sends its ICR writes. */
export interface IpiPort {
  send(source: IpiTarget, low: number, high: number): IpiOutcome;
}

const BROADCAST = 0xffff_ffff;

export class IpiBus implements IpiPort {
  #targets: readonly IpiTarget[] = [];

  /** Called for every message after it was routed; for traces. */
  onSend: (source: number, icr: IcrWord, outcome: IpiOutcome) => void = () => undefined;

  attach(target: IpiTarget): void {
    this.#targets = [...this.#targets, target].sort((a, b) => a.id - b.id);
  }

  detach(id: number): void {
    this.#targets = this.#targets.filter((target) => target.id !== id);
  }

  send(source: IpiTarget, low: number, high: number): IpiOutcome {
    const icr = decodeIcr(low, high);
    const outcome = this.#route(source, icr, low);
    this.onSend(source.id, icr, outcome);
    return outcome;
  }

  #route(source: IpiTarget, icr: IcrWord, low: number): IpiOutcome {
    const isLevel = (low & ICR.TRIGGER_LEVEL) !== 0;
    const isAssert = (low & ICR.LEVEL_ASSERT) !== 0;
    if (icr.delivery === ICR_DELIVERY.INIT && isLevel && !isAssert) return { kind: 'ignored' };
    const message = messageOf(icr, isLevel);
    if (message === null) return { kind: 'invalid', detail: `delivery mode ${icr.delivery}` };
    const includesSelf =
      icr.shorthand === ICR_SHORTHAND.SELF || icr.shorthand === ICR_SHORTHAND.ALL_INCLUDING_SELF;
    if (includesSelf && icr.delivery !== ICR_DELIVERY.FIXED) {
      return {
        kind: 'invalid',
        detail: `shorthand ${icr.shorthand} with delivery mode ${icr.delivery}`,
      };
    }
    let targets = this.#addressed(source, icr);
    if (icr.delivery === ICR_DELIVERY.LOWEST_PRIORITY) targets = lowestPriority(targets);
    if (targets.length === 0) return { kind: 'unclaimed' };
    for (const target of targets) target.receive(message);
    return { kind: 'delivered', targets: targets.map(({ id }) => id) };
  }

  #addressed(source: IpiTarget, icr: IcrWord): readonly IpiTarget[] {
    switch (icr.shorthand) {
      case ICR_SHORTHAND.SELF:
        return [source];
      case ICR_SHORTHAND.ALL_INCLUDING_SELF:
        return this.#targets;
      case ICR_SHORTHAND.ALL_EXCLUDING_SELF:
        return this.#targets.filter((target) => target.id !== source.id);
      default:
        return this.#targets.filter((target) => isAddressed(target, icr));
    }
  }
}

function isAddressed(target: IpiTarget, icr: IcrWord): boolean {
  if (icr.destination === BROADCAST) return true;
  if (!icr.logical) return icr.destination === target.id;
  const isSameCluster = icr.destination >>> 16 === target.logicalId >>> 16;
  return isSameCluster && (icr.destination & target.logicalId & 0xffff) !== 0;
}

function lowestPriority(targets: readonly IpiTarget[]): readonly IpiTarget[] {
  const lowest = Math.min(...targets.map(({ priority }) => priority));
  return targets.filter(({ priority }) => priority === lowest).slice(0, 1);
}

function messageOf(icr: IcrWord, isLevel: boolean): IpiMessage | null {
  switch (icr.delivery) {
    case ICR_DELIVERY.FIXED:
    case ICR_DELIVERY.LOWEST_PRIORITY:
      return { kind: 'fixed', vector: icr.vector, isLevel };
    case ICR_DELIVERY.SMI:
      return { kind: 'smi' };
    case ICR_DELIVERY.NMI:
      return { kind: 'nmi' };
    case ICR_DELIVERY.INIT:
      return { kind: 'init' };
    case ICR_DELIVERY.STARTUP:
      return { kind: 'startup', vector: icr.vector };
    default:
      return null;
  }
}
