/**
 * Where branches begin: a VM in one state, put back to it for each.
 *
 * Source: DESIGN ("Snapshots").
 * Invariant: every branch of a state begins in the same state, to the byte and the tick; all invariants and the executable
 * specification judge it to its end.
 */
import { CARETAKER_REQUEST } from '../../abi/ccb.js';
import type { Finding } from '../vmx/stop-reason.js';
import type { MachineSnapshot } from '../machine/snapshot.js';
import { plan, raise } from '../machine/stray-events.js';
import { Stage } from '../stage/stage.js';
import type { ExploreCase } from './cases.js';
import type { Happening } from './schedule.js';
import type { ExploreState } from './states.js';
import { Tracer, type Boundary } from './trace.js';

export class Ground {
  readonly state: ExploreState;
  readonly stage: Stage;
  readonly #snapshot: MachineSnapshot;

  constructor(payload: Uint8Array, state: ExploreState, seed: number) {
    this.state = state;
    this.stage = new Stage(payload, state.variant, seed);
    const [attached, detached] = this.stage.bases();
    this.#snapshot = (state.isAttached ? attached : detached)!.snapshot;
  }

  /** Runs one branch to its end; what broke. */
  branch(exit: ExploreCase, happenings: readonly Happening[]): readonly Finding[] {
    const { stage } = this;
    const { machine, lane } = stage;
    machine.restore(this.#snapshot);
    this.#begin(exit, happenings);
    // An instruction that was not reached has nothing to say about what comes after.
    lane.planned.length = 0;
    // KVM sees what the payload made of it before it does anything more.
    if (machine.ledger.clean) stage.settle();
    if (happenings.some(({ event }) => event.name === 'stop')) this.#isServed();
    if (machine.ledger.clean && lane.phase !== 'stopped') stage.finish();
    return machine.ledger.findings.slice();
  }

  /** The boundaries of the exit under the happenings. */
  trace(exit: ExploreCase, happenings: readonly Happening[]): readonly Boundary[] {
    const { stage } = this;
    const { machine, lane } = stage;
    machine.restore(this.#snapshot);
    const tracer = new Tracer(lane.exit.sequence + 1);
    machine.debug = tracer;
    try {
      this.#begin(exit, happenings);
    } finally {
      machine.debug = null;
    }
    if (this.#isResting) tracer.rest(lane);
    lane.planned.length = 0;
    return tracer.boundaries;
  }

  #begin(exit: ExploreCase, happenings: readonly Happening[]): void {
    const { stage } = this;
    const { machine, lane } = stage;
    for (const { event, instruction } of happenings)
      plan(lane, { instruction, event: event.of(stage) });
    exit.begin(stage);
    // A core that executes nothing reaches no instruction: what is left happens to it as it waits.
    while (lane.planned.length > 0 && this.#isResting) {
      raise(machine, lane, lane.planned.shift()!.event);
      stage.settle();
    }
  }

  /** A request ends with `serialized`, or with KVM that has the vCPU and takes it back. */
  #isServed(): void {
    const { machine, lane } = this.stage;
    if (lane.phase === 'stopped' || lane.phase === 'in-kvm') return;
    const isOpen = lane.vcpu.ccbView.number('request') === CARETAKER_REQUEST.STOP;
    machine.ledger.expect(
      'bounded',
      !isOpen || lane.vcpu.payloadState === 'SERIALIZED',
      lane.rip,
      () => `${lane.describeExit()}: asked to stop, the vCPU goes on (${lane.phase})`,
    );
  }

  get #isResting(): boolean {
    const { inExit, phase } = this.stage.lane;
    return inExit && (phase === 'waiting' || phase === 'halted');
  }
}
