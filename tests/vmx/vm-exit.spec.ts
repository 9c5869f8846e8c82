import { describe, expect, it } from 'vitest';
import { EXIT_REASON } from '../../abi/exit-reasons.js';
import { encodeInterruption } from '../../abi/interruption.js';
import { MSR } from '../../abi/msrs.js';
import { VMCS_SLOT, type FieldName } from '../../abi/vmcs-fields.js';
import { ENTRY_CONTROL, EXIT_CONTROL, PIN } from '../../abi/vmx-controls.js';
import { GENERAL_REGISTERS, REG, type RegisterName } from '../../emulator/cpu/registers.js';
import { validVmcs, type VmcsDescription } from '../../emulator/vmx/description.js';
import { MSR_LOAD_RULES, MSR_STORE_RULES } from '../../emulator/vmx/msr-area.js';
import { deliverExit, type VmExit } from '../../emulator/vmx/vm-exit.js';
import { VMCS_REGION, fakePcpu, inGuest, type FakePcpu } from './fake-pcpu.js';

const HLT: VmExit = { basic: EXIT_REASON.EXIT_REASON_HLT, instructionLength: 1 };
const AREA = 0x2_0000n;

const HOST: VmcsDescription = {
  HOST_CR3: 0x1_6000n,
  HOST_CR4: 0x0005_26f0n,
  HOST_FS_BASE: 0x1111_0000n,
  HOST_GS_BASE: 0x2222_0000n,
  HOST_TR_BASE: 0x3333_0000n,
  HOST_GDTR_BASE: 0x4444_0000n,
  HOST_IDTR_BASE: 0x5555_0000n,
  HOST_RSP: 0x6666_0000n,
  HOST_RIP: 0x7777_0000n,
  HOST_DS_SELECTOR: 0x20n,
  HOST_ES_SELECTOR: 0x28n,
  HOST_FS_SELECTOR: 0x30n,
  HOST_GS_SELECTOR: 0x38n,
  HOST_IA32_SYSENTER_CS: 0x11n,
  HOST_IA32_SYSENTER_ESP: 0x8888_0000n,
  HOST_IA32_SYSENTER_EIP: 0x9999_0000n,
  HOST_S_CET: 5n,
  HOST_SSP: 0xaaaa_0000n,
  HOST_INTR_SSP_TABLE: 0xbbbb_0000n,
};

function exitFrom(overrides: VmcsDescription = {}, exit = HLT, prepare?: (p: FakePcpu) => void) {
  const pcpu = fakePcpu();
  const vmcs = inGuest(pcpu, validVmcs({ ...HOST, ...overrides }));
  prepare?.(pcpu);
  const result = deliverExit(pcpu, vmcs, exit);
  return { pcpu, vmcs, result };
}

describe('loading host state: registers', () => {
  it.each<[RegisterName, bigint]>([
    ['RIP', 0x7777_0000n],
    ['RSP', 0x6666_0000n],
    ['RFLAGS', 2n],
    ['CR0', 0x8005_0033n],
    ['CR3', 0x1_6000n],
    ['CR4', 0x0005_26f0n],
    ['DR7', 0x400n],
    ['EFER', 0xd01n],
    ['CS', 0x10n],
    ['SS', 0x18n],
    ['DS', 0x20n],
    ['ES', 0x28n],
    ['FS', 0x30n],
    ['GS', 0x38n],
    ['TR', 0x40n],
    ['LDTR', 0n],
    ['FS_BASE', 0x1111_0000n],
    ['GS_BASE', 0x2222_0000n],
    ['TR_BASE', 0x3333_0000n],
    ['TR_LIMIT', 0x67n],
    ['GDTR_BASE', 0x4444_0000n],
    ['GDTR_LIMIT', 0xffffn],
    ['IDTR_BASE', 0x5555_0000n],
    ['IDTR_LIMIT', 0xffffn],
    ['SSP', 0xaaaa_0000n],
  ])('%s is loaded', (name, value) => {
    const { pcpu } = exitFrom({}, HLT, (p) => {
      const keep = p.registers.get('CR0');
      p.registers.values.fill(0x5a5a_5a5a_5a5a_5a5an);
      p.registers.set('CR0', keep);
    });
    expect(pcpu.registers.get(name)).toBe(value);
  });

  it.each<RegisterName>([
    ...GENERAL_REGISTERS,
    'CR2',
    'CR8',
    'DR0',
    'DR1',
    'DR2',
    'DR3',
    'DR6',
    'XCR0',
  ])('%s keeps the guest’s value', (name) => {
    const { pcpu } = exitFrom({}, HLT, (p) => p.registers.set(name, 0x1234_5678_9abc_def0n));
    expect(pcpu.registers.get(name)).toBe(0x1234_5678_9abc_def0n);
  });

  it('of CR0, bits ET, CD, NW, 15:6, 17 and 28:19 keep their value and the others are loaded', () => {
    const { pcpu } = exitFrom({}, HLT, (p) => p.registers.set('CR0', 0x7ffa_ffd0n));
    expect(pcpu.registers.get('CR0')).toBe(0x7ffa_ffd0n | 0x8005_0033n);
    const cleared = exitFrom({}, HLT, (p) => p.registers.set('CR0', 0n));
    expect(cleared.pcpu.registers.get('CR0')).toBe(0x8005_0023n);
  });

  it('writes no register that the tables above do not name', () => {
    const pcpu = fakePcpu();
    const vmcs = inGuest(pcpu, validVmcs(HOST));
    pcpu.registers.values.fill(0x5a5a_5a5a_5a5a_5a5an);
    deliverExit(pcpu, vmcs, HLT);
    const untouched = Object.entries(REG).filter(
      ([, slot]) => pcpu.registers.values[slot] === 0x5a5a_5a5a_5a5a_5a5an,
    );
    expect(untouched.map(([name]) => name).sort()).toEqual(
      [...GENERAL_REGISTERS, 'CR2', 'CR8', 'DR0', 'DR1', 'DR2', 'DR3', 'DR6', 'XCR0'].sort(),
    );
  });

  it('a change of a host field by VMWRITE shows at the next exit', () => {
    const { pcpu, vmcs } = exitFrom();
    vmcs.write('HOST_RIP', 0x1234_0000n);
    pcpu.vmx.mode = 'non-root';
    deliverExit(pcpu, vmcs, HLT);
    expect(pcpu.registers.get('RIP')).toBe(0x1234_0000n);
  });
});

describe('loading host state: MSRs', () => {
  it.each<[keyof typeof MSR, bigint]>([
    ['IA32_DEBUGCTL', 0n],
    ['IA32_SYSENTER_CS', 0x11n],
    ['IA32_SYSENTER_ESP', 0x8888_0000n],
    ['IA32_SYSENTER_EIP', 0x9999_0000n],
    ['IA32_PAT', 0x0007_0406_0007_0406n],
    ['IA32_S_CET', 5n],
    ['IA32_INTERRUPT_SSP_TABLE_ADDR', 0xbbbb_0000n],
  ])('%s is loaded', (name, value) => {
    const { pcpu } = exitFrom({}, HLT, (p) => p.msrValues.set(MSR[name], 0x77n));
    expect(pcpu.msrValues.get(MSR[name])).toBe(value);
  });

  it.each([
    [
      'IA32_PERF_GLOBAL_CTRL',
      'HOST_IA32_PERF_GLOBAL_CTRL',
      EXIT_CONTROL.LOAD_IA32_PERF_GLOBAL_CTRL,
    ],
    ['IA32_PKRS', 'HOST_IA32_PKRS', EXIT_CONTROL.LOAD_PKRS],
  ] as const)('%s is loaded where its control says so', (name, field, control) => {
    const VM_EXIT_CONTROLS = validVmcs().VM_EXIT_CONTROLS! | BigInt(control);
    const { pcpu } = exitFrom({ VM_EXIT_CONTROLS, [field]: 5n }, HLT, (p) =>
      p.msrValues.set(MSR[name], 0x77n),
    );
    expect(pcpu.msrValues.get(MSR[name])).toBe(5n);
  });

  it('an MSR without a load control is left alone', () => {
    const { pcpu } = exitFrom({}, HLT, (p) => {
      p.msrValues.set(MSR.IA32_KERNEL_GS_BASE, 1n);
      p.msrValues.set(MSR.IA32_PERF_GLOBAL_CTRL, 2n);
    });
    expect(pcpu.msrValues.get(MSR.IA32_KERNEL_GS_BASE)).toBe(1n);
    expect(pcpu.msrValues.get(MSR.IA32_PERF_GLOBAL_CTRL)).toBe(2n);
  });

  it('without load CET state, the guest’s S_CET and SSP stay', () => {
    const { pcpu } = exitFrom({
      VM_EXIT_CONTROLS: validVmcs().VM_EXIT_CONTROLS! & ~BigInt(EXIT_CONTROL.LOAD_CET_STATE),
      GUEST_S_CET: 3n,
      GUEST_SSP: 0xcccc_0000n,
    });
    expect(pcpu.msrValues.get(MSR.IA32_S_CET)).toBe(3n);
    expect(pcpu.registers.get('SSP')).toBe(0xcccc_0000n);
  });

  it('without load IA32_EFER, only LMA and LME are loaded', () => {
    const { pcpu } = exitFrom({
      VM_EXIT_CONTROLS: validVmcs().VM_EXIT_CONTROLS! & ~BigInt(EXIT_CONTROL.LOAD_IA32_EFER),
      GUEST_IA32_EFER: 0x500n,
    });
    expect(pcpu.registers.get('EFER')).toBe(0x500n);
  });
});

describe('exit information', () => {
  const full: VmExit = {
    basic: EXIT_REASON.EXIT_REASON_EPT_VIOLATION,
    qualification: 0x1_0000_0182n,
    guestLinearAddress: 0xffff_8000_0000_1000n,
    guestPhysicalAddress: 0x1234_5000n,
    idtVectoringInfo: encodeInterruption('HARD_EXCEPTION', 14, { deliverCode: true }),
    idtVectoringErrorCode: 2,
  };
  it.each<[FieldName, bigint]>([
    ['VM_EXIT_REASON', 48n],
    ['EXIT_QUALIFICATION', 0x1_0000_0182n],
    ['GUEST_LINEAR_ADDRESS', 0xffff_8000_0000_1000n],
    ['GUEST_PHYSICAL_ADDRESS', 0x1234_5000n],
    ['IDT_VECTORING_INFO_FIELD', 0x8000_0b0en],
    ['IDT_VECTORING_ERROR_CODE', 2n],
    ['VM_EXIT_INTR_INFO', 0n],
  ])('%s is recorded', (name, value) => {
    const { vmcs } = exitFrom({}, full);
    expect(vmcs.read(name)).toBe(value);
    expect(vmcs.isPoison(VMCS_SLOT[name])).toBe(false);
  });

  it.each<FieldName>([
    'VM_EXIT_INSTRUCTION_LEN',
    'VM_EXIT_INTR_ERROR_CODE',
    'VMX_INSTRUCTION_INFO',
    'IO_RCX',
  ])('an EPT violation leaves %s undefined', (name) => {
    const { vmcs } = exitFrom({}, full);
    expect(vmcs.isPoison(VMCS_SLOT[name])).toBe(true);
  });

  it('a field that is undefined after one exit is defined by the next', () => {
    const { pcpu, vmcs } = exitFrom({}, full);
    pcpu.vmx.mode = 'non-root';
    deliverExit(pcpu, vmcs, HLT);
    expect(vmcs.read('VM_EXIT_INSTRUCTION_LEN')).toBe(1n);
    expect(vmcs.isPoison(VMCS_SLOT.VM_EXIT_INSTRUCTION_LEN)).toBe(false);
    expect(vmcs.isPoison(VMCS_SLOT.GUEST_PHYSICAL_ADDRESS)).toBe(true);
    expect(vmcs.read('EXIT_QUALIFICATION')).toBe(0n);
  });

  it('the list of written slots is empty when the host begins', () => {
    const { vmcs } = exitFrom({ VM_ENTRY_INTR_INFO_FIELD: 0x8000_00ecn });
    expect(vmcs.writtenSlots()).toHaveLength(0);
    vmcs.write('GUEST_RIP', 1n);
    vmcs.write('GUEST_RIP', 2n);
    expect([...vmcs.writtenSlots()]).toEqual([VMCS_SLOT.GUEST_RIP]);
  });
});

describe('updating control fields and saving guest state', () => {
  it('clears the valid bit of the VM-entry interruption information', () => {
    const { vmcs } = exitFrom({ VM_ENTRY_INTR_INFO_FIELD: 0x8000_00ecn });
    expect(vmcs.read('VM_ENTRY_INTR_INFO_FIELD')).toBe(0xecn);
  });

  it('saves what is left of the VMX-preemption timer', () => {
    const { vmcs } = exitFrom(
      { VMX_PREEMPTION_TIMER_VALUE: 1000n },
      HLT,
      (p) => (p.tsc += 32 * 10 + 5),
    );
    expect(vmcs.read('VMX_PREEMPTION_TIMER_VALUE')).toBe(990n);
  });

  it('saves 0 when the timer has expired', () => {
    const { vmcs } = exitFrom({ VMX_PREEMPTION_TIMER_VALUE: 3n }, HLT, (p) => (p.tsc += 32 * 10));
    expect(vmcs.read('VMX_PREEMPTION_TIMER_VALUE')).toBe(0n);
  });

  it('leaves the timer field alone without the save control', () => {
    const controls =
      validVmcs().VM_EXIT_CONTROLS! & ~BigInt(EXIT_CONTROL.SAVE_VMX_PREEMPTION_TIMER);
    const { vmcs } = exitFrom(
      { VM_EXIT_CONTROLS: controls, VMX_PREEMPTION_TIMER_VALUE: 1000n },
      HLT,
      (p) => (p.tsc += 320),
    );
    expect(vmcs.read('VMX_PREEMPTION_TIMER_VALUE')).toBe(1000n);
  });
});

describe('event blocking after a VM exit', () => {
  const nmi: VmExit = {
    basic: EXIT_REASON.EXIT_REASON_EXCEPTION_NMI,
    interruptionInfo: encodeInterruption('NMI_INTR', 2),
  };
  it.each<[string, VmExit, boolean]>([
    ['an exit caused directly by an NMI blocks NMIs', nmi, true],
    [
      'an exit caused by an exception does not',
      { basic: 0, interruptionInfo: encodeInterruption('HARD_EXCEPTION', 6) },
      false,
    ],
    ['another exit does not', HLT, false],
  ])('%s', (_title, exit, blocked) => {
    const { pcpu } = exitFrom({}, exit);
    expect(pcpu.blocking).toEqual({ sti: false, movSs: false, nmi: blocked });
  });

  it('another exit leaves NMIs blocked that were blocked in the guest', () => {
    const { pcpu } = exitFrom({
      PIN_BASED_VM_EXEC_CONTROL: validVmcs().PIN_BASED_VM_EXEC_CONTROL! & ~BigInt(PIN.VIRTUAL_NMIS),
      GUEST_INTERRUPTIBILITY_INFO: 8n,
    });
    expect(pcpu.blocking.nmi).toBe(true);
  });
});

describe('MSR areas and VMX abort', () => {
  const entry = (p: FakePcpu, index: number, reserved: number, value = 0n): void => {
    p.memory.writeU32(AREA, index);
    p.memory.writeU32(AREA + 4n, reserved);
    p.memory.writeU64(AREA + 8n, value);
  };
  const store = { VM_EXIT_MSR_STORE_COUNT: 1n, VM_EXIT_MSR_STORE_ADDR: AREA };
  const load = { VM_EXIT_MSR_LOAD_COUNT: 1n, VM_EXIT_MSR_LOAD_ADDR: AREA };

  it('stores guest MSRs before it loads host MSRs', () => {
    const { pcpu, result } = exitFrom(store, HLT, (p) => {
      entry(p, MSR.IA32_SYSENTER_CS, 0);
      p.msrValues.set(MSR.IA32_SYSENTER_CS, 0x99n);
    });
    expect(result).toEqual({ kind: 'delivered' });
    expect(pcpu.memory.readU64(AREA + 8n)).toBe(0x99n);
    expect(pcpu.msrValues.get(MSR.IA32_SYSENTER_CS)).toBe(0x11n);
  });

  it('loads the MSR area after the host-state area', () => {
    const { pcpu } = exitFrom(load, HLT, (p) => entry(p, MSR.IA32_SYSENTER_CS, 0, 0x55n));
    expect(pcpu.msrValues.get(MSR.IA32_SYSENTER_CS)).toBe(0x55n);
  });

  it.each(MSR_STORE_RULES)('VMX abort 1: $rule', ({ example, rule }) => {
    const { pcpu, result } = exitFrom(store, HLT, (p) => entry(p, example.index, example.reserved));
    expect(result).toEqual({ kind: 'abort', code: 1, rule });
    expect(pcpu.vmx.mode).toBe('aborted');
    expect(pcpu.memory.readU32(VMCS_REGION + 4n)).toBe(1);
  });

  it.each(MSR_LOAD_RULES)('VMX abort 4: $rule', ({ example, rule }) => {
    const { pcpu, result } = exitFrom(load, HLT, (p) => entry(p, example.index, example.reserved));
    expect(result).toEqual({ kind: 'abort', code: 4, rule });
    expect(pcpu.memory.readU32(VMCS_REGION + 4n)).toBe(4);
  });

  it('VMX abort 1: an entry whose RDMSR would raise #GP must not be stored', () => {
    const { result } = exitFrom(store, HLT, (p) => {
      p.refusedMsrs.add(0x9999);
      entry(p, 0x9999, 0);
    });
    expect(result).toMatchObject({ kind: 'abort', code: 1 });
  });

  it('VMX abort 3: the host state was changed so that VM entry would refuse it', () => {
    const { pcpu, result } = exitFrom({}, HLT, (p) => p.refusedMsrs.add(MSR.IA32_SYSENTER_EIP));
    expect(result).toMatchObject({ kind: 'abort', code: 3 });
    expect(pcpu.vmx.mode).toBe('aborted');
    expect(pcpu.memory.readU32(VMCS_REGION + 4n)).toBe(3);
  });
});

describe('state that VM entry loads and VM exit does not', () => {
  it('IA32_PAT keeps the guest’s value', () => {
    const { pcpu } = exitFrom({
      VM_EXIT_CONTROLS: validVmcs().VM_EXIT_CONTROLS! & ~BigInt(EXIT_CONTROL.LOAD_IA32_PAT),
      GUEST_IA32_PAT: 0x0606_0606_0606_0606n,
    });
    expect(pcpu.msrValues.get(MSR.IA32_PAT)).toBe(0x0606_0606_0606_0606n);
  });

  it('IA32_PAT keeps the host’s value if neither loads it', () => {
    const valid = validVmcs();
    const { pcpu } = exitFrom(
      {
        VM_EXIT_CONTROLS: valid.VM_EXIT_CONTROLS! & ~BigInt(EXIT_CONTROL.LOAD_IA32_PAT),
        VM_ENTRY_CONTROLS: valid.VM_ENTRY_CONTROLS! & ~BigInt(ENTRY_CONTROL.LOAD_IA32_PAT),
      },
      HLT,
      (p) => p.msrValues.set(MSR.IA32_PAT, 1n),
    );
    expect(pcpu.msrValues.get(MSR.IA32_PAT)).toBe(1n);
  });
});
