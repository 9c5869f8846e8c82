/**
 * preserved: what the guest was before KVM took it over is what it is afterwards, field by field.
 *
 * Source: CONTRACT ("Reachable and preserved": the next kernel reads the guest fields, VMCLEARs and builds its own VMCS).
 * Invariant: compared at the last exit before a take-over and the first VM entry after it; the fields that the exit's
 * own answer changes are left out.
 */
import { VMCS_FIELDS, VMCS_SLOT } from '../../../abi/vmcs-fields.js';
import { hex } from '../../../abi/uint.js';
import type { Lane } from '../lane.js';
import type { Ledger } from '../ledger.js';
import type { Invariant } from './invariant.js';

const ID = 'preserved';
/** What answering an exit may change. */
const ANSWERED: ReadonlySet<number> = new Set([
  VMCS_SLOT.GUEST_RIP,
  VMCS_SLOT.GUEST_INTERRUPTIBILITY_INFO,
  VMCS_SLOT.GUEST_ACTIVITY_STATE,
  VMCS_SLOT.GUEST_PENDING_DBG_EXCEPTIONS,
  VMCS_SLOT.VMX_PREEMPTION_TIMER_VALUE,
]);
const COMPARED = VMCS_FIELDS.filter((field) => field.type === 'guest' && !ANSWERED.has(field.slot));

export function preserved(): Invariant {
  return {
    id: ID,
    holdsWhen: 'what is serialized is deserialized field by field',

    atStop(lane: Lane, ledger: Ledger): void {
      const isActive =
        lane.pcpu.vmcsStore.activeOn(lane.pcpu.id, lane.vcpu.vmcsRegion) !== undefined;
      ledger.expect(
        ID,
        !isActive,
        lane.rip,
        () => `${lane.describeExit()}: says serialized without VMCLEAR of its VMCS`,
      );
    },

    atTakeOver(lane: Lane, ledger: Ledger, before: BigUint64Array): void {
      for (const field of COMPARED) {
        const now = lane.vmcs.get(field.slot);
        ledger.expect(
          ID,
          now === before[field.slot],
          lane.rip,
          () =>
            `vCPU ${lane.id}: ${field.name} was ${hex(before[field.slot]!)}, is ${hex(now)} after the take-over`,
        );
      }
    },
  };
}
