/**
 * Contract generations by name: the RFC's, and the two control blocks of its author's later series.
 *
 * Source: CONTRACT for `rfc`; the design document of the later series for the fields and states of the other two.
 * Not modelled: offsets that the later series do not publish; those here are natural C order.
 */
import { CONTRACT_CONSTANTS } from '../contract.js';
import { struct } from '../layout.js';
import type { FieldRow } from '../layout.js';
import { SHARED, shapeOf } from './shape.js';
import type { StructShape } from './shape.js';

/** What a generation asks of code. */
export interface CodeRules {
  /** Whether the loader's rules hold: one image with .ccb, entry points in it, a routing trampoline. */
  readonly isPayload: boolean;
  /** The stack that each vCPU has: a power of two, its lowest word taken. */
  readonly stackBytes: number;
  /** Whether the host turns on indirect branch tracking, which is a switch of its own beside shadow stacks. */
  readonly ibt: boolean;
}

/** A contract that a binary can be held against. */
export interface Profile {
  readonly describe: string;
  readonly structs: readonly StructShape[];
  /** Structures without which nothing can be judged. */
  readonly required: readonly string[];
  /** Enumerators by name; null where the number is not published. */
  readonly constants: ReadonlyMap<string, bigint | null>;
  readonly code: CodeRules;
}

const RECORD = ['total_runs', 'total_exits', 'stall_count', 'last_exit_reason', 'last_exit_rip'];
const STALL = ['stall_exit_reason', 'stall_exit_rip'];

const CONTROL_BLOCK = struct('caretaker_control_block', 24, [
  ['state', 'u32', 0, 'owner', 'each transition has its own owner'],
  ['pcpu_id', 'u32', 4, 'kvm', 'core that runs the vCPU'],
  ['vcpu_id', 'u32', 8, 'kvm', 'of the vCPU'],
  ['reserved', 'u32', 12, 'reserved', 'must be 0'],
  ['telemetry', 'u64', 16, 'kvm', 'physical address of the record'],
]);

const TELEMETRY_RECORD = struct('caretaker_telemetry_record', 56, [
  ...[...RECORD, ...STALL].map((name, index): FieldRow => {
    return [name, 'u64', index * 8, 'payload', 'counted by the payload'];
  }),
]);

const later = [CONTROL_BLOCK, TELEMETRY_RECORD].map(shapeOf);

const constants = (values: Readonly<Record<string, number | null>>): Profile['constants'] =>
  new Map(
    Object.entries(values).map(([name, value]) => [name, value === null ? null : BigInt(value)]),
  );

/** Code of the kernel's own, on the stack of one page that the later series give x86. */
const BUILT_IN: CodeRules = { isPayload: false, stackBytes: 4096, ibt: false };

export const PROFILES = {
  rfc: {
    describe: 'the contract of abi/: control block, configuration, soft state, telemetry',
    structs: SHARED,
    required: ['caretaker_ccb'],
    constants: constants(CONTRACT_CONSTANTS),
    code: { isPayload: true, stackBytes: 16384, ibt: false },
  },
  'rfc-ibt': {
    describe: 'the same on a host that turns on indirect branch tracking',
    structs: SHARED,
    required: ['caretaker_ccb'],
    constants: constants(CONTRACT_CONSTANTS),
    code: { isPayload: true, stackBytes: 16384, ibt: true },
  },
  'attach-states': {
    describe: 'the prototype after the RFC: attached, detached, attaching',
    structs: later,
    required: [CONTROL_BLOCK.name],
    constants: constants({
      CARETAKER_STATE_ATTACHED: null,
      CARETAKER_STATE_DETACHED: null,
      CARETAKER_STATE_ATTACHING: null,
    }),
    code: BUILT_IN,
  },
  'run-states': {
    describe:
      'the later series: paused, running, stopping, stopped, failed, with a telemetry record',
    structs: later,
    required: [CONTROL_BLOCK.name, TELEMETRY_RECORD.name],
    constants: constants({
      CARETAKER_STATE_PAUSED: 0,
      CARETAKER_STATE_RUNNING: 1,
      CARETAKER_STATE_STOPPING: 2,
      CARETAKER_STATE_STOPPED: 3,
      CARETAKER_STATE_FAILED: null,
    }),
    code: BUILT_IN,
  },
} as const satisfies Readonly<Record<string, Profile>>;

/** Names a profile. */
export type ProfileName = keyof typeof PROFILES;
