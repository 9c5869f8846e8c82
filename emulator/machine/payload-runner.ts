/**
 * A core in the payload: runs it to its next stop and turns the stop into what becomes of the vCPU.
 *
 * Source: DESIGN ("StopReason is a closed union", "Spin fast-forward"); CONTRACT ("Outcome of an exit").
 * Invariant: an exit's first outcome is set here, once: fastpath at VM entry, routed at the handler, blocked at the first
 * poll while KVM_DETACHED.
 */
import { CARETAKER_NO_EXIT, CARETAKER_REQUEST, CARETAKER_RUN_STATE } from '../../abi/ccb.js';
import { unreachable } from '../../abi/errors.js';
import { printExitReason } from '../../abi/exit-reasons.js';
import { INTR_TYPE, VECTOR } from '../../abi/interruption.js';
import { VMXERR } from '../../abi/vm-errors.js';
import { hex } from '../../abi/uint.js';
import { REG } from '../cpu/registers.js';
import { endDebugTraps } from '../vmx/events.js';
import { execute, type VmxResult } from '../vmx/vmx-instructions.js';
import type { InvariantId, StopReason } from '../vmx/stop-reason.js';
import type { Fault } from '../vmx/root/outcome.js';
import { CONTROL_PROTECTION } from '../vmx/root/shadow-stack.js';
import type { DebugHook } from './debug-hook.js';
import type { Outcome } from './exit-record.js';
import { addToTruth, isServicingMachineCheck, noteFault } from './interposed-events.js';
import type { Lane } from './lane.js';
import type { Machine } from './machine.js';
import { onRouted } from './kvm-exits.js';
import { beginRun, canEnter } from './run-entry.js';
import { hostTakes, nextPlannedAt, raiseDue, raiseDueInKvm } from './stray-events.js';
import { hasCountedBlocked } from './telemetry-view.js';
import { payloadStateOf } from './wake.js';

/** No handler may take longer; the bounded invariant has a tighter bound of its own. */
const RUN_LIMIT = 200_000;

/** Polls of one wait that are executed though something but the flag changes in them. */
const POLLS_SEEN = 64;

export class PayloadRunner {
  readonly #machine: Machine;

  constructor(machine: Machine) {
    this.#machine = machine;
  }

  /** Runs a lane's core until the guest is entered, KVM has it, or it waits; or until a debugger pauses it. */
  run(lane: Lane): void {
    const { counters } = lane.engine;
    const isFresh = lane.handlerEnd === null;
    lane.handlerEnd ??= counters.instructions + RUN_LIMIT;
    if (isFresh && !lane.inExit) {
      hostTakes(this.#machine, lane);
      beginRun(this.#machine, lane);
    }
    const { debug } = this.#machine;
    const isOver =
      debug === null
        ? this.#run(lane, lane.handlerEnd)
        : this.#runDebugged(lane, lane.handlerEnd, debug);
    if (isOver) lane.handlerEnd = null;
    else this.#machine.paused = lane;
  }

  #run(lane: Lane, end: number): true {
    const { counters } = lane.engine;
    for (;;) {
      this.#bind(lane);
      raiseDue(this.#machine, lane);
      const limit = Math.min(end, nextPlannedAt(lane));
      const stop = lane.pcpu.run(limit - counters.instructions);
      if (stop.kind === 'instruction-limit' && limit < end) continue;
      if (this.#handle(lane, stop) === 'over') return true;
    }
  }

  /** The same with a debugger: it is asked at boundaries, and what it stopped goes on. False when it paused the handler. */
  #runDebugged(lane: Lane, end: number, debug: DebugHook): boolean {
    const { counters } = lane.engine;
    for (;;) {
      this.#bind(lane);
      raiseDue(this.#machine, lane);
      let stop = lane.pcpu.settle();
      const wasBoundary = stop === null && !lane.pcpu.routingAddresses.has(lane.rip);
      if (stop === null) {
        const left = Math.min(end, nextPlannedAt(lane)) - counters.instructions;
        const wanted = wasBoundary ? debug.atBoundary(lane) : left;
        if (wanted === 0) return false;
        stop = lane.pcpu.run(Math.min(wanted, left));
      }
      if (stop.kind === 'watchpoint') {
        debug.watched(lane, stop.access);
        continue;
      }
      const isDebuggers =
        (stop.kind === 'breakpoint' && debug.hasBreakpoint(stop.address)) ||
        // Where none is delivered the debugger has stopped the fetch.
        stop.kind === 'exception' ||
        (stop.kind === 'instruction-limit' && counters.instructions < end);
      if (!isDebuggers && this.#handle(lane, stop) === 'over') {
        debug.left(lane, stop, wasBoundary);
        return true;
      }
    }
  }

  #bind(lane: Lane): void {
    const { current } = lane.pcpu.vmx;
    if (lane.boundVmcs === current) return;
    lane.boundVmcs = current;
    lane.engine.bindVmcs(current);
  }

  #handle(lane: Lane, stop: StopReason): 'over' | 'go on' {
    switch (stop.kind) {
      case 'vmresume':
        return this.#enter(lane, 'VMRESUME');
      case 'vmlaunch':
        return this.#enter(lane, 'VMLAUNCH');
      case 'routed':
        this.#route(lane);
        return lane.phase === 'payload' ? 'go on' : 'over';
      case 'spinning':
        return this.#wait(lane);
      case 'halted':
        lane.phase = payloadStateOf(lane) === CARETAKER_RUN_STATE.PARKED ? 'stopped' : 'halted';
        if (lane.phase === 'stopped') this.#parked(lane);
        // An interrupt for another vCPU ends it for a moment, and there may be any number of them.
        else if (lane.inExit) lane.exit.waitedInstructions = instructionsOf(lane);
        return 'over';
      case 'instruction-limit':
        this.#fail(lane, 'bounded', `no end after ${RUN_LIMIT} instructions`);
        return 'over';
      case 'unmodelled':
        // A root that maps nothing is memory that the payload has no business with.
        this.#fail(
          lane,
          stop.name === 'MOV_TO_CR' ? 'isolation' : 'host-state',
          `${stop.name} is not modelled: ${stop.detail}`,
        );
        return 'over';
      case 'triple-fault':
        if (stop.vectors.length === 0 && isServicingMachineCheck(lane)) this.#shutDown(lane);
        else this.#fail(lane, 'no-lost-exit', `triple fault (vectors ${stop.vectors.join(', ')})`);
        return 'over';
      case 'exception':
      case 'vmfail':
      case 'vmx-abort':
      case 'entry-failure':
      case 'breakpoint':
      case 'watchpoint':
      case 'serialized':
      case 'parked':
      case 'finding':
        this.#fail(lane, 'no-lost-exit', `stopped: ${stop.kind}`);
        return 'over';
      default:
        return unreachable(stop);
    }
  }

  /** VMRESUME or VMLAUNCH: the invariants look first, then the hardware. */
  #enter(lane: Lane, name: 'VMRESUME' | 'VMLAUNCH'): 'over' | 'go on' {
    const machine = this.#machine;
    if (lane.inExit) {
      // A planned event comes before VM entry at the latest, and the core takes it before that.
      if (lane.planned.length > 0) {
        raiseDue(machine, lane, true);
        machine.debug?.entryRefused(lane);
        return 'go on';
      }
      if (lane.exit.outcome === null) this.#settle(lane, 'fastpath');
      addToTruth(lane);
      machine.hooks.atResume(lane, machine.ledger);
    } else if (canEnter(lane, name)) {
      machine.hooks.atRunEntry(lane, machine.ledger);
    }
    const result = execute(lane.pcpu, { name });
    if (result.kind === 'vmfail-valid' || result.kind === 'vmfail-invalid') {
      this.#vmfailed(lane, result);
      lane.pcpu.registers.set('RIP', lane.rip + 3n);
      machine.debug?.entryRefused(lane);
      return 'go on';
    }
    if (result.kind !== 'entry' || result.entry.kind !== 'entered') {
      const rule =
        result.kind === 'entry' && 'rule' in result.entry ? result.entry.rule : result.kind;
      this.#fail(lane, 'no-lost-exit', `VM entry failed: ${rule}`);
      return 'over';
    }
    lane.inExit = false;
    lane.phase = 'guest';
    const { entry } = result;
    lane.timerTsc = entry.timer?.expiresAt ?? Infinity;
    if (entry.event !== null) this.#delivered(lane, entry.event.type, entry.event.vector);
    machine.guests.entered(lane, entry.event?.vector ?? null);
    return 'over';
  }

  /** Error 5 is the way from VMRESUME to VMLAUNCH; every other VMfail means that the payload made the VMCS unusable. */
  #vmfailed(
    lane: Lane,
    result: Extract<VmxResult, { kind: 'vmfail-valid' | 'vmfail-invalid' }>,
  ): void {
    if (result.kind === 'vmfail-invalid') {
      this.#finding(lane, 'no-lost-exit', 'VM entry failed: there is no current VMCS');
    } else if (result.error !== VMXERR.VMXERR_VMRESUME_NONLAUNCHED_VMCS) {
      const why = result.rule === undefined ? '' : `: ${result.rule}`;
      this.#finding(lane, 'no-lost-exit', `VM entry failed with error ${result.error}${why}`);
    }
  }

  #delivered(lane: Lane, type: number, vector: number): void {
    if (type === INTR_TYPE.EXT_INTR) {
      this.#machine.interruptDelivered(lane, vector);
      return;
    } else if (type === INTR_TYPE.NMI_INTR) {
      lane.interrupts.deliver(vector);
      this.#machine.count('nmisInjected');
      this.#machine.hooks.atDelivery(lane, this.#machine.ledger, vector);
    }
    if (type === INTR_TYPE.HARD_EXCEPTION && vector === VECTOR.DB) endDebugTraps(lane.vmcs);
    lane.guest.onEvent(vector);
  }

  #route(lane: Lane): void {
    const machine = this.#machine;
    if (lane.inExit) {
      raiseDueInKvm(machine, lane);
      if (payloadStateOf(lane) === CARETAKER_RUN_STATE.SERIALIZED) this.#serialized(lane);
      else if (lane.pcpu.registers.words[2 * REG.RDX] === CARETAKER_NO_EXIT) this.#hostEvent(lane);
      else {
        if (lane.exit.outcome === null) this.#attachedMeanwhile(lane);
        if (lane.exit.outcome === null) this.#settle(lane, 'routed');
        else this.#released(lane);
        addToTruth(lane);
        machine.hooks.atRoute(lane, machine.ledger);
      }
    }
    onRouted(machine, lane);
    if (lane.phase === 'payload') beginRun(machine, lane);
  }

  /** KVM attached after the payload had begun to wait and before its first poll: the exit was blocked, for no time. */
  #attachedMeanwhile(lane: Lane): void {
    if (lane.exit.wasAttached || !hasCountedBlocked(lane)) return;
    this.#settle(lane, 'blocked');
    lane.exit.hasWaited = true;
    lane.waitBeganTsc = lane.pcpu.now();
    this.#machine.hooks.atBlock(lane, this.#machine.ledger);
  }

  /** The exit was answered; what goes to KVM is an event of the host's that came meanwhile. */
  #hostEvent(lane: Lane): void {
    if (lane.exit.outcome === null) this.#settle(lane, 'fastpath');
    addToTruth(lane);
    this.#machine.hooks.atHandOver(lane, this.#machine.ledger);
    this.#machine.count('hostEventsHandedOn');
  }

  /** Stopped on request: the exit at hand was answered, or counts as blocked (CONTRACT, "Stop and serialize"). */
  #serialized(lane: Lane): void {
    this.#stopped(lane);
    if (lane.exit.outcome === 'blocked') this.#tellRelease(lane);
    addToTruth(lane);
    this.#machine.hooks.atHandOver(lane, this.#machine.ledger);
    this.#machine.count('serialized');
    this.#machine.timeline.add(lane.pcpu.now(), lane.id, 'stopped and serialized', 3);
  }

  /** `serialized` is seen for the first time; an exit that waited before was settled then. */
  #stopped(lane: Lane): void {
    const { exit } = lane;
    if (exit.hasStopped) return;
    exit.hasStopped = true;
    if (exit.outcome === null) {
      const isAnswered = lane.vcpu.ccbView.number('exit_reason') === CARETAKER_NO_EXIT;
      this.#settle(lane, isAnswered ? 'fastpath' : 'blocked');
      if (!isAnswered) lane.waitBeganTsc = lane.pcpu.now();
    }
    // Its record is written by now: what it waits from here on is the stop's and not the exit's.
    if (exit.outcome === 'blocked') this.#endStall(lane);
    this.#machine.hooks.atStop(lane, this.#machine.ledger);
  }

  /** The first poll of an exit makes it a blocked one; an unchanged poll puts the core to sleep until something happens. */
  #wait(lane: Lane): 'over' | 'go on' {
    if (payloadStateOf(lane) === CARETAKER_RUN_STATE.PARKED) {
      lane.phase = 'stopped';
      this.#parked(lane);
      return 'over';
    }
    const isStopped = payloadStateOf(lane) === CARETAKER_RUN_STATE.SERIALIZED;
    if (isStopped && lane.inExit) this.#stopped(lane);
    if (lane.inExit && lane.exit.outcome === null) {
      this.#settle(lane, 'blocked');
      // A poll on the way to a stop that was asked for is judged when the payload says `serialized`.
      lane.exit.hasWaited = lane.vcpu.ccbView.number('request') === CARETAKER_REQUEST.NONE;
      lane.waitBeganTsc = lane.pcpu.now();
      const what = printExitReason(lane.exit.basic);
      this.#machine.timeline.add(
        lane.pcpu.now(),
        lane.id,
        `${what} blocks: waits for KVM_ATTACHED`,
        3,
      );
      this.#machine.hooks.atBlock(lane, this.#machine.ledger);
    }
    if (!lane.poll.isVain) return 'go on';
    if (this.#machine.config.pollsEveryTime !== true) lane.phase = 'waiting';
    return 'over';
  }

  /** The wait is over and the exit goes to KVM. */
  #released(lane: Lane): void {
    this.#endStall(lane);
    this.#tellRelease(lane);
  }

  #endStall({ exit, pcpu, truth, waitBeganTsc: tscEntry }: Lane): void {
    const tscRelease = pcpu.now();
    exit.stallTicks = tscRelease - tscEntry;
    truth.addStall({ basic: exit.basic, tscEntry, tscRelease });
  }

  #tellRelease(lane: Lane): void {
    const now = lane.pcpu.now();
    lane.exit.waitedInstructions = instructionsOf(lane);
    const ms = ((now - lane.waitBeganTsc) / this.#machine.tscFrequencyHz) * 1000;
    this.#machine.timeline.add(
      now,
      lane.id,
      `${printExitReason(lane.exit.basic)} released after ${ms.toFixed(3)} ms`,
      3,
    );
  }

  /** The first outcome of the exit at hand. */
  #settle(lane: Lane, outcome: Outcome): void {
    const { exit, truth } = lane;
    exit.outcome = outcome;
    if (exit.failedVmentry) truth.entryFailures++;
    else truth.add(exit.basic, outcome);
    for (const observer of this.#machine.hooks.observers) observer.onOutcome(lane, outcome);
    if (this.#machine.timeline.wantsSlices) {
      this.#machine.timeline.addSlice({
        vcpu: lane.id,
        name: printExitReason(exit.basic),
        outcome,
        tscBegin: exit.tsc,
        tscEnd: lane.pcpu.now(),
        sequence: exit.sequence,
      });
    }
  }

  /** A machine check came before the handler of the one before could clear MCIP: no software can help that. */
  #shutDown(lane: Lane): void {
    const what = 'the core shuts down: a machine check came while one was being serviced';
    this.#machine.count('coresShutDown');
    this.#machine.timeline.add(lane.pcpu.now(), lane.id, what, 3);
    lane.exit.mayEnd = true;
    lane.phase = 'stopped';
  }

  #parked(lane: Lane): void {
    this.#machine.hooks.atPark(lane, this.#machine.ledger);
    const ccb = lane.vcpu.ccbView;
    this.#machine.count('parked');
    this.#machine.timeline.add(
      lane.pcpu.now(),
      lane.id,
      `parked: vector ${ccb.number('vector')}, error code ${hex(ccb.number('error_code'))}, RIP ${hex(ccb.get('rip'))}, CR2 ${hex(ccb.get('cr2'))}`,
      3,
    );
  }

  #finding(lane: Lane, id: InvariantId, message: string): void {
    this.#machine.ledger.fail(id, lane.rip, `${lane.describeExit()}: ${message}`);
  }

  #fail(lane: Lane, id: InvariantId, message: string): void {
    this.#finding(lane, id, message);
    this.#machine.timeline.add(lane.pcpu.now(), lane.id, message, 3);
    // That it has no outcome is said once.
    lane.exit.mayEnd = true;
    lane.phase = 'stopped';
  }

  /** PAUSE: whether the payload polls in vain. Same site, same registers but those RDTSC writes, no store since. */
  onPause(lane: Lane, site: bigint): 'continue' | 'stop' {
    const { counters } = lane.engine;
    const { words } = lane.pcpu.registers;
    const before = lane.poll;
    const now = lane.pcpu.now();
    let same = before.site === site && before.stores === counters.stores;
    for (let word = 0; word < 32; word++) {
      const register = word >>> 1;
      const isTsc =
        before.rdtscs !== counters.inlineRdtscs && (register === REG.RAX || register === REG.RDX);
      if (before.words[word] !== words[word] && !isTsc) same = false;
      before.words[word] = words[word]!;
    }
    // A wait may count its polls. Only the flag, a request or an event ends it, so after many polls the rest are skipped.
    // DEVIATION: such a count is then lower than the processor's.
    before.count = before.site === site ? before.count + 1 : 0;
    if (lane.inExit && lane.exit.outcome === 'blocked' && before.count >= POLLS_SEEN) same = true;
    if (same) lane.pollTicks = Math.max(1, now - before.tsc);
    before.isVain = same;
    before.site = site;
    before.stores = counters.stores;
    before.rdtscs = counters.inlineRdtscs;
    before.tsc = now;
    return same || (lane.inExit && lane.exit.outcome === null) ? 'stop' : 'continue';
  }

  /** A fault of the payload's own: it goes through the payload's IDT, and is a finding. */
  onException(lane: Lane, exception: Fault, address: bigint): void {
    noteFault(lane, exception, address);
    if (lane.faultIsForced) {
      lane.exit.mayEnd = true;
      return;
    }
    const where = exception.address === null ? '' : ` accessing ${hex(exception.address)}`;
    const region =
      exception.address === null ? undefined : this.#machine.regionName(exception.address);
    const id = invariantOf(exception);
    if (exception.vector === VECTOR.CP) this.#machine.count('controlProtections');
    this.#machine.ledger.fail(
      id,
      address,
      `${lane.describeExit()}: the payload raised vector ${exception.vector}${codeOf(exception)}${where}${region === undefined ? '' : ` (${region})`}`,
    );
  }
}

/** Instructions since the exit. */
const instructionsOf = ({ engine, exit }: Lane): number =>
  engine.counters.instructions - exit.instructions;

/** The invariant that an exception of the payload's own breaks. */
function invariantOf({ vector, address }: Fault): InvariantId {
  if (vector === VECTOR.CP) return 'stack';
  return address === null ? 'no-lost-exit' : 'isolation';
}

/** What was wrong with a return, in words. */
function codeOf({ vector, errorCode }: Fault): string {
  if (vector !== VECTOR.CP) return '';
  return errorCode === CONTROL_PROTECTION.NEAR_RET
    ? ': RET to another address than its CALL pushed'
    : ` (#CP, error code ${errorCode ?? 0})`;
}
