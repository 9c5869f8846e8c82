import { describe } from 'vitest';
import { MSR } from '../../../../abi/msrs.js';
import { Random } from '../../../../emulator/clock/random.js';
import { REG } from '../../../../emulator/cpu/registers.js';
import { reg } from '../fixture.js';
import { RAX, rows } from './execute.js';

describe('identification', () => {
  // prettier-ignore
  rows([
    { name: 'CPUID', rule: 'takes EAX and ECX and clears the high halves', pre: { RAX: 0xffff_ffff_0000_0007n, RCX: 0xffff_ffff_0000_0002n, RBX: ~0n & 0xffff_ffff_ffff_ffffn }, post: { RAX: 7n, RBX: 2n, RCX: 3n, RDX: 4n } },
    { name: 'RDTSC', rule: 'EDX:EAX is the virtual time', arrange: ({ pcpu }) => pcpu.clock.advanceTo(0x3_0000_0005), post: { RAX: 5n, RDX: 3n } },
    { name: 'RDTSCP', rule: 'ECX is IA32_TSC_AUX', arrange: ({ pcpu }) => pcpu.msrs.write(MSR.IA32_TSC_AUX, 0x1002n), post: { RAX: 0n, RDX: 0n, RCX: 0x1002n } },
    { name: 'RDPID', rule: 'reads IA32_TSC_AUX', operands: [reg(REG.RDI)], arrange: ({ pcpu }) => pcpu.msrs.write(MSR.IA32_TSC_AUX, 0x1002n), post: { RDI: 0x1002n } },
    { name: 'RDRAND', rule: 'comes from the seed, sets CF and clears the other arithmetic flags', operands: [RAX], pre: { RFLAGS: 0xad7n }, post: { RAX: new Random(1).nextU64(), RFLAGS: 0x203n } },
    { name: 'RDSEED', rule: 'of 32 bits clears the high half', operands: [reg(REG.RAX, 4)], pre: { RAX: 0xffff_ffff_ffff_ffffn }, post: { RAX: new Random(1).nextU64() & 0xffff_ffffn } },
    { name: 'RDRAND', rule: 'of 16 bits keeps the rest', operands: [reg(REG.RAX, 2)], pre: { RAX: 0xffff_ffff_ffff_0000n }, post: { RAX: 0xffff_ffff_ffff_0000n | (new Random(1).nextU64() & 0xffffn) } },
  ]);
});
