/**
 * Checks of VM entry on the guest's code and data segment registers, and the selectors and bases of TR and LDTR.
 *
 * Source: SDM, "Checks on Guest Segment Registers".
 * Invariant: "usable" means bit 16 of the access rights is 0; a virtual-8086 guest has RFLAGS.VM = 1 and CR0.PE is
 * not consulted, as the SDM's term "the guest will be virtual-8086" says.
 */
import { VMCS_SLOT, type FieldName } from '../../../abi/vmcs-fields.js';
import { CR } from '../capabilities.js';
import type { VmcsDescription } from '../description.js';
import { protectedModeGuest, unrestrictedGuest } from './guest-registers.js';
import { guestRules, type RuleRow } from './rule.js';
import {
  AR,
  AR_OF,
  BASE_OF,
  CODE_AND_DATA,
  DATA,
  LIMIT_OF,
  SELECTOR_OF,
  VIRTUAL_8086_FLAG,
  ar,
  base,
  checked,
  checkedReads,
  descriptorRows,
  dpl,
  limit,
  selector,
  unrestricted,
  v8086,
  type Segment,
} from './segment-registers.js';
import { SECONDARY_READS, ia32e, isCanonicalField } from './values.js';

const {
  GUEST_CR0,
  GUEST_CS_AR_BYTES,
  GUEST_CS_BASE,
  GUEST_CS_SELECTOR,
  GUEST_LDTR_AR_BYTES,
  GUEST_LDTR_BASE,
  GUEST_LDTR_SELECTOR,
  GUEST_SS_AR_BYTES,
  GUEST_SS_SELECTOR,
  GUEST_TR_SELECTOR,
} = VMCS_SLOT;

/** A protected-mode guest whose segment registers hold what virtual-8086 mode demands. */
const virtual8086 = (valid: VmcsDescription): VmcsDescription => ({
  ...protectedModeGuest(valid),
  GUEST_RFLAGS: 0x2_0202n,
  GUEST_RIP: 0x100n,
  ...Object.fromEntries(
    CODE_AND_DATA.flatMap((segment): [FieldName, bigint][] => [
      [selector(segment), 0x1000n],
      [base(segment), 0x1_0000n],
      [limit(segment), 0xffffn],
      [ar(segment), 0xf3n],
    ]),
  ),
});

/** A usable flat data segment with these rights. */
const usable = (segment: Segment, rights: bigint): VmcsDescription => ({ [ar(segment)]: rights });
/** The access rights with which each register is usable and legal. */
const legalRights = (segment: Segment): bigint => (segment === 'CS' ? 0xa09bn : 0xc093n);

const SELECTORS: RuleRow[] = [
  {
    rule: 'TR: the TI flag of the selector must be 0',
    reads: ['GUEST_TR_SELECTOR'],
    holds: (v) => (v.low(GUEST_TR_SELECTOR) & 4) === 0,
    breaks: () => ({ GUEST_TR_SELECTOR: 0x44n }),
  },
  {
    rule: 'LDTR: if usable, the TI flag of the selector must be 0',
    reads: ['GUEST_LDTR_SELECTOR', 'GUEST_LDTR_AR_BYTES'],
    holds: (v) =>
      (v.low(GUEST_LDTR_AR_BYTES) & AR.UNUSABLE) !== 0 || (v.low(GUEST_LDTR_SELECTOR) & 4) === 0,
    breaks: () => ({ GUEST_LDTR_AR_BYTES: 0x82n, GUEST_LDTR_SELECTOR: 0x4cn }),
  },
  {
    rule: 'SS: in protected mode without unrestricted guest, RPL must equal the RPL of CS',
    reads: [...SECONDARY_READS, VIRTUAL_8086_FLAG, 'GUEST_SS_SELECTOR', 'GUEST_CS_SELECTOR'],
    holds: (v) =>
      v8086(v) ||
      unrestricted(v) ||
      (v.low(GUEST_SS_SELECTOR) & 3) === (v.low(GUEST_CS_SELECTOR) & 3),
    breaks: () => ({ GUEST_SS_SELECTOR: 0x1bn }),
  },
];

const BASES: RuleRow[] = [
  ...CODE_AND_DATA.map((segment): RuleRow => ({
    rule: `${segment}: in virtual-8086 mode the base must be the selector shifted left by 4`,
    reads: [VIRTUAL_8086_FLAG, base(segment), selector(segment)],
    holds: (v) =>
      !v8086(v) ||
      (v.high(BASE_OF[segment]) === 0 &&
        v.low(BASE_OF[segment]) === v.low(SELECTOR_OF[segment]) << 4),
    breaks: (valid) => ({ ...virtual8086(valid), [base(segment)]: 0x1_0010n }),
  })),
  ...(['TR', 'FS', 'GS'] as const).map((segment): RuleRow => ({
    rule: `${segment}: the base must be canonical`,
    reads: [base(segment)],
    holds: (v) => isCanonicalField(v, BASE_OF[segment]),
    breaks: () => ({ [base(segment)]: 0x0000_8000_0000_0000n }),
  })),
  {
    rule: 'LDTR: if usable, the base must be canonical',
    reads: ['GUEST_LDTR_AR_BYTES', 'GUEST_LDTR_BASE'],
    holds: (v) =>
      (v.low(GUEST_LDTR_AR_BYTES) & AR.UNUSABLE) !== 0 || isCanonicalField(v, GUEST_LDTR_BASE),
    breaks: () => ({ GUEST_LDTR_AR_BYTES: 0x82n, GUEST_LDTR_BASE: 0x0000_8000_0000_0000n }),
  },
  {
    rule: 'CS: bits 63:32 of the base must be 0',
    reads: ['GUEST_CS_BASE'],
    holds: (v) => v.high(GUEST_CS_BASE) === 0,
    breaks: () => ({ GUEST_CS_BASE: 1n << 32n }),
  },
  ...(['SS', 'DS', 'ES'] as const).map((segment): RuleRow => ({
    rule: `${segment}: if usable, bits 63:32 of the base must be 0`,
    reads: [ar(segment), base(segment)],
    holds: (v) => (v.low(AR_OF[segment]) & AR.UNUSABLE) !== 0 || v.high(BASE_OF[segment]) === 0,
    breaks: () => ({ ...usable(segment, 0xc093n), [base(segment)]: 1n << 32n }),
  })),
];

const VIRTUAL_8086: RuleRow[] = CODE_AND_DATA.flatMap((segment): RuleRow[] => [
  {
    rule: `${segment}: in virtual-8086 mode the limit must be 0xffff`,
    reads: [VIRTUAL_8086_FLAG, limit(segment)],
    holds: (v) => !v8086(v) || v.low(LIMIT_OF[segment]) === 0xffff,
    breaks: (valid) => ({ ...virtual8086(valid), [limit(segment)]: 0xfffen }),
  },
  {
    rule: `${segment}: in virtual-8086 mode the access rights must be 0xf3`,
    reads: [VIRTUAL_8086_FLAG, ar(segment)],
    holds: (v) => !v8086(v) || v.low(AR_OF[segment]) === 0xf3,
    breaks: (valid) => ({ ...virtual8086(valid), [ar(segment)]: 0x93n }),
  },
]);

const TYPES: RuleRow[] = [
  {
    rule: 'CS: the type must be 9, 11, 13 or 15, or 3 for an unrestricted guest',
    reads: [...SECONDARY_READS, ...checkedReads('CS')],
    holds: (v) => {
      if (!checked(v, 'CS')) return true;
      const type = v.low(GUEST_CS_AR_BYTES) & AR.TYPE;
      return (type >= 9 && (type & 1) !== 0) || (type === 3 && unrestricted(v));
    },
    breaks: () => ({ GUEST_CS_AR_BYTES: 0xa093n }),
  },
  {
    rule: 'SS: if usable, the type must be 3 or 7',
    reads: checkedReads('SS'),
    holds: (v) => {
      const type = v.low(GUEST_SS_AR_BYTES) & AR.TYPE;
      return !checked(v, 'SS') || type === 3 || type === 7;
    },
    breaks: () => ({ GUEST_SS_AR_BYTES: 0xc09bn }),
  },
  ...DATA.flatMap((segment): RuleRow[] => [
    {
      rule: `${segment}: if usable, bit 0 of the type (accessed) must be 1`,
      reads: checkedReads(segment),
      holds: (v) => !checked(v, segment) || (v.low(AR_OF[segment]) & AR.ACCESSED) !== 0,
      breaks: () => usable(segment, 0xc092n),
    },
    {
      rule: `${segment}: if usable and code, bit 1 of the type (readable) must be 1`,
      reads: checkedReads(segment),
      holds: (v) => {
        const rights = v.low(AR_OF[segment]);
        return !checked(v, segment) || (rights & AR.CODE) === 0 || (rights & AR.READABLE) !== 0;
      },
      breaks: () => usable(segment, 0xc099n),
    },
  ]),
];

const SYSTEM_FLAG: RuleRow[] = CODE_AND_DATA.map((segment): RuleRow => ({
  rule: `${segment}: ${segment === 'CS' ? '' : 'if usable, '}S must be 1`,
  reads: checkedReads(segment),
  holds: (v) => !checked(v, segment) || (v.low(AR_OF[segment]) & AR.S) !== 0,
  breaks: () => usable(segment, legalRights(segment) & ~0x10n),
}));

const PRIVILEGE: RuleRow[] = [
  {
    rule: 'CS: DPL must be 0 for type 3, equal to the DPL of SS if non-conforming, and not greater if conforming',
    reads: [VIRTUAL_8086_FLAG, 'GUEST_CS_AR_BYTES', 'GUEST_SS_AR_BYTES'],
    holds: (v) => {
      if (!checked(v, 'CS')) return true;
      const code = v.low(GUEST_CS_AR_BYTES);
      const stack = dpl(v.low(GUEST_SS_AR_BYTES));
      switch (code & AR.TYPE) {
        case 3:
          return dpl(code) === 0;
        case 9:
        case 11:
          return dpl(code) === stack;
        case 13:
        case 15:
          return dpl(code) <= stack;
        default:
          return true; // the rule on the type refuses it
      }
    },
    breaks: () => ({ GUEST_CS_AR_BYTES: 0xa0fbn }),
  },
  {
    rule: 'SS: without unrestricted guest, DPL must equal the RPL of the selector',
    reads: [...SECONDARY_READS, VIRTUAL_8086_FLAG, 'GUEST_SS_AR_BYTES', 'GUEST_SS_SELECTOR'],
    holds: (v) =>
      v8086(v) ||
      unrestricted(v) ||
      dpl(v.low(GUEST_SS_AR_BYTES)) === (v.low(GUEST_SS_SELECTOR) & 3),
    breaks: () => ({ GUEST_SS_SELECTOR: 0x1bn, GUEST_CS_SELECTOR: 0x13n }),
  },
  {
    rule: 'SS: DPL must be 0 if CS has type 3 or CR0.PE is 0',
    reads: [VIRTUAL_8086_FLAG, 'GUEST_SS_AR_BYTES', 'GUEST_CS_AR_BYTES', 'GUEST_CR0'],
    holds: (v) => {
      if (v8086(v)) return true;
      const real =
        (v.low(GUEST_CS_AR_BYTES) & AR.TYPE) === 3 || (v.low(GUEST_CR0) & CR.CR0_PE) === 0;
      return !real || dpl(v.low(GUEST_SS_AR_BYTES)) === 0;
    },
    breaks: (valid) => ({
      ...unrestrictedGuest(valid),
      GUEST_CS_AR_BYTES: 0xa093n,
      GUEST_SS_AR_BYTES: 0xc0f3n,
    }),
  },
  ...DATA.map((segment): RuleRow => ({
    rule: `${segment}: without unrestricted guest, if usable and not conforming code, DPL must not be less than the RPL of the selector`,
    reads: [...SECONDARY_READS, ...checkedReads(segment), selector(segment)],
    holds: (v) => {
      if (!checked(v, segment) || unrestricted(v)) return true;
      const rights = v.low(AR_OF[segment]);
      return (rights & AR.TYPE) > 11 || dpl(rights) >= (v.low(SELECTOR_OF[segment]) & 3);
    },
    breaks: () => ({ ...usable(segment, 0xc093n), [selector(segment)]: 0x1bn }),
  })),
];

const DESCRIPTORS: RuleRow[] = [
  ...CODE_AND_DATA.flatMap((segment) =>
    descriptorRows(segment, legalRights(segment), (v) => checked(v, segment)),
  ),
  {
    rule: 'CS: in IA-32e mode with L = 1, D/B must be 0',
    reads: [VIRTUAL_8086_FLAG, 'GUEST_CS_AR_BYTES', 'VM_ENTRY_CONTROLS'],
    holds: (v) => {
      const rights = v.low(GUEST_CS_AR_BYTES);
      return v8086(v) || !ia32e(v) || (rights & AR.L) === 0 || (rights & AR.DB) === 0;
    },
    breaks: () => ({ GUEST_CS_AR_BYTES: 0xe09bn }),
  },
];

export const GUEST_SEGMENT_RULES = guestRules([
  ...SELECTORS,
  ...BASES,
  ...VIRTUAL_8086,
  ...TYPES,
  ...SYSTEM_FLAG,
  ...PRIVILEGE,
  ...DESCRIPTORS,
]);
