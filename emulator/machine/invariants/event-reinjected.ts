/**
 * event-reinjected: an exit that interrupted the delivery of an event has that event delivered at the next VM entry.
 *
 * Source: SDM, "Information for VM Exits That Occur During Event Delivery"; CONTRACT ("What the payload handles").
 * Invariant: where the exit goes to KVM, soft state carries the event.
 */
import { offsetsOf } from '../../../abi/layout.js';
import { CARETAKER_SOFT_STATE } from '../../../abi/soft-state.js';
import { hex } from '../../../abi/uint.js';
import { VMCS_SLOT } from '../../../abi/vmcs-fields.js';
import { AT_EXIT } from '../exit-record.js';
import type { Lane } from '../lane.js';
import type { Ledger } from '../ledger.js';
import type { Invariant } from './invariant.js';

const AT = offsetsOf<'event_info' | 'event_error_code'>(CARETAKER_SOFT_STATE);
const DELIVER_CODE = 1 << 11;
/** Bit 12 is undefined in IDT-vectoring information and reserved in injection. */
const MEANINGFUL = ~(1 << 12);

const compare = (
  lane: Lane,
  ledger: Ledger,
  info: number,
  errorCode: number,
  where: string,
): void => {
  const wanted = lane.exit.low(AT_EXIT.IDT_VECTORING_INFO_FIELD) & MEANINGFUL;
  const codeMatters = (wanted & DELIVER_CODE) !== 0;
  const wantedCode = lane.exit.low(AT_EXIT.IDT_VECTORING_ERROR_CODE);
  ledger.expect(
    'event-reinjected',
    (info & MEANINGFUL) === wanted && (!codeMatters || errorCode === wantedCode),
    lane.rip,
    () =>
      `${lane.describeExit()}: event ${hex(wanted >>> 0)}${codeMatters ? ` (error code ${hex(wantedCode)})` : ''} ` +
      `was being delivered, ${where} has ${hex(info >>> 0)}${codeMatters ? ` (error code ${hex(errorCode)})` : ''}`,
  );
};

export const eventReinjected: Invariant = {
  id: 'event-reinjected',
  holdsWhen:
    'an exit with valid IDT-vectoring information has its event injected at the next entry',
  holdsForRun: true,

  atResume(lane: Lane, ledger: Ledger): void {
    if (lane.exit.outcome !== 'fastpath' || !lane.exit.wasDeliveringEvent) return;
    const { words } = lane.vmcs;
    compare(
      lane,
      ledger,
      words[2 * VMCS_SLOT.VM_ENTRY_INTR_INFO_FIELD]!,
      words[2 * VMCS_SLOT.VM_ENTRY_EXCEPTION_ERROR_CODE]!,
      'the injection field',
    );
  },

  atRoute: keptInSoftState,
  atStop: keptInSoftState,
};

function keptInSoftState(lane: Lane, ledger: Ledger): void {
  if (!lane.exit.wasDeliveringEvent) return;
  const at = lane.softState >>> 2;
  const { words } = lane.memory;
  compare(
    lane,
    ledger,
    words[at + (AT.event_info >> 2)]!,
    words[at + (AT.event_error_code >> 2)]!,
    'soft state',
  );
}
