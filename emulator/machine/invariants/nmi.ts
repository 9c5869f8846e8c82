/**
 * nmi: an NMI or a machine check at any instruction is survived or parks the core in the documented state.
 *
 * Source: DESIGN ("Invariants"); CONTRACT ("What the payload handles", "CR3 policies"); SDM, "Handling Multiple NMIs",
 * "Machine-Check Architecture" (IA32_MCG_STATUS).
 * Invariant: an exit counts when an NMI or a machine check was taken in it; that NMIs are not blocked at VM entry is
 * looked at in every exit all the same.
 */
import { offsetsOf } from '../../../abi/layout.js';
import { MCG_STATUS, MSR } from '../../../abi/msrs.js';
import { CARETAKER_SOFT_STATE } from '../../../abi/soft-state.js';
import { CARETAKER_TELEMETRY } from '../../../abi/telemetry.js';
import { VECTOR } from '../../../abi/interruption.js';
import type { Lane } from '../lane.js';
import { rowOf, type Ledger } from '../ledger.js';
import type { Invariant } from './invariant.js';

const ID = 'nmi';
const ROW = rowOf(ID);
const SOFT = offsetsOf<'host_nmi_pending' | 'mcg_status'>(CARETAKER_SOFT_STATE);
const AT = offsetsOf<'nmis' | 'machine_checks' | 'park_valid' | 'park_vector'>(CARETAKER_TELEMETRY);

export const nmi: Invariant = {
  id: ID,
  holdsWhen:
    'an NMI or machine check at any instruction is survived or parks the core; NMIs are not blocked at VM entry',
  holdsForRun: true,

  atExit(lane: Lane): void {
    lane.counted.nmis = counterOf(lane, 'nmis');
    lane.counted.machine_checks = counterOf(lane, 'machine_checks');
  },

  atResume(lane: Lane, ledger: Ledger): void {
    const { exit, pcpu } = lane;
    const fail = (message: string): void =>
      ledger.fail(ID, lane.rip, `${lane.describeExit()}: ${message}`);
    if (pcpu.blocking.nmi) fail('NMIs are still blocked at VM entry');
    if (exit.nmis === 0 && exit.machineChecks === 0) return;
    if (exit.mustPark) fail('went on after a machine check that destroyed what it was doing');
    if (exit.hostNmis > 0 && lane.vcpu.isAttached)
      fail("an NMI of the host's was not handed to KVM before VM entry");
    if (exit.hostMachineChecks > 0 && lane.vcpu.isAttached)
      fail("a machine check of the host's was not handed to KVM before VM entry");
    handled(lane, ledger);
  },

  atRoute: handledByNow,
  atHandOver: handledByNow,

  atPark(lane: Lane, ledger: Ledger): void {
    const { fatal, mayEnd } = lane.exit;
    if (!mayEnd || fatal.length === 0 || fatal.some(({ vector }) => vector !== VECTOR.MC)) return;
    const word = (offset: number): number => lane.memory.words[(lane.telemetry + offset) >>> 2]!;
    ledger.expect(
      ID,
      word(AT.park_valid) === 1 && word(AT.park_vector) === VECTOR.MC,
      lane.rip,
      () =>
        `${lane.describeExit()}: parked after a machine check with park_valid ${word(AT.park_valid)} and park_vector ${word(AT.park_vector)}`,
    );
  },
};

function handledByNow(lane: Lane, ledger: Ledger): void {
  const { exit, pcpu } = lane;
  if (exit.nmis === 0 && exit.machineChecks === 0) return;
  // An NMI that caused the exit blocks NMIs until KVM's own IRET.
  if (pcpu.blocking.nmi && !exit.isNmi)
    ledger.fail(ID, lane.rip, `${lane.describeExit()}: routed with NMIs blocked`);
  if (exit.mustPark)
    ledger.fail(
      ID,
      lane.rip,
      `${lane.describeExit()}: routed after a machine check that destroyed what it was doing`,
    );
  const { words } = lane.memory;
  const has = (offset: number): boolean => words[(lane.softState + offset) >>> 2] !== 0;
  if (exit.hostNmis > 0 && !has(SOFT.host_nmi_pending))
    ledger.fail(ID, lane.rip, `${lane.describeExit()}: routed without the host's NMI`);
  if (exit.hostMachineChecks > 0 && !has(SOFT.mcg_status))
    ledger.fail(ID, lane.rip, `${lane.describeExit()}: routed without the host's machine check`);
  handled(lane, ledger);
}

/**
 * No event is counted that never came, and the next machine check will not shut the
 * core down.
 */
function handled(lane: Lane, ledger: Ledger): void {
  const { exit } = lane;
  ledger.count(ROW);
  const fail = (message: string): void =>
    ledger.fail(ID, lane.rip, `${lane.describeExit()}: ${message}`);
  counted(lane, 'nmis', exit.nmis, fail);
  counted(lane, 'machine_checks', exit.machineChecks, fail);
  if (exit.machineChecks === 0 || (exit.isMachineCheck && exit.outcome !== 'fastpath')) return;
  const status = lane.pcpu.msrs.file.read(MSR.IA32_MCG_STATUS) ?? 0n;
  if ((status & MCG_STATUS.MCIP) !== 0n)
    fail('IA32_MCG_STATUS.MCIP is left set: the next machine check shuts the core down');
}

type Counter = 'nmis' | 'machine_checks';

const counterOf = (lane: Lane, name: Counter): number =>
  lane.memory.words[(lane.telemetry + AT[name]) >>> 2]!;

/** A payload counts what it serviced, which is at most what came. */
function counted(lane: Lane, name: Counter, came: number, fail: (message: string) => void): void {
  const moved = counterOf(lane, name) - lane.counted[name];
  if (moved < 0 || moved > came) fail(`telemetry.${name} moved by ${moved}, and ${came} came`);
}
