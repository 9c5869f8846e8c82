import { describe, expect, it } from 'vitest';
import {
  EXIT_REASON,
  EXIT_REASON_COUNT,
  UNCONDITIONAL_EXITS,
  decodeExitReason,
  exitReasonName,
  printExitReason,
} from '../../abi/exit-reasons.js';
import { decodeInterruption, encodeInterruption } from '../../abi/interruption.js';
import {
  ERRNO,
  LIVEUPDATE_IOCTL_TYPE,
  LUO_IOCTL,
  errnoName,
  userspaceErrno,
} from '../../abi/luo.js';
import { MSR, msrName } from '../../abi/msrs.js';
import { VMXERR, vmInstructionErrorName } from '../../abi/vm-errors.js';
import {
  ENTRY_CONTROL,
  EXIT_CONTROL,
  PRIMARY,
  SECONDARY,
  controlNames,
} from '../../abi/vmx-controls.js';
import { X2APIC, apicPageOffset, decodeIcr, x2apicAccess, x2apicName } from '../../abi/x2apic.js';

describe('basic exit reasons', () => {
  it('have unique numbers below EXIT_REASON_COUNT', () => {
    const numbers = Object.values(EXIT_REASON);
    expect(new Set(numbers).size).toBe(numbers.length);
    expect(Math.max(...numbers)).toBe(EXIT_REASON_COUNT - 1);
  });

  it.each([35, 38, 42, 71, 82, 83, 86])('%i is reserved and has no name', (basic) => {
    expect(exitReasonName(basic)).toBeUndefined();
    expect(printExitReason(basic)).toBe(`reason ${basic}`);
  });

  it('print without their prefix', () => {
    expect(printExitReason(12)).toBe('HLT');
    expect(printExitReason(7)).toBe('INTERRUPT_WINDOW');
  });

  it('the unconditional list is CPUID, GETSEC, INVD, XSETBV and twelve VMX instructions', () => {
    expect(UNCONDITIONAL_EXITS).toHaveLength(16);
    expect(UNCONDITIONAL_EXITS).not.toContain('EXIT_REASON_VMFUNC');
  });
});

describe('the exit-reason word', () => {
  it.each([
    [0x8000_0021, { basic: 33, failedVmentry: true, enclaveMode: false }],
    [0x0800_0010, { basic: 16, failedVmentry: false, enclaveMode: true }],
    [0x0400_000c, { basic: 12, busLock: true }],
    [0x1000_0001, { basic: 1, pendingMtf: true }],
    [0x2000_0025, { basic: 37, fromVmxRoot: true }],
    [0x0200_0000, { basic: 0, shadowStackBusy: true }],
  ])('%#x decodes once', (word, expected) => {
    expect(decodeExitReason(word)).toMatchObject(expected);
  });
});

describe('interruption information', () => {
  it.each([
    [
      '#PF with an error code',
      encodeInterruption('HARD_EXCEPTION', 14, { deliverCode: true }),
      0x8000_0b0e,
    ],
    ['NMI', encodeInterruption('NMI_INTR', 2), 0x8000_0202],
    ['external interrupt', encodeInterruption('EXT_INTR', 0xec), 0x8000_00ec],
    ['INT3', encodeInterruption('SOFT_EXCEPTION', 3), 0x8000_0603],
  ])('%s', (_title, word, expected) => {
    expect(word).toBe(expected);
    expect(decodeInterruption(word).valid).toBe(true);
  });

  it('decodes what it encodes', () => {
    const word = encodeInterruption('HARD_EXCEPTION', 13, { deliverCode: true, unblockNmi: true });
    expect(decodeInterruption(word)).toEqual({
      vector: 13,
      type: 3,
      deliverCode: true,
      unblockNmi: true,
      valid: true,
    });
  });
});

describe('control bits', () => {
  it.each([
    [EXIT_CONTROL.HOST_ADDR_SPACE_SIZE, 9],
    [EXIT_CONTROL.ACK_INTR_ON_EXIT, 15],
    [EXIT_CONTROL.SAVE_VMX_PREEMPTION_TIMER, 22],
    [EXIT_CONTROL.LOAD_CET_STATE, 28],
    [ENTRY_CONTROL.IA32E_MODE, 9],
    [ENTRY_CONTROL.LOAD_IA32_EFER, 15],
    [ENTRY_CONTROL.LOAD_CET_STATE, 20],
    [PRIMARY.NMI_WINDOW_EXITING, 22],
    [SECONDARY.TSC_SCALING, 25],
  ])('%#x is bit %i', (mask, bit) => {
    expect(mask).toBe(2 ** bit);
  });

  it('are named, lowest first, and bits 31 stay unsigned', () => {
    expect(controlNames(PRIMARY, 0x8000_0082)).toEqual([
      'bit 1',
      'HLT_EXITING',
      'ACTIVATE_SECONDARY',
    ]);
  });
});

describe('other numbers', () => {
  it.each([14, 21, 27])('VM-instruction error %i is unused', (number) => {
    expect(vmInstructionErrorName(number)).toBeUndefined();
  });

  it('VM-instruction errors have their SDM numbers', () => {
    expect(VMXERR.VMXERR_VMRESUME_NONLAUNCHED_VMCS).toBe(5);
    expect(VMXERR.VMXERR_INVALID_OPERAND_TO_INVEPT_INVVPID).toBe(28);
    expect(vmInstructionErrorName(8)).toBe('VMXERR_ENTRY_INVALID_HOST_STATE_FIELD');
  });

  it('MSR indices are unique and named', () => {
    const indices = Object.values(MSR);
    expect(new Set(indices).size).toBe(indices.length);
    expect(msrName(0x6e0)).toBe('IA32_TSC_DEADLINE');
    expect(msrName(0xc000_0080 | 0)).toBe('IA32_EFER');
    expect(msrName(0x9999)).toBeUndefined();
  });

  it('x2APIC registers map to their virtual-APIC page offsets', () => {
    expect(apicPageOffset(X2APIC.TPR)).toBe(0x80);
    expect(apicPageOffset(X2APIC.EOI)).toBe(0xb0);
    expect(apicPageOffset(X2APIC.ICR)).toBe(0x300);
    expect(x2apicAccess(X2APIC.ISR0 + 7)).toBe('read-only');
    expect(x2apicName(X2APIC.ISR0 + 7)).toBe('IA32_X2APIC_ISR7');
    expect(x2apicName(X2APIC.ICR)).toBe('IA32_X2APIC_ICR');
    expect(x2apicName(0x801)).toBeUndefined();
    expect(x2apicAccess(X2APIC.SELF_IPI)).toBe('write-only');
    expect(x2apicAccess(0x831)).toBe('none');
  });

  it('an ICR write decodes to delivery, shorthand and a 32-bit destination', () => {
    expect(decodeIcr(0x0008_00f2, 0xffff_fff0)).toEqual({
      vector: 0xf2,
      delivery: 0,
      logical: false,
      shorthand: 2,
      destination: 0xffff_fff0,
    });
  });

  it('every LUO ioctl has the type byte and no size or direction', () => {
    for (const value of Object.values(LUO_IOCTL)) expect(value >>> 8).toBe(LIVEUPDATE_IOCTL_TYPE);
  });

  it('errno numbers are unique; ENOIOCTLCMD becomes ENOTTY for userspace', () => {
    const numbers = Object.values(ERRNO);
    expect(new Set(numbers).size).toBe(numbers.length);
    expect(errnoName(-16)).toBe('EBUSY');
    expect(ERRNO.EOPNOTSUPP).toBe(95);
    expect(userspaceErrno('ENOIOCTLCMD')).toBe('ENOTTY');
  });
});
