/**
 * Guest code that exits for real, and what the SDM says hardware reports of it.
 *
 * Source: SDM, "Instructions That Cause VM Exits ...", "VM-Exit Instruction Length",
 * "VM-Exit Instruction-Information Field". Where emulator/guest has a function for the exit, it is taken from there:
 * these are the exits that the machine gives a payload.
 * Invariant: that of exit-case.ts.
 */
import type { EXIT_REASON } from '../../abi/exit-reasons.js';
import { PRIMARY, SECONDARY } from '../../abi/vmx-controls.js';
import * as exits from '../guest/exits.js';
import type { VmcsDescription } from '../vmx/description.js';
import { instruction, primary, secondary, type ExitCase } from './exit-case.js';
import { FLAT_32_BIT, GUEST, GUEST_SELECTOR } from './guest-area.js';
import type { GeneralRegisters } from './program.js';
import { CONTROL_REGISTERS, MSRS, PORTS } from './register-exit-cases.js';
import { EPT } from './translation-exit-cases.js';

const CODE_RDX_RAX: GeneralRegisters = { RDX: 0xd000_0000_0000_0000n, RAX: 0xa000n };

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

/** Every case of an instruction or a translation. */
export const INSTRUCTION_CASES: readonly ExitCase[] = [
  ...INSTRUCTIONS,
  ...MSRS,
  ...PORTS,
  ...CONTROL_REGISTERS,
  ...EPT,
  { title: 'registers survive a HLT', code: 'f4', exit: exits.hlt(), registers: CODE_RDX_RAX },
];
