/**
 * ownership: each CCB field is written only by its owner, and the payload's state moves only as it may.
 *
 * Source: CONTRACT ("CCB"); abi/ccb.ts says who writes which byte.
 * Invariant: every store of the payload into a byte that is not its own is logged by the engine, also one that is
 * written back.
 */
import { CARETAKER_CCB } from '../../../abi/ccb.js';
import { toIndex, hex } from '../../../abi/uint.js';
import type { Lane } from '../lane.js';
import { rowOf, type Ledger } from '../ledger.js';
import type { Invariant } from './invariant.js';

const ROW = rowOf('ownership');

export const ownership: Invariant = {
  id: 'ownership',
  holdsWhen: 'each CCB field and state transition is written only by its owner',
  atResume: check,
  atRoute: check,
  atBlock: check,
};

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
