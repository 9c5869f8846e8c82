/**
 * The states that an exit is explored in.
 *
 * Source: DESIGN ("Two life cycles", "Two CR3 policies"); CONTRACT ("What the payload handles", HLT).
 * Invariant: a state other than the first two tries only what differs there: what a payload does is decided by its flag,
 * its configuration and the tables in CR3, and the rest of a run is the same instructions on the same data.
 */
import { EXIT_REASON } from '../../abi/exit-reasons.js';
import { HarnessBug } from '../../abi/errors.js';
import { ATTACH_VARIANT, VARIANTS, type Variant } from '../stage/stage.js';

/** One state. */
export interface ExploreState {
  readonly name: string;
  readonly variant: Variant;
  readonly isAttached: boolean;
  /** Basic reasons that are tried, null for all. */
  readonly reasons: readonly number[] | null;
  /** Names of the events that are tried, null for all. */
  readonly events: readonly string[] | null;
}

const variantNamed = (name: string): Variant => {
  const found = VARIANTS.find((variant) => variant.name === name);
  if (found === undefined) throw new HarnessBug(`there is no variant "${name}"`);
  return found;
};
const ISOLATED = variantNamed('isolated');
const SHARED = variantNamed('shared');
const ROOT_HALT = variantNamed('halts in root');
const HLT = [EXIT_REASON.EXIT_REASON_HLT];

// prettier-ignore
/** Every state; those of one variant follow each other. */
export const STATES: readonly ExploreState[] = [
  { name: 'attached', variant: ISOLATED, isAttached: true, reasons: null, events: null },
  { name: 'detached', variant: ISOLATED, isAttached: false, reasons: null, events: null },
  // The host's tables are in CR3 at the exit; alone, a vCPU is isolated under either policy.
  { name: 'shared-attached', variant: SHARED, isAttached: true, reasons: null, events: ['nmi', 'stop', 'detach'] },
  { name: 'root-halt-attached', variant: ROOT_HALT, isAttached: true, reasons: HLT, events: null },
  { name: 'root-halt-detached', variant: ROOT_HALT, isAttached: false, reasons: HLT, events: null },
  // KVM takes HOST_RIP back at its first exit.
  { name: 'attach-detached', variant: ATTACH_VARIANT, isAttached: false, reasons: null, events: ['flip', 'stop'] },
];
