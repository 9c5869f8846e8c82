/**
 * Where the second machine is known to differ from the SDM in VM entry: not ours to match.
 *
 * Source: each row names the SDM's rule; all were seen on Bochs 2.7.
 * Invariant: a difference is put down to a row only when the model agrees with the second machine once it leaves out that
 * row's checks (or takes its qualification); a row that explains nothing any more is reported.
 */
import { VMCS_SLOT } from '../../abi/vmcs-fields.js';
import type { EntryRule, VmcsView } from '../vmx/entry-checks/rule.js';
import { AR, AR_OF, DATA } from '../vmx/entry-checks/segment-registers.js';

/** One known difference. */
export interface KnownDifference {
  readonly id: string;
  readonly sdm: string;
  readonly bochs: string;
  /** Beginnings of the entry-check rules that the second machine does not check, or answers otherwise. */
  readonly rules: readonly string[];
  /** What it answers instead of refusing as the SDM says; without one it does not check at all. */
  readonly answers?: string;
  /** The VMCSs in which it shows, where that is not every one that breaks the rule. */
  readonly when?: (v: VmcsView, rule: EntryRule) => boolean;
}

const NON_CONFORMING_READABLE_CODE = 11;

export const KNOWN_DIFFERENCES: readonly KnownDifference[] = [
  {
    id: 'guest-rip-upper-bits',
    sdm: 'bits 63:48 of the guest RIP must be identical in 64-bit mode',
    bochs: 'accepts any RIP',
    rules: ['if the guest will be in 64-bit mode, bits 63:48 of GUEST_RIP'],
  },
  {
    id: 'guest-debugctl-reserved',
    sdm: 'reserved bits of the guest IA32_DEBUGCTL must be 0 where debug controls are loaded',
    bochs: 'has no IA32_DEBUGCTL and checks nothing',
    rules: ['if load debug controls is 1, reserved bits in GUEST_IA32_DEBUGCTL'],
  },
  {
    id: 'perf-global-ctrl-reserved',
    sdm: 'reserved bits of IA32_PERF_GLOBAL_CTRL must be 0 where it is loaded',
    bochs: 'offers the controls, has no such register and checks nothing',
    rules: ['if load IA32_PERF_GLOBAL_CTRL is 1'],
  },
  {
    id: 'pending-step-consistency',
    sdm: 'under blocking by STI or MOV SS or in HLT, pending BS must equal TF and not BTF',
    bochs: 'does not check it',
    rules: ['under blocking by STI or MOV SS or in HLT, pending BS'],
  },
  {
    id: 'pending-debug-upper-half',
    sdm: 'reserved bits 63:17 of the pending debug exceptions must be 0',
    bochs: 'looks at the lower half only',
    rules: ['reserved bits of the pending debug exceptions must be 0'],
    when: (v) => v.high(VMCS_SLOT.GUEST_PENDING_DBG_EXCEPTIONS) !== 0,
  },
  {
    id: 'host-cet-without-wp',
    sdm: 'host CR4.CET requires host CR0.WP',
    bochs: 'checks it only where VM exit loads CET state',
    rules: ['if bit 23 (CET) of HOST_CR4 is 1, bit 16 (WP) of HOST_CR0'],
  },
  {
    id: 'entry-to-smm',
    sdm: 'outside SMM, entry to SMM is an invalid control: VMfail 7',
    bochs: 'fails the entry as an invalid guest state',
    rules: ['outside SMM, entry to SMM'],
    answers: 'exit 33 qualification 0x0',
  },
  {
    id: 'nmi-under-sti-qualification',
    sdm: 'an NMI injected under blocking by STI fails with exit qualification 3',
    bochs: 'fails with exit qualification 0',
    rules: ['blocking by STI must be 0 if an NMI is injected'],
    answers: 'exit 33 qualification 0x0',
  },
  {
    id: 'virtual-nmi-injected-under-blocking',
    sdm: 'with virtual NMIs, blocking by NMI must be 0 where an NMI is injected',
    bochs: 'accepts it',
    rules: ['with virtual NMIs, blocking by NMI'],
  },
  {
    id: 'injection-into-hlt',
    sdm: 'into the HLT state only events that wake it may be injected',
    bochs: 'accepts any exception',
    rules: ['into the HLT state only'],
  },
  {
    id: 'error-code-of-other-events',
    sdm: 'only a hardware exception of a guest in protected mode may deliver an error code',
    bochs: 'checks it only on processors without IA32_VMX_BASIC[56]',
    rules: [
      'an injected event that is no hardware exception must not deliver',
      'an exception injected outside protected mode must not deliver',
    ],
  },
  {
    id: 'ia32e-guest-without-paging',
    sdm: 'an IA-32e mode guest must have CR0.PG = 1',
    bochs: 'accepts an unrestricted guest without it, and stops itself where PE is 0 too',
    rules: ['if IA-32e mode guest is 1, bit 31 (PG) of GUEST_CR0'],
  },
  {
    id: 'data-segment-of-type-11',
    sdm: 'a data segment register of type 0 to 11 must not have a DPL that is less than its RPL',
    bochs: 'does not check it for type 11, non-conforming code that can be read',
    rules: DATA.map((segment) => `${segment}: without unrestricted guest, if usable and not`),
    when: (v, { rule }) => {
      const segment = DATA.find((name) => rule.startsWith(name));
      const type = segment === undefined ? 0 : v.low(AR_OF[segment]) & AR.TYPE;
      return type === NON_CONFORMING_READABLE_CODE;
    },
  },
];

/** The known difference that covers a rule of the entry checks in a VMCS. */
export function knownDifference(rule: EntryRule, v: VmcsView): KnownDifference | undefined {
  return KNOWN_DIFFERENCES.find(
    ({ rules, when }) =>
      rules.some((start) => rule.rule.startsWith(start)) && (when === undefined || when(v, rule)),
  );
}
