/**
 * A passed-through device at work: it completes I/O in queues of its own, one interrupt each, whatever kernel there is.
 *
 * An I/O that is complete is an entry in guest memory, here the queue's running count of them, and then a message. The
 * guest's driver reads the count when the queue's vector is delivered to it, and has then seen all of them: interrupts may
 * coalesce, completions may not be lost.
 *
 * Source: NVM Express base specification, "Completion Queue"; PCI, "MSI-X"; the RFC, "VFIO Interrupt Routing".
 * Invariant: the entry is in memory before the message is sent; a device that is paused, or was reset, completes nothing.
 * Not modelled: submission, what the I/O was, the latency of a message.
 */
import { HarnessBug } from '../../abi/errors.js';
import { toIndex } from '../../abi/uint.js';
import type { VfioDevice } from '../host/handlers/vfio.js';
import { remap, type RemappingEntry } from '../vmx/interrupt-remapping.js';
import type { Lane } from './lane.js';
import type { Machine } from './machine.js';

/** Ticks within which the payload must have handed a completion's interrupt to the vCPU that it is for: 100 us. */
export const HAND_OVER_TICKS = 200_000;
const COUNT_BYTES = 8;

/** One queue, and how its completions fare. */
export interface CompletionQueue {
  readonly index: number;
  readonly vcpuId: number;
  readonly guestVector: number;
  readonly everyTicks: number;
  /** Guest memory with the running count. */
  readonly hpa: bigint;
  completed: number;
  /** As the guest's driver read it last. */
  seen: number;
  /** When the oldest completion that nobody has seen came, NaN without one. */
  unseenTsc: number;
  /** Of those seen by a vCPU that did not wait for KVM meanwhile, the longest that one took. */
  slowestTicks: number;
}

export class Completions {
  readonly #machine: Machine;
  readonly #device: () => VfioDevice;
  #queues: CompletionQueue[] = [];

  constructor(machine: Machine, device: () => VfioDevice) {
    this.#machine = machine;
    this.#device = device;
  }

  get queues(): readonly CompletionQueue[] {
    return this.#queues;
  }

  /** The page with the counts, null before there are any. */
  get page(): number | null {
    const [first] = this.#queues;
    return first === undefined ? null : toIndex(first.hpa);
  }

  /** The guest's driver has set up its queues, the counts from `hpa` on: the device gets work from now on. */
  start(
    queues: readonly Pick<CompletionQueue, 'vcpuId' | 'guestVector' | 'everyTicks'>[],
    hpa: bigint,
  ): void {
    this.#queues = queues.map((queue, index) => ({
      ...queue,
      index,
      hpa: hpa + BigInt(index * COUNT_BYTES),
      completed: 0,
      seen: 0,
      unseenTsc: NaN,
      slowestTicks: 0,
    }));
    for (const { index } of this.#queues) this.#scheduleNext(index);
  }

  /** The guest takes an interrupt: a queue's makes its driver read the count. */
  taken(lane: Lane, vector: number): void {
    const queue = this.queueOf(lane.id, vector);
    if (queue === undefined) return;
    const machine = this.#machine;
    const count = machine.memory.readU64(queue.hpa);
    machine.hooks.atCompletionsSeen(lane, machine.ledger, queue, count);
    if (queue.seen === queue.completed) {
      machine.count('interruptsWithNothingNew');
      return;
    }
    machine.count('completionsSeen', queue.completed - queue.seen);
    // How long KVM let a vCPU wait is told elsewhere.
    const hasWaited = lane.truth.stalls.some(({ tscRelease }) => tscRelease > queue.unseenTsc);
    const ticks = lane.pcpu.now() - queue.unseenTsc;
    if (!hasWaited) queue.slowestTicks = Math.max(queue.slowestTicks, ticks);
    queue.seen = queue.completed;
    queue.unseenTsc = NaN;
  }

  queueOf(vcpuId: number, guestVector: number): CompletionQueue | undefined {
    return this.#queues.find(
      (queue) => queue.vcpuId === vcpuId && queue.guestVector === guestVector,
    );
  }

  state(): readonly Readonly<CompletionQueue>[] {
    return structuredClone(this.#queues);
  }

  /** Goes back to where `state` was taken. */
  restore(state: readonly Readonly<CompletionQueue>[]): void {
    this.#queues = structuredClone([...state]);
  }

  #scheduleNext(index: number): void {
    const { everyTicks } = this.#queue(index);
    this.#machine.events.schedule(this.#machine.now() + everyTicks, () => {
      this.#complete(index);
      this.#scheduleNext(index);
    });
  }

  #complete(index: number): void {
    const machine = this.#machine;
    const { activity, interrupts } = this.#device();
    const entry = interrupts[index];
    if (activity === 'paused' || entry === undefined) return;
    const queue = this.#queue(index);
    queue.completed++;
    if (Number.isNaN(queue.unseenTsc)) queue.unseenTsc = machine.now();
    machine.memory.writeU64(queue.hpa, BigInt(queue.completed));
    machine.count('completions');
    this.#send(queue, entry);
    const { completed } = queue;
    machine.events.schedule(machine.now() + HAND_OVER_TICKS, () => {
      const now = this.#queue(index);
      const lane = machine.lane(now.vcpuId);
      machine.hooks.atHandOverDue(lane, machine.ledger, now, completed);
    });
  }

  #send({ vcpuId, guestVector }: CompletionQueue, entry: RemappingEntry): void {
    const machine = this.#machine;
    machine.lane(vcpuId).interrupts.assert(guestVector, machine.now());
    const message = remap(machine.memory, entry);
    if (message !== null) machine.messageArrives(message.apicId, message.vector);
  }

  #queue(index: number): CompletionQueue {
    const queue = this.#queues[index];
    if (queue === undefined) throw new HarnessBug(`the device has no queue ${index}`);
    return queue;
  }
}
