/**
 * Instructions that the engine executes itself although they are sites: x87, SSE, AVX and the saving of their state.
 *
 * Source: SDM, "XSAVE", "XRSTOR", "FXSAVE", "Control Registers"; CONTRACT ("Not the payload's to touch").
 * Invariant: CR0.TS and CR0.EM and CR4.OSXSAVE fault before the engine sees the instruction.
 * Not modelled: an engine that cannot execute one stops the run by its name.
 */
import { hex } from '../../../../abi/uint.js';
import type { Instruction } from '../../../cpu/decode.js';
import { REG } from '../../../cpu/registers.js';
import {
  DEVICE_NOT_AVAILABLE,
  NATIVE,
  UNDEFINED_OPCODE,
  fault,
  unmodelled,
  type Outcome,
} from '../outcome.js';
import type { ModelTable, RootCpu } from '../root-cpu.js';
import { CR4_OSXSAVE } from './msr-access.js';

const CR0_EM = 4n;
const CR0_TS = 8n;

const XSAVE_NAMES = ['XSAVE', 'XSAVEOPT', 'XSAVEC', 'XSAVES', 'XRSTOR', 'XRSTORS'];
const FXSAVE_NAMES = ['FXSAVE', 'FXRSTOR'];
const bothSizes = (names: readonly string[]): readonly string[] =>
  names.flatMap((name) => [name, `${name}64`]);

export const NATIVE_MODELS: ModelTable = {
  ...Object.fromEntries(bothSizes(XSAVE_NAMES).map((name) => [name, extendedState])),
  ...Object.fromEntries(bothSizes(FXSAVE_NAMES).map((name) => [name, legacyState])),
};

/** An x87, SSE or AVX instruction: those registers hold the guest's values, so executing one is a finding. */
export function floatingPoint(cpu: RootCpu, instruction: Instruction): Outcome {
  const { values } = cpu.registers;
  const address = values[REG.RIP]!;
  if ((values[REG.CR0]! & CR0_TS) !== 0n) return DEVICE_NOT_AVAILABLE;
  if ((values[REG.CR0]! & CR0_EM) !== 0n) return UNDEFINED_OPCODE;
  const finding = {
    invariant: 'guest-registers',
    message: `${instruction.name} uses x87 or vector registers, which hold the guest's values`,
    address,
    details: { instruction: instruction.name, address: hex(address) },
  } as const;
  if (cpu.report(finding) === 'stop') {
    return { kind: 'stop', reason: { kind: 'finding', address, finding } };
  }
  return step(cpu, instruction);
}

function extendedState(cpu: RootCpu, instruction: Instruction): Outcome {
  const { values } = cpu.registers;
  if ((values[REG.CR4]! & CR4_OSXSAVE) === 0n) return UNDEFINED_OPCODE;
  if ((values[REG.CR0]! & CR0_TS) !== 0n) return DEVICE_NOT_AVAILABLE;
  return stepKeepingVectors(cpu, instruction);
}

function legacyState(cpu: RootCpu, instruction: Instruction): Outcome {
  if ((cpu.registers.values[REG.CR0]! & (CR0_TS | CR0_EM)) !== 0n) return DEVICE_NOT_AVAILABLE;
  return stepKeepingVectors(cpu, instruction);
}

/** XRSTOR and FXRSTOR may put back what is there; another value would be the guest's to miss. */
function stepKeepingVectors(cpu: RootCpu, instruction: Instruction): Outcome {
  const address = cpu.registers.values[REG.RIP]!;
  const before = cpu.engine.vectors();
  const outcome = step(cpu, instruction);
  const after = cpu.engine.vectors();
  const changed = before.findIndex((byte, at) => byte !== after[at]);
  if (changed < 0) return outcome;
  const finding = {
    invariant: 'guest-registers',
    message: `${instruction.name} changed XMM${changed >>> 4}, which holds the guest's value`,
    address,
    details: { instruction: instruction.name, address: hex(address) },
  } as const;
  if (cpu.report(finding) === 'stop') {
    return { kind: 'stop', reason: { kind: 'finding', address, finding } };
  }
  return outcome;
}

function step(cpu: RootCpu, instruction: Instruction): Outcome {
  const address = cpu.registers.values[REG.RIP]!;
  const stop = cpu.engine.stepOverNative();
  switch (stop.kind) {
    case 'limit':
      return NATIVE;
    case 'watch':
      // A vector store that a debugger watches: seen by its value at the next boundary.
      return NATIVE;
    case 'site':
    case 'breakpoint':
      // A prefix that the opcode does not take: the engine stays where it is, and would for ever.
      return cpu.registers.values[REG.RIP] === address
        ? unmodelled(instruction.name, address, 'the engine does not know this form of it')
        : NATIVE;
    case 'exception':
      return fault(stop.vector);
    case 'memory':
      return (
        cpu.linear.explain(stop.address, stop.sizeBytes, stop.access) ??
        cpu.linear.outside(stop.address, stop.sizeBytes, stop.access)
      );
    case 'control-protection':
    case 'shadow-stack':
    case 'invalid-instruction':
      return unmodelled(instruction.name, address, 'the engine cannot execute it');
  }
}
