/**
 * ownership: each CCB field is written only by its owner, and the payload's state moves only as it may.
 *
 * Source: CONTRACT ("CCB"); abi/ccb.ts says who writes which byte.
 * Invariant: every store of the payload into a byte that is not its own is logged by the engine, also one that is
 * written back.
 */
import { CARETAKER_CCB, CARETAKER_RUN_STATE } from '../../../abi/ccb.js';
import { offsetsOf } from '../../../abi/layout.js';
import { toIndex, hex } from '../../../abi/uint.js';
import type { Lane } from '../lane.js';
import { rowOf, type Ledger } from '../ledger.js';
import type { Invariant } from './invariant.js';

const ROW = rowOf('ownership');
const CCB = offsetsOf<'state' | 'registers_valid'>(CARETAKER_CCB);
const { RUNNING, SPINNING, SERIALIZED } = CARETAKER_RUN_STATE;
const NAMES = Object.keys(CARETAKER_RUN_STATE);

export const ownership: Invariant = {
  id: 'ownership',
  holdsWhen: 'each CCB field and state transition is written only by its owner',
  holdsForRun: true,
  atResume(lane: Lane, ledger: Ledger): void {
    check(lane, ledger);
    stateIs(lane, ledger, RUNNING);
    if (wordOf(lane, CCB.registers_valid) === 0) return;
    say(
      lane,
      ledger,
      'ccb.registers_valid is set at VM entry, and the guest changes its registers',
    );
  },
  atRoute: handedOver,
  atHandOver(lane: Lane, ledger: Ledger): void {
    handedOver(lane, ledger);
  },
  atBlock(lane: Lane, ledger: Ledger): void {
    check(lane, ledger);
    // KVM may have come back before the first poll.
    stateIs(lane, ledger, SPINNING, lane.vcpu.isAttached ? RUNNING : SPINNING);
  },
  atStop(lane: Lane, ledger: Ledger): void {
    stateIs(lane, ledger, SERIALIZED);
  },
};

function handedOver(lane: Lane, ledger: Ledger): void {
  check(lane, ledger);
  stateIs(lane, ledger, RUNNING, SERIALIZED);
  if (wordOf(lane, CCB.registers_valid) !== 1)
    say(lane, ledger, 'ccb.registers_valid is not set, and KVM is to read the guest from there');
}

const wordOf = (lane: Lane, offset: number): number =>
  lane.memory.words[(lane.ccb + offset) >>> 2]!;

/** The payload's own state is one of those that it may have here. */
function stateIs(lane: Lane, ledger: Ledger, wanted: number, or = wanted): void {
  const state = wordOf(lane, CCB.state);
  if (state === wanted || state === or) return;
  say(lane, ledger, `ccb.state is ${NAMES[state] ?? state}, should be ${NAMES[wanted]!}`);
}

function say(lane: Lane, ledger: Ledger, what: string): void {
  ledger.fail('ownership', lane.rip, `${lane.describeExit()}: ${what}`);
}

function check(lane: Lane, ledger: Ledger): void {
  ledger.count(ROW);
  for (const store of lane.foreignStores()) {
    const offset = toIndex(store.address) - lane.ccb;
    const field = CARETAKER_CCB.fields.findLast((f) => f.offset <= offset);
    ledger.fail(
      'ownership',
      store.rip,
      `${lane.describeExit()}: the payload wrote ${hex(store.value)} to ccb.${field?.name ?? '?'} (${field?.writer ?? '?'}'s)`,
    );
  }
}
