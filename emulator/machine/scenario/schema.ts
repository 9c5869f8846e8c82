/**
 * What a scenario file may say, and the plain object it becomes.
 *
 * Source: CLI ("run --scenario NAME-or-FILE"); DESIGN ("Two life cycles", "Two CR3 policies").
 * Invariant: a scenario that parses can be run; everything else is refused with the field's path and the rule.
 */
import { z } from 'zod';
import { didYouMean } from '../../../abi/did-you-mean.js';
import { HarnessError } from '../../../abi/errors.js';
import { MIXES, type MixName } from '../../guest/mix.js';
import { FEATURE_NAMES, SHARED_STRUCTURES } from '../../host/kvm/negotiation.js';
import { INVARIANT_IDS } from '../../vmx/stop-reason.js';
import { scriptEntry } from './script.js';
import {
  count,
  errno,
  MAX_PAGES,
  MAX_VCPUS,
  missing,
  seconds,
  SHORTEST_PERIOD_SECONDS,
  shownText,
  signed,
  u64,
} from './values.js';

export type ScenarioErrorCode =
  'SCENARIO_YAML' | 'SCENARIO_SCHEMA' | 'SCENARIO_UNKNOWN' | 'SCENARIO_UNREADABLE';
/** A scenario that cannot be run: `details` names file, field and rule. */
export class ScenarioError extends HarnessError<ScenarioErrorCode> {}

const MAX_EXITS = 10_000_000;
/** One less than an IRQ routing table has entries: the device that a mix knows has one too. */
const MAX_QUEUES = 31;

const mixName = z.enum(Object.keys(MIXES) as [MixName, ...MixName[]]);

/** How the guests behave during a step: their mix, and exits a second of each vCPU. */
const load = { mix: mixName.optional(), rate: count(1_000_000).optional() };
const script = z.array(scriptEntry).default([]);

/** What each step takes; the key of a step chooses the row, so that a message can name the field inside it. */
const STEPS = {
  run: z
    .strictObject({
      ...load,
      exits: count(MAX_EXITS).optional(),
      seconds: seconds.optional(),
      script,
    })
    .refine(({ exits, seconds }) => (exits ?? seconds) !== undefined, {
      message: 'exits or seconds are wanted, or it would not end',
      path: ['exits'],
    }),
  'pause-devices': z.literal(true),
  /** KVM_PRE_FAULT_MEMORY over all of the guest's memory. */
  prefault: z.literal(true),
  /** The VMM takes pages of the guest's memory back: madvise(MADV_DONTNEED). */
  madvise: z.strictObject({ gpa: u64, pages: count(MAX_PAGES).pipe(z.number().min(1)) }),
  /** KVM_GET_DIRTY_LOG says that so many pages were written, or at least one. */
  'dirty-log': z.strictObject({ pages: count(MAX_PAGES).optional() }),
  preserve: z.strictObject({ ...load, expect: errno.optional() }),
  'close-session': z.literal(true),
  'vmm-exit': z.literal(true),
  kexec: z.strictObject({ ...load, seconds, script, expect: errno.optional() }),
  gap: z.strictObject({ ...load, seconds, script }),
  /** The VMM of each VM takes its files; that of a VM which is refused with that errno terminates it. */
  retrieve: z.union([
    z.literal(true),
    z.strictObject({
      refused: z.array(z.strictObject({ vm: count(MAX_VCPUS - 1), expect: errno })).min(1),
    }),
  ]),
  finish: z.literal(true),
  stop: z.strictObject({ vcpu: count(MAX_VCPUS - 1) }),
  'get-set-state': z.strictObject({ vcpu: count(MAX_VCPUS - 1), expect: errno.optional() }),
  /** KVM_SET_CARETAKER on a vCPU that runs; all of them when none is named. `broken` says what the new file has wrong. */
  update: z.strictObject({
    vcpu: count(MAX_VCPUS - 1).optional(),
    broken: z.enum(['machine', 'init', 'fault']).optional(),
    expect: errno.optional(),
  }),
  /** A pCPU that runs nothing leaves the kernel. */
  offline: z.strictObject({ pcpu: count(2 * MAX_VCPUS) }),
  migrate: z.strictObject({ vcpu: count(MAX_VCPUS - 1), pcpu: count(2 * MAX_VCPUS) }),
};
export type StepName = keyof typeof STEPS;
/** What a step of that name says. */
export type StepOf<Name extends StepName> = z.infer<(typeof STEPS)[Name]>;
/** One step of the conductor: an object with one key. */
export type Step = {
  [Name in StepName]: Readonly<Record<Name, StepOf<Name>>>;
}[StepName];

const oneKey = z.record(z.string(), z.unknown(), 'a step is a map with one key');
const step = oneKey.transform((value, context): Step => {
  const refuse = (message: string, path: PropertyKey[] = []): never => {
    context.addIssue({ code: 'custom', message, path });
    return z.NEVER;
  };
  const [name, ...others] = Object.keys(value);
  if (name === undefined) return refuse('a step has one key; this has none');
  if (others.length > 0) {
    return refuse(`a step has one key; this has ${[name, ...others].join(', ')}`);
  }
  if (!isStepName(name)) {
    return refuse(`no step is named "${name}"${didYouMean(name, Object.keys(STEPS))}`);
  }
  const result = STEPS[name].safeParse(value[name], { error: missing });
  if (!result.success) {
    const { message, path } = result.error.issues[0]!;
    return refuse(message, [name, ...path]);
  }
  // SAFETY: the row of `name` has just accepted the value.
  return { [name]: result.data } as Step;
});

function isStepName(name: string): name is StepName {
  return Object.hasOwn(STEPS, name);
}

const cr3Policy = z.enum(['isolated', 'shared-until-detach']);
/** One VM of several: what it does not say is as the scenario has it. */
const vm = z.strictObject({
  vcpus: count(MAX_VCPUS).pipe(z.number().min(1)),
  'shadow-stacks': z.boolean().optional(),
  cr3: cr3Policy.optional(),
  /** `compromised` is the reference payload with its guest in command of it. */
  payload: z.enum(['given', 'compromised']).default('given'),
});

const scenario = z.strictObject({
  name: shownText(64),
  description: shownText(400),
  /** Of all VMs. */
  vcpus: count(MAX_VCPUS).pipe(z.number().min(1)),
  /** The VMs, when there are several; vCPUs are numbered through. */
  vms: z.array(vm).min(1).optional(),
  lifecycle: z.enum(['interpose', 'attach']).default('interpose'),
  cr3: cr3Policy.default('isolated'),
  /** Whether the host's tables map all of memory, as Linux's direct map does, or a VM's share of it alone. */
  'direct-map': z.boolean().default(false),
  /** When the payload's own descriptor tables are in the host-state area. */
  tables: z.enum(['always', 'in-gap']).default('always'),
  /** What a kernel does with a vCPU whose payload has parked its core. */
  parked: z.enum(['kill', 'restart']).default('kill'),
  hlt: z.enum(['ACTIVITY', 'ROOT']).default('ACTIVITY'),
  /** Whether the host offers shadow stacks to payloads. */
  'shadow-stacks': z.boolean().default(false),
  /** Whether KVM logs the pages that the guest writes, by write protection. */
  'dirty-logging': z.boolean().default(false),
  /** Whether KVM's mmu_notifier knows of vCPUs that run alone, or is as it is without live update. */
  'mmu-notifier': z.enum(['aware', 'unaware']).default('aware'),
  /** SMT: 2 makes pairs of pCPUs the threads of one core; the first pair is the host's. */
  'threads-per-core': count(2).pipe(z.number().min(1)).default(1),
  seed: count(0xffff_ffff).default(1),
  mix: mixName.default('busy'),
  /** Exits a second of each vCPU while its guest is active. */
  rate: count(1_000_000).default(3600),
  /** A passed-through device that completes I/O by itself, whatever kernel there is. */
  device: z
    .strictObject({
      /** By remapping an interrupt comes to a core, which takes it; by posting the vCPU has it without a VM exit. */
      delivery: z.enum(['remapped', 'posted']).default('remapped'),
      queues: z
        .array(
          z.strictObject({
            /** The vCPU that its interrupt is for. */
            vcpu: count(MAX_VCPUS - 1),
            /** Seconds between two completions. */
            every: seconds.pipe(z.number().min(SHORTEST_PERIOD_SECONDS)),
            /** The vCPU to whose core the host has steered the interrupt; its own unless it says so. */
            'core-of': count(MAX_VCPUS - 1).optional(),
            /** Whether KVM's IRQ routing has a route for it. */
            routed: z.boolean().default(true),
          }),
        )
        .min(1)
        .max(MAX_QUEUES),
    })
    .optional(),
  /** How the kernel after kexec differs: its clocks, what its KVM makes of the guest's, what it has for payloads. */
  'next-kernel': z
    .strictObject({
      /** By how much it calibrates the TSC too fast. */
      'tsc-ppm': signed(500).default(0),
      /** Seconds by which its wall clock is stepped. */
      'wall-step': signed(1e6).default(0),
      clock: z.enum(['carried', 'restarted']).default('carried'),
      /** CARETAKER_FEATURE_* that it does not offer. */
      lacks: z.array(z.enum(FEATURE_NAMES)).default([]),
      /** Versions of the shared structures that it speaks in place of today's. */
      speaks: z.partialRecord(z.enum(SHARED_STRUCTURES), count(0xffff)).default({}),
    })
    .prefault({}),
  /** Findings that the scenario is there to show: each must come, and no other. */
  expect: z
    .array(z.strictObject({ invariant: z.enum(INVARIANT_IDS), says: shownText(400) }))
    .default([]),
  steps: z.array(step).min(1).max(200),
});
/** A scenario, ready to run. */
export type Scenario = z.infer<typeof scenario>;

/** The scenario's device, and a queue of it. */
export type Device = NonNullable<Scenario['device']>;
export type DeviceQueue = Device['queues'][number];

/** Checks a parsed document. @throws ScenarioError SCENARIO_SCHEMA with the path of the first bad field. */
export function toScenario(document: unknown, file: string): Scenario {
  const result = scenario.safeParse(document, { error: missing });
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  const field = issue.path.join('.') || '(document)';
  throw new ScenarioError('SCENARIO_SCHEMA', `${file}: ${field}: ${issue.message}`, {
    file,
    field,
    rule: issue.message,
  });
}
