/**
 * What a debug adapter knows of its session between two requests: frames and variables by number, breakpoints by source.
 *
 * Source: the Debug Adapter Protocol ("Lifetime of Objects References": numbers hold until the machine goes on).
 * Invariant: forget() is called at each stop and after each change, so that no number outlives what it stood for.
 */
import type { DebugSession } from '../debug/session.js';
import type { Stop } from '../debug/resume.js';
import { backtraceOf, framesOf } from '../debug/source/backtrace.js';
import type { BacktraceEntry, Frame } from '../debug/source/backtrace.js';
import { ExpressionScope } from '../debug/source/expression/scope.js';
import type { LaneView } from '../debug/source/lane-view.js';
import type { SourceLevel } from '../debug/source/source-level.js';
import { DapError } from './arguments.js';
import type { Child } from './children.js';

/** A frame that has a number. */
export interface NumberedFrame {
  readonly core: LaneView;
  readonly entry: BacktraceEntry;
}

/** A list of values that has a number. */
export interface Container {
  readonly core: LaneView;
  readonly frame: Frame | null;
  readonly children: () => readonly Child[];
}

export class AdapterState {
  readonly session: DebugSession;
  readonly level: SourceLevel;
  /** Breakpoints of the session by the source, list or filter that set them. */
  readonly breakpoints = new Map<string, readonly number[]>();
  /** Words of the console's commands that a line may go on with. */
  commandWords: (line: string) => readonly string[] = () => [];
  #frames: NumberedFrame[] = [];
  #containers: Container[] = [];

  constructor(session: DebugSession, level: SourceLevel) {
    this.session = session;
    this.level = level;
  }

  get stop(): Stop {
    return this.session.stop;
  }

  /** Numbers of the last stop mean nothing any more. */
  forget(): void {
    this.#frames = [];
    this.#containers = [];
  }

  /** A vCPU's core by the protocol's thread: the vCPU and one, because 0 is no thread. @throws DapError. */
  core(thread: number): LaneView {
    const { lanes } = this.session.machine;
    const lane = lanes.find(({ id }) => id === thread - 1);
    if (lane === undefined) throw new DapError('BAD_ARGUMENT', `no thread ${thread}`);
    return this.level.core(this.session, lane.id);
  }

  /** The core at which the machine stopped; null when no vCPU has run. */
  get stoppedCore(): LaneView | null {
    const { selected } = this.session;
    return selected === null ? null : this.level.core(this.session, selected);
  }

  /** The backtrace of a thread, each line with its number. */
  frames(thread: number): readonly (NumberedFrame & { readonly id: number })[] {
    const core = this.core(thread);
    return backtraceOf(core).map((entry) => {
      const id = this.#frames.push({ core, entry });
      return { id, core, entry };
    });
  }

  /** The frame with a number. @throws DapError. */
  frame(id: number): NumberedFrame {
    const frame = this.#frames[id - 1];
    if (frame === undefined) throw new DapError('BAD_ARGUMENT', `no frame ${id} at this stop`);
    return frame;
  }

  /** The names that an expression sees: of a frame, or of the innermost one of the stopped core. @throws DapError. */
  scope(frameId: number | null): ExpressionScope {
    if (frameId !== null) {
      const { core, entry } = this.frame(frameId);
      return new ExpressionScope(core, entry.frame);
    }
    const core = this.stoppedCore;
    if (core === null) throw new DapError('NOT_NOW', 'no vCPU has run yet');
    return new ExpressionScope(core, framesOf(core)[0] ?? null);
  }

  /** Gives a list of values a number. */
  contain(container: Container): number {
    return this.#containers.push(container);
  }

  /** The list with a number. @throws DapError. */
  container(reference: number): Container {
    const found = this.#containers[reference - 1];
    if (found === undefined) {
      throw new DapError('BAD_ARGUMENT', `no variables ${reference} at this stop`);
    }
    return found;
  }
}
