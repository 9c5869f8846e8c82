/**
 * What is written down of a payload at work, the same on both machines.
 *
 * Source: DESIGN ("One VM exit, as the data flows").
 * Invariant: a recording is plain data and says nothing of the machine that it was made on.
 */
import type { FieldName } from '../../../abi/vmcs-fields.js';
import type { RegisterName } from '../../cpu/registers.js';

/** Where the machine stands: at HOST_RIP, at the run entry, before VM entry, at the routing handler. */
export type StopKind = 'exit' | 'run' | 'vmresume' | 'vmlaunch' | 'handler' | 'other';

/** The machine at one instruction, which has not been executed. */
export interface Stop {
  readonly kind: StopKind;
  readonly tsc: number;
  readonly rip: bigint;
  readonly registers: ReadonlyMap<RegisterName, bigint>;
  /** The fields whose value is defined. */
  readonly vmcs: ReadonlyMap<FieldName, bigint>;
}

/** A write that an instruction of the payload makes: to memory, or with VMWRITE to the VMCS. */
export type Effect =
  | {
      readonly kind: 'memory';
      readonly rip: bigint;
      readonly address: bigint;
      readonly sizeBytes: number;
      readonly value: bigint;
    }
  | {
      readonly kind: 'vmcs';
      readonly rip: bigint;
      readonly field: FieldName;
      readonly value: bigint;
    };

/** The payload from an exit, or from its run entry, to where it gives control away. */
export interface Passage {
  readonly from: Stop;
  /** The address of every instruction executed, in order. */
  readonly path: readonly bigint[];
  /** The TSC at each of them where two processors share one clock, which then is not one tick an instruction. */
  readonly ticks?: readonly number[];
  /** Every write, in order. */
  readonly effects: readonly Effect[];
  readonly to: Stop;
}

/** A range of physical memory when all was over. */
export interface MemoryAtEnd {
  readonly what: string;
  readonly address: bigint;
  readonly bytes: Uint8Array;
}

/** Everything that is compared. */
export interface Recording {
  readonly passages: readonly Passage[];
  readonly memory: readonly MemoryAtEnd[];
}
