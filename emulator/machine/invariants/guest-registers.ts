/**
 * guest-registers: a handled exit changes no general register but the outputs that its instruction declares.
 *
 * Source: DESIGN ("Invariants"); SDM, instruction reference, for each instruction's outputs.
 * Invariant: a routed exit finds every register in the save area, unchanged.
 */
import { CARETAKER_CCB, CARETAKER_REGISTER_ORDER } from '../../../abi/ccb.js';
import { EXIT_REASON } from '../../../abi/exit-reasons.js';
import { offsetsOf } from '../../../abi/layout.js';
import { hex } from '../../../abi/uint.js';
import { REG, type RegisterName } from '../../cpu/registers.js';
import { wrongCpuidOutput } from './cpuid-outputs.js';
import { GENERAL_WORDS } from '../exit-record.js';
import type { Lane } from '../lane.js';
import { rowOf, type Ledger } from '../ledger.js';
import { valuesAreTheGuests } from './answers.js';
import type { Invariant } from './invariant.js';

const ROW = rowOf('guest-registers');

const CCB = offsetsOf<'registers' | 'registers_valid'>(CARETAKER_CCB);

/** Bit n: register n is an output of the reason's instruction. */
const OUTPUTS = new Uint16Array(128);
const outputs = (reason: number, ...names: RegisterName[]): void => {
  for (const name of names) OUTPUTS[reason]! |= 1 << REG[name];
};
outputs(EXIT_REASON.EXIT_REASON_CPUID, 'RAX', 'RBX', 'RCX', 'RDX');
outputs(EXIT_REASON.EXIT_REASON_MSR_READ, 'RAX', 'RDX');
outputs(EXIT_REASON.EXIT_REASON_RDTSC, 'RAX', 'RDX');
outputs(EXIT_REASON.EXIT_REASON_RDTSCP, 'RAX', 'RCX', 'RDX');

/** Every output of these instructions is a 32-bit register, whose upper half the write clears. */
function outputsAreNarrow(lane: Lane, ledger: Ledger, outputs: number): void {
  if (lane.injectsFault()) return;
  const { words } = lane.pcpu.registers;
  for (let register = 0; register < 16; register++) {
    if ((outputs & (1 << register)) === 0 || words[2 * register + 1] === 0) continue;
    const name = REGISTER_NAMES[register] as RegisterName;
    ledger.fail(
      'guest-registers',
      lane.rip,
      `${lane.describeExit()}: ${name} is ${hex(lane.pcpu.registers.get(name))} at VM entry, its upper half should be 0`,
    );
  }
}

function outputsAreKvms(lane: Lane, ledger: Ledger): void {
  if (lane.injectsFault()) return;
  const wrong = wrongCpuidOutput(lane);
  if (wrong === null) return;
  const { register, wanted } = wrong;
  ledger.fail(
    'guest-registers',
    lane.rip,
    `${lane.describeExit()}: CPUID leaf ${lane.registerAtExit('RAX')}.${lane.registerAtExit('RCX')} gave ` +
      `${register} ${hex(lane.pcpu.registers.get(register))}, should be ${hex(wanted)}`,
  );
}

const RSP_BIT = 1 << REG.RSP;
/** Register numbers in the order of the save area. */
const SAVE_ORDER = CARETAKER_REGISTER_ORDER.map((name) => REG[name]);
const REGISTER_NAMES = Object.keys(REG);

export const guestRegisters: Invariant = {
  id: 'guest-registers',
  holdsWhen:
    'after a handled exit every guest register holds its value except the outputs the exit declares',
  holdsForRun: true,

  atResume(lane: Lane, ledger: Ledger): void {
    if (lane.exit.outcome !== 'fastpath') return;
    ledger.count(ROW);
    const before = lane.exit.registers;
    const after = lane.pcpu.registers.words;
    const free = OUTPUTS[lane.exit.basic & 127]! | RSP_BIT;
    for (let word = 0; word < GENERAL_WORDS; word++) {
      if (before[word] !== after[word] && (free & (1 << (word >> 1))) === 0) {
        const name = REGISTER_NAMES[word >> 1] as RegisterName;
        ledger.fail(
          'guest-registers',
          lane.rip,
          `${lane.describeExit()}: ${name} is ${hex(lane.pcpu.registers.get(name))} at VM entry, ` +
            `was ${lane.registerAtExit(name)}`,
        );
        return;
      }
    }
    const outputs = OUTPUTS[lane.exit.basic & 127]!;
    if (outputs !== 0) outputsAreNarrow(lane, ledger, outputs);
    if (lane.exit.basic === EXIT_REASON.EXIT_REASON_CPUID) outputsAreKvms(lane, ledger);
    valuesAreTheGuests(lane, ledger);
  },

  atRoute(lane: Lane, ledger: Ledger): void {
    savedAsTheyWere(lane, ledger, 0, 'routed');
  },

  atStop(lane: Lane, ledger: Ledger): void {
    const isAnswered = lane.exit.outcome === 'fastpath';
    savedAsTheyWere(lane, ledger, isAnswered ? OUTPUTS[lane.exit.basic & 127]! : 0, 'stopped');
  },
};

/** The save area has every register as it was at the exit, but for the outputs of an answer. */
function savedAsTheyWere(lane: Lane, ledger: Ledger, outputs: number, how: string): void {
  ledger.count(ROW);
  const save = (lane.ccb + CCB.registers) >>> 2;
  const { words } = lane.memory;
  if (words[(lane.ccb + CCB.registers_valid) >>> 2] !== 1) {
    ledger.fail(
      'guest-registers',
      lane.rip,
      `${lane.describeExit()}: ${how} with registers_valid not 1`,
    );
  }
  SAVE_ORDER.forEach((register, index) => {
    if ((outputs & (1 << register)) !== 0) return;
    const low = words[save + 2 * index];
    const high = words[save + 2 * index + 1];
    if (low === lane.exit.registers[2 * register] && high === lane.exit.registers[2 * register + 1])
      return;
    const name = REGISTER_NAMES[register] as RegisterName;
    ledger.fail(
      'guest-registers',
      lane.rip,
      `${lane.describeExit()}: ${how} with ${name} in the save area not ${lane.registerAtExit(name)}`,
    );
  });
}
