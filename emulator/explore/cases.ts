/**
 * The exits that are explored: every basic reason, and for reasons whose handler has several ways one exit for each.
 *
 * Source: SDM, "VMX Basic Exit Reasons"; CONTRACT ("What the payload handles").
 * Invariant: an exit here is one that hardware could make in every state that it is tried in.
 */
import { EXIT_REASON, printExitReason } from '../../abi/exit-reasons.js';
import { encodeInterruption, VECTOR } from '../../abi/interruption.js';
import { MSR } from '../../abi/msrs.js';
import { X2APIC } from '../../abi/x2apic.js';
import * as exits from '../guest/exits.js';
import type { GuestExit } from '../guest/guest.js';
import { raise, type StrayEvent } from '../machine/stray-events.js';
import { legalExit } from '../stage/legal.js';
import { plainExit, type ExitOp } from '../stage/input.js';
import type { Stage } from '../stage/stage.js';

/** One exit. */
export interface ExploreCase {
  readonly basic: number;
  /** The reason as tables print it. */
  readonly reason: string;
  /** Which way of the reason, '' where there is one. */
  readonly way: string;
  /** Makes the guest exit so. */
  readonly begin: (stage: Stage) => void;
}

const {
  EXIT_REASON_CPUID,
  EXIT_REASON_EPT_VIOLATION,
  EXIT_REASON_EXCEPTION_NMI,
  EXIT_REASON_EXTERNAL_INTERRUPT,
  EXIT_REASON_MSR_READ,
  EXIT_REASON_MSR_WRITE,
} = EXIT_REASON;
/** A number that no table has. */
const RESERVED_REASON = 127;
const FAR_DEADLINE = 0x7fff_0000_0000n;
const SELF = 0x61n;
/** A host interrupt that nobody routes. */
const STRAY_VECTOR = 0xef;

const plain = (basic: number, more: Partial<ExitOp> = {}): GuestExit =>
  legalExit({ ...plainExit(basic), ...more });
const exception = (...interruption: readonly [number, number]): GuestExit =>
  plain(EXIT_REASON_EXCEPTION_NMI, { interruption });

type Way = readonly [way: string, exit: GuestExit | ((stage: Stage) => void)];

/** Something arrives at the core while the guest runs. */
const arrives =
  (event: StrayEvent | ((stage: Stage) => StrayEvent)) =>
  (stage: Stage): void => {
    raise(stage.machine, stage.lane, typeof event === 'function' ? event(stage) : event);
    stage.settle();
  };
const interrupt = (vector: number): StrayEvent => ({ kind: 'interrupt', vector });

/** Reasons with more ways than one. */
const WAYS: ReadonlyMap<number, readonly Way[]> = new Map<number, readonly Way[]>([
  [
    EXIT_REASON_EXCEPTION_NMI,
    [
      ['nmi', arrives({ kind: 'nmi' })],
      ['machine-check', arrives({ kind: 'machine-check', restartable: true })],
      [
        'page-fault',
        exception(encodeInterruption('HARD_EXCEPTION', VECTOR.PF, { deliverCode: true }), 2),
      ],
    ],
  ],
  [
    EXIT_REASON_EXTERNAL_INTERRUPT,
    [
      ['device', arrives(({ machine }) => interrupt(machine.irqRoutes[0]!.hostVector))],
      ['stray', arrives(interrupt(STRAY_VECTOR))],
    ],
  ],
  [
    EXIT_REASON_CPUID,
    [
      ['known', exits.cpuid(1)],
      ['beyond', exits.cpuid(0x7fff_ffff)],
    ],
  ],
  [
    EXIT_REASON_MSR_READ,
    [
      ['value', exits.rdmsr(MSR.IA32_BIOS_SIGN_ID)],
      ['tpr', exits.rdmsr(X2APIC.TPR)],
      ['unknown', exits.rdmsr(0x1fff)],
    ],
  ],
  [
    EXIT_REASON_MSR_WRITE,
    [
      ['deadline', exits.wrmsr(MSR.IA32_TSC_DEADLINE, FAR_DEADLINE)],
      ['past-deadline', exits.wrmsr(MSR.IA32_TSC_DEADLINE, 1n)],
      ['self-ipi', exits.wrmsr(X2APIC.SELF_IPI, SELF)],
      ['icr', exits.wrmsr(X2APIC.ICR, SELF)],
      ['eoi', exits.wrmsr(X2APIC.EOI, 0n)],
      ['tpr', exits.wrmsr(X2APIC.TPR, 0x20n)],
      ['fault', exits.wrmsr(X2APIC.TPR, 0x100n)],
      ['unknown', exits.wrmsr(0x1fff, 0n)],
    ],
  ],
  [
    EXIT_REASON_EPT_VIOLATION,
    [
      ['access', exits.eptViolation(0x5000n, 0xffff_8880_0000_5000n)],
      ['in-delivery', exits.eptViolation(0x5000n, 0xffff_8880_0000_5000n, 'write', 'page-fault')],
    ],
  ],
]);

function casesOf(basic: number): readonly ExploreCase[] {
  const ways: readonly Way[] = WAYS.get(basic) ?? [['', plain(basic)]];
  return ways.map(([way, exit]) => ({
    basic,
    reason: printExitReason(basic),
    way,
    begin:
      typeof exit === 'function'
        ? exit
        : (stage: Stage): void => {
            stage.exit(exit);
          },
  }));
}

/** All of them, in the order of reasons. */
export const CASES: readonly ExploreCase[] = [
  ...Object.values(EXIT_REASON),
  RESERVED_REASON,
].flatMap(casesOf);

/** Names of all reasons that are explored. */
export const REASON_NAMES: readonly string[] = [...new Set(CASES.map(({ reason }) => reason))];
