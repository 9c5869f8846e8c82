/**
 * The machine at its steady pace beside plain C doing the same exits: the harness of harness.c over a trace of this
 * very machine.
 *
 * Invariant: nothing is switched off in the machine; the harness checks once that every register and instruction
 * count is the machine's before it measures.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Conductor } from '../machine/conductor.js';
import { packageRoot } from '../machine/package-root.js';
import { loadScenario } from '../machine/scenario/load.js';
import type { Clock } from './figure.js';
import { TraceRecorder } from './trace.js';

/** Exits until every hot function of the machine is compiled, of a round, and of the trace. */
const WARM_UP = 20_000;
const ROUND = 20_000;
const TRACED = 2_000;
const HARNESS_SECONDS = '0.5';

/** What the harness prints. */
interface HarnessResult {
  readonly exitsPerSecond: number;
  readonly accessesPerExit: number;
  readonly instructionsPerExit: number;
}

/** One machine and one trace for all rounds. */
export class Yardstick {
  readonly #payload: Uint8Array;
  #conductor: Conductor | null = null;
  #trace: string | null = null;
  #machineRate: number | null = null;
  #harness: HarnessResult | null = null;

  constructor(payload: Uint8Array) {
    this.#payload = payload;
  }

  /** Exits a second of the machine, one busy attached vCPU, every invariant on. */
  machineRate(clock: Clock): number {
    const conductor = this.#warm();
    const begun = clock();
    this.#run(conductor, ROUND);
    this.#machineRate = (ROUND * 1000) / (clock() - begun);
    return this.#machineRate;
  }

  /** Exits a second of the harness. */
  harnessRate(): number {
    const words = execFileSync(harnessProgram(), [this.#traceFile(), HARNESS_SECONDS], {
      encoding: 'utf8',
    });
    this.#harness = JSON.parse(words) as HarnessResult;
    return this.#harness.exitsPerSecond;
  }

  /** The machine's pace over the harness's, both of this round. */
  ratio(clock: Clock): number {
    const ratio =
      (this.#machineRate ?? this.machineRate(clock)) /
      (this.#harness?.exitsPerSecond ?? this.harnessRate());
    this.#machineRate = null;
    return ratio;
  }

  /** VMREADs and VMWRITEs of an exit. */
  accessesPerExit(): number {
    if (this.#harness === null) this.harnessRate();
    return this.#harness?.accessesPerExit ?? 0;
  }

  /** Evaluations of invariants of an exit. */
  checksPerExit(): number {
    const conductor = this.#warm();
    const { ledger } = conductor.machine;
    const before = ledger.totalChecked;
    this.#run(conductor, ROUND);
    return (ledger.totalChecked - before) / ROUND;
  }

  #warm(): Conductor {
    if (this.#conductor !== null) return this.#conductor;
    const conductor = this.#boot();
    this.#run(conductor, WARM_UP);
    return (this.#conductor = conductor);
  }

  #boot(): Conductor {
    const scenario = { ...loadScenario('attached'), vcpus: 1, steps: [] };
    const conductor = new Conductor(scenario, this.#payload, false);
    conductor.run();
    return conductor;
  }

  #run({ machine }: Conductor, exits: number): void {
    const lane = machine.lanes[0]!;
    const target = lane.truth.exits + exits;
    machine.runUntil(() => lane.truth.exits >= target, Infinity);
  }

  #traceFile(): string {
    if (this.#trace !== null) return this.#trace;
    const conductor = this.#boot();
    this.#run(conductor, 200);
    const recorder = new TraceRecorder(conductor.machine, conductor.machine.lanes[0]!);
    recorder.record(TRACED);
    const folder = mkdtempSync(join(tmpdir(), 'caretaker-bench-'));
    process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
    this.#trace = join(folder, 'trace');
    writeFileSync(this.#trace, new Uint8Array(recorder.words().buffer));
    return this.#trace;
  }
}

/** The harness, compiled when it is not there or older than its source: with the libunicorn of the binding. */
function harnessProgram(): string {
  const root = packageRoot();
  const source = join(root, 'emulator', 'bench', 'harness.c');
  const program = join(root, 'build', 'bench-harness');
  if (existsSync(program) && statSync(program).mtimeMs > statSync(source).mtimeMs) return program;
  const find = (what: string): string[] =>
    execFileSync('node', [join(root, 'emulator', 'cpu', 'native', 'find-unicorn.mjs'), what], {
      encoding: 'utf8',
    }).split('\n');
  const flags = ['-O2', '-std=c11', '-D_GNU_SOURCE', `-I${find('--include')[0]!}`];
  execFileSync('gcc', [...flags, source, ...find('--libraries'), '-o', program]);
  return program;
}
