import { describe, expect, it } from 'vitest';
import { REG } from '../../../emulator/cpu/registers.js';
import { CpuidTable, type CpuidLeaf } from '../../../emulator/vmx/root/cpuid.js';
import { fixture } from './fixture.js';

const row = (
  leaf: number,
  subleaf: number | null,
  eax: number,
  ebx = 0,
  ecx = 0,
  edx = 0,
): CpuidLeaf => ({
  leaf,
  subleaf,
  eax,
  ebx,
  ecx,
  edx,
});

// Sub-leaves of 0xd: size in EAX, offset in EBX.
// prettier-ignore
const TABLE = new CpuidTable([
  row(0, null, 0x14), row(1, null, 0x806f8, 0xff00_0800, 0x0800_0001),
  row(7, 0, 2), row(7, 1, 0x10), row(0xb, 0, 1), row(0xd, 0, 0xe7), row(0xd, 2, 256, 576), row(0xd, 5, 64, 832),
  row(0x14, null, 0x1414), row(0x8000_0000, null, 0x8000_0008), row(0x8000_0008, null, 0x392e),
]);

function ask(leaf: number, subleaf = 0, registers: readonly (readonly [number, bigint])[] = []) {
  const { pcpu } = fixture({ id: 0x25 });
  for (const [slot, value] of registers) pcpu.registers.values[slot] = value;
  return TABLE.execute(pcpu, leaf, subleaf);
}

describe('CPUID', () => {
  it.each([
    { rule: 'a leaf that ignores ECX answers for any', leaf: 0, subleaf: 9, eax: 0x14 },
    { rule: 'a sub-leaf answers for its ECX', leaf: 7, subleaf: 1, eax: 0x10 },
    { rule: 'a sub-leaf beyond the last is zeros', leaf: 7, subleaf: 2, eax: 0 },
    { rule: 'a leaf in a gap is zeros', leaf: 5, subleaf: 0, eax: 0 },
    {
      rule: 'a basic leaf beyond the maximum answers as the highest one',
      leaf: 0x15,
      subleaf: 0,
      eax: 0x1414,
    },
    {
      rule: 'a hypervisor leaf answers as the highest basic one',
      leaf: 0x4000_0000,
      subleaf: 0,
      eax: 0x1414,
    },
    { rule: 'an extended leaf', leaf: 0x8000_0008, subleaf: 0, eax: 0x392e },
    {
      rule: 'an extended leaf beyond the maximum answers as the highest basic one',
      leaf: 0x8000_0009,
      subleaf: 0,
      eax: 0x1414,
    },
  ])('$rule', ({ leaf, subleaf, eax }) => expect(ask(leaf, subleaf).eax).toBe(eax));

  it('leaf 1 has the APIC id of the pCPU in EBX[31:24]', () => {
    expect(ask(1).ebx).toBe(0x2500_0800);
  });

  it('leaf 0xb has the x2APIC id in EDX', () => {
    expect(ask(0xb).edx).toBe(0x25);
  });

  it.each([
    { rule: 'OSXSAVE is CR4.OSXSAVE: clear', cr4: 0x20n, ecx: 0x1 },
    { rule: 'OSXSAVE is CR4.OSXSAVE: set', cr4: 0x4_0020n, ecx: 0x0800_0001 },
  ])('$rule', ({ cr4, ecx }) => expect(ask(1, 0, [[REG.CR4, cr4]]).ecx).toBe(ecx));

  it.each([
    { rule: 'OSPKE is CR4.PKE: clear', cr4: 0x20n, ecx: 0 },
    { rule: 'OSPKE is CR4.PKE: set', cr4: 0x40_0020n, ecx: 0x10 },
  ])('$rule', ({ cr4, ecx }) => expect(ask(7, 0, [[REG.CR4, cr4]]).ecx).toBe(ecx));

  it.each([
    {
      rule: 'the XSAVE area ends with legacy region and header for x87 and SSE',
      xcr0: 3n,
      bytes: 576,
    },
    { rule: 'the XSAVE area ends with the last component of XCR0', xcr0: 7n, bytes: 832 },
    { rule: 'a component in a gap counts by its offset', xcr0: 0x27n, bytes: 896 },
  ])('$rule', ({ xcr0, bytes }) => expect(ask(0xd, 0, [[REG.XCR0, xcr0]]).ebx).toBe(bytes));
});
