/**
 * Where inputs are run: one VM with the payload under test, in several states to begin in.
 *
 * Source: CONTRACT ("Who flips, and when", "Stop and serialize"); DESIGN ("Snapshots").
 * Invariant: every input begins in the same state, to the byte and the tick; what it did is judged by all invariants and
 * by the executable specification, as in any run.
 * Not modelled: kexec within an input, which changes what a payload finds in memory and not what it may do; an
 * asynchronous detach.
 */
import { u64 } from '../../abi/uint.js';
import { parseElf } from '../../loader/elf.js';
import { CCB_RULE } from '../host/kvm/ccb-rule.js';
import type { Conductor } from '../machine/conductor.js';
import type { ExitObserver } from '../machine/hooks.js';
import type { Lane } from '../machine/lane.js';
import type { Machine } from '../machine/machine.js';
import type { FuzzInput, Op } from '../stage/input.js';
import { Stage, VARIANTS, type Base } from '../stage/stage.js';
import type { Finding } from '../vmx/stop-reason.js';

/** What one input did. */
export interface Execution {
  /** Broken invariants, without repetitions. */
  readonly findings: readonly Finding[];
  /** Exits that the payload was entered for. */
  readonly exits: number;
}

/** The payload under test in every state to begin in. */
export class Arena {
  readonly #bases: readonly Base[];
  readonly #observers: ExitObserver[] = [];
  readonly #linkedCcb: bigint;
  #stage: Stage;

  constructor(payload: Uint8Array, seed: number) {
    this.#bases = VARIANTS.flatMap((variant) => new Stage(payload, variant, seed).bases());
    this.#linkedCcb = parseElf(payload, CCB_RULE).ccb.address;
    this.#stage = this.#bases[0]!.stage;
  }

  /** The state that an input begins in, in words. */
  baseName(input: FuzzInput): string {
    return this.#baseOf(input).name;
  }

  /** How many states there are to begin in. */
  get baseCount(): number {
    return this.#bases.length;
  }

  /** Sees the first outcome of every exit from now on. */
  observe(observer: ExitObserver): void {
    this.#observers.push(observer);
    for (const { stage } of this.#bases)
      if (!stage.machine.hooks.observers.includes(observer))
        stage.machine.hooks.observers.push(observer);
  }

  /** Does something that no observer sees. */
  silently<T>(work: () => T): T {
    const stages = new Set(this.#bases.map(({ stage }) => stage));
    for (const { machine } of stages) machine.hooks.observers.length = 0;
    try {
      return work();
    } finally {
      for (const { machine } of stages) machine.hooks.observers.push(...this.#observers);
    }
  }

  /** What relocation added to the addresses in the file. */
  get loadBias(): bigint {
    return u64(this.lane.vcpu.ccb - this.#linkedCcb);
  }

  /** The host side of the last execution. */
  get conductor(): Conductor {
    return this.#stage.conductor;
  }

  /** The machine of the last execution, as that left it. */
  get machine(): Machine {
    return this.#stage.machine;
  }

  get lane(): Lane {
    return this.#stage.lane;
  }

  /** Runs an input from its base; `onOp` sees each op before it is done. */
  run(input: FuzzInput, onOp?: (op: Op, index: number) => void): Execution {
    const { stage, snapshot } = this.#baseOf(input);
    this.#stage = stage;
    stage.machine.restore(snapshot);
    stage.lane.engine.coverage.clear();
    const before = stage.lane.exit.sequence;
    for (const [index, op] of input.ops.entries()) {
      onOp?.(op, index);
      stage.take(op);
      if (stage.lane.phase === 'stopped' || !stage.machine.ledger.clean) break;
    }
    if (stage.machine.ledger.clean && stage.lane.phase !== 'stopped') stage.finish();
    return {
      findings: stage.machine.ledger.findings.slice(),
      exits: stage.lane.exit.sequence - before,
    };
  }

  #baseOf({ base }: FuzzInput): Base {
    return this.#bases[base % this.#bases.length]!;
  }
}
