/**
 * The two words between a session and a face: why the machine stopped, and how it is to go on.
 *
 * Source: DESIGN (users: "step through the payload in a debugger they know ... forwards and backwards").
 * Invariant: closed unions; a face is a function from a stop to a resume and is called on the machine's own stack.
 */
import type { HarnessError } from '../../abi/errors.js';
import type { Lane } from '../machine/lane.js';
import type { Finding } from '../vmx/stop-reason.js';
import type { Breakpoint, Change } from './breakpoints.js';
import type { TapeEntry } from './edits.js';
import type { Position } from './position.js';
import type { DebugSession } from './session.js';

/** Addresses from `start` up to and without `end`. */
export interface AddressRange {
  readonly start: bigint;
  readonly end: bigint;
}

/** What tells the lines of the source apart; null where there is none. */
export type LineOf = (lane: Lane, address: bigint) => SourceLineKey | null;

/** A line, and what begins at the address: a statement, code of the line that is no place to stop, or nothing. */
export interface SourceLineKey {
  readonly key: string;
  readonly begins: 'statement' | 'row' | 'nothing';
}

/** How to go on; `backwards` turns each of them round. */
export type Resume =
  /** `count` instructions. */
  | { readonly kind: 'step'; readonly count?: number; readonly backwards?: boolean }
  /** `count` instructions of this frame: a call is one. */
  | { readonly kind: 'next'; readonly count?: number; readonly backwards?: boolean }
  /** To behind the call of the function at hand; backwards: to the call. */
  | { readonly kind: 'finish'; readonly backwards?: boolean }
  /** Until RIP leaves the ranges; `over` takes a call as part of them. */
  | {
      readonly kind: 'step-range';
      readonly ranges: readonly AddressRange[];
      readonly over?: boolean;
      readonly backwards?: boolean;
    }
  /** To the next line of the source; `over` takes a call as part of the line at hand. */
  | {
      readonly kind: 'step-line';
      readonly lineOf: LineOf;
      readonly count?: number;
      readonly over?: boolean;
      readonly backwards?: boolean;
    }
  /** To one of these addresses. */
  | { readonly kind: 'until'; readonly addresses: readonly bigint[]; readonly backwards?: boolean }
  /** `undoes`: backwards, a watched value that changed right before the stop at hand counts as well. */
  | { readonly kind: 'continue'; readonly backwards?: boolean; readonly undoes?: boolean }
  /** To a position, wherever that lies. */
  | { readonly kind: 'seek'; readonly position: Position }
  /** To a state that was saved under a name. */
  | { readonly kind: 'restore'; readonly name: string }
  /** To a position of the run with other changes than this one's. */
  | { readonly kind: 'replay'; readonly entries: readonly TapeEntry[]; readonly position: Position }
  /** To the end of the scenario, stopping nowhere. */
  | { readonly kind: 'end' }
  | { readonly kind: 'quit' };

/** A wish that has a direction. */
export type Moving = Exclude<Resume, { kind: 'quit' | 'end' | 'seek' | 'restore' | 'replay' }>;

/** Why the machine stopped. */
export type Cause =
  /** The first stop: HOST_RIP of the first exit. */
  | { readonly kind: 'start' }
  /** What was asked for is done. */
  | { readonly kind: 'done' }
  /** What was asked for ended early, because the handler did. */
  | { readonly kind: 'exit-ends' }
  | {
      readonly kind: 'breakpoint';
      readonly breakpoints: readonly Breakpoint[];
      /** Old and new values of those that watch one. */
      readonly changes: readonly Change[];
      /** What was found at the same boundary. */
      readonly findings: readonly Finding[];
    }
  | { readonly kind: 'finding'; readonly findings: readonly Finding[] }
  | { readonly kind: 'interrupted' }
  /** There is nothing before this. */
  | { readonly kind: 'history-start' }
  /** The scenario is over; `error` when a step could not be taken, `findings` since the last stop. */
  | {
      readonly kind: 'ended';
      readonly error: HarnessError | null;
      readonly findings: readonly Finding[];
    }
  /** A position that does not exist was sought; the machine is where it was. */
  | { readonly kind: 'not-reached'; readonly position: Position; readonly why: string };

/** A stopped machine. */
export interface Stop {
  readonly cause: Cause;
  readonly position: Position;
  /** Boundaries of the whole run before this one. */
  readonly time: number;
  /** The vCPU whose core stopped; null when none has run yet. */
  readonly vcpu: number | null;
}

/** A face: looks at the stopped machine, changes what it likes, and says how to go on. */
export type Controller = (session: DebugSession, stop: Stop) => Resume;
