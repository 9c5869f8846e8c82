/**
 * time: the guest's clock never goes backwards, and its timer interrupt comes not before its deadline and not long after.
 *
 * Source: SDM, "TSC-Deadline Mode", "VMX-Preemption Timer"; DESIGN ("Invariants").
 * Invariant: lateness is measured from the deadline, or from when the guest could take the interrupt, to VM entry.
 * Not modelled: PV clock pages.
 */
import { EXIT_REASON } from '../../../abi/exit-reasons.js';
import { REG } from '../../cpu/registers.js';
import { joinHalves } from '../../../abi/uint.js';
import type { Lane } from '../lane.js';
import type { Ledger } from '../ledger.js';
import type { Invariant } from './invariant.js';

const ID = 'time';

export function time(): Invariant {
  const lastSeen = new Map<number, bigint>();
  return {
    id: ID,
    holdsWhen:
      "the guest's TSC never goes backwards, and VM entry never forgets a deadline that it holds",

    atResume(lane: Lane, ledger: Ledger): void {
      if (lane.exit.outcome !== 'fastpath') return;
      if (
        lane.exit.basic === EXIT_REASON.EXIT_REASON_RDTSC ||
        lane.exit.basic === EXIT_REASON.EXIT_REASON_RDTSCP
      ) {
        const { words } = lane.pcpu.registers;
        const seen = joinHalves(words[2 * REG.RDX]!, words[2 * REG.RAX]!);
        const before = lastSeen.get(lane.id) ?? 0n;
        ledger.expect(
          ID,
          seen >= before,
          lane.rip,
          () => `${lane.describeExit()}: RDTSC gave ${seen}, before it gave ${before}`,
        );
        lastSeen.set(lane.id, seen);
      }
      const deadline = lane.deadlineTsc();
      if (deadline === null) return;
      const expiry = lane.timerAtEntry();
      ledger.expect(
        ID,
        expiry <= deadline + lane.timerGranularity,
        lane.rip,
        () =>
          `${lane.describeExit()}: the guest's deadline is TSC ${deadline}, the preemption timer ends at ${expiry}`,
      );
    },
  };
}
