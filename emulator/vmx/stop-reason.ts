/**
 * Why a run came back: the closed set of outcomes that scenarios, the debugger and the fuzzer switch over.
 *
 * Source: DESIGN ("StopReason is a closed union", "Invariants").
 * Invariant: a stop is plain data and can be compared, printed and stored; registers are not in it, they stay in the pCPU.
 */
import type { EngineStop } from '../cpu/port.js';

// prettier-ignore
/** The invariants that a payload is judged by. */
export const INVARIANT_IDS = [
  'isolation', 'reachable-preserved', 'w-xor-x', 'guest-registers', 'vmcs-writes', 'rip', 'event-reinjected',
  'no-lost-exit', 'no-routing-while-detached', 'ownership', 'telemetry', 'stack', 'host-state', 'nmi', 'interrupts',
  'time', 'bounded', 'preserved', 'nested-tables', 'completions',
] as const;

/** The id of an invariant. */
export type InvariantId = (typeof INVARIANT_IDS)[number];

/** A broken invariant: what, where, and the details a report prints. */
export interface Finding {
  readonly invariant: InvariantId;
  readonly message: string;
  /** Address of the instruction that did it. */
  readonly address: bigint;
  readonly details: Readonly<Record<string, unknown>>;
}

/** What a logical processor does when it executes nothing (SDM, "Guest Non-Register State" has the same names). */
export type Activity = 'active' | 'halted' | 'shutdown' | 'wait-for-sipi';

/** A watched access that ended a run. */
export type WatchedAccess = Omit<Extract<EngineStop, { kind: 'watch' }>, 'kind'>;

/** `address` is RIP at the stop; each arm says where that is. */
export type StopReason =
  /** At a VMRESUME that has not been executed; the machine performs the VM entry. */
  | { readonly kind: 'vmresume'; readonly address: bigint }
  /** At a VMLAUNCH that has not been executed. */
  | { readonly kind: 'vmlaunch'; readonly address: bigint }
  /** At the first instruction of a routing handler. */
  | { readonly kind: 'routed'; readonly address: bigint }
  /** Past a PAUSE that the spin detector stopped at; `site` is the PAUSE. */
  | { readonly kind: 'spinning'; readonly address: bigint; readonly site: bigint }
  /** Past a HLT, or waiting for a SIPI; `wakeTsc` is when the pCPU's own timer ends the wait, or Infinity. */
  | {
      readonly kind: 'halted';
      readonly address: bigint;
      readonly activity: Exclude<Activity, 'active'>;
      readonly wakeTsc: number;
    }
  /** At the faulting instruction (past it for INT3 and INT n), before delivery through the IDT. */
  | {
      readonly kind: 'exception';
      readonly address: bigint;
      readonly vector: number;
      readonly errorCode: number | null;
      /** CR2 for #PF. */
      readonly faultAddress: bigint | null;
    }
  /** At an instruction, or a use of one, that nothing models. */
  | {
      readonly kind: 'unmodelled';
      readonly name: string;
      readonly address: bigint;
      readonly detail: string;
    }
  /** The payload published `serialized` and waits in its park loop. */
  | { readonly kind: 'serialized'; readonly address: bigint }
  /** The payload parked the core after an error it does not survive. */
  | { readonly kind: 'parked'; readonly address: bigint; readonly vector: number | null }
  /** A VM entry failed early; `error` is null for VMfailInvalid. */
  | { readonly kind: 'vmfail'; readonly address: bigint; readonly error: number | null }
  /** A VM exit could not load host state. */
  | { readonly kind: 'vmx-abort'; readonly indicator: number }
  /** At an address given to setBreakpoint(). */
  | { readonly kind: 'breakpoint'; readonly address: bigint }
  /** Past the instruction that made a watched access. */
  | { readonly kind: 'watchpoint'; readonly address: bigint; readonly access: WatchedAccess }
  /** The limit given to run() was reached, exactly. */
  | { readonly kind: 'instruction-limit'; readonly address: bigint }
  /** A VM entry failed late: the exit-reason word with bit 31, and its qualification. */
  | {
      readonly kind: 'entry-failure';
      readonly address: bigint;
      readonly exitReason: number;
      readonly qualification: bigint;
    }
  /** A fault while delivering #DF; `vectors` is the chain that led there. */
  | { readonly kind: 'triple-fault'; readonly address: bigint; readonly vectors: readonly number[] }
  /** A broken invariant that a run does not continue after. */
  | { readonly kind: 'finding'; readonly address: bigint; readonly finding: Finding };

/** The tag of a stop. */
export type StopKind = StopReason['kind'];
