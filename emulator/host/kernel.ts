/**
 * One kernel: its image, its memory, its processes and its part in a live update. kexec makes a second one.
 *
 * Boot, in stages:
 * 1. image: text and data lie in memory; the boot CPU is online.
 * 2. kho: after kexec, scratch and preserved pages are read from the handover address; until then the only memory is
 *    scratch, and after it everything that is neither scratch nor preserved.
 * 3. luo: the incoming tree is read; FLBs can be retrieved from here on.
 * 4. initcalls: subsystems register file kinds, handlers and FLBs.
 * 5. smp: every pCPU that the FLB data does not list is brought up.
 * 6. devices: the outgoing tree is laid out, /dev/liveupdate exists.
 *
 * Source: Linux init/main.c: start_kernel(), kernel_init_freeable(); Documentation/core-api/kho.
 * Invariant: a kernel knows of the one before it only what lies in preserved memory; after die() no call answers.
 * Not modelled: scheduling, virtual memory of the kernel (linear addresses are physical ones), initrd.
 */
import { HarnessBug } from '../../abi/errors.js';
import type { Owner, PhysicalMemory } from '../memory/physical-memory.js';
import { CpuHotplug, type CpuHotplugState, type PcpuId } from './cpu-hotplug.js';
import { CpuPreserve } from './cpu-preserve.js';
import { DebugFs } from './debugfs.js';
import { KernelError } from './errors.js';
import type { HostEvents } from './events.js';
import { FileTable, type FileTableState } from './files.js';
import { subtractFrames, type FrameRange } from './frames.js';
import { KernelImage } from './kernel-image.js';
import { KhoIn, khoPopulate, type KhoInState, type Populated } from './kho/kho-in.js';
import { KhoOut, type KhoOutState } from './kho/kho-out.js';
import { FlbRegistry } from './luo/flb.js';
import { Luo, type LuoState } from './luo/luo.js';
import { claimFrames } from './memory-claims.js';
import { PageAllocator, type PageAllocatorState } from './page-allocator.js';
import { DEFAULT_MAX_FDS, Process, type DeviceOpen, type ProcessState } from './process.js';
import { ok } from './result.js';

/** Which of the two kernels of a live update. */
export type Generation = 'old' | 'next';

/** How a kernel is built and booted. */
export interface KernelConfig {
  readonly generation: Generation;
  /** Counts up with every kernel of a machine. */
  readonly version: number;
  readonly cpus: readonly PcpuId[];
  /** SMT: 1 unless said otherwise. */
  readonly threadsPerCore?: number;
  readonly events: HostEvents;
  /** Kernel parameters; both are on unless said otherwise. */
  readonly kho?: boolean;
  readonly liveupdate?: boolean;
  /** Registers what this kernel is built with; runs once, at boot. */
  readonly initcalls: (kernel: Kernel) => void;
}

/** Where a kernel finds itself in physical memory. */
export interface KernelPlacement {
  readonly memory: PhysicalMemory;
  readonly imageBase: number;
  /** Everything that the kernel manages: its image, scratch, and the rest. */
  readonly managed: FrameRange;
  /** Scratch as firmware and command line give it; after kexec the handover tells. */
  readonly scratch: readonly FrameRange[];
  /** Frames inside `managed` that something else has, as boot parameters. */
  readonly reserved?: readonly FrameRange[];
  /** The setup_data list of a kexec, null on a cold boot. */
  readonly handover: bigint | null;
}

/** A stage of booting. */
export const BOOT_STAGES = ['kho', 'luo', 'initcalls', 'smp', 'devices'] as const;
/** The name of a stage. */
export type BootStage = (typeof BOOT_STAGES)[number];

/** A kernel as plain data; what handlers keep is their own state. */
export interface KernelState {
  readonly generation: Generation;
  readonly version: number;
  readonly isGone: boolean;
  readonly allocator: PageAllocatorState;
  readonly khoOut: KhoOutState;
  readonly khoIn: KhoInState;
  readonly luo: LuoState;
  readonly files: FileTableState;
  readonly processes: readonly ProcessState[];
  readonly nextPid: number;
  readonly hotplug: CpuHotplugState;
}

export class Kernel {
  readonly config: KernelConfig;
  readonly memory: PhysicalMemory;
  readonly managed: FrameRange;
  readonly image: KernelImage;
  readonly allocator: PageAllocator;
  readonly khoOut: KhoOut;
  readonly khoIn: KhoIn;
  readonly luo: Luo;
  readonly files = new FileTable();
  readonly hotplug: CpuHotplug;
  readonly cpuPreserve: CpuPreserve;
  readonly debugfs = new DebugFs();
  /** Paths that processes can open. */
  readonly devices = new Map<string, DeviceOpen>();
  readonly #reserved: readonly FrameRange[];
  readonly #processes = new Map<number, Process>();
  #nextPid = 1;
  #stage = 0;
  #isGone = false;

  /** Places the image; boot() or bootStage() does the rest. @throws KernelError BOOT_FAILED on a broken handover. */
  constructor(config: KernelConfig, placement: KernelPlacement) {
    const { memory, managed, imageBase, handover } = placement;
    const { events } = config;
    this.config = config;
    this.memory = memory;
    this.managed = managed;
    this.image = new KernelImage(memory, imageBase, config.version);
    const populated = handover === null ? undefined : this.#populate(handover);
    const scratch = populated?.scratch ?? placement.scratch;
    this.#reserved = [this.image.frames, ...(placement.reserved ?? [])];
    for (const range of subtractFrames(scratch, this.#reserved)) {
      claimFrames(memory, range, 'kho-scratch', 'KHO scratch');
    }
    claimFrames(memory, this.image.frames, this.owner, `image of ${this.image.banner}`);
    this.allocator = new PageAllocator(memory, this.owner, scratch, this.#reserved);
    this.khoOut = new KhoOut(memory, this.allocator, scratch, events, config.kho ?? true);
    this.khoIn = new KhoIn(memory, this.allocator, events, populated);
    this.luo = new Luo(
      {
        memory,
        khoOut: this.khoOut,
        khoIn: this.khoIn,
        files: this.files,
        events,
        flbs: new FlbRegistry(events),
        handlers: new Map(),
        preservedIds: new Set(),
      },
      config.liveupdate ?? true,
    );
    this.hotplug = new CpuHotplug(config.cpus, events, config.threadsPerCore);
    this.cpuPreserve = new CpuPreserve(this);
    this.#registerNull();
  }

  /** Whose pages the kernel's own are. */
  get owner(): Owner {
    return this.config.generation === 'old' ? 'old-kernel' : 'next-kernel';
  }

  /** The stage that bootStage() does next, undefined once the kernel is up. */
  get nextStage(): BootStage | undefined {
    return BOOT_STAGES[this.#stage];
  }

  get isGone(): boolean {
    return this.#isGone;
  }

  /** Does all stages that are left. */
  boot(): this {
    while (this.nextStage !== undefined) this.bootStage();
    return this;
  }

  /** Does one stage, so that a machine can run its pCPUs in between. */
  bootStage(): void {
    const stage = this.nextStage;
    if (stage === undefined) throw new HarnessBug('the kernel is up already');
    this.assertAlive();
    this.#stage++;
    switch (stage) {
      case 'kho':
        this.allocator.bringUp(this.managed, [...this.#reserved, ...this.khoIn.preservedFrames()]);
        break;
      case 'luo':
        this.luo.earlyInit();
        break;
      case 'initcalls':
        this.config.initcalls(this);
        break;
      case 'smp':
        this.#smpInit();
        break;
      case 'devices':
        this.luo.lateInit(this.devices);
        break;
    }
    this.config.events.onStage(`boot ${this.config.generation}: ${stage}`);
  }

  /** Starts a process. */
  spawn(name: string, maxFds = DEFAULT_MAX_FDS): Process {
    this.assertAlive();
    const process = new Process(this.files, this.devices, { pid: this.#nextPid++, name, maxFds });
    this.#processes.set(process.pid, process);
    return process;
  }

  /** The process with that pid, exited ones included. */
  process(pid: number): Process | undefined {
    return this.#processes.get(pid);
  }

  /** The kernel has been replaced. Calls from here on throw KERNEL_GONE. */
  die(): void {
    this.assertAlive();
    this.#isGone = true;
    for (const process of this.#processes.values()) process.kill();
  }

  state(): KernelState {
    return {
      generation: this.config.generation,
      version: this.config.version,
      isGone: this.#isGone,
      allocator: this.allocator.state(),
      khoOut: this.khoOut.state(),
      khoIn: this.khoIn.state(),
      luo: this.luo.state(),
      files: this.files.state(),
      processes: [...this.#processes.values()].map((process) => process.state()),
      nextPid: this.#nextPid,
      hotplug: this.hotplug.state(),
    };
  }

  /** Goes back to where `state` was taken; memory and its claims are restored by whoever owns them. */
  restore(state: KernelState): void {
    this.#isGone = state.isGone;
    this.allocator.restore(state.allocator);
    this.khoOut.restore(state.khoOut);
    this.khoIn.restore(state.khoIn);
    this.luo.restore(state.luo);
    this.files.restore(state.files);
    this.#nextPid = state.nextPid;
    this.hotplug.restore(state.hotplug);
    const known = new Map(this.#processes);
    this.#processes.clear();
    for (const each of state.processes) {
      const process = known.get(each.pid) ?? new Process(this.files, this.devices, each);
      process.restore(each);
      this.#processes.set(each.pid, process);
    }
  }

  #populate(handover: bigint): Populated {
    const populated = khoPopulate(this.memory, handover);
    if (populated.ok) return populated.value;
    throw new KernelError('BOOT_FAILED', `no handover that makes sense: ${populated.errno}`, {
      errno: populated.errno,
    });
  }

  #smpInit(): void {
    const preserved = this.cpuPreserve.incoming();
    if (preserved.ok) {
      this.hotplug.smpInit(preserved.value);
      return;
    }
    this.config.events.onWarn('smp_init', 'list of preserved CPUs refused, all are brought up');
    this.hotplug.smpInit();
  }

  #registerNull(): void {
    this.files.register('null', {});
    const inode = this.files.newInode();
    this.devices.set('/dev/null', (process) => {
      const fd = process.openFile('null', inode, '/dev/null');
      return fd.ok ? ok(fd.value) : fd;
    });
  }

  /** @throws KernelError KERNEL_GONE once the kernel was replaced. */
  assertAlive(): void {
    if (this.#isGone) throw new KernelError('KERNEL_GONE', `${this.image.banner} was replaced`);
  }
}
