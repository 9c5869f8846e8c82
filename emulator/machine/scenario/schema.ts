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
import { FAULT_NAMES } from '../stray-events.js';

export type ScenarioErrorCode =
  'SCENARIO_YAML' | 'SCENARIO_SCHEMA' | 'SCENARIO_UNKNOWN' | 'SCENARIO_UNREADABLE';
/** A scenario that cannot be run: `details` names file, field and rule. */
export class ScenarioError extends HarnessError<ScenarioErrorCode> {}

const MAX_VCPUS = 64;
const MAX_SECONDS = 3600;
const MAX_EXITS = 10_000_000;
const MAX_INSTRUCTION = 100_000;
const MAX_REPEATS = 100_000;
const MAX_PAGES = 4096;
/** One less than an IRQ routing table has entries: the device that a mix knows has one too. */
const MAX_QUEUES = 31;
const MIN_COMPLETION_SECONDS = 1e-6;
/** The vectors below are exceptions. */
const FIRST_EXTERNAL_VECTOR = 32;
const LAST_VECTOR = 255;

const WHOLE = 'a whole number is wanted';

// YAML is read with integers as bigint so that addresses stay exact; counts become numbers here.
const count = (max: number) =>
  z
    .union([z.bigint(), z.number().int()], WHOLE)
    .transform((value) => Number.parseInt(value.toString(), 10))
    .pipe(z.number().int().min(0).max(max));
const seconds = z
  .union([z.bigint(), z.number()], 'a number of seconds is wanted')
  .transform((value) => Number.parseFloat(value.toString()))
  .pipe(z.number().min(0).max(MAX_SECONDS));
const signed = (most: number) =>
  z
    .union([z.bigint(), z.number()], 'a number is wanted')
    .transform((value) => Number.parseFloat(value.toString()))
    .pipe(z.number().min(-most).max(most));
const u64 = z
  .union([z.bigint(), z.number().int()], WHOLE)
  .transform((value) => BigInt(value))
  .pipe(z.bigint().min(0n).max(0xffff_ffff_ffff_ffffn));

const mixName = z.enum(Object.keys(MIXES) as [MixName, ...MixName[]]);

/** One thing that a guest is told to do: an exit, or an access to memory that may be one. */
const scriptedExit = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('cpuid'), leaf: u64, subleaf: u64.default(0n) }),
  z.strictObject({ kind: z.literal('hlt') }),
  z.strictObject({ kind: z.literal('pause') }),
  z.strictObject({ kind: z.literal('rdtsc') }),
  z.strictObject({ kind: z.literal('vmcall') }),
  z.strictObject({ kind: z.literal('rdmsr'), index: u64 }),
  z.strictObject({ kind: z.literal('wrmsr'), index: u64, value: u64 }),
  z.strictObject({
    kind: z.literal('ipi'),
    mode: z.enum(['fixed', 'lowest-priority', 'nmi', 'init', 'startup']).default('fixed'),
    vector: count(LAST_VECTOR).default(0),
    /** An APIC id, or with `logical` what the logical destination registers are compared with. */
    destination: u64.pipe(z.bigint().max(0xffff_ffffn)).default(0n),
    logical: z.boolean().default(false),
    shorthand: z.enum(['none', 'self', 'all', 'others']).default('none'),
  }),
  z.strictObject({ kind: z.literal('out'), port: count(0xffff) }),
  z.strictObject({
    kind: z.literal('access'),
    gpa: u64,
    /** `walk` is the processor's own read of the guest's page tables. */
    access: z.enum(['read', 'write', 'fetch', 'walk']).default('write'),
    /** So many pages, one after the other. */
    pages: count(MAX_PAGES).pipe(z.number().min(1)).default(1),
    /** What the processor was delivering to the guest with the access. */
    delivering: z.enum(['nothing', 'page-fault']).default('nothing'),
  }),
  z.strictObject({ kind: z.literal('xsetbv'), value: u64 }),
]);
export type ScriptedExit = z.infer<typeof scriptedExit>;

/** What the guest of a compromised payload has it do, and to whom. */
const scriptedAttack = z.strictObject({
  how: z.enum(['read', 'write', 'read-by-own-tables', 'write-unprotected']),
  /** The host kernel's text, the page tables in use, KVM's page of the CCB, or the soft state of a vCPU. */
  at: z.union([
    z.enum(['kernel', 'tables', 'kvm-page']),
    z.strictObject({ vcpu: count(MAX_VCPUS - 1) }),
  ]),
});
export type ScriptedAttack = z.infer<typeof scriptedAttack>;

/** One event from outside, at the vCPU's core. */
const strayEvent = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('nmi'), shadow: z.enum(['sti', 'mov-ss']).optional() }),
  z.strictObject({
    kind: z.literal('machine-check'),
    restartable: z.boolean().default(true),
    /** What its bank says: PCC, or S and AR of memory that must not be used again. */
    error: z.enum(['context-corrupt', 'action-required']).optional(),
  }),
  z.strictObject({ kind: z.literal('init') }),
  z.strictObject({
    kind: z.literal('interrupt'),
    vector: count(LAST_VECTOR).pipe(z.number().min(FIRST_EXTERNAL_VECTOR)),
  }),
  z.strictObject({ kind: z.literal('spurious-interrupt') }),
  z
    .strictObject({
      kind: z.literal('exception'),
      vector: z.enum(FAULT_NAMES),
      'error-code': count(0xffff).default(0),
      /** CR2 of a #PF. */
      address: u64.default(0n),
    })
    .transform(({ 'error-code': errorCode, ...rest }) => ({ ...rest, errorCode })),
]);

const scriptEntry = z
  .strictObject({
    vcpu: z.union([count(MAX_VCPUS - 1), z.literal('all')]),
    /** Seconds from the beginning of the step. */
    at: seconds,
    /** What the guest does, or what comes from outside. */
    exit: scriptedExit.optional(),
    event: strayEvent.optional(),
    attack: scriptedAttack.optional(),
    /** The event comes with so many instructions of the vCPU's next exit executed. */
    instruction: count(MAX_INSTRUCTION).optional(),
    /** The same again, each so many seconds after the one before and at an instruction so much further on. */
    repeat: z
      .strictObject({
        times: count(MAX_REPEATS).pipe(z.number().min(1)),
        every: seconds,
        stride: count(MAX_INSTRUCTION).default(0),
      })
      .optional(),
  })
  .superRefine(({ exit, event, attack, instruction }, context) => {
    const refuse = (message: string, field: string): void =>
      context.addIssue({ code: 'custom', message, path: [field] });
    const isNothing = exit === undefined && event === undefined && attack === undefined;
    if (isNothing) refuse('an exit or an event is wanted', 'exit');
    if (exit !== undefined && event !== undefined) refuse('it is an exit or an event', 'event');
    if (attack !== undefined && (exit ?? event) !== undefined)
      refuse('an attack stands alone', 'attack');
    if (event === undefined && instruction !== undefined)
      refuse('only an event comes at an instruction', 'instruction');
  });
/** A line of a step's script. */
export type ScriptEntry = z.infer<typeof scriptEntry>;

/** How the guests behave during a step: their mix, and exits a second of each vCPU. */
const load = { mix: mixName.optional(), rate: count(1_000_000).optional() };
const script = z.array(scriptEntry).default([]);

/** What each step takes; the key of a step chooses the row, so that a message can name the field inside it. */
const STEPS = {
  run: z.strictObject({
    ...load,
    exits: count(MAX_EXITS).optional(),
    seconds: seconds.optional(),
    script,
  }),
  'pause-devices': z.literal(true),
  /** KVM_PRE_FAULT_MEMORY over all of the guest's memory. */
  prefault: z.literal(true),
  /** The VMM takes pages of the guest's memory back: madvise(MADV_DONTNEED). */
  madvise: z.strictObject({ gpa: u64, pages: count(MAX_PAGES).pipe(z.number().min(1)) }),
  /** KVM_GET_DIRTY_LOG says that so many pages were written, or at least one. */
  'dirty-log': z.strictObject({ pages: count(MAX_PAGES).optional() }),
  preserve: z.strictObject({ ...load, expect: z.string().optional() }),
  'close-session': z.literal(true),
  'vmm-exit': z.literal(true),
  kexec: z.strictObject({ ...load, seconds, script, expect: z.string().optional() }),
  gap: z.strictObject({ ...load, seconds, script }),
  /** The VMM of each VM takes its files; that of a VM which is refused with that errno terminates it. */
  retrieve: z.union([
    z.literal(true),
    z.strictObject({
      refused: z.array(z.strictObject({ vm: count(MAX_VCPUS - 1), expect: z.string() })).min(1),
    }),
  ]),
  finish: z.literal(true),
  stop: z.strictObject({ vcpu: count(MAX_VCPUS - 1) }),
  'get-set-state': z.strictObject({ vcpu: count(MAX_VCPUS - 1), expect: z.string().optional() }),
  /** KVM_SET_CARETAKER on a vCPU that runs; all of them when none is named. `broken` says what the new file has wrong. */
  update: z.strictObject({
    vcpu: count(MAX_VCPUS - 1).optional(),
    broken: z.enum(['machine', 'init', 'fault']).optional(),
    expect: z.string().optional(),
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
  const result = STEPS[name].safeParse(value[name]);
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
  name: z.string().min(1).max(64),
  description: z.string().min(1).max(400),
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
            every: seconds.pipe(z.number().min(MIN_COMPLETION_SECONDS)),
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
    .array(z.strictObject({ invariant: z.enum(INVARIANT_IDS), says: z.string().min(1) }))
    .default([]),
  steps: z.array(step).min(1).max(200),
});
const checked = scenario.superRefine(({ vcpus, vms, device }, context) => {
  device?.queues.forEach((queue, index) => {
    for (const field of ['vcpu', 'core-of'] as const) {
      if ((queue[field] ?? 0) < (vms?.[0]?.vcpus ?? vcpus)) continue;
      const message = `the VM with the device has no vCPU ${queue[field]}`;
      context.addIssue({ code: 'custom', message, path: ['device', 'queues', index, field] });
    }
  });
  const sum = vms?.reduce((all, one) => all + one.vcpus, 0) ?? vcpus;
  if (sum === vcpus) return;
  const message = `the VMs have ${sum} vCPUs, and the scenario ${vcpus}`;
  context.addIssue({ code: 'custom', message, path: ['vms'] });
});

/** A scenario, ready to run. */
export type Scenario = z.infer<typeof scenario>;

/** The scenario's device, and a queue of it. */
export type Device = NonNullable<Scenario['device']>;
export type DeviceQueue = Device['queues'][number];

/** Checks a parsed document. @throws ScenarioError SCENARIO_SCHEMA with the path of the first bad field. */
export function toScenario(document: unknown, file: string): Scenario {
  const result = checked.safeParse(document);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  const field = issue.path.join('.') || '(document)';
  throw new ScenarioError('SCENARIO_SCHEMA', `${file}: ${field}: ${issue.message}`, {
    file,
    field,
    rule: issue.message,
  });
}
