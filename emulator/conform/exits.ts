/**
 * VM exits that guest code makes for real, on the second machine, and what the model delivers for the same exit.
 *
 * Source: SDM, "VM Exits"; the model's side is model-exit.ts.
 * Invariant: a field that the architecture leaves undefined (poison in the model) is not compared; every other one is,
 * with the guest state, the host state and the general registers.
 */
import { hex, toIndex, u64 } from '../../abi/uint.js';
import { INTERRUPTIBILITY } from '../../abi/interruption.js';
import type { FieldName } from '../../abi/vmcs-fields.js';
import { PIN } from '../../abi/vmx-controls.js';
import { X2APIC } from '../../abi/x2apic.js';
import { GENERAL_REGISTERS } from '../cpu/registers.js';
import type { VmxCapabilities } from '../vmx/capabilities.js';
import type { Answer, HostRegister } from './answers.js';
import type { CaseDifference, CaseResult } from './case-result.js';
import { CET_STATE_CASES } from './cet-state-cases.js';
import { EPT_STRUCTURE_CASES } from './ept-structure-cases.js';
import { EVENT_CASES } from './event-cases.js';
import { descriptionOf, type ExitCase } from './exit-case.js';
import { INSTRUCTION_CASES } from './exit-cases.js';
import { GUEST, layOutGuest } from './guest-area.js';
import { knownExitDifference } from './known-exit-differences.js';
import { EXIT_FIELDS, exitInModel } from './model-exit.js';
import { PRIORITY_CASES } from './priority-cases.js';
import { ANSWERS, MonitorProgram } from './program.js';
import type { SecondMachine } from './second-machine.js';

const FIELDS: readonly FieldName[] = [...EXIT_FIELDS, 'VMX_PREEMPTION_TIMER_VALUE'];

/** Where the model keeps what the monitor answers of the host. */
// prettier-ignore
const HOST_MSR: Readonly<Partial<Record<HostRegister, number>>> = {
  SYSENTER_CS: 0x174, SYSENTER_ESP: 0x175, SYSENTER_EIP: 0x176, PAT: 0x277, S_CET: 0x6a2, INTR_SSP_TABLE: 0x6a8,
};
const HOST_REGISTER = [
  ...(['CR0', 'CR3', 'CR4', 'DR7', 'CS', 'SS', 'DS', 'ES', 'FS', 'GS', 'TR', 'LDTR'] as const),
  ...([
    'GDTR_BASE',
    'GDTR_LIMIT',
    'IDTR_BASE',
    'IDTR_LIMIT',
    'EFER',
    'FS_BASE',
    'GS_BASE',
  ] as const),
];

/** A case on both machines, and how many values were compared of it. */
export interface ExitResult extends CaseResult {
  readonly compared: number;
}

/** Every case that a payload may be behind, instructions before events. */
export const EXIT_CASES: readonly ExitCase[] = [...INSTRUCTION_CASES, ...EVENT_CASES];
/** Every case that is compared. */
export const COMPARED_CASES: readonly ExitCase[] = [
  ...EXIT_CASES,
  ...PRIORITY_CASES,
  ...CET_STATE_CASES,
  ...EPT_STRUCTURE_CASES,
];

/** Pages of ones and of zeroes as MSR bitmaps. */
const INTERCEPT_ALL = 0x1_0000n;
const INTERCEPT_NONE = 0x1_7000n;

const HLT = 0xf4;
const NMI_TO_ITSELF = 0x4400n;
const UNDER_NMI_BLOCKING = {
  fields: { GUEST_INTERRUPTIBILITY_INFO: BigInt(INTERRUPTIBILITY.NMI) },
  without: { PIN_BASED_VM_EXEC_CONTROL: PIN.VIRTUAL_NMIS },
};

const INVEPT_ALL = 2n;
const SENDER_PAUSES = 10_000;

/** Lets the guests of all cases exit on both machines. */
export function compareExits(machine: SecondMachine, cases = COMPARED_CASES): ExitResult[] {
  const { capabilities } = machine;
  const together = cases.filter(({ isolated }) => isolated === undefined);
  const alone = cases.filter(({ isolated }) => isolated === true);
  return [together, ...alone.map((one) => [one])].flatMap((group) =>
    compareGroup(machine, capabilities, group),
  );
}

function compareGroup(
  machine: SecondMachine,
  capabilities: VmxCapabilities,
  cases: readonly ExitCase[],
): ExitResult[] {
  const answers = machine.runCases(
    cases.length,
    FIELDS,
    (program, index) => {
      const one = cases[index]!;
      for (const [msr, value] of one.msrs ?? []) program.wrmsr(msr, value);
      for (const [address, value] of one.memory ?? []) program.values(address, value);
      if (one.accesses !== undefined) program.vmx('INVEPT', INVEPT_ALL);
      if (one.sent !== undefined) program.startOther(sender(one.sent));
      if (one.nmiPending === true) {
        // A guest under blocking by NMI leaves it behind in root operation.
        program
          .fill(GUEST.CODE, 1, HLT)
          .region()
          .vmwrite(descriptionOf(capabilities, UNDER_NMI_BLOCKING))
          .enter('launch')
          .wrmsr(X2APIC.ICR, NMI_TO_ITSELF);
      }
      program
        .fill(GUEST.CODE, 64, 0x90)
        .memory(GUEST.CODE, bytesOf(one.code))
        .region()
        .vmwrite(descriptionOf(capabilities, one))
        .registers(registersOf(one))
        .enter('launch', ANSWERS.registers | ANSWERS.host);
      if (one.dump !== undefined) program.dump(one.dump.address, one.dump.length);
      if (one.blocksNmi !== undefined) program.probeNmi();
    },
    (program) => {
      program.fill(INTERCEPT_ALL, 4096, 0xff).fill(INTERCEPT_NONE, 4096, 0);
      layOutGuest(program);
    },
    cases.some(({ sent }) => sent !== undefined) ? 2 : 1,
  );
  return cases.map((one, index) => {
    const { answers: given, stopped } = answers[index]!;
    return compareCase(capabilities, one, given, stopped);
  });
}

/** A second processor that waits until the guest surely runs, and sends it something. */
function sender(icr: bigint): MonitorProgram {
  return new MonitorProgram().delay(SENDER_PAUSES).send(icr);
}

/** The bytes of a case's code. */
export function bytesOf(code: string): Uint8Array {
  return Uint8Array.from(Buffer.from(code.replaceAll(' ', ''), 'hex'));
}

/** Values that no case sets itself, so that a lost register shows. */
export function registersOf(
  one: Pick<ExitCase, 'registers'>,
): Readonly<Record<(typeof GENERAL_REGISTERS)[number], bigint>> {
  const values = GENERAL_REGISTERS.map((name, i) => [name, BigInt(i) * 0x0101n] as const);
  return {
    ...(Object.fromEntries(values) as Record<(typeof GENERAL_REGISTERS)[number], bigint>),
    RBX: 0n,
    ...one.registers,
  };
}

function compareCase(
  capabilities: VmxCapabilities,
  one: ExitCase,
  answers: readonly Answer[],
  stopped: string | null,
): ExitResult {
  const differences: CaseDifference[] = [];
  let compared = 0;
  const entry = answers.findLast((answer) => answer.kind === 'entry')?.entry;
  if (stopped !== null || entry?.kind !== 'exit') {
    const second = stopped ?? `${entry?.kind ?? 'no answer'} ${entry?.error ?? ''}`;
    return {
      title: one.title,
      compared: 1,
      differences: [{ what: 'exit', model: 'exit', second, known: null }],
    };
  }
  const exited = exitInModel(capabilities, one);
  if (exited.kind === 'otherwise') {
    const { what, model, wanted } = exited;
    return {
      title: one.title,
      compared: 1,
      differences: [{ what, model, second: wanted, known: null }],
    };
  }
  const { pcpu, expected, dumped } = exited;
  const reason = toIndex(expected.get('VM_EXIT_REASON') ?? 0n);
  const interruptionInfo = toIndex(expected.get('VM_EXIT_INTR_INFO') ?? 0n);
  const compare = (what: string, model: bigint, second: bigint | undefined): void => {
    compared++;
    if (model === second) return;
    const known =
      second === undefined
        ? null
        : knownExitDifference({
            what,
            model,
            second,
            title: one.title,
            reason,
            interruptionInfo,
          });
    const text = second === undefined ? 'none' : hex(second);
    differences.push({ what, model: hex(model), second: text, known });
  };
  for (const [name, value] of expected) {
    const mask = one.defined?.[name] ?? u64(-1n);
    compare(name, value & mask, (entry.fields.get(name) ?? 0n) & mask);
  }
  const registers = answers.find((answer) => answer.kind === 'registers')!.values;
  const before = { ...registersOf(one), ...one.registersAfter };
  GENERAL_REGISTERS.forEach((name, i) => compare(name, before[name], registers[i]));
  compare('RFLAGS at HOST_RIP', pcpu.registers.get('RFLAGS'), registers[GENERAL_REGISTERS.length]);
  const host = answers.find((answer) => answer.kind === 'host')!.values;
  for (const name of HOST_REGISTER)
    compare(`host ${name}`, pcpu.registers.get(name), host.get(name));
  for (const [name, index] of Object.entries(HOST_MSR) as [HostRegister, number][]) {
    compare(`host ${name}`, pcpu.msrs.read(index) ?? 0n, host.get(name));
  }
  const dump = answers.find((answer) => answer.kind === 'memory');
  if (dump !== undefined && one.dump !== undefined) {
    const words = new BigUint64Array(dump.bytes.slice().buffer);
    words.forEach((word, i) => {
      const address = one.dump!.address + BigInt(8 * i);
      compare(`memory ${hex(address)}`, dumped.readU64(address), word);
    });
  }
  const probe = answers.find((answer) => answer.kind === 'nmi');
  if (probe !== undefined) {
    compare('NMIs before IRET', pcpu.blocking.nmi ? 0n : 1n, BigInt(probe.before));
    compare('NMIs after IRET', pcpu.blocking.nmi ? 1n : 0n, BigInt(probe.after));
  }
  return { title: one.title, compared, differences };
}
