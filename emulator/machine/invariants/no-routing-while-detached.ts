/**
 * no-routing-while-detached: a jump to KVM follows a read of KVM_ATTACHED in the same exit, uses the routing pointers of
 * that epoch, and reads them after the flag.
 *
 * Source: CONTRACT ("Who flips, and when", "Entry points").
 * Invariant: judged by the reads of KVM's page that the engine logged since the exit, in program order.
 */
import { CARETAKER_ATTACH_STATE, CARETAKER_CCB, CARETAKER_NO_EXIT } from '../../../abi/ccb.js';
import { offsetsOf } from '../../../abi/layout.js';
import { hex, toIndex } from '../../../abi/uint.js';
import type { Lane } from '../lane.js';
import { rowOf, type Ledger } from '../ledger.js';
import type { Invariant } from './invariant.js';

type Name =
  | 'attach_state'
  | 'routing_handler'
  | 'routing_stack'
  | 'routing_cr3'
  | 'routing_gs_base'
  | 'routing_argument'
  | 'reserved_routing';
const AT = offsetsOf<Name>(CARETAKER_CCB);
const ID = 'no-routing-while-detached';
const ROW = rowOf(ID);

export const noRoutingWhileDetached: Invariant = {
  id: ID,
  holdsWhen:
    'a jump to a routing pointer follows an acquire read of KVM_ATTACHED in the same exit and uses pointers of that epoch',

  atRoute: judge,
  atHandOver: judge,
};

function judge(lane: Lane, ledger: Ledger): void {
  ledger.count(ROW);
  const fail = (message: string): void =>
    ledger.fail(ID, lane.rip, `${lane.describeExit()}: ${message}`);
  const { words } = lane.memory;
  if (words[(lane.ccb + AT.attach_state) >>> 2] !== CARETAKER_ATTACH_STATE.KVM_ATTACHED) {
    fail('jumped to KVM while KVM_DETACHED');
    return;
  }
  const handler = lane.kvmPageValue(AT.routing_handler);
  if (lane.pcpu.registers.get('RIP') !== handler) {
    fail(
      `jumped to ${hex(lane.pcpu.registers.get('RIP'))}, the handler of this epoch is ${hex(handler)}`,
    );
  }
  let flagSeen = false;
  let pointerBeforeFlag = false;
  for (const access of lane.readsOfKvmPage()) {
    const offset = toIndex(access.address) - lane.ccb;
    if (offset === AT.attach_state)
      flagSeen ||= access.value === BigInt(CARETAKER_ATTACH_STATE.KVM_ATTACHED);
    else if (offset >= AT.routing_handler && offset < AT.reserved_routing && !flagSeen)
      pointerBeforeFlag = true;
  }
  if (!flagSeen) fail('jumped to KVM without having read KVM_ATTACHED in this exit');
  else if (pointerBeforeFlag)
    fail('a routing pointer was loaded before the flag was seen as KVM_ATTACHED');
  contextIsKvms(lane, ledger);
}

/** What the routing entry promises: RSP, CR3, GS base, RDI, RSI, IF = DF = 0, and in RDX the exit's word or no exit. */
function contextIsKvms(lane: Lane, ledger: Ledger): void {
  const { registers } = lane.pcpu;
  const expected: [string, bigint, bigint][] = [
    ['RSP', registers.get('RSP'), lane.kvmPageValue(AT.routing_stack)],
    ['CR3', registers.get('CR3'), lane.kvmPageValue(AT.routing_cr3)],
    ['GS base', registers.get('GS_BASE'), lane.kvmPageValue(AT.routing_gs_base)],
    ['RDI', registers.get('RDI'), lane.kvmPageValue(AT.routing_argument)],
    ['RSI', registers.get('RSI'), BigInt(lane.ccb)],
    ['RFLAGS.IF and DF', registers.get('RFLAGS') & 0x600n, 0n],
  ];
  const word = registers.get('RDX');
  if (word !== BigInt(CARETAKER_NO_EXIT))
    expected.push(['RDX', word, BigInt(lane.exit.reasonWord)]);
  for (const [name, actual, wanted] of expected) {
    if (actual !== wanted) {
      ledger.fail(
        name === 'RSP' ? 'stack' : ID,
        lane.rip,
        `${lane.describeExit()}: routed with ${name} ${hex(actual)}, not ${hex(wanted)}`,
      );
    }
  }
}
