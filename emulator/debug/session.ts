/**
 * One debugging session, as its faces see it: the stopped machine, what is changed in it, and breakpoints.
 *
 * A face is a Controller: it is called at every stop with the session and says how to go on. debugRun() takes a scenario
 * through under a controller until that quits.
 * Source: DESIGN (users: "step through the payload in a debugger they know ... forwards and backwards").
 * Invariant: what a session shows is the machine at the stop at hand; every change goes through edit(), so that a replay
 * makes it again.
 */
import { HarnessBug, HarnessError } from '../../abi/errors.js';
import type { CaretakerImage } from '../../loader/image.js';
import { Conductor } from '../machine/conductor.js';
import type { Lane } from '../machine/lane.js';
import type { Machine } from '../machine/machine.js';
import type { Scenario } from '../machine/scenario/schema.js';
import { BreakpointTable } from './breakpoints.js';
import { Tape, applyEdit, type Edit, type TapeEntry } from './edits.js';
import { PayloadImage } from './payload-image.js';
import { Pilot, Quit, Rewind } from './pilot.js';
import type { Position } from './position.js';
import type { Controller, Stop } from './resume.js';
import type { StretchLog } from './stretches.js';

export type DebugErrorCode = 'NOTHING_RUNS' | 'RUN_IS_OVER' | 'NO_SUCH_VCPU';
/** A wish that the stopped machine cannot fulfil. */
export class DebugError extends HarnessError<DebugErrorCode> {}

/** A state to come back to: a time, and all that was changed before it. */
export interface SavedState {
  readonly time: number;
  readonly position: Position;
  readonly entries: readonly TapeEntry[];
}

/** What a session is about. */
export interface DebugOptions {
  readonly scenario: Scenario;
  readonly payload: Uint8Array;
  /** A shared word that somebody else sets to 1 to stop the run. */
  readonly interrupt?: Int32Array;
}

export class DebugSession {
  readonly options: DebugOptions;
  readonly image: PayloadImage;
  readonly breakpoints = new BreakpointTable();
  readonly tape = new Tape();
  /** Positions that were given a name. */
  readonly names = new Map<string, Position>();
  /** States that were saved. */
  readonly saved = new Map<string, SavedState>();
  readonly pilot: Pilot;
  #conductor: Conductor | null = null;
  #stop: Stop | null = null;
  #selected: number | null = null;

  /** The image of a payload's file. @throws LoaderError when it is none. */
  static imageOf(payload: Uint8Array): CaretakerImage {
    return new PayloadImage(payload).image;
  }

  /** @throws LoaderError when the file is no payload. */
  constructor(options: DebugOptions, controller: Controller) {
    this.options = options;
    this.image = new PayloadImage(options.payload);
    this.pilot = new Pilot({
      image: this.image,
      breakpoints: this.breakpoints,
      tape: this.tape,
      savedState: (name) => this.saved.get(name),
      selected: () => this.#selected,
      takeInterrupt: () => this.#takeInterrupt(),
      ask: (cause, lane, time) => {
        const vcpu = lane?.id ?? (time === 0 ? null : this.log.at(time).vcpu);
        this.#stop = { cause, time, vcpu, position: this.pilot.log.positionAt(time) };
        this.#selected = vcpu;
        return controller(this, this.#stop);
      },
    });
  }

  /** Runs the scenario under the controller until it quits. @throws what the scenario's first steps throw. */
  run(): void {
    try {
      for (;;) this.#runOnce();
    } catch (error) {
      if (!(error instanceof Quit)) throw error;
    } finally {
      this.#dispose();
    }
  }

  get conductor(): Conductor {
    if (this.#conductor === null) throw new HarnessBug('the session has no machine');
    return this.#conductor;
  }

  get machine(): Machine {
    return this.conductor.machine;
  }

  /** Times and positions of the run so far. */
  get log(): StretchLog {
    return this.pilot.log;
  }

  /** The stop at hand. */
  get stop(): Stop {
    if (this.#stop === null) throw new HarnessBug('the session has not stopped');
    return this.#stop;
  }

  /** Where the machine is: at the stop, or while a condition is asked. */
  get position(): Position {
    return this.log.positionAt(this.pilot.now);
  }

  /** Keeps the state at the stop under a name. */
  save(name: string): void {
    const entries = this.tape.entries.slice(0, this.tape.applied);
    this.saved.set(name, { time: this.stop.time, position: this.position, entries });
  }

  /** Whether the scenario is over, so that there is only the way back. */
  get isOver(): boolean {
    return this.stop.time >= this.log.end;
  }

  /** The vCPU that is looked at. */
  get selected(): number | null {
    return this.#selected;
  }

  /** The lane that is looked at. @throws DebugError NOTHING_RUNS. */
  get lane(): Lane {
    const lane = this.machine.lanes.find(({ id }) => id === this.#selected);
    if (lane === undefined) throw new DebugError('NOTHING_RUNS', 'no vCPU has run yet');
    return lane;
  }

  /** Looks at another vCPU until the next stop. @throws DebugError NO_SUCH_VCPU. */
  select(vcpu: number): void {
    if (!this.machine.lanes.some(({ id }) => id === vcpu)) {
      const known = this.machine.lanes.map(({ id }) => id).join(', ');
      throw new DebugError('NO_SUCH_VCPU', `no vCPU ${vcpu}; there are: ${known}`);
    }
    this.#selected = vcpu;
  }

  /** Changes the machine; what was known of later times is void. @throws DebugError RUN_IS_OVER, EditError. */
  edit(edit: Edit): void {
    if (this.isOver) {
      throw new DebugError(
        'RUN_IS_OVER',
        'the scenario is over; go back before you change anything',
      );
    }
    applyEdit(this.machine, edit);
    this.tape.record(this.stop.time, edit);
    this.pilot.changed(this.stop.time);
  }

  /** From the start of the run until a way back leads there again. @throws Quit */
  #runOnce(): void {
    this.#dispose();
    const { scenario, payload } = this.options;
    const conductor = new Conductor(scenario, payload, false);
    this.#conductor = conductor;
    this.pilot.attach(conductor.machine);
    let play = (): void => {
      conductor.run();
    };
    for (;;) {
      let error: HarnessError | null = null;
      try {
        play();
      } catch (thrown) {
        if (thrown instanceof Rewind) return;
        if (!(thrown instanceof HarnessError) || conductor.machine.lanes.length === 0) throw thrown;
        error = thrown as HarnessError;
      }
      if (this.pilot.ended(error, conductor.hasRest) === 'rewind') return;
      play = () => {
        conductor.runAgain();
      };
    }
  }

  #takeInterrupt(): boolean {
    const { interrupt } = this.options;
    return (
      interrupt !== undefined &&
      Atomics.load(interrupt, 0) !== 0 &&
      Atomics.exchange(interrupt, 0, 0) !== 0
    );
  }

  #dispose(): void {
    for (const { engine } of this.#conductor?.machine.cores ?? []) engine.dispose();
  }
}

/** Takes a scenario through under a controller until that quits. */
export function debugRun(options: DebugOptions, controller: Controller): DebugSession {
  const session = new DebugSession(options, controller);
  session.run();
  return session;
}
