import { describe, expect, it } from 'vitest';
import { MSR, type MsrName } from '../../../abi/msrs.js';
import { MsrFile } from '../../../emulator/vmx/root/msr-file.js';
import { msrTable } from '../../../emulator/vmx/root/msr-table.js';
import { DEFAULT_CAPABILITIES } from '../../../emulator/vmx/capabilities.js';

const MSR_TABLE = msrTable(DEFAULT_CAPABILITIES);

const file = () => new MsrFile(MSR_TABLE);
const NON_CANONICAL = 0x8000_0000_0000n;

describe('WRMSR', () => {
  it.each<{ rule: string; msr: MsrName; value: bigint }>([
    { rule: 'a base must be canonical', msr: 'IA32_KERNEL_GS_BASE', value: NON_CANONICAL },
    { rule: 'LSTAR must be canonical', msr: 'IA32_LSTAR', value: NON_CANONICAL },
    { rule: 'TSC_AUX has 32 bits', msr: 'IA32_TSC_AUX', value: 1n << 32n },
    { rule: 'PAT type 2 is reserved', msr: 'IA32_PAT', value: 0x02n },
    { rule: 'PAT type 3 is reserved in any byte', msr: 'IA32_PAT', value: 0x0300_0000_0000_0000n },
    { rule: 'PAT type 8 is reserved', msr: 'IA32_PAT', value: 0x0800n },
    { rule: 'S_CET bits 9:6 are reserved', msr: 'IA32_S_CET', value: 0x40n },
    { rule: 'S_CET SUPPRESS excludes TRACKER', msr: 'IA32_S_CET', value: 0xc00n },
    { rule: 'a shadow-stack pointer is 4-byte aligned', msr: 'IA32_PL0_SSP', value: 0x1002n },
    { rule: 'a capability is read-only', msr: 'IA32_ARCH_CAPABILITIES', value: 0x2bn },
    { rule: 'a locked FEATURE_CONTROL cannot be written', msr: 'IA32_FEATURE_CONTROL', value: 5n },
    { rule: 'x2APIC mode cannot be left', msr: 'IA32_APIC_BASE', value: 0xfee0_0800n },
    { rule: 'DEBUGCTL bit 5 is reserved', msr: 'IA32_DEBUGCTL', value: 0x20n },
    { rule: 'XSS has supervisor components only', msr: 'IA32_XSS', value: 0x4n },
    { rule: 'an MSR without a row does not exist', msr: 'IA32_SMBASE', value: 0n },
  ])('#GP: $rule', ({ msr, value }) => {
    const msrs = file();
    const before = msrs.read(MSR[msr]);
    expect(msrs.write(MSR[msr], value)).toBe(false);
    expect(msrs.read(MSR[msr])).toBe(before);
  });

  it.each<{ rule: string; msr: MsrName; value: bigint }>([
    { rule: 'a canonical high base', msr: 'IA32_KERNEL_GS_BASE', value: 0xffff_8000_0000_0000n },
    { rule: 'bits of SYSENTER_CS that are not used', msr: 'IA32_SYSENTER_CS', value: 1n << 32n },
    { rule: 'PAT types 0, 1, 4, 5, 6 and 7', msr: 'IA32_PAT', value: 0x0706_0504_0100n },
    { rule: 'shadow stacks and ENDBRANCH', msr: 'IA32_S_CET', value: 0x5n },
  ])('accepted: $rule', ({ msr, value }) => {
    const msrs = file();
    expect(msrs.write(MSR[msr], value)).toBe(true);
    expect(msrs.read(MSR[msr])).toBe(value);
  });

  it('a write-only MSR takes its command and cannot be read', () => {
    const msrs = file();
    expect(msrs.write(MSR.IA32_PRED_CMD, 1n)).toBe(true);
    expect(msrs.read(MSR.IA32_PRED_CMD)).toBeUndefined();
  });
});

describe('MsrFile', () => {
  it('the VMX capabilities are there and read-only', () => {
    const msrs = file();
    const misc = msrs.read(MSR.IA32_VMX_MISC)!;
    expect(misc & 0x1fn).toBe(BigInt(DEFAULT_CAPABILITIES.preemptionTimerShift));
    expect(msrs.write(MSR.IA32_VMX_MISC, misc)).toBe(false);
  });

  it('changedSince tells an altered value from an equal one written again', () => {
    const msrs = file();
    const mark = msrs.mark();
    msrs.write(MSR.IA32_STAR, 0n);
    expect(msrs.changedSince(mark)).toBe(false);
    msrs.write(MSR.IA32_STAR, 1n);
    expect(msrs.changedSince(mark)).toBe(true);
  });

  it('differencesFrom lists what differs from a baseline and not what was put back', () => {
    const msrs = file();
    const baseline = msrs.state();
    msrs.write(MSR.IA32_STAR, 1n);
    msrs.write(MSR.IA32_CSTAR, 2n);
    msrs.write(MSR.IA32_CSTAR, 0n);
    expect(msrs.differencesFrom(baseline)).toEqual([{ index: MSR.IA32_STAR, before: 0n, now: 1n }]);
  });

  it('a restored file holds the values its state was taken with', () => {
    const msrs = file();
    msrs.write(MSR.IA32_LSTAR, 0x1234n);
    expect(MsrFile.fromState(MSR_TABLE, msrs.state()).read(MSR.IA32_LSTAR)).toBe(0x1234n);
  });

  it('the hardware itself loads past the rules of WRMSR', () => {
    const msrs = file();
    expect(msrs.load(MSR.IA32_MC0_STATUS, 1n << 63n)).toBe(true);
    expect(msrs.read(MSR.IA32_MC0_STATUS)).toBe(1n << 63n);
  });
});
