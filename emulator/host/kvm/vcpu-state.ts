/**
 * KVM_GET_* and KVM_SET_* of a vCPU that is stopped in KVM: its state between the VMCS, the save area, soft state and the
 * core on one side, and KVM's ioctl structures on the other.
 *
 * Source: Linux arch/x86/kvm/x86.c: __get_regs(), __get_sregs_common(), kvm_vcpu_ioctl_x86_get_vcpu_events() and their
 * counterparts; arch/x86/kvm/vmx/vmx.c: vmx_get_segment(), vmx_set_segment().
 * Invariant: what is read and set again changes nothing that the guest can see.
 */
import { CARETAKER_REGISTER_ORDER } from '../../../abi/ccb.js';
import {
  KVM_MP_STATE,
  KVM_SEGMENTS,
  KVM_VCPU_STATE,
  KVM_VCPUEVENT_VALID,
  KVM_X86_SHADOW,
} from '../../../abi/kvm-state.js';
import {
  ACTIVITY,
  encodeInterruption,
  INTERRUPTIBILITY,
  INTR_INFO,
  INTR_TYPE,
  decodeInterruption,
  VECTOR,
} from '../../../abi/interruption.js';
import { StructView, type StructBytes } from '../../../abi/layout.js';
import { low32, u64 } from '../../../abi/uint.js';
import type { FieldName } from '../../../abi/vmcs-fields.js';
import type { Vmcs } from '../../vmx/vmcs.js';
import type { KvmCpu } from './ports.js';
import type { KvmVcpu } from './vcpu.js';

/** One state, as bytes that any kernel's KVM understands. */
export type VcpuStateBytes = Uint8Array<ArrayBuffer>;

/** Enabled, x2APIC mode, at FEE00000H. */
const APIC_BASE = 0xfee0_0c00n;

/** Segment fields of kvm_segment in the access-rights bytes: name, lowest bit, bits. */
const ACCESS_RIGHTS = [
  ['type', 0, 4],
  ['s', 4, 1],
  ['dpl', 5, 2],
  ['present', 7, 1],
  ['avl', 12, 1],
  ['l', 13, 1],
  ['db', 14, 1],
  ['g', 15, 1],
  ['unusable', 16, 1],
] as const;

/** Structure fields that are one VMCS field each. */
const SAME: readonly (readonly [path: string, field: FieldName])[] = [
  ['regs.rsp', 'GUEST_RSP'],
  ['regs.rip', 'GUEST_RIP'],
  ['regs.rflags', 'GUEST_RFLAGS'],
  ['sregs.gdt.base', 'GUEST_GDTR_BASE'],
  ['sregs.gdt.limit', 'GUEST_GDTR_LIMIT'],
  ['sregs.idt.base', 'GUEST_IDTR_BASE'],
  ['sregs.idt.limit', 'GUEST_IDTR_LIMIT'],
  ['sregs.cr0', 'GUEST_CR0'],
  ['sregs.cr3', 'GUEST_CR3'],
  ['sregs.cr4', 'GUEST_CR4'],
  ['sregs.efer', 'GUEST_IA32_EFER'],
  ['debugregs.dr7', 'GUEST_DR7'],
];

const IN_CORE = [
  ['sregs.cr2', 'CR2'],
  ['debugregs.db[0]', 'DR0'],
  ['debugregs.db[1]', 'DR1'],
  ['debugregs.db[2]', 'DR2'],
  ['debugregs.db[3]', 'DR3'],
  ['debugregs.dr6', 'DR6'],
] as const;

const SHADOWS = [
  [INTERRUPTIBILITY.STI, KVM_X86_SHADOW.STI],
  [INTERRUPTIBILITY.MOV_SS, KVM_X86_SHADOW.MOV_SS],
] as const;

/** The state of a vCPU whose VMCS is current on its core. */
export function getState(vcpu: KvmVcpu, cpu: KvmCpu, vmcs: Vmcs): VcpuStateBytes {
  const { view, bytes } = blank();
  CARETAKER_REGISTER_ORDER.forEach((name, index) => {
    view.set(`regs.${name.toLowerCase()}`, vcpu.ccbView.get(`registers[${index}]`));
  });
  for (const [path, field] of SAME) view.set(path, vmcs.read(field));
  for (const [path, register] of IN_CORE) view.set(path, cpu.registers.get(register));
  for (const name of KVM_SEGMENTS) {
    const [selector, base, limit, rights] = segmentFields(name);
    const ar = low32(vmcs.read(rights));
    view.set(`sregs.${name}.selector`, vmcs.read(selector));
    view.set(`sregs.${name}.base`, vmcs.read(base));
    view.set(`sregs.${name}.limit`, vmcs.read(limit));
    for (const [part, bit, bits] of ACCESS_RIGHTS)
      view.set(`sregs.${name}.${part}`, (ar >>> bit) & ((1 << bits) - 1));
  }
  view.set('sregs.cr8', vcpu.softState.get('tpr') >> 4n);
  view.set('sregs.apic_base', APIC_BASE);
  const isHalted = low32(vmcs.read('GUEST_ACTIVITY_STATE')) === ACTIVITY.HLT;
  view.set('mp_state', isHalted ? KVM_MP_STATE.HALTED : KVM_MP_STATE.RUNNABLE);
  getEvents(view, vcpu, vmcs);
  return bytes;
}

/** Puts a state back. */
export function setState(vcpu: KvmVcpu, cpu: KvmCpu, vmcs: Vmcs, bytes: VcpuStateBytes): void {
  const view = new StructView(KVM_VCPU_STATE, bytesOver(bytes), 0n);
  CARETAKER_REGISTER_ORDER.forEach((name, index) => {
    vcpu.ccbView.set(`registers[${index}]`, view.get(`regs.${name.toLowerCase()}`));
  });
  for (const [path, field] of SAME) vmcs.write(field, view.get(path));
  for (const [path, register] of IN_CORE) cpu.registers.set(register, view.get(path));
  for (const name of KVM_SEGMENTS) {
    const [selector, base, limit, rights] = segmentFields(name);
    vmcs.write(selector, view.get(`sregs.${name}.selector`));
    vmcs.write(base, view.get(`sregs.${name}.base`));
    vmcs.write(limit, view.get(`sregs.${name}.limit`));
    const ar = ACCESS_RIGHTS.reduce(
      (all, [part, bit]) => all | (view.number(`sregs.${name}.${part}`) << bit),
      0,
    );
    vmcs.write(rights, u64(ar));
  }
  vcpu.softState.set('tpr', view.get('sregs.cr8') << 4n);
  const isHalted = view.number('mp_state') === KVM_MP_STATE.HALTED;
  vmcs.write('GUEST_ACTIVITY_STATE', BigInt(isHalted ? ACTIVITY.HLT : ACTIVITY.ACTIVE));
  setEvents(view, vcpu, vmcs);
}

/** The event that the next VM entry injects is in the VMCS, or still in soft state. */
function getEvents(view: StructView, vcpu: KvmVcpu, vmcs: Vmcs): void {
  const soft = vcpu.softState;
  const inVmcs = low32(vmcs.read('VM_ENTRY_INTR_INFO_FIELD'));
  const isInVmcs = inVmcs >>> 31 === 1;
  const event = decodeInterruption(isInVmcs ? inVmcs : soft.number('event_info'));
  const errorCode = isInVmcs
    ? vmcs.read('VM_ENTRY_EXCEPTION_ERROR_CODE')
    : soft.get('event_error_code');
  if (event.valid && event.type === INTR_TYPE.NMI_INTR) view.set('events.nmi_injected', 1);
  else if (event.valid && isInterrupt(event.type)) {
    view.set('events.interrupt_injected', 1);
    view.set('events.interrupt_nr', event.vector);
    view.set('events.interrupt_soft', event.type === INTR_TYPE.SOFT_INTR ? 1 : 0);
  } else if (event.valid) {
    view.set('events.exception_injected', 1);
    view.set('events.exception_nr', event.vector);
    view.set('events.exception_has_error_code', event.deliverCode ? 1 : 0);
    if (event.deliverCode) view.set('events.exception_error_code', errorCode);
  }
  const blocking = low32(vmcs.read('GUEST_INTERRUPTIBILITY_INFO'));
  const shadow = SHADOWS.reduce(
    (all, [bit, ours]) => ((blocking & bit) === 0 ? all : all | ours),
    0,
  );
  view.set('events.interrupt_shadow', shadow);
  view.set('events.nmi_masked', (blocking & INTERRUPTIBILITY.NMI) === 0 ? 0 : 1);
  view.set('events.nmi_pending', soft.number('virtual_nmi_pending') | soft.number('posted_nmi'));
  view.set('events.flags', KVM_VCPUEVENT_VALID.NMI_PENDING | KVM_VCPUEVENT_VALID.SHADOW);
}

function setEvents(view: StructView, vcpu: KvmVcpu, vmcs: Vmcs): void {
  const soft = vcpu.softState;
  const info = infoOf(view);
  soft.set('event_info', 0);
  vmcs.write('VM_ENTRY_INTR_INFO_FIELD', u64(info));
  if ((info & INTR_INFO.DELIVER_CODE) !== 0)
    vmcs.write('VM_ENTRY_EXCEPTION_ERROR_CODE', view.get('events.exception_error_code'));
  const shadow = view.number('events.interrupt_shadow');
  const blocking = SHADOWS.reduce(
    (all, [bit, ours]) => ((shadow & ours) === 0 ? all : all | bit),
    view.number('events.nmi_masked') === 0 ? 0 : INTERRUPTIBILITY.NMI,
  );
  vmcs.write('GUEST_INTERRUPTIBILITY_INFO', BigInt(blocking));
  soft.set('virtual_nmi_pending', view.get('events.nmi_pending'));
  soft.set('posted_nmi', 0);
}

function infoOf(view: StructView): number {
  if (view.number('events.nmi_injected') === 1) return encodeInterruption('NMI_INTR', VECTOR.NMI);
  if (view.number('events.interrupt_injected') === 1) {
    const type = view.number('events.interrupt_soft') === 1 ? 'SOFT_INTR' : 'EXT_INTR';
    return encodeInterruption(type, view.number('events.interrupt_nr'));
  }
  if (view.number('events.exception_injected') === 0) return 0;
  const vector = view.number('events.exception_nr');
  const isSoft = vector === VECTOR.BP || vector === VECTOR.OF;
  return encodeInterruption(isSoft ? 'SOFT_EXCEPTION' : 'HARD_EXCEPTION', vector, {
    deliverCode: view.number('events.exception_has_error_code') === 1,
  });
}

const isInterrupt = (type: number): boolean =>
  type === INTR_TYPE.EXT_INTR || type === INTR_TYPE.SOFT_INTR;

function segmentFields(
  name: (typeof KVM_SEGMENTS)[number],
): readonly [FieldName, FieldName, FieldName, FieldName] {
  const field = (what: string): FieldName =>
    // SAFETY: every segment of kvm_sregs has these four fields, and a test reads them all.
    `GUEST_${name === 'ldt' ? 'LDTR' : name.toUpperCase()}_${what}` as FieldName;
  return [field('SELECTOR'), field('BASE'), field('LIMIT'), field('AR_BYTES')];
}

function blank(): { readonly view: StructView; readonly bytes: VcpuStateBytes } {
  const bytes = new Uint8Array(KVM_VCPU_STATE.sizeBytes);
  return { view: new StructView(KVM_VCPU_STATE, bytesOver(bytes), 0n), bytes };
}

function bytesOver(bytes: VcpuStateBytes): StructBytes {
  const data = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const at = (address: bigint): number => low32(address);
  return {
    readU8: (address) => data.getUint8(at(address)),
    readU16: (address) => data.getUint16(at(address), true),
    readU32: (address) => data.getUint32(at(address), true),
    readU64: (address) => data.getBigUint64(at(address), true),
    writeU8: (address, value) => data.setUint8(at(address), value),
    writeU16: (address, value) => data.setUint16(at(address), value, true),
    writeU32: (address, value) => data.setUint32(at(address), value, true),
    writeU64: (address, value) => data.setBigUint64(at(address), value, true),
  };
}
