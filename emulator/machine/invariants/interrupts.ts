/**
 * interrupts: what was asserted is delivered, at least once after the last assertion and at most once per assertion;
 * a physical interrupt is answered with one physical EOI, and a virtual EOI ends the guest's highest interrupt in service.
 *
 * Source: SDM, "Interrupt Handling with the Local APIC", "EOI Virtualization"; CONTRACT ("What the payload handles").
 * Invariant: assertions are counted where they arise: the guest's timer and IPIs, and its devices. The virtual ISR moves
 * only by the guest's EOI and by what VM entry delivers; injection.ts says what it may deliver, and wait for.
 */
import { EXIT_REASON } from '../../../abi/exit-reasons.js';
import { INTR_TYPE, VECTOR } from '../../../abi/interruption.js';
import { offsetsOf } from '../../../abi/layout.js';
import { CARETAKER_SOFT_STATE } from '../../../abi/soft-state.js';
import { hex } from '../../../abi/uint.js';
import { VMCS_SLOT } from '../../../abi/vmcs-fields.js';
import { PRIMARY } from '../../../abi/vmx-controls.js';
import { X2APIC } from '../../../abi/x2apic.js';
import { REG } from '../../cpu/registers.js';
import { deliversVirtualInterrupts, VirtualApic } from '../../vmx/virtual-apic.js';
import { requestOf } from '../../vmx/root/ipi-destination.js';
import { ipiTargets } from '../guest-intent.js';
import type { Lane } from '../lane.js';
import { rowOf, type Ledger } from '../ledger.js';
import { SET_WORDS as ISR_WORDS } from '../virtual-apic.js';
import { wrongVector, wrongWindow } from './injection.js';
import type { Invariant } from './invariant.js';

const ID = 'interrupts';
const ROW = rowOf(ID);
const FIRST_VECTOR = 32;
const { isr: ISR, irr: IRR } = offsetsOf<'isr' | 'irr'>(CARETAKER_SOFT_STATE);

export function interrupts(): Invariant {
  /** How many of its targets had the vector of a lowest-priority IPI waiting when each vCPU sent it. */
  const pendingAtExit = new Map<number, number | null>();
  const expected = new Uint32Array(ISR_WORDS);
  return {
    id: ID,
    holdsWhen:
      'at least one delivery follows the last assertion, at most one each, and physical and virtual EOIs match',
    holdsForRun: true,

    atExit(lane: Lane): void {
      if (isIcrWrite(lane)) pendingAtExit.set(lane.id, lowestPriorityPending(lane));
    },

    atResume(lane: Lane, ledger: Ledger): void {
      if (lane.exit.outcome !== 'fastpath') return;
      ledger.count(ROW);
      const inService = lane.pcpu.apic.highestInService;
      if (inService >= 0)
        fail(lane, ledger, `physical vector ${inService} is still in service at VM entry`);
      if (lane.exit.strayEois > 0)
        fail(lane, ledger, 'a physical EOI was written with nothing in service');
      if (isIcrWrite(lane)) oneTakesIt(lane, ledger, pendingAtExit.get(lane.id) ?? null);
      if (isIcrWrite(lane) || lane.exit.basic === EXIT_REASON.EXIT_REASON_EXTERNAL_INTERRUPT)
        targetsAreKicked(lane, ledger);
      const isProcessors = deliversVirtualInterrupts(lane.vmcs);
      if (isProcessors) isForProcessor(lane, ledger);
      const wrongEntry = isProcessors ? null : (wrongVector(lane) ?? wrongWindow(lane));
      if (wrongEntry !== null) fail(lane, ledger, `${wrongEntry} at VM entry`);
      expected.set(lane.exit.apic.inService);
      expectedInService(lane, expected);
      const at = (lane.softState + ISR) >>> 2;
      for (let i = 0; i < ISR_WORDS; i++) {
        const actual = lane.memory.words[at + i]!;
        if (actual === expected[i]) continue;
        const wrong = 31 - Math.clz32((actual ^ expected[i]!) >>> 0) + 32 * i;
        const is = (actual & ~expected[i]!) !== 0 ? 'is' : 'is not';
        fail(lane, ledger, `virtual vector ${hex(wrong)} ${is} in service at VM entry`);
        return;
      }
    },

    atDelivery(lane: Lane, ledger: Ledger, vector: number): void {
      if (vector < FIRST_VECTOR && vector !== VECTOR.NMI) return;
      const { asserted, delivered } = lane.interrupts.counts(vector);
      ledger.expect(
        ID,
        delivered <= asserted,
        lane.rip,
        () =>
          `vCPU ${lane.id}: vector ${vector} delivered ${delivered} times, asserted ${asserted} times`,
      );
    },

    state: (): InterruptsState => ({
      pending: new Map(pendingAtExit),
    }),
    restore: (state) => {
      const { pending } = state as InterruptsState;
      pendingAtExit.clear();
      for (const [id, count] of pending) pendingAtExit.set(id, count);
    },

    atGap: nothingLost,
    atTakeOver: nothingLost,
    atEnd(lane: Lane, ledger: Ledger): void {
      if (!lane.hasEnded) nothingLost(lane, ledger);
    },
  };
}

function fail(lane: Lane, ledger: Ledger, message: string): void {
  ledger.fail(ID, lane.rip, `${lane.describeExit()}: ${message}`);
}

/** The vectors that this vCPU was told of are delivered or wait somewhere. */
function nothingLost(lane: Lane, ledger: Ledger): void {
  ledger.count(ROW);
  for (const { vector, sinceTsc } of lane.undelivered()) {
    ledger.fail(
      ID,
      lane.rip,
      `vCPU ${lane.id}: vector ${vector} was asserted at TSC ${sinceTsc} and neither delivered nor pending`,
    );
  }
}

interface InterruptsState {
  readonly pending: ReadonlyMap<number, number | null>;
}

const isIcrWrite = ({ exit }: Lane): boolean =>
  exit.basic === EXIT_REASON.EXIT_REASON_MSR_WRITE && exit.registers[2 * REG.RCX] === X2APIC.ICR;

/** How many targets of the lowest-priority IPI at hand have its vector waiting; null when it is none. */
function lowestPriorityPending(lane: Lane): number | null {
  const low = lane.exit.registers[2 * REG.RAX]!;
  const high = lane.exit.registers[2 * REG.RDX]!;
  const request = requestOf(low, high);
  if (request.kind !== 'lowest-priority') return null;
  const targets = ipiTargets(lane, low, high);
  return targets.filter((target) => target.hasPending(request.vector)).length;
}

/** One of those that a lowest-priority IPI addresses takes it, and no other. */
function oneTakesIt(lane: Lane, ledger: Ledger, before: number | null): void {
  if (before === null) return;
  const after = lowestPriorityPending(lane) ?? 0;
  ledger.expect(
    ID,
    after >= 1 && after <= before + 1,
    lane.rip,
    () =>
      `${lane.describeExit()}: a lowest-priority IPI waits at ${after} vCPUs, at ${before} before it was sent`,
  );
}

/** The bit first, then the kick: what another vCPU was sent while it runs its guest must make it exit. */
function targetsAreKicked(lane: Lane, ledger: Ledger): void {
  // Somebody else may stand between the bit and the kick.
  if (!lane.actsAlone) return;
  for (const peer of lane.peers()) {
    if (peer === lane || peer.phase !== 'guest' || !peer.hasPosted) continue;
    ledger.expect(
      ID,
      peer.pcpu.apic.deliverable >= 0 || peer.pcpu.pendingNmi,
      lane.rip,
      () => `${lane.describeExit()}: vCPU ${peer.id} has an interrupt posted and was not kicked`,
    );
  }
}

/** Where the processor delivers, every request is in VIRR, RVI is the highest of them, and nothing keeps it from that. */
function isForProcessor(lane: Lane, ledger: Ledger): void {
  const apic = new VirtualApic(lane.memory.bytes, lane.vmcs);
  const left = highestRequest(lane);
  ledger.expect(ID, left < 0 && apic.rvi === apic.highestRequest, lane.rip, () =>
    left < 0
      ? `${lane.describeExit()}: RVI is ${hex(apic.rvi)}, the highest vector in VIRR ${hex(apic.highestRequest)}`
      : `${lane.describeExit()}: virtual vector ${hex(left)} waits in soft state, where the processor does not look`,
  );
  const windows = lane.vmcs.low(VMCS_SLOT.CPU_BASED_VM_EXEC_CONTROL) & PRIMARY.INTR_WINDOW_EXITING;
  ledger.expect(
    ID,
    windows === 0,
    lane.rip,
    () =>
      `${lane.describeExit()}: an interrupt window is asked for, and no virtual interrupt is recognized`,
  );
}

/** The highest request in soft state, -1 without one. */
function highestRequest(lane: Lane): number {
  const at = (lane.softState + IRR) >>> 2;
  for (let i = ISR_WORDS - 1; i >= 0; i--) {
    const word = lane.memory.words[at + i]!;
    if (word !== 0) return 32 * i + 31 - Math.clz32(word);
  }
  return -1;
}

/** The virtual ISR after this exit: a completed EOI takes its highest bit away, a new interrupt that VM entry delivers adds one. */
function expectedInService(lane: Lane, isr: Uint32Array): void {
  const isEoi =
    lane.exit.basic === EXIT_REASON.EXIT_REASON_MSR_WRITE &&
    lane.exit.registers[2 * REG.RCX] === X2APIC.EOI &&
    !lane.injectsFault();
  for (let i = ISR_WORDS - 1; isEoi && i >= 0; i--) {
    if (isr[i] === 0) continue;
    isr[i]! ^= (1 << (31 - Math.clz32(isr[i]!))) >>> 0;
    break;
  }
  // Delivered once more: it has been in service since the first time.
  if (lane.exit.wasDeliveringEvent) return;
  const event = lane.vmcs.words[2 * VMCS_SLOT.VM_ENTRY_INTR_INFO_FIELD]!;
  if (event >>> 31 === 1 && ((event >>> 8) & 7) === INTR_TYPE.EXT_INTR) {
    const vector = event & 0xff;
    isr[vector >>> 5]! |= 1 << (vector & 31);
  }
}
