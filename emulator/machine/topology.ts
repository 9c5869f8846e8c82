/**
 * How many pCPUs a machine has, and what they are for.
 *
 * Invariant: the first core is the host's own; one thread a vCPU follows, in whole cores, and a spare core to migrate to.
 */

/** The threads of all cores. */
export function pcpuCount({
  vcpus,
  threadsPerCore = 1,
}: {
  readonly vcpus: number;
  readonly threadsPerCore?: number;
}): number {
  return (2 + Math.ceil(vcpus / threadsPerCore)) * threadsPerCore;
}
