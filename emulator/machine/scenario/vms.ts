/**
 * The VMs of a scenario, each with the vCPUs that are its.
 *
 * Invariant: vCPUs are numbered through all VMs, so that a vCPU's number names one of the machine.
 */
import type { Scenario } from './schema.js';

/** One VM as its VMM is told to make it. */
export interface VmPlan {
  readonly id: number;
  /** Its vCPUs by number, in order. */
  readonly vcpus: readonly number[];
  readonly shadowStacks: boolean;
  readonly cr3: Scenario['cr3'];
  /** Which file is installed: the one that the run was given, or the one that turns on its host. */
  readonly payload: 'given' | 'compromised';
}

/** All VMs, the first first. */
export function vmsOf(scenario: Scenario): readonly VmPlan[] {
  const wishes = scenario.vms ?? [{ vcpus: scenario.vcpus, payload: 'given' as const }];
  let next = 0;
  return wishes.map((wish, id) => {
    const vcpus = Array.from({ length: wish.vcpus }, () => next++);
    return {
      id,
      vcpus,
      shadowStacks: wish['shadow-stacks'] ?? scenario['shadow-stacks'],
      cr3: wish.cr3 ?? scenario.cr3,
      payload: wish.payload,
    };
  });
}
