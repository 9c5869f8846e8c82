/**
 * A stand-in for VFIO: pass-through devices that live on while kernels change, and their LUO handler.
 *
 * Source: the VFIO live update series named in the facts; Linux drivers/vfio/pci for what closing a device does,
 * drivers/vfio/pci/vfio_pci_intrs.c for its interrupts.
 * ABI: record {u64 device, u32 interrupts, u32 keeps_running}, then {u32 posted, u32 vector,
 * u64 APIC id or descriptor} each.
 * Invariant: the device is hardware and outlives every kernel; it is reset when its last file is released, and so not
 * while LUO holds one. It is preserved while it is paused, or with interrupts that find their way without a kernel.
 * Not modelled: DMA remapping, BARs, migration states.
 */
import { HarnessBug } from '../../../abi/errors.js';
import { toIndex, u64 } from '../../../abi/uint.js';
import type { RemappingEntry } from '../../vmx/interrupt-remapping.js';
import type { FileHolder, OpenFile } from '../files.js';
import type { Kernel } from '../kernel.js';
import { isPageOf } from '../kho/block-set.js';
import type { FileOpArgs, LiveupdateFileHandler } from '../luo/handler.js';
import type { Process } from '../process.js';
import { DONE, ok, refuse, type Result } from '../result.js';

export const VFIO_COMPATIBLE = 'vfio-pci-v1';
const KIND = 'vfio';
const HEADER_BYTES = 16;
const INTERRUPT_BYTES = 16;
/** More would not fit the record's page. */
export const MAX_INTERRUPTS = 32;

/** What a device does: it takes new work, or it has none in flight and takes none. */
export type VfioActivity = 'busy' | 'paused';

/** A device, the same for every kernel. */
export interface VfioDevice {
  readonly id: number;
  activity: VfioActivity;
  /** Where each of its interrupts goes. */
  interrupts: readonly RemappingEntry[];
  /** It works on while it is preserved. */
  keepsRunning: boolean;
  /** How often it lost its state. */
  resets: number;
}

/** The devices of a machine, outside any kernel. */
export class VfioBus {
  #devices: Map<number, VfioDevice>;

  constructor(ids: readonly number[]) {
    this.#devices = new Map(ids.map((id) => [id, fresh(id, 0)] as const));
  }

  /** The device with that id. */
  device(id: number): VfioDevice | undefined {
    return this.#devices.get(id);
  }

  /** Takes the state off a device. */
  reset(id: number): void {
    const device = this.#devices.get(id);
    if (device !== undefined) this.#devices.set(id, fresh(id, device.resets + 1));
  }

  state(): readonly Readonly<VfioDevice>[] {
    return structuredClone([...this.#devices.values()]);
  }

  /** Goes back to where `state` was taken. */
  restore(state: readonly Readonly<VfioDevice>[]): void {
    this.#devices = new Map(structuredClone(state).map((device) => [device.id, device] as const));
  }
}

interface VfioOpen {
  readonly inode: number;
  readonly device: number;
  isPreserved: boolean;
}

/** Which devices a kernel has open, as plain data. */
export interface VfioState {
  readonly open: readonly Readonly<VfioOpen>[];
}

export class VfioModule {
  readonly #kernel: Kernel;
  readonly #bus: VfioBus;
  #open = new Map<number, VfioOpen>();

  /** An initcall: registers file kind and handler. */
  constructor(kernel: Kernel, bus: VfioBus) {
    this.#kernel = kernel;
    this.#bus = bus;
    kernel.files.register(KIND, { release: (file) => this.#release(file) });
    kernel.luo.registerFileHandler(this.#handler());
  }

  /** VFIO_GROUP_GET_DEVICE_FD. Errnos: ENODEV no such device; EBUSY open already; EMFILE. */
  open(process: Process, device: number): Result<number> {
    if (this.#bus.device(device) === undefined) return refuse('ENODEV');
    if ([...this.#open.values()].some((one) => one.device === device)) return refuse('EBUSY');
    const fd = process.unusedFd();
    if (!fd.ok) return fd;
    return process.openFile(KIND, this.#add(device), `vfio ${device}`);
  }

  /** The device behind a file. */
  deviceOf(file: OpenFile): VfioDevice {
    const device = this.#bus.device(this.#of(file).device);
    if (device === undefined) throw new HarnessBug(`${file.name}: the device is gone`);
    return device;
  }

  /** VFIO_DEVICE_SET_IRQS: all of them anew. Errnos: EBUSY preserved; EINVAL more than the device has. */
  setInterrupts(file: OpenFile, interrupts: readonly RemappingEntry[]): Result<void> {
    if (this.#of(file).isPreserved) return refuse('EBUSY');
    if (interrupts.length > MAX_INTERRUPTS) return refuse('EINVAL');
    this.deviceOf(file).interrupts = interrupts;
    return DONE;
  }

  /** Lets it work on through an update. Errnos: EINVAL it has no interrupts that somebody would take. */
  keepRunning(file: OpenFile): Result<void> {
    const device = this.deviceOf(file);
    if (device.interrupts.length === 0) return refuse('EINVAL');
    device.keepsRunning = true;
    return DONE;
  }

  /** Lets work in flight end and takes no more. Errnos: none. */
  pause(file: OpenFile): Result<void> {
    this.deviceOf(file).activity = 'paused';
    return DONE;
  }

  /** Takes work again. Errnos: EBUSY preserved. */
  resume(file: OpenFile): Result<void> {
    if (this.#of(file).isPreserved) return refuse('EBUSY');
    this.deviceOf(file).activity = 'busy';
    return DONE;
  }

  state(): VfioState {
    return structuredClone({ open: [...this.#open.values()] });
  }

  /** Goes back to where `state` was taken. */
  restore(state: VfioState): void {
    this.#open = new Map(structuredClone(state.open).map((one) => [one.inode, one] as const));
  }

  #handler(): LiveupdateFileHandler {
    return {
      compatible: VFIO_COMPATIBLE,
      canPreserve: (file) => file.kind === KIND,
      getId: (file) => file.inode,
      preserve: ({ file }) => this.#preserve(file),
      unpreserve: ({ file, serializedData }) => {
        this.#kernel.khoOut.unpreserveFree(serializedData);
        this.#of(file).isPreserved = false;
      },
      // The owner of the device may have let it run again since.
      freeze: ({ file, serializedData }) =>
        isPreservable(this.deviceOf(file)) ? ok(serializedData) : refuse('EBUSY'),
      retrieve: (args, holder) => this.#retrieve(args, holder),
      canFinish: ({ retrieveStatus }) => retrieveStatus.kind === 'retrieved',
      finish: ({ file }) => {
        if (file !== null) this.#of(file).isPreserved = false;
      },
    };
  }

  #preserve(file: OpenFile): Result<bigint> {
    const device = this.deviceOf(file);
    if (!isPreservable(device)) return refuse('EBUSY');
    const bytes = recordOf(device);
    const record = this.#kernel.khoOut.allocPreserve(bytes.length, `record of ${file.name}`);
    if (!record.ok) return record;
    this.#kernel.memory.write(record.value.hpa, bytes);
    this.#of(file).isPreserved = true;
    return ok(record.value.hpa);
  }

  #retrieve(args: FileOpArgs, holder: FileHolder): Result<OpenFile> {
    const { memory, khoIn, files } = this.#kernel;
    if (!isPageOf(memory, args.serializedData)) return refuse('EINVAL');
    const id = memory.readU64(args.serializedData);
    const device = id < 1n << 32n ? this.#bus.device(toIndex(id)) : undefined;
    if (device === undefined) return refuse('ENODEV');
    const wanted = recordOf(device);
    const record = memory.read(args.serializedData, wanted.length);
    if (!wanted.every((byte, at) => byte === record[at])) return refuse('ESTALE');
    const freed = khoIn.restoreFree(args.serializedData);
    if (!freed.ok) return freed;
    return ok(files.open(KIND, this.#add(device.id), `vfio ${device.id}`, holder));
  }

  #add(device: number): number {
    const inode = this.#kernel.files.newInode();
    this.#open.set(inode, { inode, device, isPreserved: false });
    return inode;
  }

  #of(file: OpenFile): VfioOpen {
    const open = this.#open.get(file.inode);
    if (file.kind !== KIND || open === undefined) throw new HarnessBug(`${file.name} is no device`);
    return open;
  }

  #release(file: OpenFile): void {
    const { device } = this.#of(file);
    this.#open.delete(file.inode);
    this.#bus.reset(device);
    this.#kernel.config.events.onDeviceReset(device);
  }
}

function fresh(id: number, resets: number): VfioDevice {
  return { id, activity: 'busy', interrupts: [], keepsRunning: false, resets };
}

const isPreservable = ({ activity, keepsRunning }: VfioDevice): boolean =>
  activity === 'paused' || keepsRunning;

/** What the next kernel must find the device to be. */
function recordOf({ id, interrupts, keepsRunning }: VfioDevice): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + interrupts.length * INTERRUPT_BYTES);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, u64(id), true);
  view.setUint32(8, interrupts.length, true);
  view.setUint32(12, keepsRunning ? 1 : 0, true);
  interrupts.forEach((entry, index) => {
    const at = HEADER_BYTES + index * INTERRUPT_BYTES;
    view.setUint32(at, entry.kind === 'posted' ? 1 : 0, true);
    view.setUint32(at + 4, entry.vector, true);
    view.setBigUint64(at + 8, entry.kind === 'posted' ? entry.descriptor : u64(entry.apicId), true);
  });
  return bytes;
}
