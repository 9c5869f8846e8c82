/** KVM's own ioctl structures: as the system's headers have them, and a vCPU's state through them and back. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import {
  KVM_DEBUGREGS,
  KVM_DTABLE,
  KVM_REGS,
  KVM_SEGMENT,
  KVM_SREGS,
  KVM_VCPU_EVENTS,
  KVM_VCPU_STATE,
} from '../../../abi/kvm-state.js';
import { encodeInterruption } from '../../../abi/interruption.js';
import { locate } from '../../../abi/layout.js';
import { VMCS_FIELDS } from '../../../abi/vmcs-fields.js';
import type { Process } from '../../../emulator/host/process.js';
import type { Kvm } from '../../../emulator/host/kvm/kvm.js';
import { Conductor } from '../../../emulator/machine/conductor.js';
import type { Lane } from '../../../emulator/machine/lane.js';
import { parseScenario } from '../../../emulator/machine/scenario/load.js';
import { referencePayload } from '../../support/reference-payload.js';

const HAS_HEADERS = ['/usr/include/asm/kvm.h', '/usr/include/x86_64-linux-gnu/asm/kvm.h'].some(
  (file) => existsSync(file),
);

/** Our name of a field where C nests structures. */
const C_NAMES: Readonly<Record<string, string>> = {
  exception_injected: 'exception.injected',
  exception_nr: 'exception.nr',
  exception_has_error_code: 'exception.has_error_code',
  exception_pending: 'exception.pending',
  exception_error_code: 'exception.error_code',
  interrupt_injected: 'interrupt.injected',
  interrupt_nr: 'interrupt.nr',
  interrupt_soft: 'interrupt.soft',
  interrupt_shadow: 'interrupt.shadow',
  nmi_injected: 'nmi.injected',
  nmi_pending: 'nmi.pending',
  nmi_masked: 'nmi.masked',
  nmi_pad: 'nmi.pad',
  triple_fault_pending: 'triple_fault.pending',
};
const nameInC = (struct: string, field: string): string =>
  struct === 'kvm_vcpu_events' ? (C_NAMES[field] ?? field) : field;

describe.runIf(HAS_HEADERS)("the system's asm/kvm.h", () => {
  it('has the same sizes and offsets', () => {
    const layouts = [KVM_REGS, KVM_SEGMENT, KVM_DTABLE, KVM_SREGS, KVM_VCPU_EVENTS, KVM_DEBUGREGS];
    const wanted = layouts.flatMap(({ name, sizeBytes, fields }) => [
      { c: `sizeof(struct ${name})`, value: sizeBytes },
      ...fields.map((field) => ({
        c: `__builtin_offsetof(struct ${name}, ${nameInC(name, field.name)})`,
        value: field.offset,
      })),
    ]);
    const checks = wanted.map(({ c, value }) => `_Static_assert(${c} == ${value}, "${c}");`);
    const directory = mkdtempSync(join(tmpdir(), 'kvm-state-'));
    try {
      const source = ['#include <linux/types.h>', '#include <asm/kvm.h>', ...checks].join('\n');
      execFileSync('gcc', ['-x', 'c', '-c', '-', '-o', join(directory, 'checks.o')], {
        input: source,
        stdio: ['pipe', 'ignore', 'pipe'],
      });
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});

describe('the state of a vCPU', () => {
  let kvm: Kvm;
  let vmm: Process;
  let fd: number;
  let lane: Lane;
  beforeEach(() => {
    const text = `
name: state
description: One vCPU, about to be stopped.
vcpus: 1
seed: 8
steps: [{ run: { exits: 50 } }]`;
    const conductor = new Conductor(parseScenario(text, 'state.yaml'), referencePayload(), false);
    conductor.run();
    kvm = conductor.kernels.kvm;
    vmm = conductor.vmm.process;
    fd = conductor.vmm.fds.vcpus[0]!;
    lane = conductor.machine.lane(0);
  });

  const must = <T>(result: { ok: true; value: T } | { ok: false; errno: string }): T => {
    if (!result.ok) throw new Error(result.errno);
    return result.value;
  };
  const guestFields = (): ReadonlyMap<string, bigint> =>
    new Map(
      VMCS_FIELDS.filter(({ type, slot }) => type === 'guest' && !lane.vmcs.isPoison(slot)).map(
        ({ name, slot }) => [name, lane.vmcs.get(slot)],
      ),
    );
  const registers = (): readonly bigint[] =>
    Array.from({ length: 15 }, (_, n) => lane.vcpu.ccbView.get(`registers[${n}]`));

  it('is refused while the vCPU runs', () => {
    expect(kvm.getState(vmm, fd)).toEqual({ ok: false, errno: 'EBUSY' });
    expect(kvm.setState(vmm, fd, new Uint8Array(KVM_VCPU_STATE.sizeBytes))).toEqual({
      ok: false,
      errno: 'EBUSY',
    });
  });

  it('is refused in another size', () => {
    must(kvm.stop(0));
    expect(kvm.setState(vmm, fd, new Uint8Array(8))).toEqual({ ok: false, errno: 'EINVAL' });
  });

  it('leaves every guest field and register as it was when it is set again', () => {
    must(kvm.stop(0));
    const before = { fields: guestFields(), registers: registers() };
    must(kvm.setState(vmm, fd, must(kvm.getState(vmm, fd))));
    expect({ fields: guestFields(), registers: registers() }).toEqual(before);
  });

  // prettier-ignore
  it.each([
    ['an interrupt about to be injected',   encodeInterruption('EXT_INTR', 0x51), 'events.interrupt_nr', 0x51],
    ['an NMI about to be injected',         encodeInterruption('NMI_INTR', 2), 'events.nmi_injected', 1],
    ['a #PF with its error code',           encodeInterruption('HARD_EXCEPTION', 14, { deliverCode: true }), 'events.exception_error_code', 7],
    ['an INT n',                            encodeInterruption('SOFT_INTR', 0x80), 'events.interrupt_soft', 1],
  ])('carries %s', (_title, info, path, value) => {
    must(kvm.stop(0));
    lane.vmcs.write('VM_ENTRY_INTR_INFO_FIELD', BigInt(info));
    lane.vmcs.write('VM_ENTRY_EXCEPTION_ERROR_CODE', 7n);
    const state = must(kvm.getState(vmm, fd));
    expect(state[locate(KVM_VCPU_STATE, path).offset]).toBe(value);
    lane.vmcs.write('VM_ENTRY_INTR_INFO_FIELD', 0n);
    must(kvm.setState(vmm, fd, state));
    expect(lane.vmcs.read('VM_ENTRY_INTR_INFO_FIELD')).toBe(BigInt(info));
  });

  it.each([
    ['the shadow of STI', 1n, 'events.interrupt_shadow', 2],
    ['the shadow of MOV SS', 2n, 'events.interrupt_shadow', 1],
    ['blocked NMIs', 8n, 'events.nmi_masked', 1],
  ])('carries %s', (_title, blocking, path, value) => {
    must(kvm.stop(0));
    lane.vmcs.write('GUEST_INTERRUPTIBILITY_INFO', blocking);
    const state = must(kvm.getState(vmm, fd));
    expect(state[locate(KVM_VCPU_STATE, path).offset]).toBe(value);
    lane.vmcs.write('GUEST_INTERRUPTIBILITY_INFO', 0n);
    must(kvm.setState(vmm, fd, state));
    expect(lane.vmcs.read('GUEST_INTERRUPTIBILITY_INFO')).toBe(blocking);
  });
});
