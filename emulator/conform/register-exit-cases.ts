/**
 * Guest code that reaches for MSRs, ports, control and debug registers.
 *
 * Source: SDM, "Exit Qualification for Control-Register Accesses", "Exit Qualification for MOV DR",
 * "Exit Qualification for I/O Instructions". Where emulator/guest has a function for the exit, it is taken from there.
 * Invariant: that of exit-case.ts.
 */
import { PRIMARY } from '../../abi/vmx-controls.js';
import * as exits from '../guest/exits.js';
import type { VmExit } from '../vmx/vm-exit.js';
import { instruction, primary, type ExitCase } from './exit-case.js';
import { GUEST } from './guest-area.js';
import type { GeneralRegisters } from './program.js';

const io = (qualification: bigint, length: number): VmExit =>
  instruction('EXIT_REASON_IO_INSTRUCTION', length, { qualification });
const cr = (qualification: bigint, length = 3): VmExit =>
  instruction('EXIT_REASON_CR_ACCESS', length, { qualification });
const X2APIC_ICR = 0x830;

/** WRMSR and RDMSR of registers that the bitmap intercepts. */
export const MSRS: readonly ExitCase[] = [
  ...[0x6e0, X2APIC_ICR, 0x80b, 0x808, 0x83f, 0x10, 0xc000_0080, 0x4b56_4d00].map((index) => ({
    title: `WRMSR ${index.toString(16)}`,
    code: '0f 30',
    exit: exits.wrmsr(index, 0x1122_3344_5566_7788n),
    registers: exits.wrmsr(index, 0x1122_3344_5566_7788n).registers!,
  })),
  ...[0x1b, 0x6e0, 0x802, 0xc000_0082, 0x8000_0000].map((index) => ({
    title: `RDMSR ${index.toString(16)}`,
    code: '0f 32',
    exit: exits.rdmsr(index),
    registers: exits.rdmsr(index).registers!,
  })),
];

const PORT: GeneralRegisters = { RDX: 0x3f8n, RSI: GUEST.DATA, RDI: GUEST.DATA, RCX: 3n };

/** Port input and output. */
export const PORTS: readonly ExitCase[] = [
  { title: 'OUT DX, AL', code: 'ee', exit: exits.out(0x3f8), registers: PORT },
  {
    title: 'OUT DX, AX',
    code: '66 ef',
    exit: { ...exits.out(0x3f8, 2), instructionLength: 2 },
    registers: PORT,
  },
  { title: 'OUT DX, EAX', code: 'ef', exit: exits.out(0x3f8, 4), registers: PORT },
  { title: 'OUT imm8, AL', code: 'e6 80', exit: io(0x0080_0040n, 2) },
  { title: 'IN AL, DX', code: 'ec', exit: io(0x03f8_0008n, 1), registers: PORT },
  { title: 'IN EAX, imm8', code: 'e5 71', exit: io(0x0071_004bn, 2) },
  {
    title: 'OUTSB',
    code: '6e',
    exit: { ...io(0x03f8_0010n, 1), guestLinearAddress: GUEST.DATA },
    registers: PORT,
  },
  {
    title: 'REP INSW',
    code: 'f3 66 6d',
    exit: { ...io(0x03f8_0039n, 3), guestLinearAddress: GUEST.DATA },
    registers: PORT,
  },
];

const MASK_ALL = 0xffff_ffff_ffff_ffffn;

/** Accesses to control and debug registers. */
export const CONTROL_REGISTERS: readonly ExitCase[] = [
  {
    title: 'MOV CR0, RAX changes a bit that the host owns',
    code: '0f 22 c0',
    exit: cr(0x000n),
    registers: { RAX: 0x8005_003bn },
    fields: { CR0_GUEST_HOST_MASK: MASK_ALL, CR0_READ_SHADOW: 0x8005_0033n },
  },
  {
    title: 'MOV CR4, RBX changes a bit that the host owns',
    code: '0f 22 e3',
    exit: cr(0x304n),
    registers: { RBX: 0x6e0n },
    fields: { CR4_GUEST_HOST_MASK: 0x2000n, CR4_READ_SHADOW: 0x2000n },
  },
  {
    title: 'CLTS with a host-owned TS that the shadow sets',
    code: '0f 06',
    exit: cr(0x20n, 2),
    fields: { CR0_GUEST_HOST_MASK: 8n, CR0_READ_SHADOW: 8n },
  },
  {
    title: 'LMSW AX with host-owned bits',
    code: '0f 01 f0',
    exit: cr(0x0009_0030n),
    registers: { RAX: 9n },
    fields: { CR0_GUEST_HOST_MASK: MASK_ALL, CR0_READ_SHADOW: 0x8005_0033n },
  },
  {
    title: 'LMSW from memory with host-owned bits',
    code: '0f 01 37',
    exit: { ...cr(0x70n), guestLinearAddress: GUEST.DATA + 0x100n },
    registers: { RDI: GUEST.DATA + 0x100n },
    fields: { CR0_GUEST_HOST_MASK: MASK_ALL, CR0_READ_SHADOW: 0x8005_0033n },
  },
  {
    title: 'MOV CR3, R9',
    code: '41 0f 22 d9',
    exit: cr(0x903n, 4),
    registers: { R9: GUEST.PML4 },
    controls: primary(PRIMARY.CR3_LOAD_EXITING),
  },
  {
    title: 'MOV RCX, CR3',
    code: '0f 20 d9',
    exit: cr(0x113n),
    controls: primary(PRIMARY.CR3_STORE_EXITING),
  },
  {
    title: 'MOV CR8, RAX',
    code: '44 0f 22 c0',
    exit: cr(0x008n, 4),
    registers: { RAX: 3n },
    controls: primary(PRIMARY.CR8_LOAD_EXITING),
  },
  {
    title: 'MOV RDX, CR8',
    code: '44 0f 20 c2',
    exit: cr(0x218n, 4),
    controls: primary(PRIMARY.CR8_STORE_EXITING),
  },
  ...[
    ['MOV DR7, RAX', '0f 23 f8', 0x007n],
    ['MOV RBX, DR6', '0f 21 f3', 0x316n],
    ['MOV DR0, R10', '41 0f 23 c2', 0xa00n],
  ].map(([title, code, qualification]): ExitCase => ({
    title: title as string,
    code: code as string,
    exit: instruction('EXIT_REASON_DR_ACCESS', (code as string).split(' ').length, {
      qualification: qualification as bigint,
    }),
    registers: { RAX: 0x400n },
    controls: primary(PRIMARY.MOV_DR_EXITING),
  })),
];
