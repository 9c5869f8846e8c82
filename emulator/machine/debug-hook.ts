/**
 * What a debugger is asked and told while a payload runs; without one the machine pays a compare for each handler.
 *
 * Source: DESIGN ("Exact points").
 * Invariant: atBoundary() is called at an instruction boundary whose events have been taken, never in KVM's own code, so
 * that a run which stops at every boundary is tick-identical to one that stops at none.
 */
import type { StopReason, WatchedAccess } from '../vmx/stop-reason.js';
import type { Lane } from './lane.js';

/** A debugger, as the machine sees it. */
export interface DebugHook {
  /**
   * A core is about to execute: how many instructions it may, before this is asked again; 0 pauses the handler, and this
   * is asked once more when it goes on.
   */
  atBoundary(lane: Lane): number;
  /**
   * The handler is paused, and nothing is on the stack but the loop that runs the vCPUs: here a snapshot may be taken or
   * restored. On return whatever handler is paused then goes on.
   */
  paused?(lane: Lane): void;
  /** Whether the engine's stop at an address is the debugger's own breakpoint. */
  hasBreakpoint(address: bigint): boolean;
  /** A fetch at an address is about to fault: whether the debugger has a breakpoint there that it has not shown. */
  stopsFetch?(lane: Lane, address: bigint): boolean;
  /** The instruction behind which the core stands made an access that the debugger watches. */
  watched(lane: Lane, access: WatchedAccess): void;
  /** An event went through the payload's IDT: its handler begins where the code at `interrupted` would have gone on. */
  delivered?(lane: Lane, interrupted: bigint): void;
  /** VMRESUME or VMLAUNCH failed and the core is behind it: an instruction that took no tick. */
  entryRefused(lane: Lane): void;
  /** A core is done with the payload for now; `wasBoundary` when it stands at a boundary that was asked about. */
  left(lane: Lane, stop: StopReason, wasBoundary: boolean): void;
}
