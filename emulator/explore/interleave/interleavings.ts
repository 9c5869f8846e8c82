/**
 * Every interleaving of every cast, one for each class of equivalent ones.
 *
 * Source: partial-order.ts; DESIGN ("The payload is judged by invariants and by an executable specification").
 * Invariant: a finding's schedule alone shows it again; a cast that was given up says so.
 */
import { Ledger } from '../../machine/ledger.js';
import type { MachineSnapshot } from '../../machine/snapshot.js';
import type { Finding } from '../../vmx/stop-reason.js';
import type { Cast, CastState } from './casts.js';
import { PartialOrderSearch, type SearchResult } from './partial-order.js';
import { Scene, Stand } from './scene.js';
import type { SceneSchedule } from './scene-schedule.js';

/** What is explored. */
export interface InterleavingSettings {
  readonly payload: Uint8Array;
  readonly seed: number;
  readonly casts: readonly Cast[];
  /** Stores wait in store buffers, as x86-TSO has them. */
  readonly isTso: boolean;
  /** Executions after which a cast is given up. */
  readonly limit?: number;
  /** Tries every order of all steps; only for the proof that the reduction loses nothing. */
  readonly withoutReduction?: boolean;
}

/** A finding, and the interleaving that showed it first. */
export interface InterleavingFinding {
  readonly schedule: SceneSchedule;
  /** Where the vCPU of the finding was, and the CCB of its instance. */
  readonly ccb: bigint;
  readonly finding: Finding;
  /** Interleavings that show the same. */
  executions: number;
}

/** What became of one cast. */
export interface CastResult extends Readonly<SearchResult> {
  readonly cast: Cast;
}

const LIMIT = 5_000;
/** Executions between two looks at a signal. */
const EXECUTIONS_AT_ONCE = 50;

export class Interleavings {
  readonly settings: InterleavingSettings;
  readonly results: CastResult[] = [];
  readonly findings: InterleavingFinding[] = [];
  /** Checks and findings of all executions. */
  readonly invariants = new Ledger();
  readonly #known = new Map<string, InterleavingFinding>();
  #stand: Stand | null = null;
  #start: MachineSnapshot | null = null;

  constructor(settings: InterleavingSettings) {
    this.settings = settings;
  }

  /** Explores one cast after the other; yields now and then. */
  *run(): Generator<Cast, void, void> {
    for (const cast of this.settings.casts) {
      yield cast;
      const scene = this.#sceneOf(cast);
      const { withoutReduction = false, limit = LIMIT } = this.settings;
      const search = new PartialOrderSearch(scene, scene.processes, { withoutReduction, limit });
      this.results.push({ cast, ...search.result });
      try {
        for (const steps of search.run()) {
          this.#judge(scene, steps);
          this.results[this.results.length - 1] = { cast, ...search.result };
          if (search.result.executions % EXECUTIONS_AT_ONCE === 0) yield cast;
        }
        this.results[this.results.length - 1] = { cast, ...search.result };
      } finally {
        scene.dispose();
      }
    }
  }

  /** Gives back what the last state's machine holds. */
  dispose(): void {
    this.#stand?.dispose();
    this.#stand = null;
  }

  #judge(scene: Scene, steps: readonly number[]): void {
    const findings = scene.judge();
    this.invariants.add(scene.machine.ledger);
    for (const finding of findings) {
      const key = `${finding.invariant}:${String(finding.address)}:${scene.cast.exits[0]!.reason}`;
      const known = this.#known.get(key);
      if (known !== undefined) {
        known.executions++;
        continue;
      }
      const fresh: InterleavingFinding = {
        schedule: { cast: scene.cast, isTso: this.settings.isTso, steps: scene.needed(steps) },
        ccb: scene.ccbOf(finding.address),
        finding,
        executions: 1,
      };
      this.#known.set(key, fresh);
      this.findings.push(fresh);
    }
  }

  #sceneOf(cast: Cast): Scene {
    const stand = this.#standOf(cast.state);
    return new Scene(stand, cast, this.settings.isTso, this.#start!);
  }

  #standOf(state: CastState): Stand {
    if (this.#stand?.state === state) return this.#stand;
    this.dispose();
    const { payload, seed } = this.settings;
    this.#stand = new Stand(payload, state, seed);
    this.#start = this.#stand.machine.snapshot();
    return this.#stand;
  }
}
