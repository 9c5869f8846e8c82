/** Snapshots of a whole machine: what runs after restore() is what ran after snapshot(), to the byte and the tick. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Conductor } from '../../emulator/machine/conductor.js';
import type { DebugHook } from '../../emulator/machine/debug-hook.js';
import type { Machine } from '../../emulator/machine/machine.js';
import { loadScenario, builtinScenarioNames } from '../../emulator/machine/scenario/load.js';
import type { Scenario } from '../../emulator/machine/scenario/schema.js';
import { SnapshotError, type MachineSnapshot } from '../../emulator/machine/snapshot.js';
import { VMCS_FIELDS } from '../../abi/vmcs-fields.js';
import { referencePayload } from '../support/reference-payload.js';

/** A stretch of time that is no longer than its script needs, or a twentieth of a second. */
function brief<
  Step extends { readonly seconds: number; readonly script: readonly { at: number }[] },
>(step: Step): Step {
  const needed = Math.max(0.05, ...step.script.map(({ at }) => at + 0.01));
  return { ...step, seconds: Math.min(step.seconds, needed) };
}

/** Scenarios with fewer exits a step than they come with: a test looks at hundreds of places in each. */
function short(name: string): Scenario {
  const scenario = loadScenario(name);
  const steps = scenario.steps.map((step) => {
    if ('run' in step) return { run: { ...step.run, exits: Math.min(step.run.exits ?? 150, 150) } };
    if ('gap' in step) return { gap: brief(step.gap) };
    if ('kexec' in step) return { kexec: brief(step.kexec) };
    return step;
  });
  return { ...scenario, steps };
}

const plain = (_: string, value: unknown): unknown => {
  if (typeof value === 'bigint') return `${value.toString(16)}n`;
  if (value instanceof Map) return [...(value as Map<unknown, unknown>)];
  return ArrayBuffer.isView(value) ? Array.from(value as unknown as Iterable<unknown>) : value;
};

/** All of memory, and everything of the models that anybody can see. */
interface Sight {
  readonly memory: Uint8Array;
  readonly models: string;
  /** Blocks entered: one at whose first instruction a run stops is entered or not, as the run came there. */
  readonly blocks: readonly number[];
}

function look(machine: Machine): Sight {
  const seen = {
    now: machine.now(),
    cores: machine.cores.map(({ engine, pcpu }) => ({
      state: pcpu.state(),
      vectors: engine.vectors(),
      counters: { ...engine.counters },
      instructions: engine.counters.instructions,
      stores: engine.counters.stores,
      inline: [engine.counters.inlineVmreads, engine.counters.inlineVmwrites],
      tsc: pcpu.now(),
    })),
    vmcs: [...machine.vmcsStore.all()]
      .sort((a, b) => (a.regionPa < b.regionPa ? -1 : 1))
      .map((vmcs) => [
        vmcs.regionPa,
        vmcs.launchState,
        VMCS_FIELDS.map((field) => vmcs.get(field.slot)),
      ]),
    lanes: machine.lanes.map((lane) => ({
      phase: lane.phase,
      state: lane.vcpu.state,
      outcome: lane.exit.outcome,
      sequence: lane.exit.sequence,
      action: lane.action,
      next: [lane.actionTsc, lane.timerTsc, lane.waitBeganTsc, lane.pollTicks],
      truth: lane.truth.state().counts,
      stalls: lane.truth.stalls,
      guest: lane.guest.state(),
      interrupts: lane.interrupts.state(),
    })),
    ledger: machine.ledger.results(),
    findings: machine.ledger.findings,
    events: machine.timeline.mostTelling(Infinity),
    slices: machine.timeline.slices,
    evidence: Object.entries(machine.evidence).sort(([a], [b]) => (a < b ? -1 : 1)),
  };
  return {
    memory: machine.memory.bytes.slice(),
    models: JSON.stringify(seen, plain),
    blocks: machine.cores.map(({ engine }) => engine.counters.blocks),
  };
}

function expectSame(actual: Sight, expected: Sight): void {
  const differs = Buffer.compare(actual.memory, expected.memory) !== 0;
  const page = (bytes: Uint8Array, at: number): Uint8Array => bytes.subarray(at, at + 4096);
  for (let at = 0; differs && at < expected.memory.length; at += 4096) {
    const isSame = Buffer.compare(page(actual.memory, at), page(expected.memory, at)) === 0;
    expect({ at, isSame }).toEqual({ at, isSame: true });
  }
  expect(actual.models).toBe(expected.models);
}

/** Takes a snapshot at one visit and goes back to it at a later one, in the same loop; then looks whether both runs agree. */
class Traveller {
  readonly #machine: Machine;
  readonly #at: number;
  readonly #span: number;
  #visits = 0;
  #taken: { snapshot: MachineSnapshot; visit: number; activation: number } | null = null;
  #first: Sight | null = null;
  #begun: Sight | null = null;
  /** Times that a run was repeated to its end. */
  repeats = 0;

  constructor(machine: Machine, at: number, span: number) {
    this.#machine = machine;
    this.#at = at;
    this.#span = span;
  }

  visit(): void {
    const machine = this.#machine;
    const visit = this.#visits++;
    const taken = this.#taken;
    if (taken === null || machine.activation !== taken.activation) {
      if (visit < this.#at || this.repeats > 0) return;
      this.#begun = look(machine);
      this.#first = null;
      this.#taken = { snapshot: machine.snapshot(), visit, activation: machine.activation };
      expectSame(look(machine), this.#begun);
    } else if (visit === taken.visit + this.#span) {
      const here = look(machine);
      if (this.#first !== null) {
        expectSame(here, this.#first);
        expect(here.blocks).toEqual(this.#first.blocks);
        this.repeats++;
        this.#visits = Infinity;
        return;
      }
      this.#first = here;
      machine.restore(taken.snapshot);
      expectSame(look(machine), this.#begun!);
      this.#visits = taken.visit + 1;
    }
  }
}

const conductorOf = (scenario: Scenario): Conductor =>
  new Conductor(scenario, referencePayload(), true);

/** Visits between all steps of all loops. */
function visitSteps(machine: Machine, visit: () => void): void {
  const run = machine.runUntil.bind(machine);
  machine.runUntil = (done, limitTsc) =>
    run(() => {
      visit();
      return done();
    }, limitTsc);
}

/** Visits in a pause of a handler, every `budget` instructions. */
function pausing(budget: number, visit: () => void): DebugHook {
  let wasPaused = false;
  return {
    atBoundary: () => {
      wasPaused = !wasPaused;
      return wasPaused ? 0 : budget;
    },
    paused: visit,
    hasBreakpoint: () => false,
    watched: () => undefined,
    entryRefused: () => undefined,
    left: () => undefined,
  };
}

const undisturbed = new Map<string, Sight>();
/** What a scenario comes to without any snapshot. */
function endOf(name: string): Sight {
  let end = undisturbed.get(name);
  if (end === undefined) {
    const conductor = conductorOf(short(name));
    conductor.run();
    end = look(conductor.machine);
    undisturbed.clear();
    undisturbed.set(name, end);
  }
  return end;
}

describe.each(builtinScenarioNames())('%s', (name) => {
  const runs = name === 'many-vcpus' ? 1 : 2;

  it('goes on after restore() as after snapshot(), taken between any two steps', () => {
    let repeats = 0;
    fc.assert(
      fc.property(fc.nat({ max: 1500 }), fc.integer({ min: 1, max: 120 }), (at, span) => {
        const conductor = conductorOf(short(name));
        const traveller = new Traveller(conductor.machine, at, span);
        visitSteps(conductor.machine, () => {
          traveller.visit();
        });
        conductor.run();
        repeats += traveller.repeats;
        expectSame(look(conductor.machine), endOf(name));
      }),
      { numRuns: runs, examples: [[0, 40]] },
    );
    expect(repeats).toBeGreaterThan(0);
  });

  it('goes on after restore() as after snapshot(), taken at any instruction of a handler', () => {
    let repeats = 0;
    fc.assert(
      fc.property(
        fc.nat({ max: 4000 }),
        fc.integer({ min: 1, max: 200 }),
        fc.integer({ min: 1, max: 180 }),
        (at, span, budget) => {
          const conductor = conductorOf(short(name));
          const traveller = new Traveller(conductor.machine, at, span);
          conductor.machine.debug = pausing(budget, () => {
            traveller.visit();
          });
          conductor.run();
          repeats += traveller.repeats;
          expectSame(look(conductor.machine), endOf(name));
        },
      ),
      { numRuns: runs, examples: [[300, 20, 7]] },
    );
    expect(repeats).toBeGreaterThan(0);
  });
});

describe('a snapshot is void', () => {
  const scenario = { ...short('live-update'), vcpus: 1 };

  it('once the structure of the host has changed', () => {
    const { machine } = conductorOf(scenario);
    const snapshot = machine.snapshot();
    machine.restore(snapshot);
    machine.structureChanged();
    expect(() => {
      machine.restore(snapshot);
    }).toThrow(expect.objectContaining({ code: 'SNAPSHOT_STRUCTURE' }) as SnapshotError);
  });

  it('once memory has other owners', () => {
    const { machine } = conductorOf(scenario);
    const snapshot = machine.snapshot();
    machine.memory.claim({ base: 0, sizeBytes: 4096, owner: 'guest', label: 'new' });
    expect(() => {
      machine.restore(snapshot);
    }).toThrow(expect.objectContaining({ code: 'SNAPSHOT_STRUCTURE' }) as SnapshotError);
  });

  it('outside the loop that it was taken in', () => {
    const { machine } = conductorOf(scenario);
    let snapshot: MachineSnapshot | null = null;
    machine.runUntil(() => {
      snapshot = machine.snapshot();
      return true;
    }, 1);
    expect(() => {
      machine.restore(snapshot!);
    }).toThrow(expect.objectContaining({ code: 'SNAPSHOT_ACTIVATION' }) as SnapshotError);
  });
});

describe('a lane', () => {
  /** Made once, or derived: the object is the same after a restore. */
  const constant = [
    'id',
    'memory',
    'vcpuCount',
    'stallTolerance',
    'boundVmcs',
    'tscOffset',
    'tscFrequencyHz',
    'faultIsForced',
    'peers',
    'actsAlone',
    'vmId',
    // What ends a vCPU changes the structure of the host, which voids snapshots.
    'remains',
  ];

  /** What the machine answers for it. */
  const WORLD = ['isPreserved', 'isAtACore', 'dmaPage'];

  it('has in its state whatever a run changes in it', () => {
    const conductor = conductorOf({ ...short('attached'), vcpus: 1 });
    conductor.run();
    const lane = conductor.machine.lanes[0]!;
    const held = new Set([...Object.keys(lane.state()), ...constant, ...WORLD]);
    expect(Object.keys(lane).filter((name) => !held.has(name))).toEqual([]);
  });
});
