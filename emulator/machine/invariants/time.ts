/**
 * time: the guest's clock never goes backwards, its deadline is kept until it is due, and then becomes its interrupt.
 *
 * Source: SDM, "TSC-Deadline Mode", "VMX-Preemption Timer"; DESIGN ("Invariants").
 * Invariant: lateness is measured from the deadline, or from when the guest could take the interrupt, to VM entry.
 * The guest's kvmclock and steal time, once it has them, are read at every exit and VM entry (pv-clock.ts).
 */
import { EXIT_REASON } from '../../../abi/exit-reasons.js';
import { offsetsOf } from '../../../abi/layout.js';
import { MSR } from '../../../abi/msrs.js';
import { CARETAKER_SOFT_STATE } from '../../../abi/soft-state.js';
import { X2APIC } from '../../../abi/x2apic.js';
import { VMCS_SLOT } from '../../../abi/vmcs-fields.js';
import { REG } from '../../cpu/registers.js';
import { joinHalves } from '../../../abi/uint.js';
import type { Lane } from '../lane.js';
import { rowOf, type Ledger } from '../ledger.js';
import type { Invariant } from './invariant.js';
import { ClockWatch, type ClockMemory } from './pv-clock.js';

const ID = 'time';
const ROW = rowOf(ID);
const SOFT = offsetsOf<'irr' | 'lvt_timer'>(CARETAKER_SOFT_STATE);
const LVT_MASKED = 1 << 16;
const LVT_MODE = 3 << 17;
const FIRST_LEGAL_VECTOR = 16;

export function time(): Invariant {
  const lastSeen = new Map<number, bigint>();
  /** Host TSC of each vCPU's deadline at its exit, null for none. */
  const deadlineAtExit = new Map<number, number | null>();
  const clocks = new ClockWatch();
  const lookAtClocks = (lane: Lane, ledger: Ledger): void => {
    ledger.count(ROW);
    const wrong = clocks.look(lane, lane.tscFrequencyHz);
    if (wrong !== null) ledger.fail(ID, lane.rip, `${lane.describeExit()}: ${wrong}`);
  };
  return {
    id: ID,
    holdsWhen:
      "the guest's TSC and PV clock never go backwards nor jump, and VM entry never forgets a deadline that it holds",
    holdsForRun: true,

    state: () => [new Map(lastSeen), new Map(deadlineAtExit), clocks.state()],
    restore: (state) => {
      const [seen, deadlines, watched] = state as [
        typeof lastSeen,
        typeof deadlineAtExit,
        ClockMemory,
      ];
      clocks.restore(watched);
      lastSeen.clear();
      deadlineAtExit.clear();
      for (const [id, tsc] of seen) lastSeen.set(id, tsc);
      for (const [id, tsc] of deadlines) deadlineAtExit.set(id, tsc);
    },

    atExit(lane: Lane, ledger: Ledger): void {
      deadlineAtExit.set(lane.id, lane.deadlineTsc());
      if (lane.vcpu.pvTimeInfo !== 0n) lookAtClocks(lane, ledger);
    },

    atResume(lane: Lane, ledger: Ledger): void {
      if (lane.vcpu.pvTimeInfo !== 0n) lookAtClocks(lane, ledger);
      if (lane.exit.outcome !== 'fastpath') return;
      if (
        lane.exit.basic === EXIT_REASON.EXIT_REASON_RDTSC ||
        lane.exit.basic === EXIT_REASON.EXIT_REASON_RDTSCP
      ) {
        const { words } = lane.pcpu.registers;
        const seen = joinHalves(words[2 * REG.RDX]!, words[2 * REG.RAX]!);
        const before = lastSeen.get(lane.id) ?? 0n;
        ledger.expect(
          ID,
          seen >= before,
          lane.rip,
          () => `${lane.describeExit()}: RDTSC gave ${seen}, before it gave ${before}`,
        );
        lastSeen.set(lane.id, seen);
      }
      const deadline = lane.deadlineTsc();
      const wanted = wantedDeadline(lane, deadlineAtExit.get(lane.id) ?? null);
      if (deadline !== wanted) deadlineMoved(lane, ledger, wanted, deadline);
      if (deadline === null) return;
      const expiry = lane.timerAtEntry();
      ledger.count(ROW);
      if (expiry <= deadline + lane.timerGranularity) return;
      ledger.fail(
        ID,
        lane.rip,
        `${lane.describeExit()}: the guest's deadline is TSC ${deadline}, the preemption timer ends at ${expiry}`,
      );
    },
  };
}

/** The deadline that the guest has after this exit: what it wrote now, or what it had. */
function wantedDeadline(lane: Lane, before: number | null): number | null {
  if (lane.exit.basic !== EXIT_REASON.EXIT_REASON_MSR_WRITE || lane.injectsFault()) return before;
  const { registers } = lane.exit;
  switch (registers[2 * REG.RCX]) {
    case MSR.IA32_TSC_DEADLINE: {
      const low = registers[2 * REG.RAX]!;
      const high = registers[2 * REG.RDX]!;
      return low === 0 && high === 0 ? null : low + high * 0x1_0000_0000 - lane.tscOffset;
    }
    // A change of the timer's mode disarms it, and no other write does.
    case X2APIC.LVT_TIMER:
      return ((registers[2 * REG.RAX]! ^ lane.exit.apic.lvtTimer) & LVT_MODE) === 0 ? before : null;
    default:
      return before;
  }
}

/** A deadline goes away only when it is due, and leaves its interrupt behind unless the timer is masked. */
function deadlineMoved(
  lane: Lane,
  ledger: Ledger,
  wanted: number | null,
  actual: number | null,
): void {
  const say = (what: string): void =>
    ledger.expect(ID, false, lane.rip, () => `${lane.describeExit()}: ${what}`);
  if (wanted === null || actual !== null) {
    say(
      `the guest's deadline is TSC ${actual ?? 'none'} at VM entry, should be ${wanted ?? 'none'}`,
    );
    return;
  }
  if (wanted > lane.pcpu.now()) {
    say(`the guest's deadline at TSC ${wanted} was dropped before it was due`);
    return;
  }
  ledger.count(ROW);
  const { words } = lane.memory;
  const lvt = words[(lane.softState + SOFT.lvt_timer) >>> 2]!;
  const vector = lvt & 0xff;
  if ((lvt & LVT_MASKED) !== 0 || vector < FIRST_LEGAL_VECTOR) return;
  const irr = words[((lane.softState + SOFT.irr) >>> 2) + (vector >>> 5)]!;
  const event = lane.vmcs.words[2 * VMCS_SLOT.VM_ENTRY_INTR_INFO_FIELD]!;
  const isInjected = event >>> 31 === 1 && (event & 0xff) === vector;
  const isRequested = ((irr >>> (vector & 31)) & 1) !== 0 || lane.isRequestedOfProcessor(vector);
  if (!isInjected && !isRequested) {
    say(`the guest's deadline at TSC ${wanted} passed without its interrupt, vector ${vector}`);
  }
}
