/**
 * CPUID, the time-stamp counter, the processor id and random numbers.
 *
 * Source: SDM, "CPUID", "RDTSC", "RDTSCP", "RDPID", "RDRAND", "RDSEED".
 * Invariant: the TSC read is the virtual time before the instruction; random numbers come from the seed alone.
 * Not modelled: RDRAND and RDSEED running dry: CF is always 1.
 */
import { MSR } from '../../../../abi/msrs.js';
import { high32, low32, u64 } from '../../../../abi/uint.js';
import { REG, RFLAGS, RFLAGS_ARITHMETIC } from '../../../cpu/registers.js';
import type { Instruction } from '../../../cpu/decode.js';
import { NEXT, type Outcome } from '../outcome.js';
import type { ModelTable, RootCpu } from '../root-cpu.js';
import { operandOf, read32, write32, writeRegister } from './operands.js';

export const IDENTIFICATION_MODELS: ModelTable = {
  CPUID: (cpu) => {
    const { registers } = cpu;
    const leaf = read32(registers, REG.RAX);
    const result = cpu.ports.cpuid.execute(cpu, leaf, read32(registers, REG.RCX));
    write32(registers, REG.RAX, result.eax);
    write32(registers, REG.RBX, result.ebx);
    write32(registers, REG.RCX, result.ecx);
    write32(registers, REG.RDX, result.edx);
    return NEXT;
  },
  RDTSC: readTsc,
  RDTSCP: (cpu) => {
    write32(cpu.registers, REG.RCX, low32(tscAux(cpu)));
    return readTsc(cpu);
  },
  RDPID: (cpu, instruction) => {
    writeRegister(cpu.registers, operandOf(instruction, 'register').register, 8, tscAux(cpu));
    return NEXT;
  },
  RDRAND: draw,
  RDSEED: draw,
};

function readTsc(cpu: RootCpu): Outcome {
  const tsc = u64(cpu.now());
  write32(cpu.registers, REG.RAX, low32(tsc));
  write32(cpu.registers, REG.RDX, high32(tsc));
  return NEXT;
}

function tscAux({ msrs }: RootCpu): bigint {
  return msrs.file.read(MSR.IA32_TSC_AUX) ?? 0n;
}

function draw({ registers, random }: RootCpu, instruction: Instruction): Outcome {
  const { register, sizeBytes } = operandOf(instruction, 'register');
  writeRegister(registers, register, sizeBytes, random.nextU64());
  registers.values[REG.RFLAGS] = (registers.values[REG.RFLAGS]! & ~RFLAGS_ARITHMETIC) | RFLAGS.CF;
  return NEXT;
}
