/** Changing the stopped machine: registers, memory, VMCS fields, MSRs; what comes from outside. */
import { didYouMean } from '../../../../abi/did-you-mean.js';
import { EXIT_REASON, printExitReason } from '../../../../abi/exit-reasons.js';
import { hex, low32, toIndex } from '../../../../abi/uint.js';
import { VMCS_FIELDS, type FieldName } from '../../../../abi/vmcs-fields.js';
import { REG, type RegisterName } from '../../../cpu/registers.js';
import * as exits from '../../../guest/exits.js';
import type { GuestExit } from '../../../guest/guest.js';
import { exitReasonNamed } from '../../events.js';
import { editOf, parseAssignment } from '../../source/expression/assign.js';
import { sessionEdits } from '../../source/session-edit.js';
import { bad, nothing, type ReplCommand } from '../command.js';
import type { Repl } from '../repl.js';

const INJECTED = ['exit', 'nmi', 'mce', 'interrupt'];

/** Makes an exit of at most so many values. */
interface ExitMaker {
  readonly most: number;
  readonly make: (values: readonly bigint[]) => GuestExit;
}

/** Exits that an instruction with operands makes, by reason. */
const BY_INSTRUCTION: Readonly<Record<string, ExitMaker>> = {
  CPUID: { most: 2, make: ([leaf = 0n, subleaf = 0n]) => exits.cpuid(low32(leaf), low32(subleaf)) },
  HLT: { most: 0, make: () => exits.hlt() },
  PAUSE_INSTRUCTION: { most: 0, make: () => exits.pause() },
  RDTSC: { most: 0, make: () => exits.rdtsc() },
  MSR_READ: { most: 1, make: ([index = 0n]) => exits.rdmsr(low32(index)) },
  MSR_WRITE: { most: 2, make: ([index = 0n, value = 0n]) => exits.wrmsr(low32(index), value) },
  VMCALL: { most: 0, make: () => exits.vmcall() },
  XSETBV: { most: 1, make: ([value = 7n]) => exits.xsetbv(value) },
  EPT_MISCONFIG: { most: 1, make: ([gpa = 0n]) => exits.doorbell(gpa) },
};

/** Any other exit, by what the VMCS says of it. */
const byFields = (basic: number): ExitMaker => ({
  most: 3,
  make: ([qualification = 0n, gpa, gva]) => ({
    basic,
    qualification,
    ...(gpa === undefined ? {} : { guestPhysicalAddress: gpa }),
    ...(gva === undefined ? {} : { guestLinearAddress: gva }),
  }),
});

/** `exit REASON [QUALIFICATION...] [NAME=VALUE...]`. */
function exitOf(repl: Repl, words: readonly string[]): GuestExit {
  const [name] = words;
  if (name === undefined) bad('the reason is missing, for instance: inject exit CPUID 0x15');
  const basic = exitReasonNamed(name);
  const printed = printExitReason(basic);
  const plain = words.slice(1).filter((word) => !word.includes('='));
  const { most, make } = BY_INSTRUCTION[printed] ?? byFields(basic);
  if (plain.length > most)
    bad(
      `${printed} takes ${most === 0 ? 'no value' : `at most ${most}`}, and there is "${plain[most]!}"`,
    );
  const exit = make(plain.map((word) => repl.number(word)));
  const registers: Partial<Record<RegisterName, bigint>> = { ...exit.registers };
  const fields: Partial<Record<FieldName, bigint>> = {};
  for (const word of words.slice(1)) {
    const [, left, right] = /^([^=]+)=(.*)$/.exec(word) ?? [];
    if (left === undefined || right === undefined) continue;
    const upper = left.toUpperCase().replace(/^\$/, '');
    const value = repl.number(right);
    if (upper in REG && REG[upper as RegisterName] < 16) registers[upper as RegisterName] = value;
    else if (VMCS_FIELDS.some((field) => field.name === upper && field.type === 'guest'))
      fields[upper as FieldName] = value;
    else bad(`"${left}" is no general register and no guest field of the VMCS`);
  }
  return {
    ...exit,
    ...(Object.keys(registers).length === 0 ? {} : { registers }),
    ...(Object.keys(fields).length === 0 ? {} : { fields }),
  };
}

function inject(repl: Repl, words: readonly string[]): void {
  const [what = '', ...rest] = words;
  const vcpu = repl.session.lane.id;
  const where = `vCPU ${vcpu}`;
  switch (what) {
    case 'exit': {
      const exit = exitOf(repl, rest);
      repl.session.edit({ kind: 'exit', vcpu, exit });
      repl.print(`the guest of ${where} exits with ${printExitReason(exit.basic)} next`);
      return;
    }
    case 'nmi':
    case 'mce':
      if (rest.length > 0) bad(`nothing is expected behind ${what}`);
      repl.session.edit({ kind: what, vcpu });
      repl.print(
        `${what === 'nmi' ? 'an NMI' : 'a machine check'} is pending at the core of ${where}`,
      );
      return;
    case 'interrupt': {
      if (rest.length === 0) bad('the vector is missing, for instance: inject interrupt 0x41');
      const vector = repl.number(rest.join(' '));
      if (vector < 16n || vector > 255n) bad(`vectors are 16 to 255, not ${vector}`);
      repl.session.edit({ kind: 'interrupt', vcpu, vector: toIndex(vector) });
      repl.print(`interrupt ${vector} is requested at the core of ${where}`);
      return;
    }
    default:
      bad(`what to inject: ${INJECTED.join(', ')}${didYouMean(what, INJECTED)}`);
  }
}

/** Commands that change the machine. */
export const CHANGING: readonly ReplCommand[] = [
  {
    name: 'set',
    group: 'changing',
    usage: 'PLACE = VALUE',
    summary: 'a register, memory, a VMCS field or an MSR gets a value',
    example: 'set $rax = 0x10',
    run: (repl, { text }) => {
      const assignment = text.replace(/^var(iable)?\s+/, '');
      const [, place, value] = /^(\S+)\s+([^=\s].*)$/.exec(assignment) ?? [];
      const isAssigned = /(?<![=!<>])=(?!=)/.test(assignment);
      const edit =
        !isAssigned && place !== undefined && value !== undefined
          ? editOf(place, value, repl.scope)
          : parseAssignment(assignment, repl.scope);
      for (const one of sessionEdits(repl.core, edit)) repl.session.edit(one);
    },
  },
  {
    name: 'inject',
    group: 'changing',
    usage:
      'exit REASON [QUALIFICATION [GUEST_PHYSICAL [GUEST_LINEAR]]] [REGISTER=VALUE...] | nmi | mce | interrupt VECTOR',
    summary: 'what the guest does next, or what comes from outside at the core',
    example: 'inject exit CPUID 0x15',
    complete: (_repl, words) =>
      words[0] === 'exit'
        ? Object.values(EXIT_REASON).map((basic) => printExitReason(basic))
        : INJECTED,
    run: (repl, { words }) => {
      inject(repl, words);
    },
  },
  {
    name: 'flip',
    group: 'changing',
    usage: 'attached | detached',
    summary: "writes KVM's flag in the control block of this vCPU",
    example: 'flip detached',
    complete: () => ['attached', 'detached'],
    run: (repl, { text }) => {
      if (text === '') bad('flip takes what the flag becomes: attached or detached');
      if (text !== 'attached' && text !== 'detached') bad(`attached or detached, not "${text}"`);
      const vcpu = repl.session.lane.id;
      repl.session.edit({ kind: 'flip', vcpu, to: text });
      repl.print(`vCPU ${vcpu}: KVM_${text.toUpperCase()}`);
    },
  },
  {
    name: 'edits',
    group: 'changing',
    usage: '',
    summary: 'what was changed, and where',
    example: 'edits',
    run: (repl, args) => {
      nothing(args);
      const { tape, log } = repl.session;
      if (tape.entries.length === 0) repl.print('nothing was changed');
      for (const { time, edit } of tape.entries) {
        const { exit, instruction } = log.positionAt(time);
        const { kind, ...rest } = edit;
        const details = Object.entries(rest).map(([name, value]) => `${name} ${shown(value)}`);
        repl.print(`${exit}:${instruction} ${kind} ${details.join(', ')}`);
      }
    },
  },
];

function shown(value: unknown): string {
  if (typeof value === 'bigint') return hex(value);
  return typeof value === 'object'
    ? JSON.stringify(value, (_key, one: unknown) => (typeof one === 'bigint' ? `${one}` : one))
    : `${value as string | number}`;
}
