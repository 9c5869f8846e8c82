/**
 * telemetry: the payload's counters equal the ground truth by reason and outcome; the last exit, a stall and what parked
 * the core have their records, to each field.
 *
 * Source: the RFC, "Gap Observability and Telemetry"; CONTRACT ("Outcome of an exit").
 * Invariant: counters move by one at an exit's first outcome, and only those of that reason; the whole table is
 * compared when the run ends.
 */
import {
  CARETAKER_CONFIG,
  CARETAKER_INTERRUPT_DELIVERY,
  CARETAKER_IRQ_ROUTE,
  CARETAKER_IRQ_ROUTE_MAX,
} from '../../../abi/config.js';
import { INTR_INFO } from '../../../abi/interruption.js';
import { offsetsOf } from '../../../abi/layout.js';
import { PI_DESC, PI_NV_SHIFT } from '../../../abi/posted-interrupt.js';
import { CARETAKER_SOFT_STATE } from '../../../abi/soft-state.js';
import { hex, toIndex } from '../../../abi/uint.js';
import {
  CARETAKER_STALL,
  CARETAKER_STALL_RING,
  CARETAKER_TELEMETRY,
  CARETAKER_TELEMETRY_REASONS,
} from '../../../abi/telemetry.js';
import { EXIT_REASON, printExitReason } from '../../../abi/exit-reasons.js';
import { AT_EXIT, type Outcome, type SavedField } from '../exit-record.js';
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
  | 'stall_tsc'
  | 'stray_interrupts'
  | 'last_exit_reason'
  | 'last_qualification'
  | 'last_rip'
  | 'last_tsc';
const AT = offsetsOf<Name>(CARETAKER_TELEMETRY);
const STALL = offsetsOf<'exit_reason' | 'qualification' | 'rip' | 'tsc_entry' | 'tsc_release'>(
  CARETAKER_STALL,
);
const CONFIG = offsetsOf<
  'notification_vector' | 'interrupt_delivery' | 'irq_route_count' | 'irq_route'
>(CARETAKER_CONFIG);
/** The control word of the posted-interrupt descriptor. */
const DESCRIPTOR =
  offsetsOf<'pi_desc'>(CARETAKER_SOFT_STATE).pi_desc + offsetsOf<'control'>(PI_DESC).control;
const NV_SHIFT = toIndex(PI_NV_SHIFT);
const COUNTERS_BYTES = 24;

/** A counter as the payload keeps it; 2^53 exits are out of reach. */
const counter = (lane: Lane, offset: number): number => {
  const at = (lane.telemetry + offset) >>> 2;
  return lane.memory.words[at]! + lane.memory.words[at + 1]! * 0x1_0000_0000;
};

/** Whether 64 bits of telemetry are a field of the VMCS at the exit. */
const holds = (lane: Lane, offset: number, field: SavedField): boolean => {
  const at = (lane.telemetry + offset) >>> 2;
  return (
    lane.memory.words[at] === lane.exit.low(field) &&
    lane.memory.words[at + 1] === lane.exit.high(field)
  );
};

const reasonOffset = (basic: number, outcome: Outcome): number => {
  const row = basic < CARETAKER_TELEMETRY_REASONS ? AT.reason + basic * COUNTERS_BYTES : AT.other;
  return row + OUTCOMES.indexOf(outcome) * 8;
};

export const telemetry: Invariant = {
  id: 'telemetry',
  holdsWhen:
    'counters equal the ground truth per reason and outcome, and each blocking exit has its record or is counted as dropped',

  atExit(lane: Lane): void {
    if (lane.exit.basic === EXIT_REASON.EXIT_REASON_EXTERNAL_INTERRUPT)
      lane.counted.stray_interrupts = counter(lane, AT.stray_interrupts);
  },

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
    const waited = truth.stalls.reduce((sum, each) => sum + each.tscRelease - each.tscEntry, 0);
    const total = counter(lane, AT.stall_tsc);
    const isNear = Math.abs(total - waited) <= truth.stalls.length * lane.stallTolerance;
    say('stall_tsc', total, isNear ? total : waited);
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
    const what = `${printExitReason(exit.basic)} ${exit.outcome}`;
    fail(lane, ledger, `counter ${what} is ${actual}, should be ${expected}`);
  }
  lastExitRecorded(lane, ledger);
  if (exit.outcome === 'blocked') stallRecorded(lane, ledger);
  if (exit.basic === EXIT_REASON.EXIT_REASON_EXTERNAL_INTERRUPT) strayCounted(lane, ledger);
}

/** What was the last exit is written down before anything is decided, and so before any wait. */
function lastExitRecorded(lane: Lane, ledger: Ledger): void {
  const { exit } = lane;
  if (lane.memory.words[(lane.telemetry + AT.last_exit_reason) >>> 2] !== exit.reasonWord)
    fail(lane, ledger, "last_exit_reason is another exit's");
  if (!holds(lane, AT.last_rip, AT_EXIT.GUEST_RIP))
    fail(lane, ledger, "last_rip is not the guest's RIP at the exit");
  if (!holds(lane, AT.last_qualification, AT_EXIT.EXIT_QUALIFICATION))
    fail(lane, ledger, "last_qualification is not the exit's");
  const tsc = counter(lane, AT.last_tsc);
  if (tsc < exit.tsc || tsc > lane.pcpu.now() - exit.stallTicks + lane.stallTolerance)
    fail(lane, ledger, `last_tsc is ${tsc}, the exit was at ${exit.tsc}`);
}

/** The newest record is this stall's; its time is the time waited, to one poll and the payload's own instructions. */
function stallRecorded(lane: Lane, ledger: Ledger): void {
  const { exit } = lane;
  const written = counter(lane, AT.stall_head);
  const unread = written - counter(lane, AT.stall_tail);
  if (unread > CARETAKER_STALL_RING) {
    const what = `${unread} in a ring of ${CARETAKER_STALL_RING}`;
    fail(lane, ledger, `the stall record overwrote one that nobody has read: ${what}`);
  }
  if (written === 0 || counter(lane, AT.stall_dropped) > 0) return;
  const record = AT.stall + ((written - 1) % CARETAKER_STALL_RING) * CARETAKER_STALL.sizeBytes;
  const entry = counter(lane, record + STALL.tsc_entry);
  const ticks = counter(lane, record + STALL.tsc_release) - entry;
  const reason = lane.memory.words[(lane.telemetry + record + STALL.exit_reason) >>> 2];
  ledger.expect(
    'telemetry',
    reason === exit.reasonWord && Math.abs(ticks - exit.stallTicks) <= lane.stallTolerance,
    lane.rip,
    () =>
      `${lane.describeExit()}: stall record says ${ticks} ticks, the core waited ${exit.stallTicks}`,
  );
  if (!holds(lane, record + STALL.rip, AT_EXIT.GUEST_RIP))
    fail(lane, ledger, "the stall record's RIP is not the guest's at the exit");
  if (!holds(lane, record + STALL.qualification, AT_EXIT.EXIT_QUALIFICATION))
    fail(lane, ledger, "the stall record's qualification is not the exit's");
  if (entry < exit.tsc || entry + ticks > lane.pcpu.now())
    fail(lane, ledger, `the stall record begins at ${entry}, the exit was at ${exit.tsc}`);
}

/** An interrupt that is no kick and has no route was wanted by nobody; a spurious one may have a device's vector. */
function strayCounted(lane: Lane, ledger: Ledger): void {
  const { exit } = lane;
  const moved = counter(lane, AT.stray_interrupts) - lane.counted.stray_interrupts;
  const info = exit.low(AT_EXIT.VM_EXIT_INTR_INFO);
  // What the payload's own IDT took in the meantime is counted there too.
  if (exit.outcome !== 'fastpath' || exit.interposed > 0 || (info & INTR_INFO.VALID) === 0) return;
  const vector = info & INTR_INFO.VECTOR_MASK;
  if (vector === lane.pcpu.apic.spuriousVector) return;
  const came = isWanted(lane, vector) ? 0 : 1;
  if (moved !== came) {
    const message = `stray_interrupts moved by ${moved}, vector ${hex(vector)} is ${came === 0 ? 'wanted' : 'not'}`;
    fail(lane, ledger, message);
  }
}

function isWanted(lane: Lane, vector: number): boolean {
  const word = (at: number): number => lane.memory.words[(lane.config + at) >>> 2]!;
  if (vector === word(CONFIG.notification_vector)) return true;
  const isProcessors = word(CONFIG.interrupt_delivery) === CARETAKER_INTERRUPT_DELIVERY.PROCESSOR;
  const control = lane.memory.words[(lane.softState + DESCRIPTOR) >>> 2]!;
  if (isProcessors && ((control >>> NV_SHIFT) & 0xff) === vector) return true;
  const routes = Math.min(word(CONFIG.irq_route_count), CARETAKER_IRQ_ROUTE_MAX);
  for (let route = 0; route < routes; route++)
    if ((word(CONFIG.irq_route + route * CARETAKER_IRQ_ROUTE.sizeBytes) & 0xff) === vector)
      return true;
  return false;
}

const fail = (lane: Lane, ledger: Ledger, message: string): void =>
  ledger.fail('telemetry', lane.rip, `${lane.describeExit()}: ${message}`);

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
