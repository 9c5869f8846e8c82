/**
 * Guest code that exits for real, and what the SDM says hardware reports of it.
 *
 * Source: SDM, "Instructions That Cause VM Exits ...", "VM-Exit Instruction Length",
 * "VM-Exit Instruction-Information Field". Where emulator/guest has a function for the exit, it is taken from there:
 * these are the exits that the machine gives a payload.
 * Invariant: that of exit-case.ts.
 */
import type { EXIT_REASON } from '../../abi/exit-reasons.js';
import { MSR } from '../../abi/msrs.js';
import { u64 } from '../../abi/uint.js';
import { ENTRY_CONTROL, EXIT_CONTROL, PRIMARY, SECONDARY } from '../../abi/vmx-controls.js';
import * as exits from '../guest/exits.js';
import { VALID_VMCS_PAGES, type VmcsDescription } from '../vmx/description.js';
import { VIRTUAL_APIC_CASES } from './apic-exit-cases.js';
import { instruction, primary, secondary, type ExitCase } from './exit-case.js';
import { FLAT_32_BIT, GUEST, GUEST_SELECTOR } from './guest-area.js';
import { LAYOUT } from './layout.js';
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

const LOADED_BY_ENTRY = VALID_VMCS_PAGES.spare;
const STORED_BY_EXIT = VALID_VMCS_PAGES.otherSpare;
const LOADED_BY_EXIT = VALID_VMCS_PAGES.otherSpare + 0x100n;

/** Entries of 16 bytes: the index, then the value. */
function msrList(
  address: bigint,
  ...entries: readonly (readonly [index: number, value: bigint])[]
): (readonly [bigint, bigint])[] {
  return entries.flatMap(([index, value], i) => [
    [address + BigInt(16 * i), u64(index)],
    [address + BigInt(16 * i + 8), value],
  ]);
}

/** Every case of an instruction or a translation. */
export const INSTRUCTION_CASES: readonly ExitCase[] = [
  ...INSTRUCTIONS,
  ...MSRS,
  ...PORTS,
  ...CONTROL_REGISTERS,
  ...EPT,
  ...VIRTUAL_APIC_CASES,
  {
    title: 'the host has no LDT where the guest has one',
    code: 'f4',
    exit: exits.hlt(),
    fields: { GUEST_LDTR_SELECTOR: 0x58n, GUEST_LDTR_AR_BYTES: 0x82n, GUEST_LDTR_LIMIT: 0xffn },
  },
  {
    title: 'the host has its own PAT, and the guest’s is saved',
    code: 'f4',
    exit: exits.hlt(),
    fields: { GUEST_IA32_PAT: 0x0606_0606_0606_0606n },
  },
  {
    title: 'the host has its own EFER, and the guest’s is saved',
    code: 'f4',
    exit: exits.hlt(),
    fields: { GUEST_IA32_EFER: 0x500n },
  },
  {
    title: 'an exit that does not load IA32_EFER sets LMA and LME and keeps the guest’s other bits',
    code: 'f4',
    exit: exits.hlt(),
    fields: { GUEST_IA32_EFER: 0x501n },
    without: { VM_EXIT_CONTROLS: EXIT_CONTROL.LOAD_IA32_EFER },
  },
  {
    title: 'an exit of a guest outside IA-32e mode that does not load IA32_EFER sets LMA and LME',
    code: 'f4',
    exit: exits.hlt(),
    fields: { ...FLAT_32_BIT, GUEST_IA32_EFER: 0x1n },
    controls: secondary(SECONDARY.UNRESTRICTED_GUEST),
    without: {
      VM_ENTRY_CONTROLS: ENTRY_CONTROL.IA32E_MODE,
      VM_EXIT_CONTROLS: EXIT_CONTROL.LOAD_IA32_EFER,
    },
  },
  {
    title: 'an exit that does not load IA32_PAT keeps the guest’s',
    code: 'f4',
    exit: exits.hlt(),
    fields: { GUEST_IA32_PAT: 0x0606_0606_0606_0606n },
    without: { VM_EXIT_CONTROLS: EXIT_CONTROL.LOAD_IA32_PAT },
  },
  {
    title: 'MSRs are loaded by the entry, stored and loaded by the exit',
    code: 'f4',
    exit: exits.hlt(),
    fields: {
      VM_ENTRY_MSR_LOAD_ADDR: LOADED_BY_ENTRY,
      VM_ENTRY_MSR_LOAD_COUNT: 2n,
      VM_EXIT_MSR_STORE_ADDR: STORED_BY_EXIT,
      VM_EXIT_MSR_STORE_COUNT: 2n,
      VM_EXIT_MSR_LOAD_ADDR: LOADED_BY_EXIT,
      VM_EXIT_MSR_LOAD_COUNT: 1n,
    },
    memory: [
      ...msrList(LOADED_BY_ENTRY, [MSR.IA32_KERNEL_GS_BASE, 0x1111n], [MSR.IA32_LSTAR, 0x2222n]),
      ...msrList(STORED_BY_EXIT, [MSR.IA32_LSTAR, 0n], [MSR.IA32_KERNEL_GS_BASE, 0n]),
      ...msrList(LOADED_BY_EXIT, [MSR.IA32_SYSENTER_CS, 0x4444n]),
    ],
    dump: { address: STORED_BY_EXIT, length: 32 },
  },
  {
    title: 'the host’s CR3 and CR4 are loaded with a PCID',
    code: 'f4',
    exit: exits.hlt(),
    fields: { HOST_CR3: LAYOUT.HOST_CR3 | 5n, HOST_CR4: 0x0007_2660n },
  },
  { title: 'registers survive a HLT', code: 'f4', exit: exits.hlt(), registers: CODE_RDX_RAX },
];
