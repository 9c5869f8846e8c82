/**
 * The kernels of a run, one after the other, each with its modules: KVM, memfd, VFIO.
 *
 * Source: Linux kernel/kexec_core.c: kernel_kexec(); DESIGN ("Two kernels are two objects").
 * Invariant: after kexec nothing of the kernel before is reachable from here.
 */
import { framesOf } from '../../host/frames.js';
import { MemfdModule } from '../../host/handlers/memfd.js';
import { VfioModule, type VfioBus } from '../../host/handlers/vfio.js';
import { Kernel, type KernelConfig } from '../../host/kernel.js';
import { rebootKexec } from '../../host/kexec.js';
import { hostEvents } from '../../host/events.js';
import type { IntegrityPolicy } from '../../host/integrity/admission.js';
import { Kvm, type KvmConfig } from '../../host/kvm/kvm.js';
import { bitsOf, WHOLE_OFFER, type Offer } from '../../host/kvm/negotiation.js';
import { ok, type Result } from '../../host/result.js';
import { toIndex } from '../../../abi/uint.js';
import type { Machine } from '../machine.js';
import type { Scenario } from '../scenario/schema.js';
import type { Weight } from '../timeline.js';

const MIB = 1 << 20;
/** Scratch begins here; the old kernel's image lies below it. */
const SCRATCH_BASE = 8 * MIB;
const SCRATCH_BYTES = 4 * MIB;
const OLD_IMAGE_BASE = 2 * MIB;

/** What a kernel's initcalls registered. */
export interface Modules {
  readonly kvm: Kvm;
  readonly memfd: MemfdModule;
  readonly vfio: VfioModule;
}

export class Kernels {
  readonly #machine: Machine;
  readonly #bus: VfioBus;
  readonly #scenario: Scenario;
  readonly #integrity: IntegrityPolicy | undefined;
  #isNext = false;
  readonly #say: (event: string, weight: Weight) => void;
  #modules: Modules | null = null;
  /** The kernel that runs, or ran last. */
  kernel: Kernel;

  /** Boots the first one. */
  constructor(
    machine: Machine,
    bus: VfioBus,
    settings: { readonly scenario: Scenario; readonly integrity: IntegrityPolicy | undefined },
    say: (event: string, weight: Weight) => void,
  ) {
    this.#machine = machine;
    this.#bus = bus;
    this.#scenario = settings.scenario;
    this.#integrity = settings.integrity;
    this.#say = say;
    const { memory } = machine;
    this.kernel = new Kernel(
      { ...this.#config(), generation: 'old', version: 1 },
      {
        memory,
        imageBase: OLD_IMAGE_BASE,
        managed: framesOf(MIB, memory.sizeBytes - MIB),
        scratch: [framesOf(SCRATCH_BASE, SCRATCH_BYTES)],
        handover: null,
      },
    ).boot();
    machine.isPreserved = (address) =>
      this.kernel.khoOut.isPreserved(address) &&
      memory.regionAt(toIndex(address))?.owner !== 'kho-scratch';
  }

  /** The modules of the kernel that runs. */
  get modules(): Modules {
    return this.#modules!;
  }

  get kvm(): Kvm {
    return this.modules.kvm;
  }

  /** reboot(LINUX_REBOOT_CMD_KEXEC): the kernel is gone, and the value boots the next. Errnos: those of rebootKexec(). */
  reboot(): Result<() => void> {
    const gone = rebootKexec(this.kernel);
    if (!gone.ok) return gone;
    const machine = this.#machine;
    machine.kvm = null;
    machine.tablesChanged();
    for (const range of gone.value.overwritten)
      machine.codePlaced(BigInt(range.start * 4096), range.count * 4096);
    return ok(() => {
      this.#isNext = true;
      this.kernel = gone.value.placeNext(this.#config());
      this.kernel.boot();
    });
  }

  #config(): Omit<KernelConfig, 'generation' | 'version'> {
    const machine = this.#machine;
    return {
      threadsPerCore: machine.threadsPerCore,
      cpus: machine.cores.map(({ id }) => ({ cpu: id, apicId: id })),
      events: hostEvents({
        onStage: (stage) => this.#say(stage, 1),
        onWarn: (where, message) => this.#say(`warning: ${where}: ${message}`, 3),
        onInit: (apicId) => this.#onInit(apicId),
        onOffline: (apicId) => this.#say(`core ${apicId} goes offline: VMXOFF, evacuated`, 2),
        onLuo: (step, handler, token) => this.#say(`LUO ${step} ${handler} token ${token}`, 1),
      }),
      initcalls: (kernel) => {
        const kvm = new Kvm(kernel, machine.kvmHost, this.#kvmConfig());
        machine.kvm = kvm;
        const memfd = new MemfdModule(kernel);
        this.#modules = { kvm, memfd, vfio: new VfioModule(kernel, this.#bus) };
      },
    };
  }

  /** The kernel after kexec has clocks of its own. */
  #kvmConfig(): KvmConfig {
    const { parked, 'next-kernel': next, 'mmu-notifier': notifier } = this.#scenario;
    const directMap = this.#scenario['direct-map'];
    const { irqRoutes } = this.#machine;
    const integrity = this.#integrity === undefined ? {} : { integrity: this.#integrity };
    const both = { irqRoutes, parkedPolicy: parked, notifier, directMap, ...integrity };
    if (!this.#isNext) return both;
    const wallStepNs = BigInt(Math.round(next['wall-step'] * 1e9));
    return {
      ...both,
      clockPolicy: next.clock,
      offer: offerOf(next),
      time: { ppm: next['tsc-ppm'], wallStepNs },
    };
  }

  /** INIT at a core that runs a vCPU would end it; a kernel that knows better does not send one. */
  #onInit(apicId: number): void {
    const lane = this.#machine.laneOn(apicId);
    if (lane !== undefined && lane.vcpu.state === 'detached') {
      lane.pcpu.pendingInit = true;
      this.#say(`INIT sent to core ${apicId}, which runs vCPU ${lane.id}`, 3);
    }
  }
}

/** What the next kernel has for payloads. */
function offerOf({ lacks, speaks }: Scenario['next-kernel']): Offer {
  const { features, versions } = WHOLE_OFFER;
  return { features: features & ~bitsOf(lacks), versions: { ...versions, ...speaks } };
}
