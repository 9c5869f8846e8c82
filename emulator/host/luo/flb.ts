/**
 * File-lifecycle-bound global data: one object, preserved with the first file that depends on it.
 *
 * Source: Linux kernel/liveupdate/luo_flb.c.
 * Invariant: preserve and unpreserve, retrieve and finish each run once for any number of files; finish() runs when the
 * last of the files counted by the kernel before is finished, and is preceded by a retrieve().
 * Not modelled: module references (EAGAIN), unregistering.
 */
import { HarnessBug } from '../../../abi/errors.js';
import { toIndex, u64 } from '../../../abi/uint.js';
import type { HostEvents } from '../events.js';
import { DONE, ok, refuse, type Result } from '../result.js';
import { entriesPerBlock } from '../kho/block-set.js';
import type { LiveupdateFlb } from './handler.js';
import { fitsCompatible, FLB_SER_BYTES, type FlbSer } from './luo-abi.js';

interface FlbRecord {
  readonly compatible: string;
  outgoing: { count: number; data: bigint };
  incoming: { count: number; data: bigint; isRetrieved: boolean; isFinished: boolean } | null;
}

/** All FLBs as plain data; `isActive` tells whether the kernel before sent any. */
export interface FlbState {
  readonly isActive: boolean;
  readonly records: readonly FlbRecord[];
}

export class FlbRegistry {
  readonly #events: HostEvents;
  readonly #flbs = new Map<string, LiveupdateFlb>();
  readonly #byHandler = new Map<string, string[]>();
  #isActive = false;
  #records = new Map<string, FlbRecord>();

  constructor(events: HostEvents) {
    this.#events = events;
  }

  /** Errnos: EINVAL a name too long; EEXIST bound to this handler, or another of that name; ENOSPC one page is full. */
  register(handler: string, flb: LiveupdateFlb): Result<void> {
    if (!fitsCompatible(flb.compatible)) return refuse('EINVAL');
    const bound = this.#byHandler.get(handler) ?? [];
    if (bound.includes(flb.compatible)) return refuse('EEXIST');
    const known = this.#flbs.get(flb.compatible);
    if (known !== undefined && known !== flb) return refuse('EEXIST');
    if (known === undefined && this.#flbs.size === entriesPerBlock(FLB_SER_BYTES)) {
      return refuse('ENOSPC');
    }
    this.#flbs.set(flb.compatible, flb);
    this.#byHandler.set(handler, [...bound, flb.compatible]);
    this.#record(flb.compatible);
    return DONE;
  }

  /** A file of `handler` is being preserved. Errnos: those of an FLB's preserve(), and then none is counted. */
  filePreserve(handler: string): Result<void> {
    const done: string[] = [];
    for (const name of this.#byHandler.get(handler) ?? []) {
      const { outgoing } = this.#record(name);
      if (outgoing.count === 0) {
        const data = this.#flb(name).preserve();
        if (!data.ok) {
          for (const other of done.reverse()) this.#unpreserveOne(other);
          return data;
        }
        outgoing.data = data.value;
      }
      outgoing.count++;
      done.push(name);
    }
    return DONE;
  }

  /** A file of `handler` was unpreserved. */
  fileUnpreserve(handler: string): void {
    for (const name of [...(this.#byHandler.get(handler) ?? [])].reverse()) {
      this.#unpreserveOne(name);
    }
  }

  /** A file of `handler` was finished. */
  fileFinish(handler: string): void {
    for (const name of [...(this.#byHandler.get(handler) ?? [])].reverse()) {
      const { incoming } = this.#record(name);
      if (incoming === null || incoming.isFinished) continue;
      incoming.count--;
      if (incoming.count > 0) continue;
      const retrieved = this.getIncoming(this.#flb(name));
      if (!retrieved.ok) {
        this.#events.onWarn('luo_flb_file_finish', `${name}: ${retrieved.errno}`);
        continue;
      }
      this.#flb(name).finish(incoming.data);
      incoming.isFinished = true;
    }
  }

  /**
   * liveupdate_flb_get_incoming(): retrieves at the first call. Registration is not needed for it.
   *
   * Errnos: ENODATA nothing came in, or finished already; ENOENT other FLBs came in; those of retrieve().
   */
  getIncoming(flb: LiveupdateFlb): Result<bigint> {
    const incoming = this.#records.get(flb.compatible)?.incoming ?? null;
    if (incoming?.isFinished === true) return refuse('ENODATA');
    if (incoming === null) return refuse(this.#isActive ? 'ENOENT' : 'ENODATA');
    if (!incoming.isRetrieved) {
      const retrieved = flb.retrieve(incoming.data);
      if (!retrieved.ok) return retrieved;
      incoming.isRetrieved = true;
    }
    return ok(incoming.data);
  }

  /** The data of an FLB that some file keeps preserved now. */
  getOutgoing(flb: LiveupdateFlb): bigint | undefined {
    const outgoing = this.#records.get(flb.compatible)?.outgoing;
    return outgoing === undefined || outgoing.count === 0 ? undefined : outgoing.data;
  }

  /** The records for the next kernel. */
  serialize(): FlbSer[] {
    return [...this.#records.values()]
      .filter((record) => record.outgoing.count > 0)
      .map(({ compatible, outgoing }) => ({
        name: compatible,
        data: outgoing.data,
        count: u64(outgoing.count),
      }));
  }

  /** Takes the records of the kernel before. */
  setupIncoming(sers: readonly FlbSer[]): void {
    this.#isActive = true;
    for (const { name, data, count } of sers) {
      this.#record(name).incoming = {
        count: toIndex(count),
        data,
        isRetrieved: false,
        isFinished: false,
      };
    }
  }

  state(): FlbState {
    return structuredClone({ isActive: this.#isActive, records: [...this.#records.values()] });
  }

  /** Goes back to where `state` was taken; registrations stay. */
  restore(state: FlbState): void {
    this.#isActive = state.isActive;
    const records = structuredClone(state.records);
    this.#records = new Map(records.map((record) => [record.compatible, record]));
  }

  #record(compatible: string): FlbRecord {
    let record = this.#records.get(compatible);
    if (record === undefined) {
      record = { compatible, outgoing: { count: 0, data: 0n }, incoming: null };
      this.#records.set(compatible, record);
    }
    return record;
  }

  #flb(name: string): LiveupdateFlb {
    const flb = this.#flbs.get(name);
    if (flb === undefined) throw new HarnessBug(`FLB ${name} is not registered`);
    return flb;
  }

  #unpreserveOne(name: string): void {
    const { outgoing } = this.#record(name);
    outgoing.count--;
    if (outgoing.count > 0) return;
    this.#flb(name).unpreserve(outgoing.data);
    outgoing.data = 0n;
  }
}
