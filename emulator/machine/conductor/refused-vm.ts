/**
 * A VM that the next kernel does not adopt: the reason, and its end by the VMM's policy.
 *
 * Happy path: retrieve is refused with the errno that the scenario expects; the VMM finishes the session all the same, which
 * ends the vCPUs; it exits, and memory and device go with its descriptors.
 *
 * Source: the review of the RFC: a mismatch of features terminates the VM.
 * Invariant: afterwards no page is the VM's and every core that ran it is online, with VMX off.
 */
import { toIndex } from '../../../abi/uint.js';
import type { ErrnoName } from '../../../abi/luo.js';
import type { Conductor } from '../conductor.js';
import type { Lane } from '../lane.js';
import type { IncomingSession } from './update-session.js';
import { must } from './refusal.js';
import type { Vmm } from './vmm.js';

/** Ends the VM behind a session whose files the kernel has refused. @throws ConductorError when it cannot be ended. */
export function terminate(
  host: Conductor,
  vmm: Vmm,
  session: IncomingSession,
  errno: ErrnoName,
): void {
  const { machine } = host;
  const name = host.nameOf(vmm.plan);
  const why = host.kernels.kvm.lastMismatch?.why ?? 'its files cannot be retrieved';
  machine.count('vmsRefused');
  host.say(`${name} is refused with -${errno}: ${why}`, 3);
  const lanes = vmm.plan.vcpus.map((id) => machine.lane(id));
  const pages = lanes.flatMap(({ vcpu }) => vcpu.memory.all());
  const finished = session.finish();
  machine.ledger.expect(
    'bounded',
    finished.ok,
    lanes[0]!.rip,
    () => `${name}: a vCPU that is to end does not stop and serialize itself`,
  );
  must(finished, 'LIVEUPDATE_SESSION_FINISH');
  vmm.exit();
  for (const { hpa } of pages) {
    const owner = machine.memory.regionAt(toIndex(hpa));
    machine.ledger.expect(
      'preserved',
      owner === undefined,
      hpa,
      () => `${name} is terminated, and ${machine.regionName(hpa)} is still there`,
    );
  }
  for (const lane of lanes) coreIsBack(host, lane);
  host.say(`${name} is terminated: its vCPUs stopped, cores and memory given back`, 3);
}

function coreIsBack({ machine, kernels }: Conductor, { id, pcpu }: Lane): void {
  const state = kernels.kernel.hotplug.stateOf(pcpu.id);
  machine.ledger.expect(
    'preserved',
    state === 'online' && pcpu.vmx.mode === 'off',
    0n,
    () => `core ${pcpu.id}, which ran vCPU ${id}, is ${state} with VMX ${pcpu.vmx.mode}`,
  );
}
