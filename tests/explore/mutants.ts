/**
 * Bugs that only an event at the right instruction shows, and what finds them.
 *
 * Source: DESIGN ("Invariants"). A row is NAME of tests/mutants/patches/NAME.patch, the part of `explore` that is enough,
 * and the invariant that must name it.
 */
import type { InvariantId } from '../../emulator/vmx/stop-reason.js';

/** One bug: the events and the reason that show it. */
export interface ExploredMutant {
  readonly patch: string;
  readonly events: readonly string[];
  readonly reason: string;
  readonly invariant: InvariantId;
  readonly depth: 1 | 2;
}

type Row = readonly [
  patch: string,
  events: string,
  reason: string,
  invariant: InvariantId,
  depth?: 2,
];

// prettier-ignore
const ROWS: readonly Row[] = [
  ['pointer-before-flag', 'init', 'VMCALL', 'no-routing-while-detached'],
  ['pointers-kept-over-the-wait', 'flip', 'VMCALL', 'no-routing-while-detached'],
  ['routed-without-flag', 'init', 'VMCALL', 'no-routing-while-detached'],
  ['flag-looked-at-twice', 'flip', 'VMCALL', 'no-lost-exit'],
  ['flip-ends-the-spin-without-routing', 'flip', 'VMCALL', 'no-lost-exit'],
  ['counted-twice-after-a-stall', 'flip', 'VMCALL', 'telemetry'],
  ['stall-without-a-record', 'flip', 'VMCALL', 'telemetry'],
  ['stall-recorded-without-a-stop', 'stop', 'VMCALL', 'telemetry'],
  ['stop-not-seen-in-the-spin', 'stop', 'VMCALL', 'bounded'],
  ['request-not-in-the-last-look', 'stop', 'RDTSC', 'bounded'],
  ['stopped-state-before-vmclear', 'stop', 'RDTSC', 'preserved'],
  ['stopped-with-a-wrong-register', 'stop', 'PAUSE_INSTRUCTION', 'guest-registers'],
  ['event-not-reinjected', 'stop', 'EPT_VIOLATION', 'event-reinjected'],
  ['rip-advanced-on-blocked-exit', 'init', 'EPT_VIOLATION', 'rip'],
  ['nmi-window-begins-late', 'nmi', 'PAUSE_INSTRUCTION', 'nmi'],
  ['nmi-loses-rcx', 'nmi', 'PAUSE_INSTRUCTION', 'isolation'],
  ['nmi-counted-as-the-guests-exit', 'nmi', 'RDTSC', 'telemetry'],
  ['nmi-returns-with-another-stack', 'nmi', 'VMCALL', 'no-lost-exit'],
  ['host-nmi-forgotten', 'nmi', 'PAUSE_INSTRUCTION', 'nmi'],
  ['nmis-left-blocked', 'init', 'EXCEPTION_NMI', 'nmi'],
  ['nmi-and-mc-share-a-stack', 'nmi,mce', 'PAUSE_INSTRUCTION', 'nmi', 2],
  ['mc-in-the-spin-parks', 'mce', 'VMCALL', 'no-lost-exit'],
  ['mc-counted-before-it-is-known', 'mce', 'PAUSE_INSTRUCTION', 'nmi'],
  ['mcip-left-set', 'mce', 'PAUSE_INSTRUCTION', 'nmi'],
  ['past-deadline-lost', 'init', 'MSR_WRITE', 'time'],
  ['self-ipi-dropped', 'init', 'MSR_WRITE', 'interrupts'],
  ['physical-eoi-twice', 'init', 'EXTERNAL_INTERRUPT', 'interrupts'],
  ['device-interrupt-dropped', 'intr', 'EXTERNAL_INTERRUPT', 'interrupts'],
  ['host-timer-restored-when-armed-only', 'intr,flip,stop', 'HLT', 'host-state'],
];

/** All of them. */
export const EXPLORED_MUTANTS = ROWS.map(
  ([patch, events, reason, invariant, depth]): ExploredMutant => ({
    patch,
    events: events.split(','),
    reason,
    invariant,
    depth: depth === 2 ? 2 : 1,
  }),
);
