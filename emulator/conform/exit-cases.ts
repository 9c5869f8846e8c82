/**
 * Guest code that exits for real, and what the SDM says hardware reports of it.
 *
 * Source: SDM, "Instructions That Cause VM Exits ...", "Exit Qualification for ...", "VM-Exit Instruction Length",
 * "VM-Exit Instruction-Information Field". Where emulator/guest has a function for the exit, it is taken from there:
 * these are the exits that the machine gives a payload.
 * Invariant: `exit` leaves out what the architecture leaves undefined, and then it is not compared.
 */
import { EXIT_REASON } from '../../abi/exit-reasons.js';
import type { FieldName } from '../../abi/vmcs-fields.js';
import { PRIMARY, SECONDARY } from '../../abi/vmx-controls.js';
import * as exits from '../guest/exits.js';
import type { VmExit } from '../vmx/vm-exit.js';
import type { VmcsDescription } from '../vmx/description.js';
import { FLAT_32_BIT, GUEST, GUEST_SELECTOR } from './guest-area.js';
import type { GeneralRegisters } from './program.js';

/** One exit to provoke. */
export interface ExitCase {
  readonly title: string;
  /** The guest's code as hexadecimal bytes. */
  readonly code: string;
  readonly exit: VmExit;
  readonly registers?: GeneralRegisters;
  /** Fields of the VMCS besides; controls to add are in `controls`. */
  readonly fields?: VmcsDescription;
  /** Control bits to set. */
  readonly controls?: Readonly<Partial<Record<FieldName, number>>>;
  /** Control bits to clear. */
  readonly without?: Readonly<Partial<Record<FieldName, number>>>;
  /** How far GUEST_RIP is from the start of the code at the exit; default 0. */
  readonly rip?: number;
  /** Guest-state fields that differ at the exit from what VM entry loaded. */
  readonly after?: VmcsDescription;
  /** General registers that differ at the exit. */
  readonly registersAfter?: GeneralRegisters;
  /** MSRs to write on the host before entry. */
  readonly msrs?: readonly (readonly [index: number, value: bigint])[];
  /** The exit leaves NMIs blocked, which is tried on the host. */
  readonly blocksNmi?: boolean;
  /** Bits of a field that the architecture defines here; the others are not compared. */
  readonly defined?: VmcsDescription;
  /** It leaves something pending or blocked, so that it gets a boot of its own. */
  readonly isolated?: true;
}

const R = EXIT_REASON;

function instruction(
  name: keyof typeof EXIT_REASON,
  length: number,
  rest: Partial<VmExit> = {},
): VmExit {
  return { basic: R[name], qualification: 0n, instructionLength: length, ...rest };
}
const primary = (...bits: number[]) => ({
  CPU_BASED_VM_EXEC_CONTROL: bits.reduce((all, bit) => all | bit, 0),
});
const secondary = (...bits: number[]) => ({
  SECONDARY_VM_EXEC_CONTROL: bits.reduce((all, bit) => all | bit, 0),
});
const io = (qualification: bigint, length: number): VmExit =>
  instruction('EXIT_REASON_IO_INSTRUCTION', length, { qualification });
const cr = (qualification: bigint, length = 3): VmExit =>
  instruction('EXIT_REASON_CR_ACCESS', length, { qualification });
const X2APIC_ICR = 0x830;
const CODE_RDX_RAX: GeneralRegisters = { RDX: 0xd000_0000_0000_0000n, RAX: 0xa000n };

/** WRMSR and RDMSR of registers that the bitmap intercepts. */
const MSRS: readonly ExitCase[] = [
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
const PORTS: readonly ExitCase[] = [
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
const CONTROL_REGISTERS: readonly ExitCase[] = [
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

/** What RDRAND's and RDSEED's instruction information defines: operand register and size. */
const REGISTER_AND_SIZE: VmcsDescription = { VMX_INSTRUCTION_INFO: 0x1878n };

/** Instructions that exit always or by a control of their own. */
const INSTRUCTIONS: readonly ExitCase[] = [
  {
    title: 'CPUID',
    code: '0f a2',
    exit: exits.cpuid(0xb, 1),
    registers: exits.cpuid(0xb, 1).registers!,
  },
  { title: 'CPUID behind a prefix', code: '48 0f a2', exit: instruction('EXIT_REASON_CPUID', 3) },
  {
    title: 'CPUID after other instructions',
    code: '90 48 ff c3 0f a2',
    exit: exits.cpuid(0),
    rip: 4,
    registersAfter: { RBX: 1n },
  },
  { title: 'HLT', code: 'f4', exit: exits.hlt() },
  {
    title: 'HLT with interrupts on',
    code: 'f4',
    exit: exits.hlt(),
    fields: { GUEST_RFLAGS: 0x202n },
  },
  {
    title: 'HLT in the shadow of STI',
    code: 'fb f4',
    exit: exits.hlt(),
    rip: 1,
    after: { GUEST_RFLAGS: 0x202n, GUEST_INTERRUPTIBILITY_INFO: 1n },
  },
  { title: 'VMCALL', code: '0f 01 c1', exit: exits.vmcall() },
  {
    title: 'XSETBV',
    code: '0f 01 d1',
    exit: exits.xsetbv(1n),
    registers: exits.xsetbv(1n).registers!,
  },
  { title: 'INVD', code: '0f 08', exit: instruction('EXIT_REASON_INVD', 2) },
  { title: 'PAUSE', code: 'f3 90', exit: exits.pause(), controls: primary(PRIMARY.PAUSE_EXITING) },
  { title: 'RDTSC', code: '0f 31', exit: exits.rdtsc(), controls: primary(PRIMARY.RDTSC_EXITING) },
  {
    title: 'RDTSCP',
    code: '0f 01 f9',
    exit: instruction('EXIT_REASON_RDTSCP', 3),
    controls: primary(PRIMARY.RDTSC_EXITING),
  },
  {
    title: 'RDPMC',
    code: '0f 33',
    exit: instruction('EXIT_REASON_RDPMC', 2),
    controls: primary(PRIMARY.RDPMC_EXITING),
  },
  {
    title: 'INVLPG [RDI]',
    code: '0f 01 3f',
    exit: instruction('EXIT_REASON_INVLPG', 3, { qualification: 0x1234_5000n }),
    registers: { RDI: 0x1234_5000n },
    controls: primary(PRIMARY.INVLPG_EXITING),
  },
  {
    title: 'MONITOR',
    code: '0f 01 c8',
    exit: instruction('EXIT_REASON_MONITOR_INSTRUCTION', 3),
    registers: { RAX: GUEST.DATA },
    controls: primary(PRIMARY.MONITOR_EXITING),
  },
  {
    title: 'MWAIT',
    code: '0f 01 c9',
    exit: instruction('EXIT_REASON_MWAIT_INSTRUCTION', 3),
    controls: primary(PRIMARY.MWAIT_EXITING),
  },
  {
    title: 'WBINVD',
    code: '0f 09',
    exit: instruction('EXIT_REASON_WBINVD', 2),
    controls: secondary(SECONDARY.WBINVD_EXITING),
  },
  {
    title: 'RDRAND RBX',
    code: '48 0f c7 f3',
    exit: instruction('EXIT_REASON_RDRAND', 4, { instructionInfo: 0x1018 }),
    controls: secondary(SECONDARY.RDRAND_EXITING),
    defined: REGISTER_AND_SIZE,
  },
  {
    title: 'RDSEED R9D',
    code: '41 0f c7 f9',
    exit: instruction('EXIT_REASON_RDSEED', 4, { instructionInfo: 0x0848 }),
    controls: secondary(SECONDARY.RDSEED_EXITING),
    defined: REGISTER_AND_SIZE,
  },
  ...[
    ['SGDT [RDI]', '0f 01 07', 0n],
    ['SIDT [RDI]', '0f 01 0f', 0n],
    ['LGDT [RDI]', '0f 01 17', 0n],
    ['LIDT [RDI + 8]', '0f 01 5f 08', 8n],
  ].map(([title, code, displacement]): ExitCase => ({
    title: title as string,
    code: code as string,
    exit: instruction('EXIT_REASON_GDTR_IDTR', (code as string).split(' ').length, {
      qualification: displacement as bigint,
    }),
    registers: { RDI: GUEST.DATA },
    controls: secondary(SECONDARY.DESC_EXITING),
  })),
  ...[
    ['SLDT EAX', '0f 00 c0'],
    ['STR RCX', '48 0f 00 c9'],
    ['LLDT AX', '0f 00 d0'],
    ['LTR AX', '0f 00 d8'],
  ].map(([title, code]): ExitCase => ({
    title: title!,
    code: code!,
    exit: instruction('EXIT_REASON_LDTR_TR', code!.split(' ').length),
    registers: { RAX: BigInt(GUEST_SELECTOR.TR) },
    controls: secondary(SECONDARY.DESC_EXITING),
  })),
  ...[
    ['VMLAUNCH', '0f 01 c2', 'EXIT_REASON_VMLAUNCH'],
    ['VMRESUME', '0f 01 c3', 'EXIT_REASON_VMRESUME'],
    ['VMXOFF', '0f 01 c4', 'EXIT_REASON_VMOFF'],
    ['VMREAD RBX, RAX', '0f 78 c3', 'EXIT_REASON_VMREAD'],
    ['VMWRITE RAX, RBX', '0f 79 c3', 'EXIT_REASON_VMWRITE'],
    ['VMPTRLD [RDI]', '0f c7 37', 'EXIT_REASON_VMPTRLD'],
    ['VMPTRST [RDI]', '0f c7 3f', 'EXIT_REASON_VMPTRST'],
    ['VMCLEAR [RDI]', '66 0f c7 37', 'EXIT_REASON_VMCLEAR'],
    ['VMXON [RDI]', 'f3 0f c7 37', 'EXIT_REASON_VMON'],
    ['INVEPT RAX, [RDI]', '66 0f 38 80 07', 'EXIT_REASON_INVEPT'],
    ['INVVPID RAX, [RDI]', '66 0f 38 81 07', 'EXIT_REASON_INVVPID'],
  ].map(([title, code, name]): ExitCase => ({
    title: title!,
    code: code!,
    exit: instruction(name as keyof typeof EXIT_REASON, code!.split(' ').length),
    registers: { RDI: GUEST.DATA },
  })),
  {
    title: 'INVPCID RAX, [RDI]',
    code: '66 0f 38 82 07',
    exit: instruction('EXIT_REASON_INVPCID', 5),
    registers: { RDI: GUEST.DATA },
    controls: primary(PRIMARY.INVLPG_EXITING),
  },
  ...[
    ['jumps', 'ea 00 00 00 00 30 00', 2n, 7],
    ['calls', '9a 00 00 00 00 30 00', 0n, 7],
  ].map(([verb, code, source, length]): ExitCase => ({
    title: `a 32-bit guest ${verb as string} to a task`,
    code: code as string,
    exit: instruction('EXIT_REASON_TASK_SWITCH', length as number, {
      qualification: ((source as bigint) << 30n) | BigInt(GUEST_SELECTOR.TASK),
    }),
    fields: { ...FLAT_32_BIT },
    controls: secondary(SECONDARY.UNRESTRICTED_GUEST),
    without: { VM_ENTRY_CONTROLS: 0x200 },
  })),
];

const LINEAR_VALID = 0x180n;
/** RFLAGS as a fault saves it: RF is set so that the instruction can be tried again. */
const RESUMED: VmcsDescription = { GUEST_RFLAGS: 0x1_0002n };

/** Translations that fail. */
const EPT: readonly ExitCase[] = [
  {
    title: 'a store to a page without EPT translation',
    code: '88 07',
    exit: exits.eptViolation(GUEST.HOLE + 0x123n, GUEST.HOLE + 0x123n, 'write'),
    registers: { RDI: GUEST.HOLE + 0x123n },
    after: RESUMED,
  },
  {
    title: 'a load from a page without EPT translation',
    code: '8a 07',
    exit: exits.eptViolation(GUEST.HOLE, GUEST.HOLE, 'read'),
    registers: { RDI: GUEST.HOLE },
    after: RESUMED,
  },
  {
    title: 'a fetch from a page without EPT translation',
    code: 'ff e7',
    exit: exits.eptViolation(GUEST.HOLE + 5n, GUEST.HOLE + 5n, 'fetch'),
    registers: { RDI: GUEST.HOLE + 5n },
    after: { ...RESUMED, GUEST_RIP: GUEST.HOLE + 5n },
  },
  {
    title: 'a locked read-modify-write without EPT translation is a write',
    code: 'f0 ff 07',
    exit: { ...exits.eptViolation(GUEST.HOLE, GUEST.HOLE), qualification: 3n | LINEAR_VALID },
    // Whether bit 0 is set too is up to the processor.
    defined: { EXIT_QUALIFICATION: ~1n },
    registers: { RDI: GUEST.HOLE },
    after: RESUMED,
  },
  {
    title: 'a store to a misconfigured page',
    code: '88 07',
    // The length is KVM's wish, not the architecture's.
    exit: {
      basic: R.EXIT_REASON_EPT_MISCONFIG,
      guestPhysicalAddress: exits.doorbell(GUEST.MISCONFIGURED).guestPhysicalAddress!,
    },
    registers: { RDI: GUEST.MISCONFIGURED },
    after: RESUMED,
  },
  ...[
    ['a load from', '8a 07', 0n, 0x20n],
    ['a store to', '88 07', 1n, 0x300n],
  ].map(([verb, code, type, offset]): ExitCase => ({
    title: `${verb as string} the APIC-access page`,
    code: code as string,
    exit: {
      basic: R.EXIT_REASON_APIC_ACCESS,
      qualification: ((type as bigint) << 12n) | (offset as bigint),
    },
    registers: { RDI: GUEST.APIC_ACCESS + (offset as bigint) },
    after: RESUMED,
    fields: { APIC_ACCESS_ADDR: GUEST.APIC_ACCESS },
    controls: secondary(SECONDARY.VIRTUALIZE_APIC_ACCESSES),
  })),
];

/** Every case of an instruction or a translation. */
export const INSTRUCTION_CASES: readonly ExitCase[] = [
  ...INSTRUCTIONS,
  ...MSRS,
  ...PORTS,
  ...CONTROL_REGISTERS,
  ...EPT,
  { title: 'registers survive a HLT', code: 'f4', exit: exits.hlt(), registers: CODE_RDX_RAX },
];
