/** All invariants of DESIGN.md, and the hooks of those that have one, as flat lists for the hot path. */
import type { Invariant } from './invariant.js';
import { completions } from './completions.js';
import { eventReinjected } from './event-reinjected.js';
import { gapInvariants } from './gap.js';
import { guestRegisters } from './guest-registers.js';
import { bounded, hostState } from './host-state.js';
import { interrupts } from './interrupts.js';
import { nestedTables } from './nested-tables.js';
import { nmi } from './nmi.js';
import { noLostExit } from './no-lost-exit.js';
import { noRoutingWhileDetached } from './no-routing-while-detached.js';
import { ownership } from './ownership.js';
import { preserved } from './preserved.js';
import { rip } from './rip.js';
import { stack } from './stack.js';
import { telemetry } from './telemetry.js';
import { time } from './time.js';
import { vmcsWrites } from './vmcs-writes.js';

/** Fresh invariants for one machine: some of them remember what they saw. */
export function makeInvariants(): readonly Invariant[] {
  return [
    ...gapInvariants(),
    guestRegisters,
    vmcsWrites,
    rip,
    eventReinjected,
    noLostExit(),
    noRoutingWhileDetached,
    ownership,
    telemetry,
    stack(),
    hostState,
    nmi,
    interrupts(),
    time(),
    bounded,
    preserved(),
    nestedTables(),
    completions,
  ];
}
