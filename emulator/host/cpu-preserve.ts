/**
 * pCPUs that keep running across kexec: the list that makes the next kernel's smp_init() leave them alone.
 *
 * Source: RFC, "Preservation of the vCPU" ("parses the LUO FLB data and explicitly skips"); facts on "cpu_flb_v1".
 * ABI: one page {u64 magic, u32 version, u32 nr_words, u64 bitmap[nr_words]}; bit n is the pCPU with APIC id n, because
 * two kernels may number their CPUs differently.
 * Invariant: a bit is set exactly while its pCPU is parked, at work or exiting; at kexec no core has a thread on the list
 * and another online, for two kernels to share.
 */
import { u64 } from '../../abi/uint.js';
import { PAGE_SIZE, type PhysicalBytes } from '../memory/physical-memory.js';
import type { CpuHotplug } from './cpu-hotplug.js';
import { isPageOf } from './kho/block-set.js';
import type { KhoIn } from './kho/kho-in.js';
import type { KhoOut } from './kho/kho-out.js';
import type { LiveupdateFlb } from './luo/handler.js';
import type { Luo } from './luo/luo.js';
import { DONE, ok, refuse, type Result } from './result.js';

export const CPU_FLB_COMPATIBLE = 'cpu_flb_v1';

/** `CPUFLBV1`, read as a little-endian u64. */
export const CPU_FLB_MAGIC = 0x3156_424c_4655_5043n;
const VERSION = 1;
const HEADER_BYTES = 16;
const MAX_WORDS = (PAGE_SIZE - HEADER_BYTES) / 8;

/** What CpuPreserve works with. */
export interface CpuPreserveParts {
  readonly memory: PhysicalBytes;
  readonly khoOut: KhoOut;
  readonly khoIn: KhoIn;
  readonly luo: Luo;
  readonly hotplug: CpuHotplug;
}

export class CpuPreserve {
  /** Bound to the handler of every file that keeps a pCPU. */
  readonly flb: LiveupdateFlb;
  readonly #parts: CpuPreserveParts;

  constructor(parts: CpuPreserveParts) {
    this.#parts = parts;
    this.flb = {
      compatible: CPU_FLB_COMPATIBLE,
      preserve: () => this.#allocPage(),
      unpreserve: (data) => {
        parts.khoOut.unpreserveFree(data);
      },
      retrieve: (data) => {
        const read = readBitmap(parts.memory, data);
        return read.ok ? DONE : read;
      },
      finish: (data) => {
        parts.khoIn.restoreFree(data);
      },
    };
  }

  /**
   * Takes a pCPU out of the kernel, parks it and lists it. A file whose handler depends on the FLB is being preserved.
   *
   * Errnos: ENODATA no such file; EINVAL an APIC id beyond the page; those of CpuHotplug.offline().
   */
  preserve(cpu: number): Result<void> {
    const page = this.#parts.luo.getOutgoingFlb(this.flb);
    if (page === undefined) return refuse('ENODATA');
    const apicId = this.#parts.hotplug.cpus().find((one) => one.cpu === cpu)?.apicId;
    if (apicId === undefined) return refuse('ENODEV');
    if (apicId >= MAX_WORDS * 64) return refuse('EINVAL');
    const gone = this.#parts.hotplug.offline(cpu);
    if (!gone.ok) return gone;
    const parked = this.#parts.hotplug.park(cpu);
    if (parked.ok) this.#list(page, apicId, true);
    return parked;
  }

  /** The pCPU has reported dead: takes it off the list and brings it back. Errnos: those of CpuHotplug.online(). */
  unpreserve(cpu: number): Result<void> {
    const page = this.#parts.luo.getOutgoingFlb(this.flb);
    const record = this.#parts.hotplug.cpus().find((one) => one.cpu === cpu);
    if (page !== undefined && record !== undefined) this.#list(page, record.apicId, false);
    return this.#parts.hotplug.online(cpu);
  }

  /**
   * Before kexec: the sibling threads of a preserved pCPU go with it. Those that run nothing are parked and listed, so that
   * the next kernel does not bring them up beside a guest. Errnos: EBUSY one is online; ENODATA no file keeps a pCPU.
   */
  preserveSiblings(cpu: number): Result<void> {
    const { hotplug, luo } = this.#parts;
    const siblings = hotplug.siblingsOf(cpu);
    if (siblings.some((one) => hotplug.stateOf(one) === 'online')) return refuse('EBUSY');
    const page = luo.getOutgoingFlb(this.flb);
    if (page === undefined) return refuse('ENODATA');
    for (const sibling of siblings)
      if (hotplug.park(sibling).ok) this.#list(page, this.#apicIdOf(sibling), true);
    return DONE;
  }

  /** The kexec does not happen, or is over: threads that were parked with a pCPU are offline again. */
  releaseSiblings(cpu: number, isBusy: (sibling: number) => boolean): readonly number[] {
    const { hotplug, luo } = this.#parts;
    const page = luo.getOutgoingFlb(this.flb);
    const idle = hotplug
      .siblingsOf(cpu)
      .filter((one) => !isBusy(one) && hotplug.requestExit(one).ok);
    for (const sibling of idle) {
      if (page !== undefined) this.#list(page, this.#apicIdOf(sibling), false);
      hotplug.reportDead(sibling);
    }
    return idle;
  }

  #apicIdOf(cpu: number): number {
    return this.#parts.hotplug.cpus().find((one) => one.cpu === cpu)!.apicId;
  }

  /** APIC ids of the pCPUs that came in; empty after a cold boot. Errnos: EINVAL data that cannot be right. */
  incoming(): Result<ReadonlySet<number>> {
    const data = this.#parts.luo.getIncomingFlb(this.flb);
    if (data.ok) return readBitmap(this.#parts.memory, data.value);
    return data.errno === 'EINVAL' ? data : ok(new Set());
  }

  #allocPage(): Result<bigint> {
    const page = this.#parts.khoOut.allocPreserve(PAGE_SIZE, 'preserved CPUs', 'shared-metadata');
    if (!page.ok) return page;
    const { memory, hotplug } = this.#parts;
    const highest = Math.max(...hotplug.cpus().map((one) => one.apicId));
    memory.writeU64(page.value.hpa, CPU_FLB_MAGIC);
    memory.writeU32(page.value.hpa + 8n, VERSION);
    memory.writeU32(page.value.hpa + 12n, Math.min(Math.floor(highest / 64) + 1, MAX_WORDS));
    return ok(page.value.hpa);
  }

  #list(page: bigint, apicId: number, isListed: boolean): void {
    const at = page + u64(HEADER_BYTES + Math.floor(apicId / 64) * 8);
    const bit = 1n << u64(apicId % 64);
    const word = this.#parts.memory.readU64(at);
    this.#parts.memory.writeU64(at, isListed ? word | bit : word & ~bit);
  }
}

function readBitmap(memory: PhysicalBytes, page: bigint): Result<ReadonlySet<number>> {
  if (!isPageOf(memory, page) || memory.readU64(page) !== CPU_FLB_MAGIC) return refuse('EINVAL');
  const words = memory.readU32(page + 12n);
  if (memory.readU32(page + 8n) !== VERSION || words > MAX_WORDS) return refuse('EINVAL');
  const apicIds = new Set<number>();
  for (let word = 0; word < words; word++) {
    const bits = memory.readU64(page + u64(HEADER_BYTES + word * 8));
    for (let bit = 0; bit < 64; bit++) {
      if ((bits & (1n << u64(bit))) !== 0n) apicIds.add(word * 64 + bit);
    }
  }
  return ok(apicIds);
}
