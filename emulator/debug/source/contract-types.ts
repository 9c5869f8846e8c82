/**
 * The structures that KVM and a payload share, as types of the debugger: known without the payload's debug information.
 *
 * Source: abi/{ccb,config,telemetry,soft-state}.ts; a field whose description names an enumeration is of that type.
 * Invariant: field order and offsets are the contract's.
 */
import {
  CARETAKER_ATTACH_STATE,
  CARETAKER_CCB,
  CARETAKER_REQUEST,
  CARETAKER_RUN_STATE,
} from '../../../abi/ccb.js';
import {
  CARETAKER_CONFIG,
  CARETAKER_EXIT_POLICY,
  CARETAKER_HLT_POLICY,
  CARETAKER_MSR_ACTION,
} from '../../../abi/config.js';
import { CONTRACT_CONSTANTS } from '../../../abi/contract.js';
import { EXIT_REASON } from '../../../abi/exit-reasons.js';
import { elementBytes, fieldOf } from '../../../abi/layout.js';
import type { Field, StructLayout } from '../../../abi/layout.js';
import { CARETAKER_SOFT_STATE } from '../../../abi/soft-state.js';
import { CARETAKER_TELEMETRY } from '../../../abi/telemetry.js';
import type { CMember, CRecord, CType } from '../../../loader/dwarf/c-types.js';
import { U16, U32, U64, U8 } from './values/value.js';

/** The shared structures by the name that a user gives them. */
export const SHARED_STRUCTURES = {
  ccb: CARETAKER_CCB,
  config: CARETAKER_CONFIG,
  telemetry: CARETAKER_TELEMETRY,
  soft: CARETAKER_SOFT_STATE,
} as const satisfies Readonly<Record<string, StructLayout>>;

/** `ccb`, `config`, `telemetry` or `soft`. */
export type SharedName = keyof typeof SHARED_STRUCTURES;

/** Whether a word names a shared structure. */
export function isSharedName(name: string): name is SharedName {
  return Object.hasOwn(SHARED_STRUCTURES, name);
}

/** Where the control block says that a structure lies; the control block says nothing of itself. */
export const ADDRESS_FIELD: Readonly<Record<Exclude<SharedName, 'ccb'>, number>> = {
  config: fieldOf(CARETAKER_CCB, 'config_address').offset,
  telemetry: fieldOf(CARETAKER_CCB, 'telemetry_address').offset,
  soft: fieldOf(CARETAKER_CCB, 'soft_state_address').offset,
};

/** Constants that expressions know without debug information: exit reasons and the contract's enumerators. */
export const KNOWN_CONSTANTS: ReadonlyMap<string, bigint> = new Map(
  [...Object.entries(EXIT_REASON), ...Object.entries(CONTRACT_CONSTANTS)].map(([name, value]) => [
    name,
    BigInt(value),
  ]),
);

const ENUMERATIONS: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  caretaker_attach_state: CARETAKER_ATTACH_STATE,
  caretaker_request: CARETAKER_REQUEST,
  caretaker_run_state: CARETAKER_RUN_STATE,
  caretaker_hlt_policy: CARETAKER_HLT_POLICY,
  caretaker_exit_policy: CARETAKER_EXIT_POLICY,
  caretaker_msr_action: CARETAKER_MSR_ACTION,
};
const SCALARS = { u8: U8, u16: U16, u32: U32, u64: U64 } as const;
const known = new Map<StructLayout, CRecord>();

/** A shared structure as a type. */
export function recordOf(layout: StructLayout): CRecord {
  let record = known.get(layout);
  if (record === undefined) {
    const members = layout.fields.map(memberOf);
    const { name, sizeBytes } = layout;
    record = { kind: 'record', spelling: `struct ${name}`, sizeBytes, members: () => members };
    known.set(layout, record);
  }
  return record;
}

function memberOf(field: Field): CMember {
  const element = elementOf(field);
  const { count, name, offset } = field;
  const type: CType =
    count === 1
      ? element
      : {
          kind: 'array',
          spelling: `${element.spelling}[${count}]`,
          sizeBytes: elementBytes(field) * count,
          element: () => element,
          count,
        };
  return { name, offset, type, bits: null };
}

function elementOf(field: Field): CType {
  if (typeof field.type !== 'string') return recordOf(field.type);
  const scalar = SCALARS[field.type];
  const named = /enum (\w+)/.exec(field.doc)?.[1] ?? '';
  const table = ENUMERATIONS[named];
  if (table === undefined) return scalar;
  const enumerators = Object.entries(table).map(([name, value]) => ({
    name,
    value: BigInt(value),
  }));
  const { sizeBytes } = scalar;
  return { kind: 'enumeration', spelling: field.type, sizeBytes, isSigned: false, enumerators };
}
