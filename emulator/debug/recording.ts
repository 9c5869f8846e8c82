/**
 * A recording: which run, what was changed in it, and a position, as JSON that people and tools can read.
 *
 * Source: DESIGN ("Deterministic time": a run is a function of image, scenario and seed).
 * Invariant: a recording is replayed only on the payload, scenario and seed that it was made on; a bad file is refused
 * with its name, the field and the rule.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { HarnessError } from '../../abi/errors.js';
import { hex } from '../../abi/uint.js';
import { VMCS_FIELDS, type FieldName } from '../../abi/vmcs-fields.js';
import { REG, type RegisterName } from '../cpu/registers.js';
import { HAND_STEPS } from '../machine/conductor/by-hand.js';
import type { TapeEntry } from './edits.js';
import { parsePosition, printPosition, type Position } from './position.js';
import type { DebugSession } from './session.js';

export type RecordingErrorCode = 'RECORDING_JSON' | 'RECORDING_SCHEMA' | 'RECORDING_OTHER_RUN';
/** A recording that cannot be replayed: `details` names file, field and rule. */
export class RecordingError extends HarnessError<RecordingErrorCode> {}

const FORMAT = 'caretaker-debug-recording';

const u64 = z
  .string()
  .regex(/^0x[0-9a-f]{1,16}$/, 'a hexadecimal number of up to 16 digits is wanted')
  .transform((text) => BigInt(text));
const count = z.number().int().min(0);
const vcpu = count.max(63);
const u32 = count.max(0xffff_ffff);
const FIELD_NAMES: ReadonlySet<string> = new Set(VMCS_FIELDS.map(({ name }) => name));
const fieldName = z.custom<FieldName>(
  (value) => typeof value === 'string' && FIELD_NAMES.has(value),
  'no VMCS field has that name',
);
const registerName = z.custom<RegisterName>(
  (value) => typeof value === 'string' && Object.hasOwn(REG, value),
  'no register has that name',
);
/** Values by name, each name one that `which` knows. */
const named = (which: typeof fieldName | typeof registerName) =>
  z.record(z.string(), u64).superRefine((values, context) => {
    for (const name of Object.keys(values)) {
      const result = which.safeParse(name);
      if (result.success) continue;
      context.addIssue({ code: 'custom', message: result.error.issues[0]!.message, path: [name] });
    }
  });
const exit = z.strictObject({
  basic: count.max(0xffff),
  reasonBits: u32.optional(),
  qualification: u64.optional(),
  instructionLength: u32.optional(),
  interruptionInfo: u32.optional(),
  interruptionErrorCode: u32.optional(),
  idtVectoringInfo: u32.optional(),
  idtVectoringErrorCode: u32.optional(),
  guestLinearAddress: u64.optional(),
  guestPhysicalAddress: u64.optional(),
  instructionInfo: u32.optional(),
  registers: named(registerName).optional(),
  fields: named(fieldName).optional(),
});

const edit = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('register'), vcpu, name: registerName, value: u64 }),
  z.strictObject({
    kind: z.literal('memory'),
    address: u64,
    bytes: z.array(count.max(255)).max(1 << 20),
  }),
  z.strictObject({ kind: z.literal('field'), vcpu, name: fieldName, value: u64 }),
  z.strictObject({ kind: z.literal('msr'), vcpu, index: u32, value: u64 }),
  z.strictObject({ kind: z.literal('nmi'), vcpu }),
  z.strictObject({ kind: z.literal('mce'), vcpu }),
  z.strictObject({ kind: z.literal('interrupt'), vcpu, vector: count.max(255) }),
  z.strictObject({ kind: z.literal('exit'), vcpu, exit }),
  z.strictObject({ kind: z.literal('flip'), vcpu, to: z.enum(['attached', 'detached']) }),
  z.strictObject({ kind: z.literal('host'), step: z.enum(HAND_STEPS) }),
]);

const position = z
  .string()
  .refine((text) => parsePosition(text) !== null, 'a position as 12:40 is wanted')
  .transform((text) => parsePosition(text)!);

const recording = z.strictObject({
  format: z.literal(FORMAT),
  version: z.literal(1),
  payloadSha256: z.string(),
  scenario: z.string(),
  scenarioSha256: z.string(),
  seed: count,
  position,
  changes: z.array(z.strictObject({ time: count, position, edit })).max(100_000),
});

/** The run that a text is a recording of; null for a text that is no recording. */
export function recordedRun(
  text: string,
): { readonly scenario: string; readonly seed: number } | null {
  const header = z.object({ format: z.literal(FORMAT), scenario: z.string(), seed: count });
  try {
    return header.safeParse(JSON.parse(text)).data ?? null;
  } catch {
    return null;
  }
}

/** What a recording says to do. */
export interface Recording {
  readonly entries: readonly TapeEntry[];
  readonly position: Position;
}

const sha256 = (bytes: Uint8Array | string): string =>
  createHash('sha256').update(bytes).digest('hex');

/** A value as JSON has it: 64-bit numbers as hexadecimal text. */
function toJson(value: unknown): string {
  return JSON.stringify(
    value,
    (_key, one: unknown) => (typeof one === 'bigint' ? hex(one) : one),
    2,
  );
}

/** Which run a session is of. */
function runOf({ options: { payload, scenario } }: DebugSession): Record<string, unknown> {
  return {
    payloadSha256: sha256(payload),
    scenario: scenario.name,
    scenarioSha256: sha256(toJson(scenario)),
    seed: scenario.seed,
  };
}

/** The session up to its stop, as a file. */
export function writeRecording(session: DebugSession): string {
  const changes = session.tape.entries.slice(0, session.tape.applied).map((entry) => ({
    time: entry.time,
    position: printPosition(session.log.positionAt(entry.time)),
    edit: entry.edit,
  }));
  return `${toJson({
    format: FORMAT,
    version: 1,
    ...runOf(session),
    position: printPosition(session.position),
    changes,
  })}\n`;
}

/** Reads a recording of the same run as a session's. @throws RecordingError. */
export function readRecording(text: string, file: string, session: DebugSession): Recording {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : 'unreadable';
    throw new RecordingError('RECORDING_JSON', `${file}: no JSON: ${why}`, { file }, { cause });
  }
  const result = recording.safeParse(json);
  if (!result.success) {
    const issue = result.error.issues[0]!;
    const field = issue.path.join('.') || '(document)';
    throw new RecordingError('RECORDING_SCHEMA', `${file}: ${field}: ${issue.message}`, {
      file,
      field,
      rule: issue.message,
    });
  }
  const { data } = result;
  for (const [field, here] of Object.entries(runOf(session))) {
    const there: unknown = data[field as keyof typeof data];
    if (there === here) continue;
    const rule = `a recording is replayed on the run that it was made on`;
    const message = `${file}: ${field}: ${JSON.stringify(there)}, and this run has ${JSON.stringify(here)}: ${rule}`;
    throw new RecordingError('RECORDING_OTHER_RUN', message, { file, field, rule });
  }
  const broken = brokenRule(data.changes, session);
  if (broken !== null) {
    const { field, rule } = broken;
    const message = `${file}: ${field}: ${rule}`;
    throw new RecordingError('RECORDING_SCHEMA', message, { file, field, rule });
  }
  return {
    position: data.position,
    entries: data.changes.map((one) => ({ time: one.time, edit: one.edit })),
  };
}

/** The first change that the run of this session cannot take, or null. */
function brokenRule(
  changes: z.infer<typeof recording>['changes'],
  session: DebugSession,
): { readonly field: string; readonly rule: string } | null {
  const { vcpus } = session.options.scenario;
  const { sizeBytes } = session.machine.memory;
  let before = 0;
  for (const [index, { time, edit: change }] of changes.entries()) {
    const refused = (field: string, rule: string) => ({ field: `changes.${index}.${field}`, rule });
    if (time < before) return refused('time', 'changes are in order of time');
    before = time;
    if ('vcpu' in change && change.vcpu >= vcpus) {
      return refused('edit.vcpu', `the scenario has ${vcpus} vCPUs, counted from 0`);
    }
    if (change.kind !== 'memory') continue;
    if (change.address + BigInt(change.bytes.length) > BigInt(sizeBytes)) {
      return refused('edit.address', `physical memory has ${sizeBytes} bytes`);
    }
  }
  return null;
}
