/**
 * telemetry: the payload's counters equal the ground truth by reason and outcome; a stall has a record, and so has what
 * parked the core.
 *
 * Source: the RFC, "Gap Observability and Telemetry"; CONTRACT ("Outcome of an exit").
 * Invariant: counters move by one at an exit's first outcome, and only those of that reason; the whole table is
 * compared when the run ends.
 */
import { offsetsOf } from '../../../abi/layout.js';
import { hex } from '../../../abi/uint.js';
import {
  CARETAKER_STALL,
  CARETAKER_STALL_RING,
  CARETAKER_TELEMETRY,
  CARETAKER_TELEMETRY_REASONS,
} from '../../../abi/telemetry.js';
import { printExitReason } from '../../../abi/exit-reasons.js';
import { AT_EXIT, type Outcome } from '../exit-record.js';
import { OUTCOMES } from '../ground-truth.js';
import type { Lane } from '../lane.js';
import { rowOf, type Ledger } from '../ledger.js';
import type { Invariant } from './invariant.js';

const ROW = rowOf('telemetry');

type Name =
  | 'total'
  | 'other'
  | 'entry_failures'
  | 'reason'
  | 'stall'
  | 'stall_head'
  | 'stall_tail'
  | 'stall_dropped'
  | 'last_exit_reason'
  | 'last_rip'
  | 'stall_tsc';
const AT = offsetsOf<Name>(CARETAKER_TELEMETRY);
const STALL = offsetsOf<'exit_reason' | 'rip' | 'tsc_entry' | 'tsc_release'>(CARETAKER_STALL);
const COUNTERS_BYTES = 24;

/** A counter as the payload keeps it; 2^53 exits are out of reach. */
const counter = (lane: Lane, offset: number): number => {
  const at = (lane.telemetry + offset) >>> 2;
  return lane.memory.words[at]! + lane.memory.words[at + 1]! * 0x1_0000_0000;
};

const reasonOffset = (basic: number, outcome: Outcome): number => {
  const row = basic < CARETAKER_TELEMETRY_REASONS ? AT.reason + basic * COUNTERS_BYTES : AT.other;
  return row + OUTCOMES.indexOf(outcome) * 8;
};

export const telemetry: Invariant = {
  id: 'telemetry',
  holdsWhen:
    'counters equal the ground truth per reason and outcome, and each blocking exit has its record or is counted as dropped',

  atResume: countersMoved,
  atRoute: countersMoved,
  atPark: parkRecorded,

  atEnd(lane: Lane, ledger: Ledger): void {
    const { truth } = lane;
    const say = (what: string, actual: number, expected: number): void => {
      ledger.count(ROW);
      if (actual === expected) return;
      const message = `vCPU ${lane.id}: ${what} is ${actual}, should be ${expected}`;
      ledger.fail('telemetry', BigInt(lane.telemetry), message);
    };
    // An exit in which the vCPU ended may have been counted by then.
    const open = lane.hasEnded && lane.exit.outcome === null ? lane.exit.basic : -1;
    for (let basic = 0; basic <= CARETAKER_TELEMETRY_REASONS; basic++) {
      for (const outcome of OUTCOMES) {
        ledger.count(ROW);
        const expected = truth.count(basic, outcome);
        const actual = counter(lane, reasonOffset(basic, outcome));
        if (actual === expected || (basic === open && actual === expected + 1)) continue;
        const what = `${printExitReason(basic)} ${outcome} is ${actual}, should be ${expected}`;
        ledger.fail('telemetry', BigInt(lane.telemetry), `vCPU ${lane.id}: ${what}`);
      }
    }
    OUTCOMES.forEach((outcome, index) => {
      const expected = truth.total(outcome);
      const actual = counter(lane, AT.total + 8 * index);
      const slack = open >= 0 && actual === expected + 1 ? 1 : 0;
      say(`total ${outcome}`, actual, expected + slack);
    });
    say('entry_failures', counter(lane, AT.entry_failures), truth.entryFailures);
    const stalls = counter(lane, AT.stall_head) + counter(lane, AT.stall_dropped);
    // A vCPU that still waits has not written its record yet.
    say('stall records written or dropped', stalls, truth.stalls.length);
  },
};

function countersMoved(lane: Lane, ledger: Ledger): void {
  const { exit } = lane;
  if (exit.outcome === null) return;
  ledger.count(ROW);
  if (exit.failedVmentry) return;
  const actual = counter(lane, reasonOffset(exit.basic, exit.outcome));
  const expected = lane.truth.count(exit.basic, exit.outcome);
  if (actual !== expected) {
    ledger.fail(
      'telemetry',
      lane.rip,
      `${lane.describeExit()}: counter ${printExitReason(exit.basic)} ${exit.outcome} is ${actual}, should be ${expected}`,
    );
  }
  if (lane.memory.words[(lane.telemetry + AT.last_exit_reason) >>> 2] !== exit.reasonWord) {
    ledger.fail(
      'telemetry',
      lane.rip,
      `${lane.describeExit()}: last_exit_reason is another exit's`,
    );
  }
  const rip = (lane.telemetry + AT.last_rip) >>> 2;
  if (
    lane.memory.words[rip] !== exit.low(AT_EXIT.GUEST_RIP) ||
    lane.memory.words[rip + 1] !== exit.high(AT_EXIT.GUEST_RIP)
  ) {
    ledger.fail(
      'telemetry',
      lane.rip,
      `${lane.describeExit()}: last_rip is not the guest's RIP at the exit`,
    );
  }
  if (exit.outcome === 'blocked') stallRecorded(lane, ledger);
}

/** The newest record is this stall's; its time is the time waited, to one poll and the payload's own instructions. */
function stallRecorded(lane: Lane, ledger: Ledger): void {
  const written = counter(lane, AT.stall_head);
  const unread = written - counter(lane, AT.stall_tail);
  if (unread > CARETAKER_STALL_RING) {
    ledger.fail(
      'telemetry',
      lane.rip,
      `${lane.describeExit()}: the stall record overwrote one that nobody has read: ${unread} in a ring of ${CARETAKER_STALL_RING}`,
    );
  }
  if (written === 0 || counter(lane, AT.stall_dropped) > 0) return;
  const record = AT.stall + ((written - 1) % CARETAKER_STALL_RING) * CARETAKER_STALL.sizeBytes;
  const { exit } = lane;
  const ticks = counter(lane, record + STALL.tsc_release) - counter(lane, record + STALL.tsc_entry);
  const reason = lane.memory.words[(lane.telemetry + record + STALL.exit_reason) >>> 2];
  ledger.expect(
    'telemetry',
    reason === exit.reasonWord && Math.abs(ticks - exit.stallTicks) <= lane.stallTolerance,
    lane.rip,
    () =>
      `${lane.describeExit()}: stall record says ${ticks} ticks, the core waited ${exit.stallTicks}`,
  );
}

/** The park record and the CCB say what ended the payload's work, to the address. */
function parkRecorded(lane: Lane, ledger: Ledger): void {
  const { fatal } = lane.exit;
  if (fatal.length === 0) return;
  const { telemetry: record, ccbView } = lane.vcpu;
  const fail = (message: string): void =>
    ledger.fail('telemetry', lane.rip, `${lane.describeExit()}: ${message}`);
  ledger.count(ROW);
  if (record.number('park_valid') !== 1) fail('parked without a record');
  const rip = record.get('park_rip');
  const cause = fatal.find((one) => one.rip === rip) ?? fatal.at(-1)!;
  const expected = [
    ['vector', BigInt(cause.vector)],
    ['error_code', BigInt(cause.errorCode)],
    ['rip', cause.rip],
    ['cr2', cause.cr2],
  ] as const;
  for (const [name, value] of expected) {
    const inRecord = record.get(`park_${name}`);
    const inCcb = ccbView.get(name);
    if (inRecord !== value)
      fail(`telemetry.park_${name} is ${hex(inRecord)}, should be ${hex(value)}`);
    if (inCcb !== value) fail(`ccb.${name} is ${hex(inCcb)}, should be ${hex(value)}`);
  }
}
