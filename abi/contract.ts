/**
 * Everything that KVM and a payload share, as one list: what the lock, the C comparison and the ABI check go through.
 *
 * Source: include/caretaker/*.h and CONTRACT.md.
 * Invariant: every structure with a header has a version; a layout changes only with it.
 */
import {
  CARETAKER_ATTACH_STATE,
  CARETAKER_CCB,
  CARETAKER_CCB_ALIGN,
  CARETAKER_CCB_MAGIC,
  CARETAKER_CCB_VERSION,
  CARETAKER_REQUEST,
  CARETAKER_RUN_STATE,
} from './ccb.js';
import {
  CARETAKER_CONFIG,
  CARETAKER_CONFIG_MAGIC,
  CARETAKER_CONFIG_VERSION,
  CARETAKER_CPUID,
  CARETAKER_CPUID_FLAGS,
  CARETAKER_EXIT_POLICY,
  CARETAKER_HLT_POLICY,
  CARETAKER_IRQ_ROUTE,
  CARETAKER_MSR,
  CARETAKER_MSR_ACTION,
  CARETAKER_VCPU,
} from './config.js';
import { CARETAKER_HEADER, type StructLayout } from './layout.js';
import { PI_DESC } from './posted-interrupt.js';
import {
  CARETAKER_SOFT_STATE,
  CARETAKER_SOFT_STATE_MAGIC,
  CARETAKER_SOFT_STATE_VERSION,
} from './soft-state.js';
import {
  CARETAKER_COUNTERS,
  CARETAKER_STALL,
  CARETAKER_TELEMETRY,
  CARETAKER_TELEMETRY_MAGIC,
  CARETAKER_TELEMETRY_VERSION,
} from './telemetry.js';

/** A structure that stands by itself in memory and names its version. */
export interface VersionedStruct {
  readonly layout: StructLayout;
  readonly magic: bigint;
  readonly version: number;
  /** The header that declares it in C. */
  readonly header: string;
  /** Structures that occur only inside it and change with it. */
  readonly parts: readonly StructLayout[];
  /** Where it is more than its members ask for. */
  readonly align?: number;
}

export const CONTRACT: readonly VersionedStruct[] = [
  {
    layout: CARETAKER_CCB,
    magic: CARETAKER_CCB_MAGIC,
    version: CARETAKER_CCB_VERSION,
    header: 'caretaker/ccb.h',
    parts: [CARETAKER_HEADER],
    align: CARETAKER_CCB_ALIGN,
  },
  {
    layout: CARETAKER_CONFIG,
    magic: CARETAKER_CONFIG_MAGIC,
    version: CARETAKER_CONFIG_VERSION,
    header: 'caretaker/config.h',
    parts: [CARETAKER_CPUID, CARETAKER_MSR, CARETAKER_VCPU, CARETAKER_IRQ_ROUTE],
  },
  {
    layout: CARETAKER_SOFT_STATE,
    magic: CARETAKER_SOFT_STATE_MAGIC,
    version: CARETAKER_SOFT_STATE_VERSION,
    header: 'caretaker/soft-state.h',
    parts: [PI_DESC],
  },
  {
    layout: CARETAKER_TELEMETRY,
    magic: CARETAKER_TELEMETRY_MAGIC,
    version: CARETAKER_TELEMETRY_VERSION,
    header: 'caretaker/telemetry.h',
    parts: [CARETAKER_COUNTERS, CARETAKER_STALL],
  },
];

/** Enumerators by C name. */
export const CONTRACT_CONSTANTS: Readonly<Record<string, number>> = {
  ...CARETAKER_ATTACH_STATE,
  ...prefixed('CARETAKER_REQUEST_', CARETAKER_REQUEST),
  ...prefixed('CARETAKER_', CARETAKER_RUN_STATE),
  ...prefixed('CARETAKER_CPUID_', CARETAKER_CPUID_FLAGS),
  ...prefixed('CARETAKER_MSR_', CARETAKER_MSR_ACTION),
  ...prefixed('CARETAKER_', CARETAKER_EXIT_POLICY),
  ...prefixed('CARETAKER_HLT_', CARETAKER_HLT_POLICY),
};

function prefixed(
  prefix: string,
  values: Readonly<Record<string, number>>,
): Record<string, number> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [prefix + name, value]));
}
