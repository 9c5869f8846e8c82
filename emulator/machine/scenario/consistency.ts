/**
 * What one field of a scenario demands of another: vCPUs, VMs and cores that there are, addresses that a guest has.
 *
 * Source: SDM, "CPUID" leaf 80000008H (MAXPHYADDR); Linux mm/madvise.c.
 * Invariant: looks at the file alone; the first contradiction, in the order of the file, is the one that is told.
 */
import { hex } from '../../../abi/uint.js';
import { DEFAULT_CAPABILITIES } from '../../vmx/capabilities.js';
import { GUEST_MEMORY_PAGES } from '../guest-memory.js';
import { pcpuCount } from '../topology.js';
import type { Scenario, Step } from './schema.js';
import type { ScriptEntry } from './script.js';

/** A field and the rule that it breaks. */
export interface Contradiction {
  readonly field: string;
  readonly rule: string;
}

const PAGE = 4096n;
const ADDRESSES = 1n << BigInt(DEFAULT_CAPABILITIES.physicalAddressBits);
const GUEST_MEMORY = BigInt(GUEST_MEMORY_PAGES) * PAGE;

/** The first field that contradicts another, or null. */
export function contradictionIn(scenario: Scenario): Contradiction | null {
  for (const found of contradictions(scenario)) return found;
  return null;
}

function* contradictions(scenario: Scenario): Generator<Contradiction> {
  const { vcpus, vms, device, steps } = scenario;
  const ofDevice = vms?.[0]?.vcpus ?? vcpus;
  for (const [index, queue] of (device?.queues ?? []).entries()) {
    for (const name of ['vcpu', 'core-of'] as const) {
      if ((queue[name] ?? 0) < ofDevice) continue;
      const rule = `the VM with the device has no vCPU ${queue[name]}`;
      yield { field: `device.queues.${index}.${name}`, rule };
    }
  }
  const sum = vms?.reduce((all, one) => all + one.vcpus, 0) ?? vcpus;
  if (sum !== vcpus)
    yield { field: 'vms', rule: `the VMs have ${sum} vCPUs, and the scenario ${vcpus}` };
  for (const [index, step] of steps.entries()) {
    for (const { field, rule } of inStep(step, scenario))
      yield { field: `steps.${index}.${field}`, rule };
  }
}

function* inStep(step: Step, scenario: Scenario): Generator<Contradiction> {
  const { vcpus, 'threads-per-core': threadsPerCore } = scenario;
  const [name, value] = Object.entries(step)[0] as [string, Readonly<Record<string, unknown>>];
  const last = pcpuCount({ vcpus, threadsPerCore }) - 1;
  if (Number(value['vcpu'] ?? 0) >= vcpus)
    yield { field: `${name}.vcpu`, rule: noVcpu(Number(value['vcpu']), vcpus) };
  if (Number(value['pcpu'] ?? 1) > last)
    yield { field: `${name}.pcpu`, rule: `there are cores 0 to ${last}` };
  if ('migrate' in step && step.migrate.pcpu === 0)
    yield { field: `${name}.pcpu`, rule: "core 0 is the host's own" };
  if ('madvise' in step) yield* ofMadvise(step.madvise);
  if ('retrieve' in step && step.retrieve !== true) {
    const count = scenario.vms?.length ?? 1;
    for (const [index, { vm }] of step.retrieve.refused.entries()) {
      if (vm < count) continue;
      yield { field: `retrieve.refused.${index}.vm`, rule: `there is no VM ${vm}` };
    }
  }
  for (const [index, entry] of ((value['script'] ?? []) as readonly ScriptEntry[]).entries()) {
    for (const { field, rule } of inScript(entry, vcpus))
      yield { field: `${name}.script.${index}.${field}`, rule };
  }
}

function* inScript({ vcpu, exit, attack }: ScriptEntry, vcpus: number): Generator<Contradiction> {
  if (vcpu !== 'all' && vcpu >= vcpus) yield { field: 'vcpu', rule: noVcpu(vcpu, vcpus) };
  if (exit?.kind === 'access' && exit.gpa + BigInt(exit.pages) * PAGE > ADDRESSES)
    yield {
      field: 'exit.gpa',
      rule: `guest-physical addresses end at ${hex(ADDRESSES)}`,
    };
  if (typeof attack?.at === 'object' && attack.at.vcpu >= vcpus)
    yield { field: 'attack.at.vcpu', rule: noVcpu(attack.at.vcpu, vcpus) };
}

function* ofMadvise({ gpa, pages }: { gpa: bigint; pages: number }): Generator<Contradiction> {
  const field = 'madvise.gpa';
  if (gpa % PAGE !== 0n) yield { field, rule: 'the address of a page is wanted' };
  if (gpa + BigInt(pages) * PAGE > GUEST_MEMORY)
    yield { field, rule: `the guest's memory ends at ${hex(GUEST_MEMORY)}` };
}

const noVcpu = (vcpu: number, vcpus: number): string =>
  `there is no vCPU ${vcpu}; the last is ${vcpus - 1}`;
