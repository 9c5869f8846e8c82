/**
 * A coverage-guided campaign: inputs are drawn from a corpus, changed, run, and kept when they show something new.
 *
 * Source: DESIGN ("The payload is judged by invariants and by an executable specification").
 * Invariant: on one worker the campaign is a function of payload, seed and corpus; a finding is kept once for each
 * invariant and address, in its smallest form.
 */
import { hex, u64 } from '../../abi/uint.js';
import { Random } from '../clock/random.js';
import type { Finding, InvariantId } from '../vmx/stop-reason.js';
import { parseElf } from '../../loader/elf.js';
import type { CaretakerImage } from '../../loader/image.js';
import { symbolise } from '../../loader/symbols.js';
import { CCB_RULE } from '../host/kvm/ccb-rule.js';
import { Ledger } from '../machine/ledger.js';
import { Arena } from './arena.js';
import { encode } from './codec.js';
import { CoverageMap } from './coverage-map.js';
import { REASONS } from './dictionary.js';
import { plainExit, type FuzzInput } from '../stage/input.js';
import { minimise } from './minimise.js';
import { MeasuredGuest } from './measured.js';
import { ALL, generate, measured, mutate, type OpSource } from './mutate.js';
import { SourceLines } from './source-lines.js';
import { Tally } from './tally.js';

/** Which exits a campaign draws: a busy guest's, or every reason. */
export type Mix = 'measured' | 'all';

/** What a campaign is made of. */
export interface CampaignSettings {
  readonly payload: Uint8Array;
  readonly seed: number;
  readonly mix: Mix;
  /** Inputs to begin with, besides those that the campaign makes itself. */
  readonly corpus: readonly FuzzInput[];
}

/** A finding in its smallest form. */
export interface FuzzFinding {
  readonly invariant: InvariantId;
  /** Where in the file: the address that the instruction has before it is relocated. */
  readonly address: bigint;
  readonly message: string;
  readonly input: FuzzInput;
  readonly base: string;
}

/** Runs of an input that a minimisation may take. */
const MINIMISING_RUNS = 3_000;

export class Campaign {
  readonly arena: Arena;
  readonly tally = new Tally();
  readonly coverage: CoverageMap;
  /** Inputs that showed something new, in the order in which they did. */
  readonly corpus: FuzzInput[] = [];
  readonly findings: FuzzFinding[] = [];
  /** Source lines that ran. */
  readonly lines: SourceLines;
  /** Checks and findings of all executions. */
  readonly invariants = new Ledger();
  readonly seed: number;
  execs = 0;
  readonly #image: CaretakerImage;
  readonly #random: Random;
  readonly #source: OpSource;
  readonly #known = new Set<string>();
  readonly #begin: FuzzInput[];

  constructor({ payload, seed, mix, corpus }: CampaignSettings) {
    this.seed = seed;
    this.#image = parseElf(payload, CCB_RULE);
    this.lines = new SourceLines(this.#image);
    this.arena = new Arena(payload, seed);
    this.arena.observe(this.tally);
    this.coverage = new CoverageMap(this.arena.lane.engine.coverage.counts.length);
    this.#random = new Random(seed);
    this.#source = mix === 'all' ? ALL : measured(this.#busyGuest());
    this.#begin = [...corpus, ...everyReason(this.arena.baseCount)];
  }

  /** Runs one more input. */
  step(): void {
    const input = this.#begin.shift() ?? this.#draw();
    const { findings } = this.arena.run(input);
    this.execs++;
    this.invariants.add(this.arena.machine.ledger);
    const { engine } = this.arena.lane;
    if (this.coverage.add(engine.coverage)) this.#keep(input);
    for (const finding of findings) this.#found(input, finding);
  }

  /** Another campaign found something new with an input: it is run next, and kept if it is new here. */
  offer(input: FuzzInput): void {
    this.#begin.push(input);
  }

  /** Completes "holds when ..." for an invariant. */
  holdsWhen(id: InvariantId): string {
    const found = this.arena.machine.hooks.invariants.find((one) => one.id === id);
    return found?.holdsWhen ?? id;
  }

  /** Symbol and source line of an address in the file, or null. */
  placeOf(address: bigint): string | null {
    const symbol = symbolise(this.#image, address);
    if (symbol === undefined) return null;
    const line = this.lines.nameOf(address);
    return `${symbol.name}+${hex(symbol.offset)}${line === null ? '' : ` (${line})`}`;
  }

  /** The input goes to the corpus, and the lines that it ran to the account. */
  #keep(input: FuzzInput): void {
    this.corpus.push(input);
    this.arena.silently(() => {
      const note = (): void => {
        const { engine } = this.arena.lane;
        this.lines.add(engine.recentBlocks().map((block) => this.#linked(block)));
      };
      this.arena.run(input, note);
      note();
    });
  }

  #draw(): FuzzInput {
    const random = this.#random;
    const { corpus } = this;
    const source = this.#source;
    if (corpus.length === 0 || random.below(source.freshEvery) === 0)
      return generate(random, source);
    const one = corpus[random.below(corpus.length)]!;
    return mutate(random, one, corpus[random.below(corpus.length)]!, source);
  }

  /** A guest with timers of its own: what time it is when an input begins, it knows from the first base. */
  #busyGuest(): MeasuredGuest {
    const { lane } = this.arena;
    return new MeasuredGuest(this.#random, lane.pcpu.now() + lane.tscOffset);
  }

  #found(input: FuzzInput, finding: Finding): void {
    const key = this.#keyOf(finding);
    if (this.#known.has(key)) return;
    this.#known.add(key);
    let left = MINIMISING_RUNS;
    const again = (candidate: FuzzInput): Finding | undefined =>
      this.arena.run(candidate).findings.find((one) => this.#keyOf(one) === key);
    const silent = this.arena.silently(() =>
      minimise(input, (candidate) => left-- > 0 && again(candidate) !== undefined),
    );
    const last = this.arena.silently(() => again(silent)) ?? finding;
    this.findings.push({
      invariant: finding.invariant,
      address: this.#linked(finding.address),
      message: last.message,
      input: silent,
      base: this.arena.baseName(silent),
    });
  }

  #keyOf(finding: Finding): string {
    return `${finding.invariant}@${hex(this.#linked(finding.address))}`;
  }

  #linked(address: bigint): bigint {
    return u64(address - this.arena.loadBias);
  }
}

/** Each reason by itself in each state, so that the least coverage does not hang on luck. */
function everyReason(bases: number): readonly FuzzInput[] {
  return Array.from({ length: bases }, (_, base) =>
    REASONS.map((basic): FuzzInput => ({ base, ops: [plainExit(basic)] })),
  ).flat();
}

/** The bytes of a finding's input, by which it is named. */
export const bytesOf = ({ input }: FuzzFinding): Uint8Array => encode(input);
