/**
 * A line of a step's script: what a guest does, what comes from outside, or what a compromised payload tries, and when.
 *
 * Source: SDM, "VM Exits"; stray-events.ts; conductor/attacks.ts.
 * Invariant: a line names one of the three.
 */
import { z } from 'zod';
import { FAULT_NAMES } from '../stray-events.js';
import { count, MAX_PAGES, MAX_VCPUS, seconds, SHORTEST_PERIOD_SECONDS, u64 } from './values.js';

const MAX_INSTRUCTION = 100_000;
const MAX_REPEATS = 100_000;
/** The vectors below are exceptions. */
const FIRST_EXTERNAL_VECTOR = 32;
const LAST_VECTOR = 255;

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

export const scriptEntry = z
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
        every: seconds.pipe(z.number().min(SHORTEST_PERIOD_SECONDS)),
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
