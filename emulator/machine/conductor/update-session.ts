/**
 * The session of a VM's live update: what a luo-agent preserves into it, and what the VMM after kexec takes out of it.
 *
 * Source: Linux tools/testing/selftests/liveupdate; the RFC, "Preservation of the vCPU".
 * Invariant: files are preserved and retrieved in one order, the VM before its vCPUs.
 */
import {
  createSession,
  finishSession,
  openLiveupdate,
  preserveFd,
  retrieveFd,
  retrieveSession,
} from '../../host/luo/agent.js';
import type { Process } from '../../host/process.js';
import { DONE, ok, type Result } from '../../host/result.js';
import type { VmPlan } from '../scenario/vms.js';
import { must } from './refusal.js';
import { DEVICE, passFds, type VmFds, type Vmm } from './vmm.js';

const nameOf = ({ id }: VmPlan): string => `vm-${id}`;
/** Tokens of the files in a session; vCPU n is VCPU + n. */
const TOKEN = { memory: 1n, vm: 2n, device: 3n, vcpu: 0x10n } as const;

interface Preserved {
  readonly name: string;
  readonly fd: number;
  readonly token: bigint;
}

/** An outgoing session, which an agent holds open until the reboot. */
export class OutgoingSession {
  readonly plan: VmPlan;
  readonly #agent: Process;
  readonly #session: number;
  readonly #fds: VmFds;

  /** The agent gets the VMM's files and creates the session. @throws ConductorError. */
  constructor(agent: Process, vmm: Vmm) {
    this.plan = vmm.plan;
    this.#agent = agent;
    this.#fds = vmm.shareWith(agent);
    const device = must(openLiveupdate(agent), 'open /dev/liveupdate');
    const created = createSession(agent, device, nameOf(vmm.plan));
    this.#session = must(created, 'LIVEUPDATE_IOCTL_CREATE_SESSION');
    agent.close(device);
  }

  /** Preserves everything; the first refusal ends it. `name` is the file that was refused. */
  preserve(): { readonly name: string; readonly result: Result<void> } {
    for (const { name, fd, token } of this.#wishes()) {
      const result = preserveFd(this.#agent, this.#session, fd, token);
      if (!result.ok) return { name, result };
    }
    return { name: '', result: DONE };
  }

  /** Closing it unpreserves everything: the update is cancelled. @throws ConductorError. */
  close(): void {
    must(this.#agent.close(this.#session), 'close of the session');
  }

  /** A new VMM in the same kernel takes the files from the agent. @throws ConductorError. */
  giveTo(vmm: Vmm): void {
    vmm.take(passFds(this.#agent, this.#fds, vmm.process));
  }

  #wishes(): readonly Preserved[] {
    const { memory, vm, device, vcpus } = this.#fds;
    return [
      { name: 'memfd', fd: memory, token: TOKEN.memory },
      { name: 'vmfd', fd: vm, token: TOKEN.vm },
      ...(device === null ? [] : [{ name: 'vfio', fd: device, token: TOKEN.device }]),
      ...this.plan.vcpus.map((id, index) => ({
        name: `vcpufd ${id}`,
        fd: vcpus[index]!,
        token: TOKEN.vcpu + BigInt(id),
      })),
    ];
  }
}

/** The same session after kexec, as the new VMM retrieves it. */
export class IncomingSession {
  readonly plan: VmPlan;
  readonly #process: Process;
  readonly #session: number;

  /** @throws ConductorError. */
  constructor(vmm: Vmm) {
    this.plan = vmm.plan;
    this.#process = vmm.process;
    const device = must(openLiveupdate(this.#process), 'open /dev/liveupdate');
    const retrieved = retrieveSession(this.#process, device, nameOf(this.plan));
    this.#session = must(retrieved, 'LIVEUPDATE_IOCTL_RETRIEVE_SESSION');
    this.#process.close(device);
  }

  /**
   * Retrieves all files of the VM, the device's before what a kernel may not be able to take, so that it can be closed. The
   * first refusal of vmfd or a vcpufd ends it. @throws ConductorError when memory or device are refused.
   */
  retrieve(): Result<VmFds> {
    const hasDevice = this.plan.vcpus.includes(DEVICE.vcpuId);
    const memory = must(this.#take(TOKEN.memory), 'LIVEUPDATE_SESSION_RETRIEVE_FD memfd');
    const device = hasDevice
      ? must(this.#take(TOKEN.device), 'LIVEUPDATE_SESSION_RETRIEVE_FD vfio')
      : null;
    const vm = this.#take(TOKEN.vm);
    if (!vm.ok) return vm;
    const vcpus: number[] = [];
    for (const id of this.plan.vcpus) {
      const vcpu = this.#take(TOKEN.vcpu + BigInt(id));
      if (!vcpu.ok) return vcpu;
      vcpus.push(vcpu.value);
    }
    return ok({ memory, vm: vm.value, device, vcpus });
  }

  /** Errnos: EBUSY a file cannot finish. */
  finish(): Result<void> {
    return finishSession(this.#process, this.#session);
  }

  #take(token: bigint): Result<number> {
    return retrieveFd(this.#process, this.#session, token);
  }
}
