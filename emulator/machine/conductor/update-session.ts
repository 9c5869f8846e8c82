/**
 * The session of a live update: what a luo-agent preserves into it, and what the VMM after kexec takes out of it.
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
import { DONE, type Result } from '../../host/result.js';
import { must } from './refusal.js';
import { passFds, type VmFds, type Vmm } from './vmm.js';

const SESSION = 'vm-0';
/** Tokens of the files in the session; vCPU n is VCPU + n. */
const TOKEN = { memory: 1n, vm: 2n, device: 3n, vcpu: 0x10n } as const;

interface Preserved {
  readonly name: string;
  readonly fd: number;
  readonly token: bigint;
}

/** An outgoing session, which an agent holds open until the reboot. */
export class OutgoingSession {
  readonly #agent: Process;
  readonly #session: number;
  readonly #fds: VmFds;

  /** The agent gets the VMM's files and creates the session. @throws ConductorError. */
  constructor(agent: Process, vmm: Vmm) {
    this.#agent = agent;
    this.#fds = vmm.shareWith(agent);
    const device = must(openLiveupdate(agent), 'open /dev/liveupdate');
    this.#session = must(createSession(agent, device, SESSION), 'LIVEUPDATE_IOCTL_CREATE_SESSION');
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
      { name: 'vfio', fd: device, token: TOKEN.device },
      ...vcpus.map((fd, id) => ({ name: `vcpufd ${id}`, fd, token: TOKEN.vcpu + BigInt(id) })),
    ];
  }
}

/** The same session after kexec, as the new VMM retrieves it. */
export class IncomingSession {
  readonly #process: Process;
  readonly #session: number;

  /** @throws ConductorError. */
  constructor(process: Process) {
    this.#process = process;
    const device = must(openLiveupdate(process), 'open /dev/liveupdate');
    this.#session = must(
      retrieveSession(process, device, SESSION),
      'LIVEUPDATE_IOCTL_RETRIEVE_SESSION',
    );
  }

  /** Retrieves all files of a VM. @throws ConductorError. */
  retrieve(vcpuCount: number): VmFds {
    const take = (token: bigint, what: string): number =>
      must(
        retrieveFd(this.#process, this.#session, token),
        `LIVEUPDATE_SESSION_RETRIEVE_FD ${what}`,
      );
    return {
      memory: take(TOKEN.memory, 'memfd'),
      vm: take(TOKEN.vm, 'vmfd'),
      device: take(TOKEN.device, 'vfio'),
      vcpus: Array.from({ length: vcpuCount }, (_, id) =>
        take(TOKEN.vcpu + BigInt(id), `vcpufd ${id}`),
      ),
    };
  }

  /** @throws ConductorError. */
  finish(): void {
    must(finishSession(this.#process, this.#session), 'LIVEUPDATE_SESSION_FINISH');
  }
}
