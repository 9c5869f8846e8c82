import { describe, expect, it } from 'vitest';
import { VECTOR } from '../../abi/interruption.js';
import { MSR } from '../../abi/msrs.js';
import { U64_MAX } from '../../abi/uint.js';
import { VMCS_ENCODING } from '../../abi/vmcs-fields.js';
import { NO_VMCS, validVmcs } from '../../emulator/vmx/description.js';
import {
  execute,
  type VmxInstruction,
  type VmxResult,
} from '../../emulator/vmx/vmx-instructions.js';
import {
  OTHER_REGION,
  VMCS_REGION,
  VMXON_REGION,
  fakeMachine,
  fakePcpu,
  inRoot,
  type FakePcpu,
} from './fake-pcpu.js';

const CF = 0x1n;
const ZF = 0x40n;
const ARITHMETIC = 0x8d5n;

const vmxon = (pcpu: FakePcpu): VmxResult =>
  execute(pcpu, { name: 'VMXON', pointer: VMXON_REGION });
const flags = (pcpu: FakePcpu): bigint => pcpu.registers.get('RFLAGS') & ARITHMETIC;
const field = (name: keyof typeof VMCS_ENCODING): bigint => BigInt(VMCS_ENCODING[name]);

describe('the conventions: VMsucceed, VMfailInvalid, VMfailValid', () => {
  it('VMsucceed clears CF, PF, AF, ZF, SF and OF and nothing else', () => {
    const pcpu = fakePcpu();
    pcpu.registers.set('RFLAGS', ARITHMETIC | 0x602n);
    expect(vmxon(pcpu)).toEqual({ kind: 'succeed' });
    expect(pcpu.registers.get('RFLAGS')).toBe(0x602n);
  });

  it('VMfail without a current VMCS sets CF alone', () => {
    const pcpu = fakePcpu();
    vmxon(pcpu);
    pcpu.registers.set('RFLAGS', ARITHMETIC | 2n);
    expect(execute(pcpu, { name: 'VMPTRLD', pointer: 1n })).toEqual({ kind: 'vmfail-invalid' });
    expect(flags(pcpu)).toBe(CF);
  });

  it('VMfail with a current VMCS sets ZF alone and stores the number', () => {
    const pcpu = fakePcpu();
    const vmcs = inRoot(pcpu);
    pcpu.registers.set('RFLAGS', ARITHMETIC | 2n);
    expect(execute(pcpu, { name: 'VMCALL' })).toEqual({ kind: 'vmfail-valid', error: 1 });
    expect(flags(pcpu)).toBe(ZF);
    expect(vmcs.read('VM_INSTRUCTION_ERROR')).toBe(1n);
  });
});

describe('outside VMX operation', () => {
  it.each<VmxInstruction>([
    { name: 'VMXOFF' },
    { name: 'VMPTRLD', pointer: VMCS_REGION },
    { name: 'VMPTRST' },
    { name: 'VMCLEAR', pointer: VMCS_REGION },
    { name: 'VMREAD', encoding: 0n },
    { name: 'VMWRITE', encoding: 0n, value: 0n },
    { name: 'VMLAUNCH' },
    { name: 'VMRESUME' },
    { name: 'VMCALL' },
    { name: 'INVEPT', type: 2n, descriptor: [0n, 0n] },
    { name: 'INVVPID', type: 2n, descriptor: [0n, 0n] },
  ])('$name raises #UD', (instruction) => {
    const pcpu = fakePcpu();
    expect(execute(pcpu, instruction)).toEqual({
      kind: 'exception',
      vector: VECTOR.UD,
      errorCode: null,
    });
  });
});

describe('VMXON', () => {
  it.each<[string, (pcpu: FakePcpu) => void, VmxResult]>([
    [
      '#UD if CR4.VMXE is 0',
      (p) => p.registers.set('CR4', 0x20n),
      { kind: 'exception', vector: 6, errorCode: null },
    ],
    [
      '#GP(0) if CPL is not 0',
      (p) => p.registers.set('CS', 0x33n),
      { kind: 'exception', vector: 13, errorCode: 0 },
    ],
    [
      '#GP(0) if CR0 lacks a fixed bit (NE)',
      (p) => p.registers.set('CR0', 0x8005_0013n),
      { kind: 'exception', vector: 13, errorCode: 0 },
    ],
    [
      '#GP(0) if CR0 lacks PG',
      (p) => p.registers.set('CR0', 0x5_0033n),
      { kind: 'exception', vector: 13, errorCode: 0 },
    ],
    [
      '#GP(0) if CR4 sets an unsupported bit',
      (p) => p.registers.set('CR4', (1n << 40n) | 0x2020n),
      { kind: 'exception', vector: 13, errorCode: 0 },
    ],
    [
      '#GP(0) if IA32_FEATURE_CONTROL is not locked',
      (p) => p.msrValues.set(MSR.IA32_FEATURE_CONTROL, 4n),
      { kind: 'exception', vector: 13, errorCode: 0 },
    ],
    [
      '#GP(0) if VMX outside SMX is not enabled',
      (p) => p.msrValues.set(MSR.IA32_FEATURE_CONTROL, 1n),
      { kind: 'exception', vector: 13, errorCode: 0 },
    ],
    [
      'VMfailInvalid if the region has another revision',
      (p) => p.memory.writeU32(VMXON_REGION, 1),
      { kind: 'vmfail-invalid' },
    ],
    [
      'VMfailInvalid if bit 31 of the revision is 1',
      (p) => p.memory.writeU32(VMXON_REGION, (p.capabilities.revision | 0x8000_0000) >>> 0),
      { kind: 'vmfail-invalid' },
    ],
  ])('%s', (_title, spoil, expected) => {
    const pcpu = fakePcpu();
    spoil(pcpu);
    expect(vmxon(pcpu)).toEqual(expected);
    expect(pcpu.vmx.mode).toBe('off');
  });

  it.each([VMXON_REGION + 8n, 1n << 46n, 0x3_f800n, 0x4_0000n])(
    'VMfailInvalid for the pointer %#x',
    (pointer) => {
      const pcpu = fakePcpu();
      expect(execute(pcpu, { name: 'VMXON', pointer })).toEqual({ kind: 'vmfail-invalid' });
    },
  );

  it('enters VMX root operation with no current VMCS', () => {
    const pcpu = fakePcpu();
    vmxon(pcpu);
    expect(pcpu.vmx).toEqual({ mode: 'root', vmxonPointer: VMXON_REGION, current: null });
    expect(execute(pcpu, { name: 'VMPTRST' })).toEqual({ kind: 'succeed', value: NO_VMCS });
  });

  it('in VMX root operation fails with error 15', () => {
    const pcpu = fakePcpu();
    inRoot(pcpu);
    expect(vmxon(pcpu)).toEqual({ kind: 'vmfail-valid', error: 15 });
  });
});

describe('VMPTRLD and VMCLEAR', () => {
  it.each<[string, VmxInstruction, number]>([
    ['VMCLEAR of an unaligned address', { name: 'VMCLEAR', pointer: VMCS_REGION + 4n }, 2],
    ['VMCLEAR beyond the physical-address width', { name: 'VMCLEAR', pointer: 1n << 46n }, 2],
    ['VMCLEAR of the VMXON region', { name: 'VMCLEAR', pointer: VMXON_REGION }, 3],
    ['VMPTRLD of an unaligned address', { name: 'VMPTRLD', pointer: VMCS_REGION + 4n }, 9],
    ['VMPTRLD beyond the physical-address width', { name: 'VMPTRLD', pointer: 1n << 46n }, 9],
    ['VMPTRLD of the VMXON region', { name: 'VMPTRLD', pointer: VMXON_REGION }, 10],
    ['VMPTRLD of a region with another revision', { name: 'VMPTRLD', pointer: 0x8000n }, 11],
  ])('%s is VMfailValid with its number', (_title, instruction, error) => {
    const pcpu = fakePcpu();
    inRoot(pcpu);
    expect(execute(pcpu, instruction)).toEqual({ kind: 'vmfail-valid', error });
  });

  it('VMCLEAR of the current VMCS leaves no current VMCS, and its data in memory', () => {
    const pcpu = fakePcpu();
    const vmcs = inRoot(pcpu);
    expect(pcpu.memory.readU64(VMCS_REGION + 8n)).toBe(0xc5c5_c5c5_c5c5_c5c5n);
    vmcs.write('GUEST_RIP', 0x1234n);
    execute(pcpu, { name: 'VMCLEAR', pointer: VMCS_REGION });
    expect(pcpu.vmx.current).toBeNull();
    execute(pcpu, { name: 'VMPTRLD', pointer: VMCS_REGION });
    expect(pcpu.vmx.current?.read('GUEST_RIP')).toBe(0x1234n);
    expect(pcpu.vmx.current?.launchState).toBe('clear');
  });

  it('VMPTRLD of an active VMCS keeps its data and launch state', () => {
    const pcpu = fakePcpu();
    const first = inRoot(pcpu);
    first.launchState = 'launched';
    execute(pcpu, { name: 'VMPTRLD', pointer: OTHER_REGION });
    execute(pcpu, { name: 'VMPTRLD', pointer: VMCS_REGION });
    expect(pcpu.vmx.current).toBe(first);
    expect(execute(pcpu, { name: 'VMPTRST' })).toEqual({ kind: 'succeed', value: VMCS_REGION });
  });

  it('a VMCS taken to another pCPU without VMCLEAR is undefined there', () => {
    const machine = fakeMachine();
    const first = fakePcpu(machine, 0);
    const second = fakePcpu(machine, 1);
    inRoot(first).write('GUEST_RIP', 0x1234n);
    machine.memory.writeU32(0x9000n, second.capabilities.revision);
    execute(second, { name: 'VMXON', pointer: 0x9000n });
    expect(execute(second, { name: 'VMPTRLD', pointer: VMCS_REGION })).toEqual({ kind: 'succeed' });
    expect(machine.vmcsStore.holders(VMCS_REGION)).toEqual([0, 1]);
    expect(execute(second, { name: 'VMREAD', encoding: field('GUEST_RIP') })).toEqual({
      kind: 'succeed',
      value: 0xc5c5_c5c5_c5c5_c5c5n,
      poison: 'GUEST_RIP',
    });
    expect(execute(second, { name: 'VMLAUNCH' })).toEqual({ kind: 'vmfail-valid', error: 4 });
  });

  it('a VMCS handed over with VMCLEAR is whole on the other pCPU', () => {
    const machine = fakeMachine();
    const first = fakePcpu(machine, 0);
    const second = fakePcpu(machine, 1);
    inRoot(first).write('TSC_OFFSET', U64_MAX);
    execute(first, { name: 'VMCLEAR', pointer: VMCS_REGION });
    execute(first, { name: 'VMXOFF' });
    machine.memory.writeU32(0x9000n, second.capabilities.revision);
    execute(second, { name: 'VMXON', pointer: 0x9000n });
    execute(second, { name: 'VMPTRLD', pointer: VMCS_REGION });
    expect(execute(second, { name: 'VMREAD', encoding: field('TSC_OFFSET') })).toEqual({
      kind: 'succeed',
      value: U64_MAX,
    });
    expect(execute(second, { name: 'VMLAUNCH' }).kind).toBe('entry');
  });

  it('VMXOFF loses what was not cleared: VMRESUME fails with error 6', () => {
    const pcpu = fakePcpu();
    inRoot(pcpu).launchState = 'launched';
    execute(pcpu, { name: 'VMXOFF' });
    expect(pcpu.vmx).toEqual({ mode: 'off', vmxonPointer: null, current: null });
    vmxon(pcpu);
    execute(pcpu, { name: 'VMPTRLD', pointer: VMCS_REGION });
    expect(execute(pcpu, { name: 'VMRESUME' })).toEqual({ kind: 'vmfail-valid', error: 6 });
  });

  it('poison survives VMCLEAR and VMPTRLD', () => {
    const pcpu = fakePcpu();
    const vmcs = inRoot(pcpu);
    vmcs.poison(0);
    execute(pcpu, { name: 'VMCLEAR', pointer: VMCS_REGION });
    execute(pcpu, { name: 'VMPTRLD', pointer: VMCS_REGION });
    expect(pcpu.vmx.current?.isPoison(0)).toBe(true);
    expect(pcpu.vmx.current?.isPoison(1)).toBe(false);
  });
});

describe('VMREAD and VMWRITE', () => {
  it.each<[string, VmxInstruction, number]>([
    ['VMREAD of no field', { name: 'VMREAD', encoding: 0x6ffen }, 12],
    ['VMREAD with bits above 31', { name: 'VMREAD', encoding: 1n << 40n }, 12],
    ['VMWRITE to no field', { name: 'VMWRITE', encoding: 0x4003n, value: 0n }, 12],
    [
      'VMWRITE to VM-exit information',
      { name: 'VMWRITE', encoding: field('VM_EXIT_REASON'), value: 0n },
      13,
    ],
    [
      'VMWRITE to the high half of VM-exit information',
      { name: 'VMWRITE', encoding: 0x2401n, value: 0n },
      13,
    ],
  ])('%s is VMfailValid with its number', (_title, instruction, error) => {
    const pcpu = fakePcpu();
    inRoot(pcpu);
    expect(execute(pcpu, instruction)).toEqual({ kind: 'vmfail-valid', error });
  });

  it.each<VmxInstruction>([
    { name: 'VMREAD', encoding: 0n },
    { name: 'VMWRITE', encoding: 0n, value: 0n },
    { name: 'VMLAUNCH' },
    { name: 'VMRESUME' },
  ])('$name without a current VMCS is VMfailInvalid', (instruction) => {
    const pcpu = fakePcpu();
    vmxon(pcpu);
    expect(execute(pcpu, instruction)).toEqual({ kind: 'vmfail-invalid' });
  });

  it.each<[string, bigint, bigint, bigint, bigint]>([
    [
      'a 16-bit field keeps 16 bits',
      field('GUEST_CS_SELECTOR'),
      U64_MAX,
      field('GUEST_CS_SELECTOR'),
      0xffffn,
    ],
    [
      'a 32-bit field keeps 32 bits',
      field('VM_EXIT_CONTROLS'),
      U64_MAX,
      field('VM_EXIT_CONTROLS'),
      0xffff_ffffn,
    ],
    [
      'a 64-bit field keeps all',
      field('TSC_OFFSET'),
      U64_MAX - 1n,
      field('TSC_OFFSET'),
      U64_MAX - 1n,
    ],
    ['a natural-width field keeps all', field('GUEST_RIP'), U64_MAX, field('GUEST_RIP'), U64_MAX],
    [
      'a high access reads the upper half',
      field('TSC_OFFSET'),
      0x1234_5678_9abc_def0n,
      0x2011n,
      0x1234_5678n,
    ],
    [
      'a high access writes the upper half alone',
      0x2005n,
      0xaaaa_0000_0001n,
      field('MSR_BITMAP'),
      0x1_0001_0000n,
    ],
  ])('%s', (_title, written, value, readBack, expected) => {
    const pcpu = fakePcpu();
    inRoot(pcpu);
    expect(execute(pcpu, { name: 'VMWRITE', encoding: written, value })).toEqual({
      kind: 'succeed',
    });
    expect(execute(pcpu, { name: 'VMREAD', encoding: readBack })).toEqual({
      kind: 'succeed',
      value: expected,
    });
  });

  it('VMWRITE makes an undefined field defined', () => {
    const pcpu = fakePcpu();
    const vmcs = inRoot(pcpu);
    vmcs.poisonAll();
    execute(pcpu, { name: 'VMWRITE', encoding: field('GUEST_RIP'), value: 7n });
    expect(execute(pcpu, { name: 'VMREAD', encoding: field('GUEST_RIP') })).toEqual({
      kind: 'succeed',
      value: 7n,
    });
  });
});

describe('INVEPT and INVVPID', () => {
  const eptp = validVmcs().EPT_POINTER!;
  it.each<[string, VmxInstruction, boolean]>([
    [
      'single context with a valid EPTP',
      { name: 'INVEPT', type: 1n, descriptor: [eptp, 0n] },
      true,
    ],
    [
      'all contexts ignores the EPTP',
      { name: 'INVEPT', type: 2n, descriptor: [U64_MAX, 0n] },
      true,
    ],
    [
      'an EPTP that VM entry would refuse',
      { name: 'INVEPT', type: 1n, descriptor: [eptp | 0x38n, 0n] },
      false,
    ],
    [
      'the half of the descriptor that nothing looks at',
      { name: 'INVEPT', type: 2n, descriptor: [0n, 1n] },
      true,
    ],
    ['type 0', { name: 'INVEPT', type: 0n, descriptor: [eptp, 0n] }, false],
    ['type 3', { name: 'INVEPT', type: 3n, descriptor: [eptp, 0n] }, false],
    ['individual address', { name: 'INVVPID', type: 0n, descriptor: [1n, 0x1000n] }, true],
    [
      'individual address, not canonical',
      { name: 'INVVPID', type: 0n, descriptor: [1n, 1n << 47n] },
      false,
    ],
    ['single context', { name: 'INVVPID', type: 1n, descriptor: [1n, 1n << 47n] }, true],
    ['VPID 0', { name: 'INVVPID', type: 1n, descriptor: [0n, 0n] }, false],
    ['all contexts takes VPID 0', { name: 'INVVPID', type: 2n, descriptor: [0n, 0n] }, true],
    [
      'bits 63:16 of the descriptor',
      { name: 'INVVPID', type: 2n, descriptor: [0x1_0000n, 0n] },
      false,
    ],
    ['type 4', { name: 'INVVPID', type: 4n, descriptor: [1n, 0n] }, false],
  ])('%s', (_title, instruction, isLegal) => {
    const pcpu = fakePcpu();
    inRoot(pcpu);
    const expected = isLegal ? { kind: 'succeed' } : { kind: 'vmfail-valid', error: 28 };
    expect(execute(pcpu, instruction)).toEqual(expected);
  });
});

describe('VMLAUNCH and VMRESUME before any check of fields', () => {
  it.each<[string, (pcpu: FakePcpu) => void, 'VMLAUNCH' | 'VMRESUME', number]>([
    [
      'VMLAUNCH of a launched VMCS',
      (p) => (p.vmx.current!.launchState = 'launched'),
      'VMLAUNCH',
      4,
    ],
    ['VMRESUME of a clear VMCS', () => undefined, 'VMRESUME', 5],
    ['VMLAUNCH under blocking by MOV SS', (p) => (p.blocking.movSs = true), 'VMLAUNCH', 26],
    ['VMRESUME under blocking by MOV SS', (p) => (p.blocking.movSs = true), 'VMRESUME', 26],
    [
      'a bad control field',
      (p) => p.vmx.current!.write('PIN_BASED_VM_EXEC_CONTROL', 0n),
      'VMLAUNCH',
      7,
    ],
    ['a bad host field', (p) => p.vmx.current!.write('HOST_TR_SELECTOR', 0n), 'VMLAUNCH', 8],
  ])('%s fails with an error', (_title, spoil, name, error) => {
    const pcpu = fakePcpu();
    inRoot(pcpu);
    spoil(pcpu);
    expect(execute(pcpu, { name })).toMatchObject({ kind: 'vmfail-valid', error });
    expect(pcpu.vmx.mode).toBe('root');
    expect(pcpu.vmx.current?.read('VM_INSTRUCTION_ERROR')).toBe(BigInt(error));
    expect(flags(pcpu)).toBe(ZF);
  });
});

describe('snapshots of the VMCS store', () => {
  it('put every active VMCS back into its own object', () => {
    const pcpu = fakePcpu();
    const vmcs = inRoot(pcpu);
    vmcs.write('GUEST_RIP', 1n);
    const state = pcpu.vmcsStore.state();
    vmcs.write('GUEST_RIP', 2n);
    execute(pcpu, { name: 'VMPTRLD', pointer: OTHER_REGION });
    pcpu.vmcsStore.restore(state);
    expect(pcpu.vmcsStore.activeOn(0, VMCS_REGION)).toBe(vmcs);
    expect(pcpu.vmcsStore.activeOn(0, OTHER_REGION)).toBeUndefined();
    expect(vmcs.read('GUEST_RIP')).toBe(1n);
    execute(pcpu, { name: 'VMCLEAR', pointer: VMCS_REGION });
    pcpu.vmcsStore.restore(state);
    expect(pcpu.vmcsStore.activeOn(0, VMCS_REGION)?.read('GUEST_RIP')).toBe(1n);
  });
});
