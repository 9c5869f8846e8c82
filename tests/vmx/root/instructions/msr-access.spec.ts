import { describe, expect, it } from 'vitest';
import { MSR } from '../../../../abi/msrs.js';
import { u64 } from '../../../../abi/uint.js';
import { X2APIC } from '../../../../abi/x2apic.js';
import { UD, GP0, execute, rows } from './execute.js';

describe('MSRs and XCR0', () => {
  const GS = { RCX: u64(MSR.IA32_GS_BASE) };
  // prettier-ignore
  rows([
    { name: 'RDMSR', rule: 'EDX:EAX, high halves cleared', pre: { RCX: u64(MSR.IA32_PAT), RAX: 1n << 40n }, post: { RAX: 0x7_0406n, RDX: 0x7_0406n } },
    { name: 'RDMSR', rule: 'of no MSR is #GP(0)', pre: { RCX: 0x1234n }, outcome: GP0 },
    { name: 'RDMSR', rule: 'ignores RCX[63:32]', pre: { RCX: 0xff_0000_0277n }, post: { RAX: 0x7_0406n } },
    { name: 'WRMSR', rule: 'GS_BASE is the register', pre: { ...GS, RAX: 0x8000_1000n, RDX: 0xffff_8000n }, post: { GS_BASE: 0xffff_8000_8000_1000n } },
    { name: 'WRMSR', rule: 'a non-canonical GS_BASE is #GP(0)', pre: { ...GS, RAX: 0n, RDX: 0x8000n }, outcome: GP0, post: { GS_BASE: 0n } },
    { name: 'WRMSRNS', rule: 'is WRMSR', pre: { ...GS, RAX: 5n, RDX: 0n }, post: { GS_BASE: 5n } },
    { name: 'WRMSR', rule: 'LME cannot change while paging is on', pre: { RCX: u64(MSR.IA32_EFER), RAX: 0xc00n, RDX: 0n }, outcome: GP0 },
    { name: 'WRMSR', rule: 'EFER.LMA is read-only', pre: { RCX: u64(MSR.IA32_EFER), RAX: 0x900n, RDX: 0n }, post: { EFER: 0xd00n } },
    { name: 'WRMSR', rule: 'a reserved bit of EFER is #GP(0)', pre: { RCX: u64(MSR.IA32_EFER), RAX: 0xd02n, RDX: 0n }, outcome: GP0 },
    { name: 'WRMSR', rule: 'TPR shows in CR8', pre: { RCX: u64(X2APIC.TPR), RAX: 0x5fn, RDX: 0n }, post: { CR8: 5n } },
    { name: 'WRMSR', rule: 'a TSC that parts from virtual time stops', pre: { RCX: 0x10n, RAX: 77n, RDX: 0n }, outcome: { kind: 'stop', reason: { kind: 'unmodelled' } } },
    { name: 'XGETBV', rule: 'reads XCR0', pre: { RCX: 0n }, post: { RAX: 1n, RDX: 0n } },
    { name: 'XGETBV', rule: 'without CR4.OSXSAVE is #UD', pre: { CR4: 0x20n, RCX: 0n }, outcome: UD },
    { name: 'XGETBV', rule: 'of another register is #GP(0)', pre: { RCX: 2n }, outcome: GP0 },
    { name: 'XSETBV', rule: 'writes XCR0', pre: { RCX: 0n, RAX: 7n, RDX: 0n }, post: { XCR0: 7n } },
    { name: 'XSETBV', rule: 'x87 cannot be cleared', pre: { RCX: 0n, RAX: 6n, RDX: 0n }, outcome: GP0, post: { XCR0: 1n } },
    { name: 'XSETBV', rule: 'AVX needs SSE', pre: { RCX: 0n, RAX: 5n, RDX: 0n }, outcome: GP0 },
    { name: 'XSETBV', rule: 'AVX-512 components come together', pre: { RCX: 0n, RAX: 0x27n, RDX: 0n }, outcome: GP0 },
    { name: 'XSETBV', rule: 'an unsupported component is #GP(0)', pre: { RCX: 0n, RAX: 0x203n, RDX: 0n }, outcome: GP0 },
    { name: 'XSETBV', rule: 'of another register is #GP(0)', pre: { RCX: 1n, RAX: 7n, RDX: 0n }, outcome: GP0 },
  ]);

  it('SWAPGS exchanges the base with IA32_KERNEL_GS_BASE', () => {
    const { f } = execute('SWAPGS', [], {
      pre: { GS_BASE: 0x1000n },
      arrange: ({ pcpu }) => pcpu.msrs.write(MSR.IA32_KERNEL_GS_BASE, 0x2000n),
    });
    expect([f.pcpu.registers.get('GS_BASE'), f.pcpu.msrs.read(MSR.IA32_KERNEL_GS_BASE)]).toEqual([
      0x2000n,
      0x1000n,
    ]);
  });
});
