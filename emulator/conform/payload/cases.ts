/**
 * What the guest does while a payload is its exit handler, and what KVM does in between.
 *
 * Source: CONTRACT ("What the payload handles"); the exits are those of exit-cases.ts and event-cases.ts.
 * Happy path: KVM writes the VMCS and enters; the guest exits; what the payload answers goes on to the next exit, the last
 * of which is a VMCALL that the payload routes.
 * Invariant: `steps` says for each exit what hardware reports; it does not say what the payload makes of it.
 */
import { EXIT_REASON } from '../../../abi/exit-reasons.js';
import { hex, u64 } from '../../../abi/uint.js';
import { X2APIC } from '../../../abi/x2apic.js';
import { GENERAL_REGISTERS } from '../../cpu/registers.js';
import * as exits from '../../guest/exits.js';
import type { GuestExit } from '../../guest/guest.js';
import type { VmcsDescription } from '../../vmx/description.js';
import type { VmExit } from '../../vmx/vm-exit.js';
import { EXIT_CASES, bytesOf } from '../exits.js';
import type { ExitCase } from '../exit-case.js';
import type { GeneralRegisters } from '../program.js';

/** Behind the start of the guest's code: what every gate of its IDT leads to. */
export const HANDLER_OFFSET = 0x800;
const VMCALL = '0f 01 c1';

/** One exit of the guest. */
export interface GuestStep {
  readonly exit: VmExit;
  /** How far GUEST_RIP is from the start of the guest's code. */
  readonly rip: number;
  /** Guest-state fields that the guest changed since VM entry. */
  readonly after?: VmcsDescription;
  /** General registers that it changed. */
  readonly registers?: GeneralRegisters;
  /** Registers with the guest's own time: their values come from the second machine. */
  readonly taken?: readonly (keyof GeneralRegisters)[];
  /** The vector that the exit acknowledged at the local APIC; it does not come while another one in service holds it back. */
  readonly acknowledged?: number;
  /** It comes only where the payload entered with a preemption timer of 0, which is for it to decide. */
  readonly whenTimerIsZero?: true;
}

/** How KVM enters the guest: itself, or through the payload's run entry. */
export type EntryWay = 'run' | 'resume' | 'launch';

/** One stay of the guest between two times that KVM has it. */
export interface PayloadCase {
  readonly title: string;
  /** The guest's code as hexadecimal bytes; a VMCALL is put behind it. */
  readonly code: string;
  /** The code that the guest's IDT leads to; a VMCALL is put behind it. */
  readonly handler?: string;
  readonly steps: readonly GuestStep[];
  /** Exits in the handler, before its VMCALL. */
  readonly handlerSteps?: readonly GuestStep[];
  readonly registers?: GeneralRegisters;
  readonly fields?: VmcsDescription;
  readonly controls?: NonNullable<ExitCase['controls']>;
  readonly without?: NonNullable<ExitCase['without']>;
  /** KVM's request in the CCB; default none. */
  readonly request?: number;
  /** KVM_ATTACHED; default yes. */
  readonly isAttached?: boolean;
  /** The payload's state in which it waits for KVM_ATTACHED; default spinning. */
  readonly waitsAs?: number;
  /** A vector that another vCPU has posted. */
  readonly posted?: number;
  /** The VMCS was cleared, so it is made current and described anew. */
  readonly isFresh?: boolean;
  /** What KVM does for the processor when it has the vCPU again. */
  readonly afterwards?: 'eoi' | 'iret';
  /** Default: run and resume in turn. */
  readonly way?: EntryWay;
  readonly msrs?: NonNullable<ExitCase['msrs']>;
}

/** A case whose guest goes on after what it has done. */
function goesOn({ code, exit, fields, isolated, blocksNmi, defined, memory }: ExitCase): boolean {
  const spins = code.includes('eb fe');
  const sleeps = exit.basic === EXIT_REASON.EXIT_REASON_HLT || fields?.GUEST_ACTIVITY_STATE === 1n;
  // The payload sets the timer itself, and cases of its own make it expire.
  const isTimer = exit.basic === EXIT_REASON.EXIT_REASON_PREEMPTION_TIMER;
  // A payload copies the qualification, undefined bits and all.
  const isVague = defined?.EXIT_QUALIFICATION !== undefined;
  return (
    !spins &&
    !sleeps &&
    !isTimer &&
    !isVague &&
    isolated === undefined &&
    blocksNmi === undefined &&
    memory === undefined
  );
}

/** An exit whose instruction information is undefined in part: none of it is compared. */
function withoutInfo(exit: VmExit): VmExit {
  const rest: { -readonly [name in keyof VmExit]: VmExit[name] } = { ...exit };
  delete rest.instructionInfo;
  return rest;
}

/** Windows that KVM asked for; in its run entry the payload asks for its own. */
const WINDOWS: ReadonlySet<number> = new Set([
  EXIT_REASON.EXIT_REASON_INTERRUPT_WINDOW,
  EXIT_REASON.EXIT_REASON_NMI_WINDOW,
]);

/** The exits that are compared alone, with the payload behind them. */
const SINGLE: readonly PayloadCase[] = EXIT_CASES.filter(goesOn).map((one) => ({
  ...one,
  ...(WINDOWS.has(one.exit.basic) ? { way: 'resume' as const } : {}),
  steps: [
    {
      exit: one.defined?.VMX_INSTRUCTION_INFO === undefined ? one.exit : withoutInfo(one.exit),
      rip: one.rip ?? 0,
      ...(one.after === undefined ? {} : { after: one.after }),
      ...(one.registersAfter === undefined ? {} : { registers: one.registersAfter }),
    },
  ],
}));

/** MOVs of values to the first four registers, as hexadecimal bytes. */
export function moves(registers: GeneralRegisters): string {
  return Object.entries(registers)
    .map(([name, value]) => {
      const number = ['RAX', 'RCX', 'RDX', 'RBX'].indexOf(name);
      const bytes = new Uint8Array(BigUint64Array.of(value).buffer);
      return `48 ${hex(0xb8 + number).slice(2)} ${Buffer.from(bytes).toString('hex')} `;
    })
    .join('');
}

/** Assembles MOVs of what each exit takes, and the instruction that exits. */
export function sequence(
  title: string,
  instructions: readonly { readonly code: string; readonly exit: GuestExit }[],
): PayloadCase {
  let code = '';
  const steps = instructions.map(({ code: instruction, exit }): GuestStep => {
    const registers = exit.registers as GeneralRegisters | undefined;
    code += moves(registers ?? {});
    const rip = bytesOf(code).length;
    code += `${instruction} `;
    return { exit, rip, ...(registers === undefined ? {} : { registers }) };
  });
  return { title, code, steps };
}

const CPUID = '0f a2';
const WRMSR = '0f 30';
const RDMSR = '0f 32';
const TSC_DEADLINE = 0x6e0;
/** A deadline that no run reaches. */
const NEVER = 0x7fff_ffff_0000_0000n;

/** Several exits of one guest each. */
export const SEQUENCES: readonly PayloadCase[] = [
  sequence(
    'CPUID leaf by leaf',
    [0, 1, 2, 4, 7, 0xb, 0xd, 0x15, 0x4000_0000, 0x8000_0000, 0x8000_0008, 0x1234_5678]
      .map((leaf) => exits.cpuid(leaf))
      .concat(exits.cpuid(0xd, 1))
      .map((exit) => ({ code: CPUID, exit })),
  ),
  sequence('TSC deadline and the x2APIC', [
    ...(
      [
        [TSC_DEADLINE, NEVER],
        [X2APIC.TPR, 0x20n],
        [X2APIC.SELF_IPI, 0x31n],
        [X2APIC.SELF_IPI, 0xd1n],
        [X2APIC.EOI, 0n],
        [X2APIC.TPR, 0n],
        [TSC_DEADLINE, 0n],
      ] as const
    ).map(([index, value]) => ({ code: WRMSR, exit: exits.wrmsr(index, value) })),
    ...[X2APIC.TPR, X2APIC.IRR0 + 1, X2APIC.IRR0 + 6, X2APIC.ISR0, X2APIC.PPR, TSC_DEADLINE].map(
      (index) => ({ code: RDMSR, exit: exits.rdmsr(index) }),
    ),
    { code: WRMSR, exit: exits.wrmsr(X2APIC.TPR, 0x30n) },
    { code: WRMSR, exit: exits.wrmsr(X2APIC.EOI, 0n) },
  ]),
];

const ICR_FIXED = 0x4000n;
const ICR_NMI = 0x4400n;
const ICR_INIT = 0x4500n;
const ICR_LOGICAL = 0x800n;
const ICR_OTHERS = 0xc_0000n;
const ICR_ALL = 0x8_0000n;
const TO_SECOND = 1n << 32n;
const LOGICALLY_SECOND = 2n << 32n;

const icr = (value: bigint) => ({ code: WRMSR, exit: exits.wrmsr(X2APIC.ICR, value) });

/** Two vCPUs: what the payload leaves in the other one's soft state, and kicks. */
export const IPIS: readonly PayloadCase[] = [
  sequence('IPIs to another vCPU, to itself, to all and to nobody', [
    icr(TO_SECOND | ICR_FIXED | 0x71n),
    icr(LOGICALLY_SECOND | ICR_LOGICAL | ICR_FIXED | 0x72n),
    icr(ICR_OTHERS | ICR_FIXED | 0x73n),
    icr(ICR_ALL | ICR_FIXED | 0x74n),
    icr((7n << 32n) | ICR_FIXED | 0x75n),
    icr(ICR_FIXED | 0x76n),
    icr(TO_SECOND | ICR_NMI),
    icr(TO_SECOND | ICR_FIXED | 0x71n),
  ]),
  sequence('an INIT to another vCPU is KVM’s', [icr(TO_SECOND | ICR_INIT)]),
];

/** The exit that ends a case. */
export function lastStep(code: string, from = 0): GuestStep {
  return { exit: exits.vmcall(), rip: from + bytesOf(code).length };
}

/** Code with the VMCALL behind it. */
export function ended(code: string): Uint8Array {
  return bytesOf(`${code} ${VMCALL}`);
}

/** The general registers that KVM enters a case with. */
export function entryRegisters(one: PayloadCase): GeneralRegisters {
  const values = GENERAL_REGISTERS.map((name, i) => [name, u64(i * 0x0101)] as const);
  return { ...(Object.fromEntries(values) as GeneralRegisters), RBX: 0n, ...one.registers };
}

/** Every case without an event from outside. */
export const INSTRUCTIONS: readonly PayloadCase[] = [...SEQUENCES, ...SINGLE];
