/**
 * A debugging session as the machine behind a GDB stub: threads are the cores that carry a vCPU.
 *
 * Source: CONTRACT ("Instance": one copy of the image a vCPU, so one file at several addresses).
 * Invariant: every change of the machine is an edit of the session's, so that going back and forth makes it again.
 */
import { CARETAKER_RUN_STATE } from '../../abi/ccb.js';
import { HarnessBug } from '../../abi/errors.js';
import { u64 } from '../../abi/uint.js';
import type { BreakpointSpec } from '../debug/breakpoints.js';
import type { Resume, Stop } from '../debug/resume.js';
import type { DebugSession } from '../debug/session.js';
import type { Core } from '../machine/cores.js';
import type { Lane } from '../machine/lane.js';
import { GDB_REGISTERS } from './registers.js';
import { placesOf, readBytes, rootOf } from './session-memory.js';
import { readCoreRegister, registerEdit } from './session-registers.js';
import { FIRST_STOP, gdbCausesOf, isWatch, messageOf, resumeOf } from './session-stops.js';
import type {
  AddressKind,
  GdbCommandResult,
  GdbFile,
  GdbPoint,
  GdbRequest,
  GdbStop,
  GdbStopCause,
  GdbTarget,
  GdbThread,
} from './target.js';

/** What a command has printed, and how the machine goes on for it; null when it does not. */
export interface CommandResult {
  readonly output: string;
  readonly resume: Resume | null;
}

/** The debugger's own command line. */
export interface CommandLine {
  /** Does a line, looking at a vCPU. */
  run(session: DebugSession, vcpu: number | null, line: string): CommandResult;
  /** What is shown where a line that moved the machine has ended. */
  arrived(session: DebugSession, stop: Stop): string;
}

/** What the payload says of itself, in words. */
const RUN_STATES: ReadonlyMap<number, string> = new Map([
  [CARETAKER_RUN_STATE.RUNNING, 'caretaker'],
  [CARETAKER_RUN_STATE.HALTED, 'halted'],
  [CARETAKER_RUN_STATE.SPINNING, 'spinning'],
  [CARETAKER_RUN_STATE.SERIALIZED, 'serialized'],
  [CARETAKER_RUN_STATE.PARKED, 'parked'],
]);

export class SessionTarget implements GdbTarget {
  readonly registers = GDB_REGISTERS;
  readonly executable: GdbFile;
  readonly #session: DebugSession;
  readonly #commands: CommandLine;
  /** Points that the client has set, by the id of their breakpoint. */
  readonly #points = new Map<number, GdbPoint>();
  #stop: GdbStop | null = null;
  /** The request at hand goes backwards. */
  #isBackwards = false;
  /** Watched accesses that are being undone. */
  #undoing: ReturnType<typeof gdbCausesOf> | null = null;
  /** Of the present stop, what GDB has no room to hear of at once. */
  #untold: readonly GdbStopCause[] = [];
  /** What the last command wants. */
  #commandResume: Resume | null = null;
  /** What a command has printed before it moved; null when none moves. */
  #commandOutput: string | null = null;

  constructor(session: DebugSession, path: string, commands: CommandLine) {
    this.#session = session;
    this.#commands = commands;
    this.executable = { path, bytes: session.image.file };
    // Starting over is going back to before every change, not only to the first position.
    session.save(FIRST_STOP);
  }

  /** Takes in a stop; a Resume when the machine must move on before a client may hear of it. */
  arrive(stop: Stop): Resume | null {
    const { cause, vcpu } = stop;
    const pointOf = (id: number): GdbPoint | undefined => this.#points.get(id);
    const causes = gdbCausesOf(cause, pointOf, this.#isBackwards);
    this.#session.pilot.onlyVcpu = null;
    if (this.#isBackwards && this.#undoing === null && isWatch(causes[0])) {
      this.#undoing = causes;
      return { kind: 'step', backwards: true };
    }
    const [first, ...untold] = this.#undoing ?? causes;
    const message =
      this.#commandOutput === null
        ? messageOf(cause)
        : this.#commandOutput + this.#commands.arrived(this.#session, stop);
    this.#stop = { thread: this.#threadOf(vcpu), cause: first, message };
    this.#untold = untold;
    this.#undoing = null;
    this.#commandOutput = null;
    return null;
  }

  /** Stops once more where the machine stands, for what the client has not heard of; whether there is such. */
  stopsAgain(request: GdbRequest): boolean {
    const isBackwards = 'isBackwards' in request && request.isBackwards;
    const [next, ...untold] = this.#untold.filter((cause) => this.#isStillSet(cause));
    this.#untold = untold;
    // The other way it is undone before it could be told.
    if (request.kind === 'command' || isBackwards !== this.#isBackwards || next === undefined) {
      return false;
    }
    this.#stop = { thread: this.stop().thread, cause: next, message: '' };
    return true;
  }

  /** What the session is to do for a request. */
  resume(request: GdbRequest): Resume {
    this.#isBackwards = 'isBackwards' in request && request.isBackwards;
    const resume = resumeOf(request) ?? this.#commandResume;
    if (resume === null) throw new HarnessBug('no command waits for the machine');
    if (request.kind !== 'step' && request.kind !== 'range') return resume;
    const lane = this.#session.machine.laneOn(request.thread);
    this.#session.pilot.onlyVcpu = lane?.id ?? null;
    return resume;
  }

  threads(): readonly GdbThread[] {
    const { lanes } = this.#session.machine;
    const threads = lanes.map((lane) => {
      const id = lane.pcpu.id;
      const name = `pCPU ${id.toString()}, vCPU ${lane.id.toString()}`;
      return { id, name, state: stateOf(lane), core: id };
    });
    // Before any vCPU has run, the core of the first one stands for it.
    return threads.length > 0 ? threads : [{ id: 1, name: 'pCPU 1', state: 'host', core: 1 }];
  }

  stop(): GdbStop {
    if (this.#stop === null) throw new HarnessBug('the machine has not stopped');
    return this.#stop;
  }

  images(): readonly bigint[] {
    const { machine, image } = this.#session;
    const first = image.image.segments[0]?.address ?? 0n;
    const selected = machine.laneOn(this.stop().thread)?.vcpu;
    const created = machine.kvm?.vms.flatMap(({ vcpus }) => vcpus) ?? [];
    const vcpus = [...machine.lanes.map(({ vcpu }) => vcpu), ...created];
    const ccbs = [...(selected === undefined ? [] : [selected]), ...vcpus].map(({ ccb }) => ccb);
    const bases = ccbs
      .filter((ccb) => ccb !== 0n)
      .map((ccb) => u64(ccb - image.image.ccb.address + first));
    return [...new Set(bases)];
  }

  readRegister(thread: number, register: number): Uint8Array | null {
    const core = this.#core(thread);
    return core === undefined ? null : readCoreRegister(core, GDB_REGISTERS[register]!);
  }

  writeRegister(thread: number, register: number, bytes: Uint8Array): boolean {
    const lane = this.#session.machine.laneOn(thread);
    const described = GDB_REGISTERS[register]!;
    if (lane === undefined) return false;
    if (described.source.kind === 'vmcs' && lane.pcpu.vmx.current === null) return false;
    const edit = registerEdit(lane.id, described, bytes);
    if (edit === null) return false;
    this.#session.edit(edit);
    return true;
  }

  readMemory(thread: number, kind: AddressKind, address: bigint, sizeBytes: number): Uint8Array {
    const { memory } = this.#session.machine;
    return readBytes(memory, this.#roots(thread), kind, address, sizeBytes);
  }

  writeMemory(thread: number, kind: AddressKind, address: bigint, bytes: Uint8Array): boolean {
    const { memory } = this.#session.machine;
    const places = placesOf(memory, this.#roots(thread), kind, address, bytes);
    if (places === null) return false;
    for (const place of places) {
      this.#session.edit({ kind: 'memory', address: place.address, bytes: [...place.bytes] });
    }
    return true;
  }

  memoryRanges(): readonly { readonly base: bigint; readonly sizeBytes: number }[] {
    return [{ base: 0n, sizeBytes: this.#session.machine.memory.sizeBytes }];
  }

  setPoint(point: GdbPoint): boolean {
    const { memory } = this.#session.machine;
    const end = point.address + BigInt(point.sizeBytes);
    if (end > BigInt(memory.sizeBytes)) return false;
    const { id } = this.#session.breakpoints.add(specOf(point));
    this.#points.set(id, point);
    return true;
  }

  clearPoint(point: GdbPoint): boolean {
    for (const [id, known] of this.#points) {
      if (!isSame(known, point)) continue;
      this.#points.delete(id);
      return this.#session.breakpoints.remove(id);
    }
    return false;
  }

  runCommand(thread: number, line: string): GdbCommandResult {
    const vcpu = this.#session.machine.laneOn(thread)?.id ?? null;
    const { output, resume } = this.#commands.run(this.#session, vcpu, line);
    this.#commandResume = resume;
    this.#commandOutput = resume === null ? null : output;
    return { output, moves: resume !== null };
  }

  #isStillSet(cause: GdbStopCause): boolean {
    return [...this.#points.values()].some(
      ({ kind, address }) => kind === cause.kind && 'address' in cause && address === cause.address,
    );
  }

  #core(thread: number): Core | undefined {
    return this.#session.machine.cores[thread];
  }

  #threadOf(vcpu: number | null): number {
    const { lanes } = this.#session.machine;
    return (lanes.find(({ id }) => id === vcpu) ?? lanes[0])?.pcpu.id ?? 1;
  }

  /** The thread's own tables first. */
  #roots(thread: number): readonly bigint[] {
    const { machine } = this.#session;
    const ids = [thread, ...machine.lanes.map(({ pcpu }) => pcpu.id)];
    const roots = ids.map((id) => {
      const core = this.#core(id);
      return core === undefined ? 0n : rootOf(core, machine.laneOn(id));
    });
    return [...new Set(roots)];
  }
}

function specOf({ kind, address, sizeBytes }: GdbPoint): BreakpointSpec {
  return kind === 'software' || kind === 'hardware'
    ? { kind: 'address', address }
    : { kind: 'watch', address, sizeBytes, on: kind };
}

function isSame(one: GdbPoint, other: GdbPoint): boolean {
  return (
    one.kind === other.kind && one.address === other.address && one.sizeBytes === other.sizeBytes
  );
}

/** What a vCPU's core does, in a word. */
function stateOf(lane: Lane): string {
  if (lane.phase === 'guest') return 'guest';
  if (lane.phase === 'in-kvm') return 'in KVM';
  if (lane.vcpu.ccb === 0n) return 'host';
  const said = RUN_STATES.get(lane.vcpu.ccbView.number('state')) ?? 'caretaker';
  return lane.phase === 'waiting' && said === 'caretaker' ? 'spinning' : said;
}
