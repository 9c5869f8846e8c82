/**
 * The same payload binary as the exit handler on both machines, exit by exit.
 *
 * Source: DESIGN ("One VM exit, as the data flows"); CONTRACT ("What the payload handles").
 * Happy path: this project's KVM installs the payload and its pages are copied to the second machine, where real guest code
 * makes the exits and the debugger watches; then the models go through the same exits; both recordings are compared.
 * Invariant: every passage of the payload is compared from its first instruction to its last, with each write in order.
 */
import { parseElf } from '../../../loader/elf.js';
import { CCB_RULE } from '../../host/kvm/ccb-rule.js';
import { learnVmcsLayout, type VmcsLayout } from '../vmcs-layout.js';
import type { SecondMachine } from '../second-machine.js';
import { INSTRUCTIONS, IPIS, SEQUENCES, type PayloadCase } from './cases.js';
import { Comparer, type PayloadDifference } from './compare.js';
import { contextOf } from './context.js';
import { EVENTS } from './event-cases.js';
import { GAP, isTelling } from './gap-cases.js';
import { KernelScript } from './kernel-script.js';
import { ModelRun } from './on-model.js';
import { recordOnSecond } from './on-second.js';
import type { Passage } from './recording.js';
import { Stage, type StageSettings } from './stage.js';

/** Every case with KVM there, in the order in which the payload meets them; a stop comes last. */
export const ATTACHED: readonly PayloadCase[] = [...INSTRUCTIONS, ...EVENTS];

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
  /** Parts that the payload has not been compared in, and why. */
  readonly leftOut: readonly string[];
  /** The first difference that nothing explains with its surroundings; empty when there is none. */
  readonly context: readonly string[];
}

/** A host, and the cases that the payload meets on it: a boot for each list. */
export interface PayloadPart {
  readonly host: StageSettings;
  readonly attached: readonly PayloadCase[];
  /** With a second processor, which attaches. */
  readonly gap: readonly PayloadCase[];
}

/** Every part: all cases on the plain host, and on others those that it makes a difference to. */
export const PAYLOAD_PARTS: readonly PayloadPart[] = [
  { host: {}, attached: ATTACHED, gap: GAP },
  {
    host: { 'shadow-stacks': true },
    attached: [...SEQUENCES, ...EVENTS],
    gap: GAP.filter(isTelling),
  },
  {
    host: { cr3: 'shared-until-detach', vcpus: 2 },
    attached: [...IPIS, ...EVENTS],
    gap: GAP.filter(isTelling),
  },
];

/** Lets the payload answer the same exits on both machines. @throws ConformError, ConductorError when it is refused. */
export function comparePayload(
  machine: SecondMachine,
  payload: Uint8Array,
  parts: readonly PayloadPart[] = PAYLOAD_PARTS,
): PayloadResult {
  const layout = learnVmcsLayout(machine);
  const isFixed = parseElf(payload, CCB_RULE).type === 'ET_EXEC';
  const [possible, leftOut] = isFixed
    ? [parts.filter(hasOneVcpu), parts.filter((part) => !hasOneVcpu(part)).map(leftOutText)]
    : [parts, []];
  const results = possible.flatMap(({ host, attached, gap }) => {
    const first = new Boot(machine, layout, payload, host);
    const compared = [first.compare(attached)];
    if (gap.length > 0) {
      const second = new Boot(machine, layout, payload, host);
      compared.push(second.compare(gap, [second.stage.beforeRun, ...first.lastInstructions()]));
    }
    return compared;
  });
  const sum = (of: (one: PayloadResult) => number): number =>
    results.reduce((total, one) => total + of(one), 0);
  return {
    cases: sum(({ cases }) => cases),
    exits: sum(({ exits }) => exits),
    instructions: sum(({ instructions }) => instructions),
    writes: sum(({ writes }) => writes),
    values: sum(({ values }) => values),
    differences: results.flatMap(({ differences }) => differences),
    leftOut,
    context: results.find(({ context }) => context.length > 0)?.context ?? [],
  };
}

const hasOneVcpu = ({ host }: PayloadPart): boolean => (host.vcpus ?? 1) === 1;

function leftOutText({ host }: PayloadPart): string {
  const settings = Object.entries(host).map(([name, value]) => `${name}: ${value}`);
  return `a host with ${settings.join(', ')}: an ET_EXEC lies at one address, and has room for one vCPU`;
}

/** One boot of the second machine, and the same cases here. */
class Boot {
  readonly stage: Stage;
  readonly #machine: SecondMachine;
  readonly #layout: VmcsLayout;
  #passages: readonly Passage[] = [];

  constructor(
    machine: SecondMachine,
    layout: VmcsLayout,
    payload: Uint8Array,
    host: StageSettings,
  ) {
    this.#machine = machine;
    this.#layout = layout;
    this.stage = new Stage(payload, machine.capabilities, host);
  }

  /** The instructions with which the payload came to where it gave control away. */
  lastInstructions(): readonly bigint[] {
    return [...new Set(this.#passages.flatMap(({ path }) => path.slice(-1)))];
  }

  compare(cases: readonly PayloadCase[], before: readonly bigint[] = []): PayloadResult {
    const { stage } = this;
    const script = new KernelScript(stage, this.#machine.capabilities, this.#layout);
    const second = recordOnSecond(this.#machine, this.#layout, stage, script, cases, before);
    const run = new ModelRun(stage, script, (passage) => second.passages[passage]);
    const firstPassages = cases.map((one, index) => {
      const at = run.passages.length;
      run.runCase(one, index);
      return at;
    });
    this.#passages = run.passages;
    const model = { passages: run.passages, memory: run.memory() };
    const compared = new Comparer().compare(model, second);
    const titleOf = (passage: number | null): string => {
      const index = firstPassages.findLastIndex((at) => passage !== null && at <= passage);
      return cases[index]?.title ?? 'at the end';
    };
    const differences = compared.differences.map((one) => ({
      ...one,
      title: titleOf(one.passage),
    }));
    const first = differences.find(({ known }) => known === null);
    return {
      cases: cases.length,
      exits: model.passages.filter(({ from }) => from.kind === 'exit').length,
      instructions: model.passages.reduce((sum, { path }) => sum + path.length, 0),
      writes: model.passages.reduce((sum, { effects }) => sum + effects.length, 0),
      values: compared.values,
      differences,
      leftOut: [],
      context:
        first === undefined ? [] : contextOf(first, first.title, model, second, stage.loaded),
    };
  }
}
