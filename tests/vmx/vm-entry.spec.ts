import { describe, expect, it } from 'vitest';
import {
  ACTIVITY,
  INTERRUPTIBILITY,
  INTR_TYPE,
  encodeInterruption,
  type InterruptionType,
} from '../../abi/interruption.js';
import { MSR } from '../../abi/msrs.js';
import { ENTRY_CONTROL, EXIT_CONTROL, PIN } from '../../abi/vmx-controls.js';
import { validVmcs, type VmcsDescription } from '../../emulator/vmx/description.js';
import { MSR_LOAD_RULES } from '../../emulator/vmx/msr-area.js';
import { execute } from '../../emulator/vmx/vmx-instructions.js';
import { vmEntry } from '../../emulator/vmx/vm-entry.js';
import { fakePcpu, inGuest, inRoot } from './fake-pcpu.js';

const AREA = 0x2_0000n;

function area(
  pcpu: ReturnType<typeof fakePcpu>,
  entries: [number, number, bigint][],
): VmcsDescription {
  entries.forEach(([index, reserved, value], i) => {
    const at = AREA + BigInt(16 * i);
    pcpu.memory.writeU32(at, index);
    pcpu.memory.writeU32(at + 4n, reserved);
    pcpu.memory.writeU64(at + 8n, value);
  });
  return { VM_ENTRY_MSR_LOAD_COUNT: BigInt(entries.length), VM_ENTRY_MSR_LOAD_ADDR: AREA };
}

describe('a VM entry that succeeds', () => {
  it('enters VMX non-root operation and marks the VMCS launched', () => {
    const pcpu = fakePcpu();
    const vmcs = inRoot(pcpu);
    expect(vmEntry(pcpu, vmcs, 'launch')).toEqual({
      kind: 'entered',
      event: null,
      activity: ACTIVITY.ACTIVE,
      timer: { value: 0xffff_ffff, expiresAt: (31_250 + 0xffff_ffff) * 32 },
    });
    expect(pcpu.vmx.mode).toBe('non-root');
    expect(vmcs.launchState).toBe('launched');
  });

  it('ends blocking by STI', () => {
    const pcpu = fakePcpu();
    pcpu.blocking.sti = true;
    inGuest(pcpu);
    expect(pcpu.blocking.sti).toBe(false);
  });

  it.each<[string, number, number, boolean]>([
    ['with virtual NMIs, bit 3 does not block physical NMIs', PIN.VIRTUAL_NMIS, 8, false],
    ['without virtual NMIs, bit 3 blocks physical NMIs', 0, 8, true],
    ['without virtual NMIs, a clear bit 3 unblocks physical NMIs', 0, 0, false],
  ])('%s', (_title, virtual, interruptibility, blocked) => {
    const pcpu = fakePcpu();
    pcpu.blocking.nmi = true;
    const valid = validVmcs();
    inGuest(pcpu, {
      ...valid,
      PIN_BASED_VM_EXEC_CONTROL:
        (valid.PIN_BASED_VM_EXEC_CONTROL! & ~BigInt(PIN.VIRTUAL_NMIS)) | BigInt(virtual),
      GUEST_INTERRUPTIBILITY_INFO: BigInt(interruptibility),
    });
    expect(pcpu.blocking.nmi).toBe(blocked);
  });

  it('arms no timer if the pin-based control is 0', () => {
    const pcpu = fakePcpu();
    const vmcs = inRoot(pcpu, {
      ...validVmcs(),
      PIN_BASED_VM_EXEC_CONTROL: 0x16n,
      VM_EXIT_CONTROLS: validVmcs().VM_EXIT_CONTROLS! & ~(1n << 22n),
    });
    expect(vmEntry(pcpu, vmcs, 'launch')).toMatchObject({ kind: 'entered', timer: null });
  });

  it('loads the MSR area in order', () => {
    const pcpu = fakePcpu();
    const description = area(pcpu, [
      [MSR.IA32_KERNEL_GS_BASE, 0, 1n],
      [MSR.IA32_STAR, 0, 2n],
      [MSR.IA32_KERNEL_GS_BASE, 0, 3n],
    ]);
    inGuest(pcpu, validVmcs(description));
    expect(pcpu.msrValues.get(MSR.IA32_KERNEL_GS_BASE)).toBe(3n);
    expect(pcpu.msrValues.get(MSR.IA32_STAR)).toBe(2n);
  });

  it('loads no guest state that it refuses, so that what VM exit does not load keeps the host’s value', () => {
    const valid = validVmcs();
    const pcpu = fakePcpu();
    pcpu.msrValues.set(MSR.IA32_PERF_GLOBAL_CTRL, 1n);
    const vmcs = inRoot(pcpu, {
      ...valid,
      VM_ENTRY_CONTROLS:
        valid.VM_ENTRY_CONTROLS! | BigInt(ENTRY_CONTROL.LOAD_IA32_PERF_GLOBAL_CTRL),
      VM_EXIT_CONTROLS: valid.VM_EXIT_CONTROLS! & ~BigInt(EXIT_CONTROL.LOAD_IA32_PERF_GLOBAL_CTRL),
      GUEST_IA32_PERF_GLOBAL_CTRL: 1n << 62n,
    });
    expect(vmEntry(pcpu, vmcs, 'launch')).toMatchObject({ kind: 'entry-failure', basic: 33 });
    expect(pcpu.msrValues.get(MSR.IA32_PERF_GLOBAL_CTRL)).toBe(1n);
  });
});

const injecting = (type: InterruptionType, vector: number): VmcsDescription => ({
  GUEST_RFLAGS: 0x202n,
  VM_ENTRY_INTR_INFO_FIELD: BigInt(encodeInterruption(type, vector)),
});

describe('event injection', () => {
  it.each<[string, VmcsDescription, object]>([
    [
      'an external interrupt',
      { VM_ENTRY_INTR_INFO_FIELD: 0x8000_00ecn },
      { type: 0, vector: 0xec, errorCode: null, instructionLength: null },
    ],
    [
      'a #PF with its error code',
      {
        VM_ENTRY_INTR_INFO_FIELD: BigInt(
          encodeInterruption('HARD_EXCEPTION', 14, { deliverCode: true }),
        ),
        VM_ENTRY_EXCEPTION_ERROR_CODE: 6n,
      },
      { type: 3, vector: 14, errorCode: 6, instructionLength: null },
    ],
    [
      'an INT n with its length',
      {
        VM_ENTRY_INTR_INFO_FIELD: BigInt(encodeInterruption('SOFT_INTR', 0x80)),
        VM_ENTRY_INSTRUCTION_LEN: 2n,
      },
      { type: 4, vector: 0x80, errorCode: null, instructionLength: 2 },
    ],
  ])('delivers %s', (_title, overrides, event) => {
    const pcpu = fakePcpu();
    const vmcs = inRoot(pcpu, validVmcs(overrides));
    expect(vmEntry(pcpu, vmcs, 'launch')).toMatchObject({ kind: 'entered', event });
  });

  it('leaves the valid bit for the VM exit to clear', () => {
    const pcpu = fakePcpu();
    const vmcs = inGuest(pcpu, validVmcs({ VM_ENTRY_INTR_INFO_FIELD: 0x8000_00ecn }));
    expect(vmcs.read('VM_ENTRY_INTR_INFO_FIELD')).toBe(0x8000_00ecn);
  });

  it('wakes the HLT state', () => {
    const pcpu = fakePcpu();
    const vmcs = inRoot(
      pcpu,
      validVmcs({ VM_ENTRY_INTR_INFO_FIELD: 0x8000_00ecn, GUEST_ACTIVITY_STATE: 1n }),
    );
    expect(vmEntry(pcpu, vmcs, 'launch')).toMatchObject({ activity: ACTIVITY.ACTIVE });
    expect(vmcs.read('GUEST_ACTIVITY_STATE')).toBe(0n);
  });

  it('of an NMI begins blocking by NMI and ends no other', () => {
    const pcpu = fakePcpu();
    const vmcs = inGuest(pcpu, validVmcs({ VM_ENTRY_INTR_INFO_FIELD: 0x8000_0202n }));
    expect(vmcs.read('GUEST_INTERRUPTIBILITY_INFO')).toBe(BigInt(INTERRUPTIBILITY.NMI));
    expect(pcpu.blocking.nmi).toBe(false);
  });

  it('of a software exception ends blocking by STI', () => {
    const pcpu = fakePcpu();
    const vmcs = inGuest(
      pcpu,
      validVmcs({
        VM_ENTRY_INTR_INFO_FIELD: BigInt(encodeInterruption('SOFT_EXCEPTION', 3)),
        VM_ENTRY_INSTRUCTION_LEN: 1n,
        GUEST_INTERRUPTIBILITY_INFO: 1n,
      }),
    );
    expect(vmcs.read('GUEST_INTERRUPTIBILITY_INFO')).toBe(0n);
  });

  const STEP = 0x4000n;
  it.each<[string, VmcsDescription, bigint]>([
    ['an external interrupt takes the place of', injecting('EXT_INTR', 0x50), 0n],
    ['an NMI takes the place of', injecting('NMI_INTR', 2), 0n],
    ['a hardware exception takes the place of', injecting('HARD_EXCEPTION', 6), 0n],
    [
      'a software interrupt takes the place of',
      { ...injecting('SOFT_INTR', 0x80), VM_ENTRY_INSTRUCTION_LEN: 2n },
      0n,
    ],
    [
      'a software interrupt under blocking by MOV SS leaves',
      {
        ...injecting('SOFT_INTR', 0x80),
        VM_ENTRY_INSTRUCTION_LEN: 2n,
        GUEST_INTERRUPTIBILITY_INFO: 2n,
        GUEST_RFLAGS: 0x102n,
      },
      STEP,
    ],
    ['a pending MTF exit leaves', injecting('OTHER_EVENT', 0), STEP],
    ['no event at all leaves', {}, STEP],
  ])('%s the debug exceptions that are pending', (_title, fields, after) => {
    const pcpu = fakePcpu();
    const vmcs = inRoot(pcpu, { ...validVmcs(), GUEST_PENDING_DBG_EXCEPTIONS: STEP, ...fields });
    expect(vmEntry(pcpu, vmcs, 'launch').kind).toBe('entered');
    expect(vmcs.read('GUEST_PENDING_DBG_EXCEPTIONS')).toBe(after);
  });

  it('of a pending MTF exit changes neither activity nor blocking', () => {
    const pcpu = fakePcpu();
    const vmcs = inRoot(
      pcpu,
      validVmcs({ VM_ENTRY_INTR_INFO_FIELD: 0x8000_0700n, GUEST_ACTIVITY_STATE: 1n }),
    );
    expect(vmEntry(pcpu, vmcs, 'launch')).toMatchObject({
      event: { type: INTR_TYPE.OTHER_EVENT },
      activity: ACTIVITY.HLT,
    });
  });
});

describe('a VM-entry failure during or after loading guest state', () => {
  it('looks like an exit with bit 31 set, loads the host state and keeps everything else', () => {
    const pcpu = fakePcpu();
    const vmcs = inRoot(
      pcpu,
      validVmcs({ GUEST_RFLAGS: 0n, VM_ENTRY_INTR_INFO_FIELD: 0x8000_0202n }),
    );
    vmcs.record(0, 1);
    const slotsBefore = vmcs.values.slice();
    pcpu.blocking.nmi = true;
    expect(execute(pcpu, { name: 'VMLAUNCH' })).toMatchObject({
      kind: 'entry',
      entry: { kind: 'entry-failure', basic: 33, qualification: 0 },
    });
    expect(vmcs.read('VM_EXIT_REASON')).toBe(0x8000_0021n);
    expect(pcpu.registers.get('RIP')).toBe(vmcs.read('HOST_RIP'));
    expect(pcpu.vmx.mode).toBe('root');
    expect(vmcs.launchState).toBe('clear');
    expect(pcpu.blocking.nmi).toBe(true);
    expect(vmcs.read('VM_ENTRY_INTR_INFO_FIELD')).toBe(0x8000_0202n);
    const changed = [...vmcs.values.keys()].filter((i) => vmcs.values[i] !== slotsBefore[i]);
    expect(changed).toHaveLength(1); // the exit reason; the qualification was 0 before
  });

  it.each([
    [
      'NMI injection under blocking by STI',
      { VM_ENTRY_INTR_INFO_FIELD: 0x8000_0202n, GUEST_INTERRUPTIBILITY_INFO: 1n },
      3,
    ],
    ['a bad VMCS link pointer', { VMCS_LINK_POINTER: 0x123n }, 4],
    ['anything else', { GUEST_RFLAGS: 0n }, 0],
  ])('%s has its qualification', (_title, overrides, qualification) => {
    const pcpu = fakePcpu();
    const vmcs = inRoot(pcpu, validVmcs(overrides));
    expect(vmEntry(pcpu, vmcs, 'launch')).toMatchObject({ kind: 'entry-failure', qualification });
    expect(vmcs.read('EXIT_QUALIFICATION')).toBe(BigInt(qualification));
  });

  it.each(MSR_LOAD_RULES)('MSR loading: $rule', ({ example, rule }) => {
    const pcpu = fakePcpu();
    const description = area(pcpu, [
      [MSR.IA32_STAR, 0, 7n],
      [example.index, example.reserved, 0n],
    ]);
    const vmcs = inRoot(pcpu, validVmcs(description));
    expect(vmEntry(pcpu, vmcs, 'launch')).toEqual({
      kind: 'entry-failure',
      basic: 34,
      qualification: 2,
      rule,
    });
    expect(vmcs.read('VM_EXIT_REASON')).toBe(0x8000_0022n);
    expect(pcpu.msrValues.get(MSR.IA32_STAR)).toBe(7n);
  });

  it('MSR loading: an entry whose WRMSR would raise #GP must not be loaded', () => {
    const pcpu = fakePcpu();
    pcpu.refusedMsrs.add(MSR.IA32_LSTAR);
    const vmcs = inRoot(pcpu, validVmcs(area(pcpu, [[MSR.IA32_LSTAR, 0, 1n << 47n]])));
    expect(vmEntry(pcpu, vmcs, 'launch')).toMatchObject({ basic: 34, qualification: 1 });
  });
});
