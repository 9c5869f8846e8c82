/**
 * interrupts: what was asserted is delivered, at least once after the last assertion and at most once per assertion, and
 * physical interrupts are answered with a physical EOI before the guest goes on.
 *
 * Source: SDM, "Interrupt Handling with the Local APIC"; CONTRACT ("What the payload handles").
 * Invariant: assertions are counted where they arise: the guest's timer and IPIs, and its devices.
 */
import type { Lane } from '../lane.js';
import type { Ledger } from '../ledger.js';
import type { Invariant } from './invariant.js';

const ID = 'interrupts';
const FIRST_VECTOR = 32;

export function interrupts(): Invariant {
  return {
    id: ID,
    holdsWhen:
      'at least one delivery follows the last assertion, at most one each, and physical EOIs match',

    atResume(lane: Lane, ledger: Ledger): void {
      if (lane.exit.outcome !== 'fastpath') return;
      const inService = lane.pcpu.apic.highestInService;
      ledger.expect(
        ID,
        inService < 0,
        lane.rip,
        () =>
          `${lane.describeExit()}: physical vector ${inService} is still in service at VM entry`,
      );
    },

    atDelivery(lane: Lane, ledger: Ledger, vector: number): void {
      if (vector < FIRST_VECTOR) return;
      const { asserted, delivered } = lane.interruptCounts(vector);
      ledger.expect(
        ID,
        delivered <= asserted,
        lane.rip,
        () =>
          `vCPU ${lane.id}: vector ${vector} delivered ${delivered} times, asserted ${asserted} times`,
      );
    },

    atEnd(lane: Lane, ledger: Ledger): void {
      for (const { vector, sinceTsc } of lane.undelivered()) {
        ledger.expect(
          ID,
          false,
          lane.rip,
          () =>
            `vCPU ${lane.id}: vector ${vector} was asserted at TSC ${sinceTsc} and neither delivered nor pending`,
        );
      }
      ledger.count(ID);
    },
  };
}
