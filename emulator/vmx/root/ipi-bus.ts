/**
 * Routes the messages that local APICs send through their ICR to the local APICs they name.
 *
 * Source: SDM, "Interrupt Command Register (ICR)"; whom a message addresses is in ipi-destination.ts.
 * Invariant: a message is delivered at once and to the targets in order of APIC id; the choice of lowest priority is the
 * lowest processor priority, then the lowest id, so a run is deterministic.
 * Not modelled: delivery latency, focus processors, I/O APIC messages, interrupt remapping.
 */
import { ICR_DELIVERY, ICR_SHORTHAND, decodeIcr, type IcrWord } from '../../../abi/x2apic.js';
import { addressed, isDeassert, type IpiAddressee } from './ipi-destination.js';

/** What one local APIC receives. */
export type IpiMessage =
  /** By its edge, always: the trigger mode of ICR is for INIT level de-assert alone. */
  | { readonly kind: 'fixed'; readonly vector: number }
  | { readonly kind: 'smi' }
  | { readonly kind: 'nmi' }
  | { readonly kind: 'init' }
  | { readonly kind: 'startup'; readonly vector: number };

/** A local APIC as the bus sees it. */
export interface IpiTarget extends IpiAddressee {
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
    if (icr.delivery === ICR_DELIVERY.INIT && isDeassert(low)) return { kind: 'ignored' };
    const message = messageOf(icr);
    if (message === null) return { kind: 'invalid', detail: `delivery mode ${icr.delivery}` };
    const includesSelf =
      icr.shorthand === ICR_SHORTHAND.SELF || icr.shorthand === ICR_SHORTHAND.ALL_INCLUDING_SELF;
    if (includesSelf && icr.delivery !== ICR_DELIVERY.FIXED) {
      return {
        kind: 'invalid',
        detail: `shorthand ${icr.shorthand} with delivery mode ${icr.delivery}`,
      };
    }
    let targets = addressed(this.#targets, source.id, icr);
    if (icr.delivery === ICR_DELIVERY.LOWEST_PRIORITY) targets = lowestPriority(targets);
    if (targets.length === 0) return { kind: 'unclaimed' };
    for (const target of targets) target.receive(message);
    return { kind: 'delivered', targets: targets.map(({ id }) => id) };
  }
}

function lowestPriority(targets: readonly IpiTarget[]): readonly IpiTarget[] {
  const lowest = Math.min(...targets.map(({ priority }) => priority));
  return targets.filter(({ priority }) => priority === lowest).slice(0, 1);
}

function messageOf(icr: IcrWord): IpiMessage | null {
  switch (icr.delivery) {
    case ICR_DELIVERY.FIXED:
    case ICR_DELIVERY.LOWEST_PRIORITY:
      return { kind: 'fixed', vector: icr.vector };
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
