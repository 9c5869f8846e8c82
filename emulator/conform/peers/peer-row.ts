/**
 * A case of another project's tests, in our words, and what of ours holds it.
 *
 * Source: kvm-unit-tests x86/vmx_tests.c; Linux tools/testing/selftests/liveupdate. Names and facts, none of their text.
 * Invariant: a row is executed, or says why its subject is not there.
 */
import type { VmxCapabilities } from '../../vmx/capabilities.js';
import type { VmcsDescription } from '../../vmx/description.js';
import type { Outcome } from '../entry-rows.js';
import type { ENTER } from '../program.js';

/** A VM entry that the peer tries, over the base VMCS. */
export interface PeerAttempt {
  readonly overrides: VmcsDescription;
  readonly memory?: readonly (readonly [hpa: bigint, value: bigint])[];
  readonly how?: keyof typeof ENTER;
  /** The row of the entry checks that must refuse it, or how it must end; with neither it must be accepted. */
  readonly refusedBy?: string;
  readonly ends?: Outcome;
}

/** The attempts of a case on a processor; `base` passes every check. */
export type PeerAttempts = (
  base: VmcsDescription,
  capabilities: VmxCapabilities,
) => readonly PeerAttempt[];

/** What holds a case. */
export type Holder =
  | { readonly kind: 'entry'; readonly attempts: PeerAttempts }
  /** Titles of our own cases of VM exits and of VMX instructions. */
  | { readonly kind: 'cases'; readonly titles: readonly string[] }
  /** Throws when our host, or the model alone, does otherwise. */
  | { readonly kind: 'run'; readonly run: () => void }
  /** It is about something that is not there on a machine of payloads, or that the SDM leaves undefined. */
  | { readonly kind: 'not-offered'; readonly why: string };

/** One case of a peer's. */
export interface PeerRow {
  /** Its file in the peer's repository. */
  readonly source: string;
  readonly test: string;
  /** What it holds, in our words. */
  readonly what: string;
  readonly holder: Holder;
}

const KVM_UNIT_TESTS = 'kvm-unit-tests x86/vmx_tests.c';

/** A case of kvm-unit-tests that is about VM entry. */
export function entryRow(test: string, what: string, attempts: PeerAttempts): PeerRow {
  return { source: KVM_UNIT_TESTS, test, what, holder: { kind: 'entry', attempts } };
}

/** A case of kvm-unit-tests that our own cases hold. */
export function caseRow(test: string, what: string, ...titles: readonly string[]): PeerRow {
  return { source: KVM_UNIT_TESTS, test, what, holder: { kind: 'cases', titles } };
}

/** A case of kvm-unit-tests whose subject is not there. */
export function notOfferedRow(test: string, what: string, why: string): PeerRow {
  return { source: KVM_UNIT_TESTS, test, what, holder: { kind: 'not-offered', why } };
}

/** Numbers from `from` up to and with `to`. */
export function range(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, i) => from + i);
}

/** What may be written to a field that holds an address, and whether that is legal; `width` is that of physical addresses. */
export function addressValues(
  width: number,
  alignment: bigint,
  from = 0,
): readonly (readonly [value: bigint, fault: 'none' | 'low' | 'high'])[] {
  const end = 1n << BigInt(width);
  const values = [
    ...range(from, 63).map((bit) => 1n << BigInt(bit)),
    0xfffn,
    0x1000n,
    end - 0x1000n,
  ];
  return [...values, (1n << 64n) - 1n].map((value) => [
    value,
    value % alignment !== 0n ? 'low' : value >= end ? 'high' : 'none',
  ]);
}
