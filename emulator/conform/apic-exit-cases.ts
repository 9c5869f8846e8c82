/**
 * Guests with a virtual APIC whose accesses exit: TPR threshold, APIC writes, virtualized EOIs.
 *
 * Source: SDM, "APIC Virtualization and Virtual Interrupts": "TPR Virtualization", "APIC-Write VM Exits",
 * "EOI Virtualization"; all three are trap-like.
 * Invariant: that of exit-case.ts.
 */
import { EXIT_REASON } from '../../abi/exit-reasons.js';
import { PRIMARY, SECONDARY } from '../../abi/vmx-controls.js';
import { X2APIC, X2APIC_FIRST } from '../../abi/x2apic.js';
import * as exits from '../guest/exits.js';
import type { VmExit } from '../vmx/vm-exit.js';
import { primary, secondary, type ExitCase } from './exit-case.js';
import { GUEST } from './guest-area.js';
import type { GeneralRegisters } from './program.js';

const VIRTUAL_APIC_PAGE = 0x1_1000n;
/** Offset of a register in the virtual-APIC page. */
const offsetOf = (register: number): bigint => BigInt((register - X2APIC_FIRST) << 4);
/** A page of zeroes as MSR bitmap. */
const PASS_MSRS = { MSR_BITMAP: 0x1_7000n } as const;
const VECTOR = 0x51;

const wrmsr = (register: number, value: bigint): GeneralRegisters => ({
  RCX: BigInt(register),
  RAX: value,
  RDX: 0n,
});
const apicWrite = (register: number): VmExit => ({
  basic: EXIT_REASON.EXIT_REASON_APIC_WRITE,
  qualification: offsetOf(register),
});

/** Every case of the virtual APIC. */
export const VIRTUAL_APIC_CASES: readonly ExitCase[] = [
  {
    title: 'MOV CR8 to below the TPR threshold',
    code: '44 0f 22 c0',
    exit: { basic: EXIT_REASON.EXIT_REASON_TPR_BELOW_THRESHOLD, qualification: 0n },
    registers: { RAX: 2n },
    controls: primary(PRIMARY.TPR_SHADOW),
    without: { CPU_BASED_VM_EXEC_CONTROL: PRIMARY.CR8_LOAD_EXITING },
    fields: { TPR_THRESHOLD: 5n },
    memory: [[VIRTUAL_APIC_PAGE + offsetOf(X2APIC.TPR), 0x60n]],
    rip: 4,
  },
  {
    title: 'a store to a virtualized register of the APIC-access page',
    code: '89 07',
    exit: apicWrite(X2APIC.LVT_TIMER),
    registers: { RDI: GUEST.APIC_ACCESS + offsetOf(X2APIC.LVT_TIMER) },
    controls: {
      ...primary(PRIMARY.TPR_SHADOW),
      ...secondary(SECONDARY.VIRTUALIZE_APIC_ACCESSES, SECONDARY.APIC_REGISTER_VIRT),
    },
    fields: { APIC_ACCESS_ADDR: GUEST.APIC_ACCESS },
    rip: 2,
  },
  {
    title: 'a self-IPI of an illegal vector in virtualized x2APIC mode',
    code: '0f 30',
    exit: apicWrite(X2APIC.SELF_IPI),
    registers: wrmsr(X2APIC.SELF_IPI, 0x0fn),
    controls: {
      ...primary(PRIMARY.TPR_SHADOW),
      ...secondary(
        SECONDARY.VIRTUALIZE_X2APIC_MODE,
        SECONDARY.APIC_REGISTER_VIRT,
        SECONDARY.VIRTUAL_INTR_DELIVERY,
      ),
    },
    fields: PASS_MSRS,
    rip: 2,
  },
  {
    title: 'a virtualized EOI whose vector KVM wants to see',
    code: '0f 30',
    exit: exits.eoiInduced(VECTOR),
    registers: wrmsr(X2APIC.EOI, 0n),
    controls: {
      ...primary(PRIMARY.TPR_SHADOW),
      ...secondary(
        SECONDARY.VIRTUALIZE_X2APIC_MODE,
        SECONDARY.APIC_REGISTER_VIRT,
        SECONDARY.VIRTUAL_INTR_DELIVERY,
      ),
    },
    fields: {
      ...PASS_MSRS,
      GUEST_INTR_STATUS: BigInt(VECTOR << 8),
      EOI_EXIT_BITMAP1: 1n << BigInt(VECTOR - 64),
    },
    memory: [
      [VIRTUAL_APIC_PAGE + offsetOf(X2APIC.ISR0 + (VECTOR >> 5)), 1n << BigInt(VECTOR & 31)],
    ],
    rip: 2,
  },
];
