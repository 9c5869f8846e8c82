import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PIN, PRIMARY, EXIT_CONTROL } from '../../abi/vmx-controls.js';
import { MSR } from '../../abi/msrs.js';
import { DEFAULT_CAPABILITIES, capabilityMsrs } from '../../emulator/vmx/capabilities.js';
import { describeVmcs, validVmcs, type VmcsDescription } from '../../emulator/vmx/description.js';
import {
  interruptWindowIsOpen,
  nextEvent,
  nmiWindowIsOpen,
  type PendingEvents,
} from '../../emulator/vmx/events.js';
import {
  timerExpiresAt,
  timerValueAt,
  timerValueFor,
} from '../../emulator/vmx/preemption-timer.js';
import { looseVmcs } from './fake-pcpu.js';

const valid = validVmcs();
const pin = (set: number, clear = 0): VmcsDescription => ({
  PIN_BASED_VM_EXEC_CONTROL: (valid.PIN_BASED_VM_EXEC_CONTROL! | BigInt(set)) & ~BigInt(clear),
});
const primary = (set: number): VmcsDescription => ({
  CPU_BASED_VM_EXEC_CONTROL: valid.CPU_BASED_VM_EXEC_CONTROL! | BigInt(set),
});
const BOTH_WINDOWS = primary(PRIMARY.INTR_WINDOW_EXITING | PRIMARY.NMI_WINDOW_EXITING);
const MC_EXITS: VmcsDescription = { EXCEPTION_BITMAP: 1n << 18n };
const ALL: PendingEvents = {
  machineCheck: true,
  init: true,
  sipi: 0x9a,
  monitorTrap: true,
  timerExpired: true,
  nmi: true,
  externalInterrupt: 0xec,
};

function reasonOf(overrides: VmcsDescription, pending: PendingEvents): number | string {
  const next = nextEvent(looseVmcs({ ...valid, ...overrides }), pending);
  return next.kind === 'exit' ? next.exit.basic : next.kind;
}

describe('the interrupt window is open when', () => {
  it.each<[string, VmcsDescription, boolean]>([
    ['IF is 1, nothing blocks and the state is active', {}, true],
    ['the state is HLT', { GUEST_ACTIVITY_STATE: 1n }, true],
    ['not: IF is 0', { GUEST_RFLAGS: 2n }, false],
    ['not: blocking by STI', { GUEST_INTERRUPTIBILITY_INFO: 1n }, false],
    ['not: blocking by MOV SS', { GUEST_INTERRUPTIBILITY_INFO: 2n }, false],
    ['blocking by NMI does not matter', { GUEST_INTERRUPTIBILITY_INFO: 8n }, true],
    ['not: the state is shutdown', { GUEST_ACTIVITY_STATE: 2n }, false],
    ['not: the state is wait-for-SIPI', { GUEST_ACTIVITY_STATE: 3n }, false],
  ])('%s', (_title, overrides, open) => {
    expect(interruptWindowIsOpen(looseVmcs({ ...valid, ...overrides }))).toBe(open);
    expect(reasonOf({ ...overrides, ...primary(PRIMARY.INTR_WINDOW_EXITING) }, {})).toBe(
      open ? 7 : 'none',
    );
  });
});

describe('the NMI window is open when', () => {
  it.each<[string, VmcsDescription, boolean]>([
    ['nothing blocks', {}, true],
    ['IF does not matter', { GUEST_RFLAGS: 2n }, true],
    ['the state is HLT', { GUEST_ACTIVITY_STATE: 1n }, true],
    ['the state is shutdown', { GUEST_ACTIVITY_STATE: 2n }, true],
    ['not: the state is wait-for-SIPI', { GUEST_ACTIVITY_STATE: 3n }, false],
    ['not: virtual-NMI blocking', { GUEST_INTERRUPTIBILITY_INFO: 8n }, false],
    ['not: blocking by MOV SS', { GUEST_INTERRUPTIBILITY_INFO: 2n }, false],
  ])('%s', (_title, overrides, open) => {
    expect(nmiWindowIsOpen(looseVmcs({ ...valid, ...overrides }))).toBe(open);
    expect(reasonOf({ ...overrides, ...primary(PRIMARY.NMI_WINDOW_EXITING) }, {})).toBe(
      open ? 8 : 'none',
    );
  });
});

describe('priority among events at one boundary', () => {
  const without = (...names: (keyof PendingEvents)[]): PendingEvents =>
    Object.fromEntries(Object.entries(ALL).filter(([name]) => !names.some((one) => one === name)));
  const noCheck = without('machineCheck');
  const noInit = without('machineCheck', 'init');
  const noTrap = without('machineCheck', 'init', 'monitorTrap');
  const noTimer = without('machineCheck', 'init', 'monitorTrap', 'timerExpired');
  const noNmi = without('machineCheck', 'init', 'monitorTrap', 'timerExpired', 'nmi');
  it.each<[string, VmcsDescription, PendingEvents, number | string]>([
    ['a machine check', { ...BOTH_WINDOWS, ...MC_EXITS }, ALL, 0],
    ['then INIT', BOTH_WINDOWS, noCheck, 3],
    ['then the monitor trap flag', BOTH_WINDOWS, noInit, 37],
    [
      'then a debug trap',
      { ...BOTH_WINDOWS, GUEST_PENDING_DBG_EXCEPTIONS: 0x4000n },
      noTrap,
      'delivered',
    ],
    ['then the VMX-preemption timer', BOTH_WINDOWS, noTrap, 52],
    ['then the NMI window', BOTH_WINDOWS, noTimer, 8],
    ['then the NMI', primary(PRIMARY.INTR_WINDOW_EXITING), noTimer, 0],
    ['then the interrupt window', primary(PRIMARY.INTR_WINDOW_EXITING), noNmi, 7],
    ['then the external interrupt', {}, noNmi, 1],
    ['then nothing: a SIPI is dropped outside wait-for-SIPI', {}, { sipi: 1 }, 'none'],
  ])('%s', (_title, overrides, pending, expected) => {
    expect(reasonOf(overrides, pending)).toBe(expected);
  });
});

describe('pending debug exceptions', () => {
  const DB_EXITS: VmcsDescription = { EXCEPTION_BITMAP: 2n };
  it.each<[string, VmcsDescription, object]>([
    [
      'BS is a single step',
      { GUEST_PENDING_DBG_EXCEPTIONS: 0x4000n },
      { kind: 'delivered', vector: 1 },
    ],
    [
      'the enabled-breakpoint bit is a breakpoint',
      { GUEST_PENDING_DBG_EXCEPTIONS: 0x1001n },
      { kind: 'delivered', vector: 1 },
    ],
    [
      'without either bit nothing is pending',
      { GUEST_PENDING_DBG_EXCEPTIONS: 0x1n },
      { kind: 'none' },
    ],
    [
      'blocking by MOV SS holds them',
      { GUEST_PENDING_DBG_EXCEPTIONS: 0x4000n, GUEST_INTERRUPTIBILITY_INFO: 2n },
      { kind: 'none' },
    ],
    [
      'blocking by STI does not',
      { GUEST_PENDING_DBG_EXCEPTIONS: 0x4000n, GUEST_INTERRUPTIBILITY_INFO: 1n },
      { kind: 'delivered' },
    ],
    [
      'they end the HLT state',
      { GUEST_PENDING_DBG_EXCEPTIONS: 0x4000n, GUEST_ACTIVITY_STATE: 1n },
      { kind: 'delivered' },
    ],
    [
      'the shutdown state has none',
      { GUEST_PENDING_DBG_EXCEPTIONS: 0x4000n, GUEST_ACTIVITY_STATE: 2n },
      { kind: 'none' },
    ],
    [
      'the exit that the exception bitmap makes of them has them in its qualification',
      { ...DB_EXITS, GUEST_PENDING_DBG_EXCEPTIONS: 0x5003n },
      { kind: 'exit', exit: { basic: 0, interruptionInfo: 0x8000_0301, qualification: 0x4003n } },
    ],
  ])('%s', (_title, overrides, expected) => {
    expect(nextEvent(looseVmcs({ ...valid, ...overrides }), {})).toMatchObject(expected);
  });
});

describe('activity states', () => {
  it.each<[string, bigint, PendingEvents, number | string]>([
    ['HLT is left by an external interrupt', 1n, { externalInterrupt: 1 }, 1],
    ['HLT is left by an NMI', 1n, { nmi: true }, 0],
    ['HLT is left by the VMX-preemption timer', 1n, { timerExpired: true }, 52],
    ['HLT is left by a machine check', 1n, { machineCheck: true }, 'delivered'],
    ['wait-for-SIPI ignores a machine check', 3n, { machineCheck: true }, 'none'],
    ['shutdown blocks external interrupts', 2n, { externalInterrupt: 1 }, 'none'],
    ['shutdown is left by an NMI', 2n, { nmi: true }, 0],
    ['shutdown is left by INIT', 2n, { init: true }, 3],
    ['wait-for-SIPI ignores INIT', 3n, { init: true }, 'none'],
    ['wait-for-SIPI blocks NMIs', 3n, { nmi: true }, 'none'],
    ['wait-for-SIPI does not run the timer', 3n, { timerExpired: true }, 'none'],
    ['wait-for-SIPI is left by a SIPI', 3n, { sipi: 0x9a }, 4],
  ])('%s', (_title, activity, pending, expected) => {
    expect(reasonOf({ GUEST_ACTIVITY_STATE: activity }, pending)).toBe(expected);
  });

  it('the qualification of a SIPI exit is its vector', () => {
    const next = nextEvent(looseVmcs({ ...valid, GUEST_ACTIVITY_STATE: 3n }), { sipi: 0x9a });
    expect(next).toMatchObject({ exit: { qualification: 0x9an } });
  });
});

describe('machine checks', () => {
  it('exit as a hardware exception of vector 18 without an error code where the exception bitmap says so', () => {
    expect(nextEvent(looseVmcs({ ...valid, ...MC_EXITS }), { machineCheck: true })).toEqual({
      kind: 'exit',
      exit: { basic: 0, interruptionInfo: 0x8000_0312 },
      acknowledged: null,
    });
  });

  it.each<[string, VmcsDescription]>([
    ['whatever IF is', { GUEST_RFLAGS: 2n }],
    ['and no shadow blocks them', { GUEST_INTERRUPTIBILITY_INFO: 2n }],
    ['nor blocking by NMI', { GUEST_INTERRUPTIBILITY_INFO: 8n }],
  ])('%s', (_title, overrides) => {
    expect(reasonOf({ ...overrides, ...MC_EXITS }, { machineCheck: true })).toBe(0);
  });

  it('go through the guest IDT where it does not', () => {
    const pending = { machineCheck: true, nmi: true };
    expect(nextEvent(looseVmcs({ ...valid, EXCEPTION_BITMAP: 0n }), pending)).toEqual({
      kind: 'delivered',
      vector: 18,
      source: 'machine-check',
    });
  });
});

describe('external interrupts and NMIs', () => {
  it('acknowledge on exit puts the vector into the interruption information', () => {
    expect(nextEvent(looseVmcs(), { externalInterrupt: 0xec })).toEqual({
      kind: 'exit',
      exit: { basic: 1, interruptionInfo: 0x8000_00ec },
      acknowledged: 0xec,
    });
  });

  it('without it the interrupt stays pending and no vector is told', () => {
    const controls = valid.VM_EXIT_CONTROLS! & ~BigInt(EXIT_CONTROL.ACK_INTR_ON_EXIT);
    expect(
      nextEvent(looseVmcs({ ...valid, VM_EXIT_CONTROLS: controls }), { externalInterrupt: 0xec }),
    ).toEqual({
      kind: 'exit',
      exit: { basic: 1 },
      acknowledged: null,
    });
  });

  it.each<[string, VmcsDescription, PendingEvents, number | string]>([
    [
      'with external-interrupt exiting, IF does not matter',
      { GUEST_RFLAGS: 2n },
      { externalInterrupt: 1 },
      1,
    ],
    [
      'blocking by STI holds an external interrupt off',
      { GUEST_INTERRUPTIBILITY_INFO: 1n },
      { externalInterrupt: 1 },
      'none',
    ],
    [
      'without it and IF = 1, the guest takes the interrupt',
      pin(0, PIN.EXT_INTR_EXITING),
      { externalInterrupt: 1 },
      'delivered',
    ],
    [
      'without it and IF = 0, it stays pending',
      { ...pin(0, PIN.EXT_INTR_EXITING), GUEST_RFLAGS: 2n },
      { externalInterrupt: 1 },
      'none',
    ],
    [
      'with virtual NMIs, bit 3 does not block an NMI exit',
      { GUEST_INTERRUPTIBILITY_INFO: 8n },
      { nmi: true },
      0,
    ],
    [
      'without virtual NMIs, bit 3 blocks NMIs',
      { ...pin(0, PIN.VIRTUAL_NMIS), GUEST_INTERRUPTIBILITY_INFO: 8n },
      { nmi: true },
      'none',
    ],
    [
      'without NMI exiting, the guest takes the NMI',
      pin(0, PIN.VIRTUAL_NMIS | PIN.NMI_EXITING),
      { nmi: true },
      'delivered',
    ],
    ['blocking by MOV SS blocks NMIs', { GUEST_INTERRUPTIBILITY_INFO: 2n }, { nmi: true }, 'none'],
    [
      'an expired timer that is not activated does nothing',
      pin(0, PIN.PREEMPTION_TIMER),
      { timerExpired: true },
      'none',
    ],
  ])('%s', (_title, overrides, pending, expected) => {
    expect(reasonOf(overrides, pending)).toBe(expected);
  });
});

describe('the VMX-preemption timer', () => {
  it.each([
    ['value 0 expires at once', 1003, 0, 5, 1003],
    ['counts when bit X of the TSC changes, so the first count may be short', 1003, 1, 5, 1024],
    ['counts 2^X ticks after that', 1003, 2, 5, 1056],
    ['works beyond 2^32', 2 ** 40 + 7, 0xffff_ffff, 5, 2 ** 40 + 0xffff_ffff * 32],
  ])('%s', (_title, entryTsc, value, shift, expected) => {
    expect(timerExpiresAt(entryTsc, value, shift)).toBe(expected);
  });

  const tsc = fc.nat(2 ** 31).map((n) => n * 4096 + (n % 4096));
  it('reaches 0 exactly when it expires', () => {
    fc.assert(
      fc.property(tsc, fc.integer({ min: 1, max: 2 ** 31 }), fc.nat(10), (at, value, shift) => {
        const expires = timerExpiresAt(at, value, shift);
        expect(timerValueAt(at, value, expires, shift)).toBe(0);
        expect(timerValueAt(at, value, expires - 1, shift)).toBe(1);
      }),
    );
  });

  it('a value chosen for a deadline expires at or after it, by less than one count', () => {
    fc.assert(
      fc.property(tsc, fc.integer({ min: 1, max: 2 ** 34 }), fc.nat(10), (now, ticks, shift) => {
        const value = timerValueFor(now, now + ticks, shift);
        if (value === 0xffff_ffff) return;
        const expires = timerExpiresAt(now, value, shift);
        expect(expires).toBeGreaterThanOrEqual(now + ticks);
        expect(expires).toBeLessThan(now + ticks + 2 ** shift);
      }),
    );
  });

  it('is 0 for a deadline that has passed', () => {
    expect(timerValueFor(100, 100, 5)).toBe(0);
  });
});

describe('capability MSRs', () => {
  const msrs = capabilityMsrs(DEFAULT_CAPABILITIES);
  it('the preemption timer shift is bits 4:0 of IA32_VMX_MISC', () => {
    expect(msrs.get(MSR.IA32_VMX_MISC)! & 0x1fn).toBe(5n);
  });

  it('IA32_VMX_BASIC says revision, region size, write-back and TRUE controls', () => {
    const basic = msrs.get(MSR.IA32_VMX_BASIC)!;
    expect(basic & 0xffff_ffffn).toBe(BigInt(DEFAULT_CAPABILITIES.revision));
    expect((basic >> 32n) & 0x1fffn).toBe(4096n);
    expect((basic >> 50n) & 0xfn).toBe(6n);
    expect((basic >> 55n) & 1n).toBe(1n);
  });

  it.each([
    ['PINBASED', MSR.IA32_VMX_PINBASED_CTLS, MSR.IA32_VMX_TRUE_PINBASED_CTLS],
    ['PROCBASED', MSR.IA32_VMX_PROCBASED_CTLS, MSR.IA32_VMX_TRUE_PROCBASED_CTLS],
    ['EXIT', MSR.IA32_VMX_EXIT_CTLS, MSR.IA32_VMX_TRUE_EXIT_CTLS],
    ['ENTRY', MSR.IA32_VMX_ENTRY_CTLS, MSR.IA32_VMX_TRUE_ENTRY_CTLS],
  ])(
    '%s: a bit that must be 1 may be 1, and TRUE demands no more than the old MSR',
    (_name, old, isTrue) => {
      for (const index of [old, isTrue]) {
        const value = msrs.get(index)!;
        expect(value & 0xffff_ffffn & ~(value >> 32n)).toBe(0n);
      }
      expect(msrs.get(isTrue)! & 0xffff_ffffn & ~msrs.get(old)!).toBe(0n);
      expect(msrs.get(isTrue)! >> 32n).toBe(msrs.get(old)! >> 32n);
    },
  );

  it('CR0 and CR4: a bit that is fixed to 1 may be 1', () => {
    expect(msrs.get(MSR.IA32_VMX_CR0_FIXED0)! & ~msrs.get(MSR.IA32_VMX_CR0_FIXED1)!).toBe(0n);
    expect(msrs.get(MSR.IA32_VMX_CR4_FIXED0)! & ~msrs.get(MSR.IA32_VMX_CR4_FIXED1)!).toBe(0n);
  });
});

describe('a description', () => {
  it('comes back from the VMCS that it was written to', () => {
    const description = Object.fromEntries(
      Object.entries(validVmcs()).filter(([, value]) => value !== 0n),
    );
    expect(describeVmcs(looseVmcs())).toEqual(description);
  });
});
