/**
 * The model of every instruction that root operation executes outside the engine, by mnemonic.
 *
 * Invariant: each name has one model; a name without one stops the run as unmodelled.
 */
import type { Instruction } from '../../../cpu/decode.js';
import { REG } from '../../../cpu/registers.js';
import { unmodelled, type Outcome } from '../outcome.js';
import type { Model, ModelTable, RootCpu } from '../root-cpu.js';
import { COMPARE_EXCHANGE_MODELS } from './compare-exchange.js';
import { CONTROL_REGISTER_MODELS } from './control-registers.js';
import { DEBUG_REGISTER_MODELS } from './debug-registers.js';
import { DESCRIPTOR_TABLE_MODELS } from './descriptor-tables.js';
import { FAR_TRANSFER_MODELS } from './far-transfers.js';
import { FLAG_MODELS } from './flags.js';
import { IDENTIFICATION_MODELS } from './identification.js';
import { MSR_MODELS } from './msr-access.js';
import { NATIVE_MODELS, floatingPoint } from './native.js';
import { PORT_IO_MODELS } from './port-io.js';
import { SEGMENT_MODELS } from './segments.js';
import { SHADOW_STACK_MODELS } from './shadow-stack.js';
import { SYSTEM_MODELS } from './system.js';
import { TRANSFER_MODELS } from './transfers.js';
import { TRANSLATION_MODELS } from './translations.js';
import { VMX_MODELS } from './vmx.js';

/** The tables, one a file. */
export const MODEL_TABLES: readonly ModelTable[] = [
  COMPARE_EXCHANGE_MODELS,
  CONTROL_REGISTER_MODELS,
  DEBUG_REGISTER_MODELS,
  DESCRIPTOR_TABLE_MODELS,
  FAR_TRANSFER_MODELS,
  FLAG_MODELS,
  IDENTIFICATION_MODELS,
  MSR_MODELS,
  NATIVE_MODELS,
  PORT_IO_MODELS,
  SEGMENT_MODELS,
  SHADOW_STACK_MODELS,
  SYSTEM_MODELS,
  TRANSFER_MODELS,
  TRANSLATION_MODELS,
  VMX_MODELS,
];

const MODELS: ReadonlyMap<string, Model> = new Map(MODEL_TABLES.flatMap(Object.entries<Model>));

/** Executes one instruction at RIP; the caller moves RIP past it on `next`. */
export function executeInstruction(cpu: RootCpu, instruction: Instruction): Outcome {
  const model = MODELS.get(instruction.name);
  if (model !== undefined) return model(cpu, instruction);
  if (instruction.isFpu) return floatingPoint(cpu, instruction);
  return unmodelled(instruction.name, cpu.registers.values[REG.RIP]!, 'no model');
}
