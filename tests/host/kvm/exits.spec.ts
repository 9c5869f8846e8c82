/** What KVM does to a guest whose exit it has: rows of Linux's arch/x86/kvm/vmx/vmx.c. */
import { beforeEach, describe, expect, it } from 'vitest';
import { EXIT_REASON, type ExitReasonName } from '../../../abi/exit-reasons.js';
import { encodeInterruption, INTERRUPTIBILITY, PENDING_DBG } from '../../../abi/interruption.js';
import type { FieldName } from '../../../abi/vmcs-fields.js';
import { X2APIC } from '../../../abi/x2apic.js';
import { handleRoutedExit, type ExitContext } from '../../../emulator/host/kvm/exits.js';
import { exitContextOf } from '../../../emulator/host/kvm/vcpu-run.js';
import { Conductor } from '../../../emulator/machine/conductor.js';
import type { Lane } from '../../../emulator/machine/lane.js';
import { parseScenario } from '../../../emulator/machine/scenario/load.js';
import { referencePayload } from '../../support/reference-payload.js';

const TEXT = `
name: exits
description: One vCPU, stopped in KVM.
vcpus: 1
seed: 8
steps: [{ run: { exits: 20 } }]`;

let lane: Lane;
let context: ExitContext;
beforeEach(() => {
  const conductor = new Conductor(parseScenario(TEXT, 'exits.yaml'), referencePayload(), false);
  conductor.run();
  const { kvm } = conductor.kernels;
  kvm.stop(0);
  lane = conductor.machine.lane(0);
  const { vm, vcpu } = kvm.findVcpu(0)!;
  context = exitContextOf(vm, vcpu, conductor.machine.kvmHost.cpu(vcpu.pcpu), lane.vmcs);
});

type Fields = Readonly<Partial<Record<FieldName, bigint>>>;

/** KVM handles an exit with those fields. */
function handle(reason: ExitReasonName, fields: Fields): void {
  const all: Fields = { ...fields, VM_EXIT_REASON: BigInt(EXIT_REASON[reason]) };
  for (const [name, value] of Object.entries(all)) lane.vmcs.write(name as FieldName, value);
  handleRoutedExit(context);
}

describe('skip_emulated_instruction()', () => {
  const TF = 0x102n;
  const BTF = 2n;
  const SHADOWED = BigInt(INTERRUPTIBILITY.STI | INTERRUPTIBILITY.NMI);
  const BEHIND_MOV_SS = BigInt(INTERRUPTIBILITY.MOV_SS);
  const before: Fields = {
    ...{ GUEST_RIP: 0x1000n, VM_EXIT_INSTRUCTION_LEN: 3n, GUEST_CS_AR_BYTES: 0xa09bn },
    ...{ GUEST_RFLAGS: 2n, GUEST_IA32_DEBUGCTL: 0n, GUEST_PENDING_DBG_EXCEPTIONS: 0n },
    GUEST_INTERRUPTIBILITY_INFO: 0n,
  };
  // prettier-ignore
  it.each<[string, Fields, Fields]>([
    ['goes on behind the instruction',           {}, { GUEST_RIP: 0x1003n, GUEST_PENDING_DBG_EXCEPTIONS: 0n }],
    ['wraps at 32 bits outside 64-bit mode',     { GUEST_RIP: 0xffff_fffen, GUEST_CS_AR_BYTES: 0xc09bn }, { GUEST_RIP: 1n }],
    ['ends the shadow of STI, and no NMI',       { GUEST_INTERRUPTIBILITY_INFO: SHADOWED }, { GUEST_INTERRUPTIBILITY_INFO: BigInt(INTERRUPTIBILITY.NMI) }],
    ['ends the shadow of MOV SS',                { GUEST_INTERRUPTIBILITY_INFO: BEHIND_MOV_SS }, { GUEST_INTERRUPTIBILITY_INFO: 0n }],
    ['leaves a single-step trap with TF',        { GUEST_RFLAGS: TF }, { GUEST_PENDING_DBG_EXCEPTIONS: BigInt(PENDING_DBG.BS) }],
    ['leaves none where BTF traps on branches',  { GUEST_RFLAGS: TF, GUEST_IA32_DEBUGCTL: BTF }, { GUEST_PENDING_DBG_EXCEPTIONS: 0n }],
  ])('%s', (_title, fields, after) => {
    handle('EXIT_REASON_XSETBV', { ...before, ...fields });
    for (const [name, value] of Object.entries(after))
      expect(`${name} ${lane.vmcs.read(name as FieldName)}`).toBe(`${name} ${value}`);
  });
});

it('an event whose delivery an exit broke off is queued again whole', () => {
  const info = BigInt(encodeInterruption('HARD_EXCEPTION', 14, { deliverCode: true }));
  lane.vcpu.softState.set('event_info', info);
  lane.vcpu.softState.set('event_error_code', 7n);
  lane.vcpu.softState.set('event_instruction_length', 2n);
  handle('EXIT_REASON_PREEMPTION_TIMER', {});
  expect(lane.vmcs.read('VM_ENTRY_INTR_INFO_FIELD')).toBe(info);
  expect(lane.vmcs.read('VM_ENTRY_EXCEPTION_ERROR_CODE')).toBe(7n);
  expect(lane.vmcs.read('VM_ENTRY_INSTRUCTION_LEN')).toBe(2n);
  expect(lane.vcpu.softState.get('event_info')).toBe(0n);
});

describe('WRMSR of an x2APIC register', () => {
  /** What the guest had in the save area at the exit. */
  function wrmsr(index: number, value: bigint): void {
    lane.vcpu.ccbView.set('registers[1]', BigInt(index));
    lane.vcpu.ccbView.set('registers[0]', value & 0xffff_ffffn);
    lane.vcpu.ccbView.set('registers[2]', value >> 32n);
    handle('EXIT_REASON_MSR_WRITE', { GUEST_RIP: 0x1000n, VM_EXIT_INSTRUCTION_LEN: 2n });
  }

  it.each([
    ['TPR', X2APIC.TPR, 0x100n],
    ['EOI', X2APIC.EOI, 1n],
    ['SELF_IPI', X2APIC.SELF_IPI, 0x1_0000_0050n],
    ['LVT_TIMER', X2APIC.LVT_TIMER, 0x8_0050n],
    ['ICR', X2APIC.ICR, 0x10_0050n],
  ])('%s is #GP(0) for a bit that it does not have', (_name, index, value) => {
    const timer = lane.vcpu.softState.get('lvt_timer');
    wrmsr(index, value);
    const gp = encodeInterruption('HARD_EXCEPTION', 13, { deliverCode: true });
    expect(lane.vmcs.read('VM_ENTRY_INTR_INFO_FIELD')).toBe(BigInt(gp));
    expect(lane.vmcs.read('GUEST_RIP')).toBe(0x1000n);
    expect(lane.vcpu.softState.get('lvt_timer')).toBe(timer);
  });

  it.each([
    ['disarms the timer with a change of mode', 0xecn, 0n],
    ['leaves it armed with another vector', (2n << 17n) | 0x50n, 77n],
  ])('LVT_TIMER %s', (_title, value, deadline) => {
    lane.vcpu.softState.set('tsc_deadline', 77n);
    wrmsr(X2APIC.LVT_TIMER, value);
    expect(lane.vcpu.softState.get('tsc_deadline')).toBe(deadline);
    expect(lane.vcpu.softState.get('lvt_timer')).toBe(value);
  });
});

it.each([
  ['an interrupt', encodeInterruption('EXT_INTR', 0x50)],
  ['an NMI', encodeInterruption('NMI_INTR', 2)],
])('%s that a debug trap comes before waits again', (_title, info) => {
  const soft = lane.vcpu.softState;
  soft.set('event_info', BigInt(info));
  const db = encodeInterruption('HARD_EXCEPTION', 1);
  handle('EXIT_REASON_EXCEPTION_NMI', { VM_EXIT_INTR_INFO: BigInt(db) });
  expect(lane.vmcs.read('VM_ENTRY_INTR_INFO_FIELD')).toBe(BigInt(db));
  const waits = [(soft.get('irr[1]') >> 16n) & 1n, soft.get('virtual_nmi_pending')];
  expect(waits).toEqual(info === encodeInterruption('NMI_INTR', 2) ? [0n, 1n] : [1n, 0n]);
});

describe('an external interrupt that was acknowledged', () => {
  it.each([
    ['ends in the local APIC', 0x71, -1],
    ['is not ended where it is spurious, and neither is the one in service', 0xff, 0x71],
  ])('%s', (_title, vector, inService) => {
    const { apic } = lane.pcpu;
    apic.request(0x71);
    apic.acknowledge();
    const info = BigInt(encodeInterruption('EXT_INTR', vector));
    handle('EXIT_REASON_EXTERNAL_INTERRUPT', { VM_EXIT_INTR_INFO: info });
    expect(apic.highestInService).toBe(inService);
  });
});
