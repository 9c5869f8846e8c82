/**
 * What each step of a scenario does.
 *
 * Happy path of a live update: pause emulated devices; create a session and preserve guest memory, vmfd, vcpufds and the
 * device; the VMM exits; kexec; the next kernel boots and skips the preserved cores; a new VMM retrieves everything in
 * the same order; finish.
 * Unhappy path: a call that is refused ends the scenario with the errno, unless the step says that it expects it.
 *
 * Source: the RFC, "Preservation of the vCPU"; Linux tools/testing/selftests/liveupdate for the agent's calls.
 */
import type { ErrnoName } from '../../../abi/luo.js';
import { hex } from '../../../abi/uint.js';
import type { Conductor } from '../conductor.js';
import type { Lane } from '../lane.js';
import type { Step, StepName, StepOf } from '../scenario/schema.js';
import { brokenPayload } from './broken-payload.js';
import { must, outOfOrder, unfulfilled } from './refusal.js';
import { terminate } from './refused-vm.js';
import { IncomingSession, OutgoingSession } from './update-session.js';
import type { Vmm } from './vmm.js';

/** How long a KVM waits for a vCPU that it has attached. */
const ADOPTION_SECONDS = 1;
/** How long a run by exits may take. */
const RUN_LIMIT_SECONDS = 3600;

type Steps = { readonly [Name in StepName]: (host: Conductor, step: StepOf<Name>) => void };

const STEPS: Steps = {
  run: (host, step) => {
    const { machine } = host;
    host.load.follow(step);
    host.schedule(step.script);
    const begun = host.exits();
    const target = begun + (step.exits ?? Infinity);
    const limit = machine.now() + host.ticks(step.seconds ?? RUN_LIMIT_SECONDS);
    host.runRest(() => {
      host.runUntil(() => host.exits() >= target, limit);
      // What broke before says why; a vCPU that ended without a finding must not pass for one that runs.
      const isShort = step.seconds === undefined && host.exits() < target;
      if (isShort && machine.ledger.clean) {
        const came = `run: ${target - begun} exits are wanted and ${host.exits() - begun} came`;
        machine.ledger.fail('no-lost-exit', 0n, `${came}; every vCPU has ended or waits`);
      }
    });
  },

  'pause-devices': (host) => {
    if (host.scenario.device === undefined) {
      for (const vmm of host.vmms) vmm.pauseDevice();
      host.say('the VMM pauses emulated devices; the passed-through device is quiesced', 2);
    } else {
      host.vmms[0]!.keepDeviceRunning();
      host.say('the VMM pauses emulated devices; the passed-through device works on', 2);
    }
  },

  prefault: (host) => {
    const pages = host.vmms.reduce((sum, vmm) => sum + vmm.prefault(), 0);
    host.machine.count('pagesPrefaulted', pages);
    host.say(`the VMM prefaults the guest's memory: ${pages} pages were not mapped`, 3);
  },

  /** Where vCPUs run alone, what they can reach is looked at anew once they go on. */
  madvise: (host, { gpa, pages }) => {
    host.vmm.discard(gpa, pages);
    host.machine.gapBegins();
    host.machine.count('pagesDiscarded', pages);
    const how =
      host.scenario['mmu-notifier'] === 'aware'
        ? 'each vCPU stopped meanwhile'
        : 'no vCPU was stopped';
    host.say(
      `madvise takes ${pages} ${pages === 1 ? 'page' : 'pages'} at gpa ${hex(gpa)} from the guest; ${how}`,
      3,
    );
  },

  'dirty-log': (host, { pages }) => {
    const log = host.vmm.dirtyLog();
    host.machine.count('pagesLoggedDirty', log.length);
    const held = pages === undefined ? log.length > 0 : log.length === pages;
    const wanted = pages === undefined ? 'some' : String(pages);
    host.machine.ledger.expect(
      'preserved',
      held,
      0n,
      () => `the dirty log has ${log.length} pages, not ${wanted}`,
    );
    host.say(`the dirty log has ${log.length} pages`, 2);
  },

  preserve: (host, step) => {
    host.load.follow(step);
    const { machine } = host;
    const begun = machine.now();
    host.outgoing = host.vmms.map((vmm) => new OutgoingSession(host.agent(), vmm));
    for (const session of host.outgoing) {
      const { name, result } = session.preserve();
      if (!result.ok && result.errno === step.expect) {
        host.say(`preserve ${name} is refused with -${result.errno}, as expected`, 3);
        return;
      }
      must(result, `LIVEUPDATE_SESSION_PRESERVE_FD ${name}`, step.expect);
    }
    unfulfilled('preserve', step.expect);
    machine.gapBegins();
    host.gap = { tscStart: begun, tscEnd: begun };
    host.enter('detached');
    host.say('all vCPUs preserved: KVM_DETACHED, their cores run alone', 3);
  },

  'close-session': (host) => {
    const { outgoing } = host;
    if (outgoing.length === 0) throw outOfOrder('close-session', 'no session was created');
    for (const session of outgoing) session.close();
    host.outgoing = [];
    if (host.gap !== null) host.gap.tscEnd = host.machine.now();
    host.enter('attached');
    host.say('session closed: the update is cancelled, KVM_ATTACHED in the same kernel', 3);
    if (!host.vmm.process.exited) return;
    host.spawnVmms();
    outgoing.forEach((session, index) => session.giveTo(host.vmms[index]!));
    host.say('a new VMM has the files again', 2);
  },

  'vmm-exit': (host) => {
    for (const vmm of host.vmms) vmm.exit();
    host.say('the VMM exits; LUO holds its files', 2);
  },

  kexec: (host, step) => {
    const { machine } = host;
    if (host.outgoing.length === 0 || host.gap === null) {
      throw outOfOrder('kexec', 'vCPUs that are not preserved would be lost; preserve comes first');
    }
    host.load.follow(step);
    host.schedule(step.script);
    const begun = machine.now();
    const end = begun + host.ticks(step.seconds);
    const gone = host.kernels.reboot();
    if (!gone.ok && gone.errno === step.expect) {
      host.say(`kexec is refused with -${gone.errno}, as expected`, 3);
      return;
    }
    const bootNext = must(gone, 'reboot(LINUX_REBOOT_CMD_KEXEC)', step.expect);
    unfulfilled('kexec', step.expect);
    host.outgoing = [];
    host.enter('no-kernel');
    host.say('the old kernel is gone: its memory is overwritten', 3);
    // A third of the gap passes before the next kernel's first instruction; the rest is its boot and userspace.
    machine.runFor(Math.floor((end - begun) / 3));
    bootNext();
    host.forgetAgent();
    host.spawnVmms();
    host.enter('next-kernel');
    const { banner } = host.kernels.kernel.image;
    host.say(`${banner} is up; smp_init() skipped the preserved cores`, 3);
    // Whoever takes the vCPUs back by hand ends the gap.
    host.runUntil(() => machine.lanes.every(({ vcpu }) => vcpu.state !== 'detached'), end);
  },

  gap: (host, step) => {
    host.load.follow(step);
    host.schedule(step.script);
    host.runUntil(() => false, host.machine.now() + host.ticks(step.seconds));
  },

  retrieve: (host, step) => {
    const { machine } = host;
    for (const vmm of host.vmms) retrieveVm(host, vmm, refusalOf(step, vmm));
    host.enter('attached');
    const limit = machine.now() + host.ticks(ADOPTION_SECONDS);
    const wanted = (): readonly Lane[] =>
      machine.lanes.filter(({ vcpu }) => vcpu.state === 'adopting');
    machine.runUntil(() => wanted().length === 0, limit);
    for (const { id } of wanted()) must(host.kernels.kvm.abandon(id), 'KVM_RUN');
    if (host.gap !== null) host.gap.tscEnd = machine.now();
    host.restartParked();
    const { lanes } = machine;
    const isHere = ({ vcpu, remains }: Lane): boolean => remains === null && vcpu.state !== 'dead';
    const adopted = lanes.filter(isHere).length;
    const who = adopted === lanes.length ? 'all' : `${adopted} of ${lanes.length}`;
    host.say(`${who} vCPUs adopted: KVM_ATTACHED, new routing pointers`, 3);
  },

  finish: (host) => {
    if (host.incoming.length === 0) throw outOfOrder('finish', 'no session was retrieved');
    for (const session of host.incoming) must(session.finish(), 'LIVEUPDATE_SESSION_FINISH');
    host.incoming = [];
    for (const vmm of host.vmms) vmm.resumeDevice();
    host.load.follow(host.scenario);
    host.say('session finished', 2);
  },

  /** "Stop all your work, serialize your state", as the review put it; then the vCPU goes on. */
  stop: (host, { vcpu }) => {
    must(host.kernels.kvm.stopAndResume(vcpu), 'stop and serialize');
    const isAlone = host.machine.lane(vcpu).vcpu.state === 'detached';
    host.say(`vCPU ${vcpu} was stopped and serialized${isAlone ? '' : ', and goes on'}`, 3);
  },

  /** The VMM stops the vCPU, reads its state by KVM's own calls, sets it again, and lets it run. */
  'get-set-state': (host, { vcpu, expect }) => {
    const { kvm } = host.kernels;
    const vmm = host.vmmOf(vcpu);
    const { process } = vmm;
    const fd = vmm.fdOf(vcpu);
    const whileItRuns = kvm.getState(process, fd);
    if (whileItRuns.ok) throw outOfOrder('get-set-state', `vCPU ${vcpu} is stopped already`);
    host.machine.count('statesRefusedWhileRunning');
    if (whileItRuns.errno === expect) {
      host.say(`the state of vCPU ${vcpu} is refused with -${expect}, as expected`, 3);
      return;
    }
    if (expect !== undefined) must(whileItRuns, 'KVM_GET_REGS', expect);
    must(kvm.stop(vcpu), 'stop and serialize');
    const state = must(kvm.getState(process, fd), 'KVM_GET_REGS');
    must(kvm.setState(process, fd, state), 'KVM_SET_REGS');
    const again = must(kvm.getState(process, fd), 'KVM_GET_REGS');
    const { lanes, ledger } = host.machine;
    const differs = state.findIndex((byte, index) => byte !== again[index]);
    ledger.expect(
      'preserved',
      differs < 0,
      lanes[vcpu]!.rip,
      () => `vCPU ${vcpu}: byte ${differs} of its state came back as another`,
    );
    host.machine.count('statesReadAndSet');
    must(kvm.run(process, fd), 'KVM_RUN');
    host.say(`the state of vCPU ${vcpu} was read and set by KVM's own calls`, 3);
  },

  /** A new payload for vCPUs that run: the same file again, or one that is broken. */
  update: (host, { vcpu, broken, expect }) => {
    const lanes = vcpu === undefined ? host.machine.lanes : [host.machine.lane(vcpu)];
    for (const { id } of lanes) {
      const vmm = host.vmmOf(id);
      const file = host.payloadOf(vmm.plan);
      const payload = broken === undefined ? file : brokenPayload(file, broken);
      const { errno, why } = vmm.update(id, payload);
      if (errno !== null && errno === expect) {
        host.machine.count('updatesRefused');
        host.say(`update of vCPU ${id} is refused with -${errno}, as expected`, 3);
        continue;
      }
      if (errno !== null) must({ ok: false, errno }, `KVM_SET_CARETAKER: ${why}`, expect);
      unfulfilled('update', expect);
      host.machine.count('updates');
      host.say(`vCPU ${id} goes on with a new Caretaker; the old one is poisoned and freed`, 3);
    }
  },

  /** echo 0 > /sys/devices/system/cpu/cpuN/online */
  offline: (host, { pcpu }) => {
    must(host.kernels.kernel.hotplug.offline(pcpu), `offline of CPU ${pcpu}`);
  },

  /** The scheduler moves the vCPU's thread: it leaves its core with VMCLEAR and goes on elsewhere. */
  migrate: (host, { vcpu, pcpu }) => {
    const { machine } = host;
    if (machine.laneOn(pcpu) !== undefined && machine.lane(vcpu).pcpu.id !== pcpu) {
      throw outOfOrder('migrate', `core ${pcpu} runs another vCPU`);
    }
    must(host.kernels.kvm.migrate(vcpu, pcpu), 'migration');
    machine.count('migrations');
    host.say(`vCPU ${vcpu} moves to core ${pcpu}`, 3);
  },
};

/** What the scenario expects of a VM's retrieve: an errno, or undefined. */
function refusalOf(step: StepOf<'retrieve'>, { plan }: Vmm): ErrnoName | undefined {
  return step === true ? undefined : step.refused.find(({ vm }) => vm === plan.id)?.expect;
}

function retrieveVm(host: Conductor, vmm: Vmm, expect: ErrnoName | undefined): void {
  const session = new IncomingSession(vmm);
  const files = session.retrieve();
  if (!files.ok && files.errno === expect) {
    host.vmms = host.vmms.filter((one) => one !== vmm);
    terminate(host, vmm, session, files.errno);
    return;
  }
  const why = host.kernels.kvm.lastMismatch?.why;
  const call = `LIVEUPDATE_SESSION_RETRIEVE_FD${why === undefined ? '' : `: ${why}`}`;
  vmm.take(must(files, call, expect));
  unfulfilled('retrieve', expect);
  host.incoming = [...host.incoming, session];
}

/** Takes one step. @throws ConductorError. */
export function take(host: Conductor, step: Step): void {
  const [name, value] = Object.entries(step)[0] as [StepName, never];
  STEPS[name](host, value);
}
