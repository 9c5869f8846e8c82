/** A small machine for the host tests: 16 MiB, three pCPUs, a kernel with memfd, VFIO and a handler that obeys the test. */
import type { ErrnoName } from '../../abi/luo.js';
import { hostEvents, type HostEvents } from '../../emulator/host/events.js';
import type { OpenFile } from '../../emulator/host/files.js';
import type { FrameRange } from '../../emulator/host/frames.js';
import { MemfdModule } from '../../emulator/host/handlers/memfd.js';
import { VfioBus, VfioModule } from '../../emulator/host/handlers/vfio.js';
import { Kernel, type KernelConfig } from '../../emulator/host/kernel.js';
import { rebootKexec, type KexecGap } from '../../emulator/host/kexec.js';
import type { LiveupdateFileHandler } from '../../emulator/host/luo/handler.js';
import { openLiveupdate } from '../../emulator/host/luo/agent.js';
import type { Process } from '../../emulator/host/process.js';
import { ok, refuse, type Result } from '../../emulator/host/result.js';
import { PAGE_SIZE, PhysicalMemory } from '../../emulator/memory/physical-memory.js';

export const MEMORY_BYTES = 16 << 20;
export const MANAGED: FrameRange = { start: 256, count: MEMORY_BYTES / PAGE_SIZE - 256 };
export const SCRATCH: readonly FrameRange[] = [
  { start: 1024, count: 64 },
  { start: 2048, count: 64 },
];
export const IMAGE_BASE = 2 << 20;
export const CPUS = [
  { cpu: 0, apicId: 0 },
  { cpu: 1, apicId: 2 },
  { cpu: 2, apicId: 4 },
];

/** What the obedient handler does next, and what it was asked. */
export interface Orders {
  preserve?: ErrnoName;
  freeze?: ErrnoName;
  retrieve?: ErrnoName;
  cannotFinish?: boolean;
  readonly log: string[];
}

/** One booted kernel with what its initcalls registered. */
export interface Host {
  readonly kernel: Kernel;
  readonly memfd: MemfdModule;
  readonly vfio: VfioModule;
}

export interface Bench {
  readonly memory: PhysicalMemory;
  readonly bus: VfioBus;
  readonly orders: Orders;
  readonly events: string[];
  readonly warnings: string[];
  readonly host: Host;
}

/** The value of a call that must succeed. */
export function must<T>(result: Result<T>): T {
  if (!result.ok) throw new Error(`refused: ${result.errno}`);
  return result.value;
}

/** The errno of a call, or `ok`. */
export function errnoOf(result: Result<unknown>): ErrnoName | 'ok' {
  return result.ok ? 'ok' : result.errno;
}

export function recordingEvents(events: string[], warnings: string[]): HostEvents {
  return hostEvents({
    onWarn: (where, message) => warnings.push(`${where}: ${message}`),
    onLuo: (step, _handler, token) => events.push(`${step} ${token}`),
    onInit: (apicId) => events.push(`INIT ${apicId}`),
    onSipi: (apicId) => events.push(`SIPI ${apicId}`),
    onStop: (apicId) => events.push(`stop ${apicId}`),
    onOffline: (apicId) => events.push(`offline ${apicId}`),
    onKick: (apicId) => events.push(`kick ${apicId}`),
    onTimerMigrated: (label, from, to) => events.push(`timer ${label} ${from}->${to}`),
    onIrqMigrated: (irq, from, to) => events.push(`irq ${irq} ${from}->${to}`),
    onKexec: () => events.push('kexec'),
    onDeviceReset: (device) => events.push(`reset ${device}`),
  });
}

/** A handler for files of kind `fake` that does what `orders` say. Its serialized data is 0x1000 + inode. */
export function obedientHandler(kernel: Kernel, orders: Orders): LiveupdateFileHandler {
  const say = (what: string, file: OpenFile | null): void => {
    orders.log.push(`${what} ${file?.name ?? '-'}`);
  };
  return {
    compatible: 'fake-v1',
    canPreserve: (file) => file.kind === 'fake',
    preserve: ({ file }) => {
      if (orders.preserve !== undefined) return refuse(orders.preserve);
      say('preserve', file);
      return ok(0x1000n + BigInt(file.inode));
    },
    unpreserve: ({ file }) => say('unpreserve', file),
    freeze: ({ file, serializedData }) => {
      if (orders.freeze !== undefined && file.name.endsWith('!')) return refuse(orders.freeze);
      say('freeze', file);
      return ok(serializedData);
    },
    unfreeze: ({ file }) => say('unfreeze', file),
    retrieve: ({ token, serializedData }, holder) => {
      orders.log.push(`retrieve ${token}`);
      if (orders.retrieve !== undefined) return refuse(orders.retrieve);
      return ok(kernel.files.open('fake', Number(serializedData), `again ${token}`, holder));
    },
    canFinish: () => orders.cannotFinish !== true,
    finish: ({ file, token, retrieveStatus }) => {
      orders.log.push(`finish ${token} ${retrieveStatus.kind} ${file?.name ?? '-'}`);
    },
  };
}

/** What the test's kernels are built with. */
export function configFor(
  bench: Omit<Bench, 'host'>,
  overrides: Partial<KernelConfig> = {},
): { readonly config: KernelConfig; readonly made: { memfd?: MemfdModule; vfio?: VfioModule } } {
  const made: { memfd?: MemfdModule; vfio?: VfioModule } = {};
  const config: KernelConfig = {
    generation: 'old',
    version: 1,
    cpus: CPUS,
    events: recordingEvents(bench.events, bench.warnings),
    initcalls: (kernel) => {
      made.memfd = new MemfdModule(kernel);
      made.vfio = new VfioModule(kernel, bench.bus);
      kernel.files.register('fake', {
        release: (file) => bench.orders.log.push(`release ${file.name}`),
      });
      const handler = obedientHandler(kernel, bench.orders);
      kernel.luo.registerFileHandler(handler);
      kernel.luo.registerFlb(handler, kernel.cpuPreserve.flb);
    },
    ...overrides,
  };
  return { config, made };
}

/** A machine with its first kernel up. */
export function bootBench(
  overrides: Partial<KernelConfig> = {},
  scratch: readonly FrameRange[] = SCRATCH,
): Bench {
  const bench = {
    memory: new PhysicalMemory(new ArrayBuffer(MEMORY_BYTES)),
    bus: new VfioBus([7, 8]),
    orders: { log: [] } as Orders,
    events: [] as string[],
    warnings: [] as string[],
  };
  const { config, made } = configFor(bench, overrides);
  const kernel = new Kernel(config, {
    memory: bench.memory,
    imageBase: IMAGE_BASE,
    managed: MANAGED,
    scratch,
    handover: null,
  }).boot();
  bench.events.length = 0;
  return { ...bench, host: { kernel, memfd: made.memfd!, vfio: made.vfio! } };
}

/** Boots the kernel after the gap. */
export function bootNext(
  bench: Bench,
  gap: KexecGap,
  overrides: Partial<KernelConfig> = {},
): Bench {
  const { config, made } = configFor(bench, overrides);
  const kernel = gap.bootNext(config);
  return { ...bench, host: { kernel, memfd: made.memfd!, vfio: made.vfio! } };
}

/** Jumps and boots what comes after. */
export function kexec(bench: Bench, overrides: Partial<KernelConfig> = {}): Bench {
  return bootNext(bench, must(rebootKexec(bench.host.kernel)), overrides);
}

/** An agent with /dev/liveupdate open. */
export function agentOf(bench: Bench): { readonly agent: Process; readonly device: number } {
  const agent = bench.host.kernel.spawn('luo-agent');
  return { agent, device: must(openLiveupdate(agent)) };
}

/** Leaves not one free page outside scratch. */
export function exhaustMemory(bench: Bench): void {
  for (const pages of [64, 8, 1]) {
    while (bench.host.kernel.allocator.alloc({ pages, label: 'x' }).ok);
  }
}

/** Opens a file of kind `fake`. A name that ends in `!` is the one whose freeze fails on order. */
export function openFake(bench: Bench, process: Process, name: string): number {
  const inode = bench.host.kernel.files.newInode();
  return must(process.openFile('fake', inode, name));
}
