/**
 * rip: an instruction exit that completes moves GUEST_RIP on by its length, once; nothing else moves it.
 *
 * Source: CONTRACT ("What the payload handles"); SDM, "Guest Non-Register State" for the STI and MOV SS shadows.
 * Invariant: outside 64-bit mode GUEST_RIP wraps at 32 bits.
 */
import { EXIT_REASON } from '../../../abi/exit-reasons.js';
import { hex, joinHalves, u64 } from '../../../abi/uint.js';
import { VMCS_SLOT } from '../../../abi/vmcs-fields.js';
import { AT_EXIT } from '../exit-record.js';
import type { Lane } from '../lane.js';
import { rowOf, type Ledger } from '../ledger.js';
import { activityIsTheGuests, blockingIsTheGuests, faultIsLegal } from './answers.js';
import type { Invariant } from './invariant.js';

const ROW = rowOf('rip');

/** Reasons of instructions that complete when a payload answers them. */
const ADVANCES = new Uint8Array(128);
for (const reason of [
  EXIT_REASON.EXIT_REASON_CPUID,
  EXIT_REASON.EXIT_REASON_HLT,
  EXIT_REASON.EXIT_REASON_MSR_READ,
  EXIT_REASON.EXIT_REASON_MSR_WRITE,
  EXIT_REASON.EXIT_REASON_RDTSC,
  EXIT_REASON.EXIT_REASON_RDTSCP,
  EXIT_REASON.EXIT_REASON_PAUSE_INSTRUCTION,
  EXIT_REASON.EXIT_REASON_INVD,
  EXIT_REASON.EXIT_REASON_WBINVD,
  EXIT_REASON.EXIT_REASON_XSETBV,
]) {
  ADVANCES[reason] = 1;
}

const SHADOWS = 3;
const TF = 1 << 8;
const BTF = 1 << 1;
const PENDING_BS = 1 << 14;
const CS_LONG = 1 << 13;
const RIP = 2 * VMCS_SLOT.GUEST_RIP;
/** What an exit that nobody has answered leaves as it was, beside GUEST_RIP. */
const UNCHANGED = (
  ['GUEST_INTERRUPTIBILITY_INFO', 'GUEST_ACTIVITY_STATE', 'GUEST_PENDING_DBG_EXCEPTIONS'] as const
).map((name) => [name, VMCS_SLOT[name]] as const);
const VALID_AND_TYPE = 0x8000_0700n;
const HARD_EXCEPTION = 0x8000_0300n;

export const rip: Invariant = {
  id: 'rip',
  holdsWhen: "GUEST_RIP and interruptibility move as CONTRACT.md says for the exit's class",
  holdsForRun: true,

  atResume(lane: Lane, ledger: Ledger): void {
    if (lane.exit.outcome !== 'fastpath') return;
    const { words } = lane.vmcs;
    const advances = ADVANCES[lane.exit.basic & 127] === 1 && !lane.injectsFault();
    ledger.count(ROW);
    const length = advances ? lane.exit.low(AT_EXIT.VM_EXIT_INSTRUCTION_LEN) : 0;
    const sum = lane.exit.low(AT_EXIT.GUEST_RIP) + length;
    const carry = sum > 0xffff_ffff ? 1 : 0;
    const isLong = (words[2 * VMCS_SLOT.GUEST_CS_AR_BYTES]! & CS_LONG) !== 0;
    const high = isLong
      ? (lane.exit.high(AT_EXIT.GUEST_RIP) + carry) >>> 0
      : advances
        ? 0
        : lane.exit.high(AT_EXIT.GUEST_RIP);
    if (words[RIP] !== sum >>> 0 || words[RIP + 1] !== high) {
      ledger.fail(
        'rip',
        lane.rip,
        `${lane.describeExit()}: GUEST_RIP is ${hex(joinHalves(words[RIP + 1]!, words[RIP]!))} at VM entry, ` +
          `should be ${hex(joinHalves(high, sum >>> 0))}`,
      );
    }
    const shadows = words[2 * VMCS_SLOT.GUEST_INTERRUPTIBILITY_INFO]! & SHADOWS;
    if (advances && (lane.exit.low(AT_EXIT.GUEST_RFLAGS) & TF) !== 0) singleStep(lane, ledger);
    if (advances && shadows !== 0) {
      ledger.fail(
        'rip',
        lane.rip,
        `${lane.describeExit()}: the STI or MOV SS shadow outlives the instruction`,
      );
    }
    faultIsLegal(lane, ledger);
    activityIsTheGuests(lane, ledger);
    blockingIsTheGuests(lane, ledger, advances);
  },

  atRoute: unmoved,
  atBlock: unmoved,
  atStop: whereItStopped,
};

/** What VMCLEAR left: past the instruction when it completed, at it when it did not or gets a fault instead. */
function whereItStopped(lane: Lane, ledger: Ledger): void {
  const { pcpu, vcpu, exit } = lane;
  const field = (slot: number): bigint => pcpu.vmcsStore.peek(pcpu.id, vcpu.vmcsRegion, slot);
  const before = joinHalves(exit.high(AT_EXIT.GUEST_RIP), exit.low(AT_EXIT.GUEST_RIP));
  const info = field(VMCS_SLOT.VM_ENTRY_INTR_INFO_FIELD);
  const faults = (info & VALID_AND_TYPE) === HARD_EXCEPTION;
  const advances =
    exit.outcome === 'fastpath' &&
    ADVANCES[exit.basic & 127] === 1 &&
    (!faults || exit.wasDeliveringEvent);
  const isLong = (field(VMCS_SLOT.GUEST_CS_AR_BYTES) & BigInt(CS_LONG)) !== 0n;
  const after = u64(before + BigInt(exit.low(AT_EXIT.VM_EXIT_INSTRUCTION_LEN)));
  const wanted = advances ? (isLong ? after : after & 0xffff_ffffn) : before;
  const actual = field(VMCS_SLOT.GUEST_RIP);
  ledger.expect(
    'rip',
    actual === wanted,
    lane.rip,
    () =>
      `${lane.describeExit()}: stopped with GUEST_RIP ${hex(actual)} in the VMCS, should be ${hex(wanted)}`,
  );
}

/** An instruction that completes with TF set leaves a single-step trap pending, unless BTF makes it a trap on branches. */
function singleStep(lane: Lane, ledger: Ledger): void {
  const { words } = lane.vmcs;
  if ((words[2 * VMCS_SLOT.GUEST_IA32_DEBUGCTL]! & BTF) !== 0) return;
  if ((words[2 * VMCS_SLOT.GUEST_PENDING_DBG_EXCEPTIONS]! & PENDING_BS) !== 0) return;
  ledger.fail(
    'rip',
    lane.rip,
    `${lane.describeExit()}: completed with RFLAGS.TF set and no single-step trap is pending`,
  );
}

function unmoved(lane: Lane, ledger: Ledger): void {
  const { words } = lane.vmcs;
  ledger.count(ROW);
  if (
    words[RIP] !== lane.exit.low(AT_EXIT.GUEST_RIP) ||
    words[RIP + 1] !== lane.exit.high(AT_EXIT.GUEST_RIP)
  ) {
    ledger.fail(
      'rip',
      lane.rip,
      `${lane.describeExit()}: GUEST_RIP moved to ${hex(joinHalves(words[RIP + 1]!, words[RIP]!))} ` +
        'on an exit that is handed to KVM',
    );
  }
  for (const [field, slot] of UNCHANGED) {
    const before = lane.exit.low(AT_EXIT[field]);
    if (words[2 * slot] === before) continue;
    ledger.fail(
      'rip',
      lane.rip,
      `${lane.describeExit()}: ${field} changed from ${hex(before)} to ${hex(words[2 * slot]!)} ` +
        'on an exit that is handed to KVM',
    );
  }
}
