/**
 * The same payload binary as the exit handler on both machines, exit by exit.
 *
 * Source: DESIGN ("One VM exit, as the data flows"); CONTRACT ("What the payload handles").
 * Happy path: this project's KVM installs the payload and its pages are copied to the second machine, where real guest code
 * makes the exits and the debugger watches; then the models go through the same exits; both recordings are compared.
 * Invariant: every passage of the payload is compared from its first instruction to its last, with each write in order.
 */
import { learnVmcsLayout } from '../vmcs-layout.js';
import type { SecondMachine } from '../second-machine.js';
import { INSTRUCTIONS, type PayloadCase } from './cases.js';
import { Comparer, type PayloadDifference } from './compare.js';
import { contextOf } from './context.js';
import { EVENTS } from './event-cases.js';
import { KernelScript } from './kernel-script.js';
import { ModelRun } from './on-model.js';
import { recordOnSecond } from './on-second.js';
import { Stage } from './stage.js';

/** Every case, in the order in which the payload meets them; a stop comes last. */
export const PAYLOAD_CASES: readonly PayloadCase[] = [...INSTRUCTIONS, ...EVENTS];

/** A difference and the case that it was found in. */
export interface TitledDifference extends PayloadDifference {
  readonly title: string;
}

/** What became of the payload on both machines. */
export interface PayloadResult {
  readonly cases: number;
  /** VM exits that the payload got. */
  readonly exits: number;
  /** Instructions of the payload, each at the same place in the same order on both machines. */
  readonly instructions: number;
  /** Writes of the payload, to memory and to the VMCS, in order. */
  readonly writes: number;
  /** Everything that was compared, addresses of instructions and writes included. */
  readonly values: number;
  readonly differences: readonly TitledDifference[];
  /** The first difference that nothing explains with its surroundings; empty when there is none. */
  readonly context: readonly string[];
}

/** Lets the payload answer the same exits on both machines. @throws ConformError, ConductorError when it is refused. */
export function comparePayload(
  machine: SecondMachine,
  payload: Uint8Array,
  cases: readonly PayloadCase[] = PAYLOAD_CASES,
): PayloadResult {
  const stage = new Stage(payload, machine.capabilities);
  const layout = learnVmcsLayout(machine);
  const script = new KernelScript(stage, machine.capabilities, layout);
  const second = recordOnSecond(machine, layout, stage, script, cases);
  const run = new ModelRun(stage, script, (passage) => second.passages[passage]?.from);
  const firstPassages = cases.map((one, index) => {
    const first = run.passages.length;
    run.runCase(one, index);
    return first;
  });
  const model = { passages: run.passages, memory: run.memory() };
  const compared = new Comparer().compare(model, second);
  const titleOf = (passage: number | null): string => {
    const index = firstPassages.findLastIndex((first) => passage !== null && first <= passage);
    return cases[index]?.title ?? 'at the end';
  };
  const differences = compared.differences.map((one) => ({ ...one, title: titleOf(one.passage) }));
  const first = differences.find(({ known }) => known === null);
  return {
    cases: cases.length,
    exits: model.passages.filter(({ from }) => from.kind === 'exit').length,
    instructions: model.passages.reduce((sum, { path }) => sum + path.length, 0),
    writes: model.passages.reduce((sum, { effects }) => sum + effects.length, 0),
    values: compared.values,
    differences,
    context: first === undefined ? [] : contextOf(first, first.title, model, second, stage.loaded),
  };
}
