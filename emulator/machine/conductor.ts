/**
 * The host's side of a scenario: kernels, a VMM, a luo-agent, and the steps that they take in order.
 *
 * Happy path of a live update: boot, create VM and vCPUs, install the Caretaker on each vcpufd, KVM_RUN; pause emulated
 * devices; create a session and preserve guest memory, vmfd, vcpufds and the device; the VMM exits; kexec; the next
 * kernel boots and skips the preserved cores; a new VMM retrieves everything in the same order; finish.
 * Unhappy path: a call that is refused ends the scenario with the errno, unless the step says that it expects it.
 *
 * Source: the RFC, "Preservation of the vCPU"; Linux tools/testing/selftests/liveupdate for the agent's calls.
 * Invariant: every call goes through descriptors, as a process would make it.
 */
import { HarnessError, unreachable } from '../../abi/errors.js';
import type { Guest } from '../guest/guest.js';
import { MIXES, MixGuest, type MixName } from '../guest/mix.js';
import { framesOf } from '../host/frames.js';
import { MemfdModule } from '../host/handlers/memfd.js';
import { VfioBus, VfioModule } from '../host/handlers/vfio.js';
import { Kernel, type KernelConfig } from '../host/kernel.js';
import { rebootKexec } from '../host/kexec.js';
import { hostEvents } from '../host/events.js';
import { Kvm } from '../host/kvm/kvm.js';
import {
  createSession,
  finishSession,
  openLiveupdate,
  preserveFd,
  retrieveFd,
  retrieveSession,
} from '../host/luo/agent.js';
import type { Process } from '../host/process.js';
import type { Result } from '../host/result.js';
import { toExit } from './scripted-exit.js';
import type { Lane } from './lane.js';
import { Machine, type MachineConfig } from './machine.js';
import type { Scenario, ScriptEntry, Step } from './scenario/schema.js';
import { plan, raise } from './stray-events.js';
import type { PhaseName } from './timeline.js';

export type ConductorErrorCode = 'HOST_REFUSED' | 'PAYLOAD_REFUSED' | 'STEP_OUT_OF_ORDER';
/** A step that could not be taken: `details` has the step, the call and the errno. */
export class ConductorError extends HarnessError<ConductorErrorCode> {}

const SESSION = 'vm-0';
/** Tokens of the files in the session; vCPU n is VCPU + n. */
const TOKEN = { memory: 1n, vm: 2n, device: 3n, vcpu: 0x10n } as const;
const MIB = 1 << 20;
/** Scratch begins here; the old kernel's image lies below it. */
const SCRATCH_BASE = 8 * MIB;
const SCRATCH_BYTES = 4 * MIB;
const OLD_IMAGE_BASE = 2 * MIB;
const GUEST_MEMORY_BYTES = 64 * 4096;
/** A device of the guest's, passed through: its vector on the host and in the guest. */
const DEVICE = { id: 1, hostVector: 0x41, guestVector: 0x51, vcpuId: 0 } as const;
/** A host interrupt that nobody routes: a stray while detached. */
const STRAY_VECTOR = 0xef;

/** The gap as the report has it. */
export interface Gap {
  readonly tscStart: number;
  tscEnd: number;
}

export class Conductor {
  readonly machine: Machine;
  readonly scenario: Scenario;
  readonly #payload: Uint8Array;
  readonly #bus = new VfioBus([DEVICE.id]);
  readonly #guests = new Map<number, MixGuest>();
  kernel: Kernel;
  gap: Gap | null = null;
  #kvm: Kvm | null = null;
  #vfio: VfioModule | null = null;
  #memfd: MemfdModule | null = null;
  #vmm: Process;
  #agent: Process | null = null;
  #session = -1;
  /** Descriptors of the VMM. */
  #fds = { vm: -1, memory: -1, device: -1, vcpus: [] as number[] };
  /** The same files as the agent holds them. */
  #agentFds = { vm: -1, memory: -1, device: -1, vcpus: [] as number[] };
  #load: { mix: MixName; rate: number };

  constructor(
    scenario: Scenario,
    payload: Uint8Array,
    wantsSlices: boolean,
    settings: Pick<MachineConfig, 'pollsEveryTime' | 'maxSteps'> = {},
  ) {
    this.scenario = scenario;
    this.#payload = payload;
    this.#load = { mix: scenario.mix, rate: scenario.rate };
    this.machine = new Machine({
      ...settings,
      vcpus: scenario.vcpus,
      seed: scenario.seed,
      wantsSlices,
    });
    this.machine.irqRoutes = [DEVICE];
    this.machine.guestOf = (id) => this.#guestOf(id);
    this.kernel = this.#bootOld();
    this.#vmm = this.kernel.spawn('vmm');
    this.machine.isPreserved = (address) =>
      this.kernel.khoOut.isPreserved(address) &&
      this.machine.memory.regionAt(Number.parseInt(address.toString(), 10))?.owner !==
        'kho-scratch';
  }

  /** Takes all steps. @throws ConductorError. */
  run(): void {
    this.#createVm();
    for (const step of this.scenario.steps) this.#take(step);
    for (const lane of this.machine.lanes) this.machine.hooks.atEnd(lane, this.machine.ledger);
  }

  #take(step: Step): void {
    this.machine.structureChanged();
    if ('run' in step) this.#run(step.run);
    else if ('pause-devices' in step) this.#pauseDevices();
    else if ('preserve' in step) this.#preserve(step.preserve);
    else if ('close-session' in step) this.#closeSession();
    else if ('vmm-exit' in step) this.#vmmExit();
    else if ('kexec' in step) this.#kexec(step.kexec);
    else if ('gap' in step) this.#pass(step.gap);
    else if ('retrieve' in step) this.#retrieve();
    else if ('finish' in step) this.#finish();
    else if ('stop' in step) this.#stop(step.stop.vcpu);
    else if ('migrate' in step) this.#migrate(step.migrate);
    else unreachable(step);
  }

  // Boot and set-up.

  #bootOld(): Kernel {
    const { memory } = this.machine;
    return new Kernel(
      { ...this.#kernelConfig(), generation: 'old', version: 1 },
      {
        memory,
        imageBase: OLD_IMAGE_BASE,
        managed: framesOf(MIB, memory.sizeBytes - MIB),
        scratch: [framesOf(SCRATCH_BASE, SCRATCH_BYTES)],
        handover: null,
      },
    ).boot();
  }

  #kernelConfig(): Omit<KernelConfig, 'generation' | 'version'> {
    return {
      cpus: this.machine.cores.map(({ id }) => ({ cpu: id, apicId: id })),
      events: hostEvents({
        onStage: (stage) => this.#say(stage, 1),
        onWarn: (where, message) => this.#say(`warning: ${where}: ${message}`, 3),
        onInit: (apicId) => this.#onInit(apicId),
        onOffline: (apicId) => this.#say(`core ${apicId} goes offline: VMXOFF, evacuated`, 2),
        onLuo: (step, handler, token) => this.#say(`LUO ${step} ${handler} token ${token}`, 1),
      }),
      initcalls: (kernel) => {
        this.#kvm = new Kvm(kernel, this.machine, { irqRoutes: this.machine.irqRoutes });
        this.machine.kvm = this.#kvm;
        this.#memfd = new MemfdModule(kernel);
        this.#vfio = new VfioModule(kernel, this.#bus);
      },
    };
  }

  /** INIT at a core that runs a vCPU would end it; a kernel that knows better does not send one. */
  #onInit(apicId: number): void {
    const lane = this.machine.laneOn(apicId);
    if (lane !== undefined && lane.vcpu.state === 'detached') {
      lane.pcpu.pendingInit = true;
      this.#say(`INIT sent to core ${apicId}, which runs vCPU ${lane.id}`, 3);
    }
  }

  #createVm(): void {
    const { scenario } = this;
    const kvm = this.#kvmOrThrow();
    this.#fds.memory = this.#must(
      this.#memfd!.create(this.#vmm, 'guest-memory', GUEST_MEMORY_BYTES),
      'memfd_create',
    );
    this.#fds.device = this.#must(
      this.#vfio!.open(this.#vmm, DEVICE.id),
      'VFIO_GROUP_GET_DEVICE_FD',
    );
    this.#fds.vm = this.#must(
      kvm.createVm(this.#vmm, {
        lifecycle: scenario.lifecycle,
        cr3: scenario.cr3,
        hltPolicy: scenario.hlt,
        tscOffset: 0x1_0000_0000n,
      }),
      'KVM_CREATE_VM',
    );
    for (let id = 0; id < scenario.vcpus; id++) {
      const fd = this.#must(kvm.createVcpu(this.#vmm, this.#fds.vm, id), 'KVM_CREATE_VCPU');
      this.#fds.vcpus.push(fd);
      this.#setCaretaker(kvm, fd);
    }
    for (const fd of this.#fds.vcpus) this.#must(kvm.run(this.#vmm, fd), 'KVM_RUN');
    this.#enter('attached');
    this.#say(`VM with ${scenario.vcpus} vCPUs runs, Caretaker on each vcpufd`, 3);
  }

  #setCaretaker(kvm: Kvm, fd: number): void {
    const set = kvm.setCaretaker(this.#vmm, fd, this.#payload);
    if (set.ok) return;
    const refusal = kvm.vms[0]?.lastRefusal;
    throw new ConductorError(
      'PAYLOAD_REFUSED',
      `KVM_SET_CARETAKER: -${set.errno}: ${refusal?.message ?? 'refused'}`,
      { errno: set.errno, code: refusal?.error?.code ?? 'INIT_FAILED', ...refusal?.error?.details },
    );
  }

  #guestOf(id: number): Guest {
    const others = Array.from({ length: this.scenario.vcpus }, (_, n) => n).filter((n) => n !== id);
    const guest = new MixGuest({
      mix: MIXES[this.#load.mix],
      seed: (this.scenario.seed * 0x1000 + id) >>> 0,
      meanTicks: this.#meanTicks(this.#load.rate),
      otherApicIds: others,
      deviceVectors: id === DEVICE.vcpuId ? [DEVICE.hostVector, STRAY_VECTOR] : [STRAY_VECTOR],
    });
    this.#guests.set(id, guest);
    return guest;
  }

  #meanTicks(rate: number): number {
    return Math.max(1_000, Math.round(this.machine.tscFrequencyHz / Math.max(1, rate)));
  }

  // Steps.

  #run(step: Extract<Step, { run: unknown }>['run']): void {
    if (step.exits === undefined && step.seconds === undefined) {
      throw this.#outOfOrder('run', 'says neither exits nor seconds, so it would not end');
    }
    this.#follow(step);
    this.#schedule(step.script);
    const target = this.#exits() + (step.exits ?? Infinity);
    const limit = this.machine.now() + (step.seconds ?? 3600) * this.machine.tscFrequencyHz;
    this.machine.runUntil(() => this.#exits() >= target, limit);
  }

  #pauseDevices(): void {
    this.#must(this.#vfio!.pause(this.#vmm.file(this.#fds.device)!), 'VFIO pause');
    this.#say('the VMM pauses emulated devices; the passed-through device is quiesced', 2);
  }

  #preserve(step: Extract<Step, { preserve: unknown }>['preserve']): void {
    this.#follow(step);
    const agent = (this.#agent ??= this.kernel.spawn('luo-agent'));
    this.#agentFds = {
      memory: this.#handOver(agent, this.#fds.memory),
      vm: this.#handOver(agent, this.#fds.vm),
      device: this.#handOver(agent, this.#fds.device),
      vcpus: this.#fds.vcpus.map((fd) => this.#handOver(agent, fd)),
    };
    const device = this.#must(openLiveupdate(agent), 'open /dev/liveupdate');
    this.#session = this.#must(
      createSession(agent, device, SESSION),
      'LIVEUPDATE_IOCTL_CREATE_SESSION',
    );
    agent.close(device);
    const begun = this.machine.now();
    const wishes: readonly (readonly [string, number, bigint])[] = [
      ['memfd', this.#agentFds.memory, TOKEN.memory],
      ['vmfd', this.#agentFds.vm, TOKEN.vm],
      ['vfio', this.#agentFds.device, TOKEN.device],
      ...this.#agentFds.vcpus.map(
        (fd, id) => [`vcpufd ${id}`, fd, TOKEN.vcpu + BigInt(id)] as const,
      ),
    ];
    for (const [name, fd, token] of wishes) {
      const done = preserveFd(agent, this.#session, fd, token);
      if (!done.ok && done.errno === step.expect) {
        this.#say(`preserve ${name} is refused with -${done.errno}, as expected`, 3);
        return;
      }
      this.#must(done, `LIVEUPDATE_SESSION_PRESERVE_FD ${name}`);
    }
    this.#unfulfilled('preserve', step.expect);
    this.machine.gapBegins();
    this.gap = { tscStart: begun, tscEnd: begun };
    this.#enter('detached');
    this.#say('all vCPUs preserved: KVM_DETACHED, their cores run alone', 3);
  }

  /** SCM_RIGHTS: another process gets a descriptor of the same file. */
  #handOver(to: Process, fd: number): number {
    return this.#must(to.installFile(this.#vmm.file(fd)!), 'SCM_RIGHTS');
  }

  /** Closing an outgoing session unpreserves everything in it: the update is cancelled. */
  #closeSession(): void {
    if (this.#agent === null) throw this.#outOfOrder('close-session', 'no session was created');
    this.#must(this.#agent.close(this.#session), 'close of the session');
    this.#session = -1;
    if (this.gap !== null) this.gap.tscEnd = this.machine.now();
    this.#enter('attached');
    this.#say('session closed: the update is cancelled, KVM_ATTACHED in the same kernel', 3);
    if (this.#vmm.exited) this.#restartVmm();
  }

  /** A new VMM in the same kernel takes the files from the agent. */
  #restartVmm(): void {
    const agent = this.#agent!;
    this.#vmm = this.kernel.spawn('vmm');
    const take = (fd: number): number =>
      this.#must(this.#vmm.installFile(agent.file(fd)!), 'SCM_RIGHTS');
    this.#fds = {
      memory: take(this.#agentFds.memory),
      vm: take(this.#agentFds.vm),
      device: take(this.#agentFds.device),
      vcpus: this.#agentFds.vcpus.map(take),
    };
    this.#say('a new VMM has the files again', 2);
  }

  #vmmExit(): void {
    this.#vmm.exit();
    this.#say('the VMM exits; LUO holds its files', 2);
  }

  #kexec(step: Extract<Step, { kexec: unknown }>['kexec']): void {
    if (this.#session < 0 || this.gap === null) {
      throw this.#outOfOrder(
        'kexec',
        'vCPUs that are not preserved would be lost; preserve comes first',
      );
    }
    this.#follow(step);
    this.#schedule(step.script);
    const begun = this.machine.now();
    const end = begun + Math.round(step.seconds * this.machine.tscFrequencyHz);
    const gone = rebootKexec(this.kernel);
    if (!gone.ok && gone.errno === step.expect) {
      this.#say(`kexec is refused with -${gone.errno}, as expected`, 3);
      return;
    }
    const gap = this.#must(gone, 'reboot(LINUX_REBOOT_CMD_KEXEC)');
    this.#unfulfilled('kexec', step.expect);
    this.machine.kvm = null;
    this.machine.tablesChanged();
    for (const range of gap.overwritten) {
      this.machine.codePlaced(BigInt(range.start * 4096), range.count * 4096);
    }
    this.#enter('no-kernel');
    this.#say('the old kernel is gone: its memory is overwritten', 3);
    // A third of the gap passes before the next kernel's first instruction; the rest is its boot and userspace.
    this.machine.runFor(Math.floor((end - begun) / 3));
    this.kernel = gap.placeNext(this.#kernelConfig());
    this.kernel.boot();
    this.#vmm = this.kernel.spawn('vmm');
    this.#agent = null;
    this.#enter('next-kernel');
    this.#say(`${this.kernel.image.banner} is up; smp_init() skipped the preserved cores`, 3);
    this.machine.runFor(Math.max(0, end - this.machine.now()));
  }

  #pass(step: Extract<Step, { gap: unknown }>['gap']): void {
    this.#follow(step);
    this.#schedule(step.script);
    this.machine.runFor(Math.round(step.seconds * this.machine.tscFrequencyHz));
  }

  #retrieve(): void {
    const device = this.#must(openLiveupdate(this.#vmm), 'open /dev/liveupdate');
    this.#session = this.#must(
      retrieveSession(this.#vmm, device, SESSION),
      'LIVEUPDATE_IOCTL_RETRIEVE_SESSION',
    );
    const take = (token: bigint, what: string): number =>
      this.#must(
        retrieveFd(this.#vmm, this.#session, token),
        `LIVEUPDATE_SESSION_RETRIEVE_FD ${what}`,
      );
    this.#fds = {
      memory: take(TOKEN.memory, 'memfd'),
      vm: take(TOKEN.vm, 'vmfd'),
      device: take(TOKEN.device, 'vfio'),
      vcpus: Array.from({ length: this.scenario.vcpus }, (_, id) =>
        take(TOKEN.vcpu + BigInt(id), `vcpufd ${id}`),
      ),
    };
    this.#enter('attached');
    const limit = this.machine.now() + this.machine.tscFrequencyHz;
    const adopted = this.machine.runUntil(
      () => this.machine.lanes.every((lane) => lane.vcpu.state !== 'adopting'),
      limit,
    );
    if (this.gap !== null) this.gap.tscEnd = this.machine.now();
    this.#say(
      adopted
        ? 'all vCPUs adopted: KVM_ATTACHED, new routing pointers'
        : 'a vCPU did not come back',
      3,
    );
  }

  #finish(): void {
    this.#must(finishSession(this.#vmm, this.#session), 'LIVEUPDATE_SESSION_FINISH');
    this.#must(this.#vfio!.resume(this.#vmm.file(this.#fds.device)!), 'VFIO resume');
    this.#follow(this.scenario);
    this.#say('session finished', 2);
  }

  /** The scheduler moves the vCPU's thread: it leaves its core with VMCLEAR and goes on elsewhere. */
  #migrate({ vcpu, pcpu }: { vcpu: number; pcpu: number }): void {
    if (pcpu === 0) throw this.#outOfOrder('migrate', "core 0 is the host's own");
    if (pcpu >= this.machine.cores.length) {
      throw this.#outOfOrder('migrate', `there are cores 0 to ${this.machine.cores.length - 1}`);
    }
    if (this.machine.laneOn(pcpu) !== undefined && this.machine.lane(vcpu).pcpu.id !== pcpu) {
      throw this.#outOfOrder('migrate', `core ${pcpu} runs another vCPU`);
    }
    this.#must(this.#kvmOrThrow().migrate(vcpu, pcpu), 'migration');
    this.machine.count('migrations');
    this.#say(`vCPU ${vcpu} moves to core ${pcpu}`, 3);
  }

  /** "Stop all your work, serialize your state", as the review put it; then the vCPU goes on. */
  #stop(vcpu: number): void {
    this.#must(this.#kvmOrThrow().stopAndResume(vcpu), 'stop and serialize');
    const isAlone = this.machine.lane(vcpu).vcpu.state === 'detached';
    this.#say(`vCPU ${vcpu} was stopped and serialized${isAlone ? '' : ', and goes on'}`, 3);
  }

  // What steps share.

  #follow(load: { readonly mix?: MixName | undefined; readonly rate?: number | undefined }): void {
    this.#load = { mix: load.mix ?? this.#load.mix, rate: load.rate ?? this.#load.rate };
    for (const guest of this.#guests.values())
      guest.follow(MIXES[this.#load.mix], this.#meanTicks(this.#load.rate));
  }

  #schedule(script: readonly ScriptEntry[]): void {
    const { machine } = this;
    for (const entry of script) {
      if (entry.vcpu >= this.scenario.vcpus)
        throw this.#outOfOrder('script', `there is no vCPU ${entry.vcpu}`);
      machine.events.schedule(machine.now() + entry.at * machine.tscFrequencyHz, () => {
        this.#happens(machine.lane(entry.vcpu), entry);
      });
    }
  }

  #happens(lane: Lane, { exit, event, instruction }: ScriptEntry): void {
    if (exit !== undefined) {
      this.machine.guests.script(lane, { kind: 'exit', after: 0, exit: toExit(exit) });
    } else if (event !== undefined) {
      if (instruction === undefined) raise(this.machine, lane, event);
      else plan(lane, { instruction, event });
    }
  }

  #exits(): number {
    const throughPayload = this.machine.lanes.reduce((sum, lane) => sum + lane.truth.exits, 0);
    return throughPayload + (this.machine.evidence['exitsToKvmDirectly'] ?? 0);
  }

  #enter(phase: PhaseName): void {
    this.machine.timeline.enter(this.machine.now(), phase);
  }

  #say(event: string, weight: 1 | 2 | 3): void {
    this.machine.timeline.add(this.machine.now(), null, event, weight);
  }

  #kvmOrThrow(): Kvm {
    if (this.#kvm === null) throw this.#outOfOrder('KVM', 'no kernel has booted');
    return this.#kvm;
  }

  #must<T>(result: Result<T>, call: string): T {
    if (result.ok) return result.value;
    throw new ConductorError('HOST_REFUSED', `${call}: -${result.errno}`, {
      call,
      errno: result.errno,
    });
  }

  /** A step that was to be refused and was not. */
  #unfulfilled(step: string, expected: string | undefined): void {
    if (expected === undefined) return;
    throw new ConductorError(
      'HOST_REFUSED',
      `step ${step}: expected -${expected}, and it succeeded`,
      {
        call: step,
        errno: expected,
      },
    );
  }

  #outOfOrder(step: string, why: string): ConductorError {
    return new ConductorError('STEP_OUT_OF_ORDER', `step ${step}: ${why}`, { step, rule: why });
  }
}
