/**
 * host-state and bounded: what VM exit does not reload is as the host left it when the guest goes on, and the handler
 * came to its end within its bound.
 *
 * Source: SDM, "Loading Host State" (what is not loaded stays the guest's or the host's); DESIGN ("Invariants").
 * Invariant: MSRs and the local APIC's configuration are compared only when the handler wrote there: both count writes.
 * x87 and vector registers are watched at the instructions that change them (guest-registers).
 */
import { MSR } from '../../../abi/msrs.js';
import { LOGGED_MSRS } from '../../vmx/root/machine-check.js';
import { hex } from '../../../abi/uint.js';
import type { Lane } from '../lane.js';
import { rowOf, type Ledger } from '../ledger.js';
import type { Invariant } from './invariant.js';

const HOST_STATE_ROW = rowOf('host-state');
const BOUNDED_ROW = rowOf('bounded');

export const hostState: Invariant = {
  id: 'host-state',
  holdsWhen:
    'what VM exit does not reload (MSRs, local APIC, XCR0, CR2, CR8, DR0-3, DR6) is as it was at the exit',
  holdsForRun: true,
  atExit(lane: Lane): void {
    lane.host.take(lane.pcpu);
  },
  atResume: unchanged,
  atRoute: unchanged,
};

const NONE: readonly number[] = [];
const MACHINE_CHECK_MSRS: readonly number[] = [MSR.IA32_MCG_STATUS, ...LOGGED_MSRS];

function unchanged(lane: Lane, ledger: Ledger): void {
  ledger.count(HOST_STATE_ROW);
  // A machine check is logged, and its handler clears MCIP; the nmi invariant sees to that.
  const ownMsrs = lane.exit.machineChecks > 0 ? MACHINE_CHECK_MSRS : NONE;
  for (const change of lane.host.changes(lane.pcpu, ownMsrs)) {
    ledger.fail('host-state', lane.rip, `${lane.describeExit()}: ${change}`);
  }
}

/** The longest handler: a scan of every table, an IPI to every vCPU, and some. */
const INSTRUCTIONS_BASE = 4_000;
const INSTRUCTIONS_PER_VCPU = 200;

export const bounded: Invariant = {
  id: 'bounded',
  holdsWhen: 'each exit ends within f(vCPUs, table sizes) instructions, waits apart',
  holdsForRun: true,
  atResume: withinBound,
  atRoute: withinBound,
};

function withinBound(lane: Lane, ledger: Ledger): void {
  const used =
    lane.pcpu.engine.counters.instructions - lane.exit.instructions - lane.exit.waitedInstructions;
  const bound = INSTRUCTIONS_BASE + INSTRUCTIONS_PER_VCPU * lane.vcpuCount;
  ledger.count(BOUNDED_ROW);
  if (used <= bound) return;
  ledger.fail(
    'bounded',
    lane.rip,
    `${lane.describeExit()}: ${used} instructions, the bound is ${bound} (${hex(bound)})`,
  );
}
