/**
 * Checks of VM entry on the guest's TR, LDTR, GDTR and IDTR.
 *
 * Source: SDM, "Checks on Guest Segment Registers", "Checks on Guest Descriptor-Table Registers".
 */
import { VMCS_SLOT } from '../../../abi/vmcs-fields.js';
import { guestRules, type RuleRow, type VmcsView } from './rule.js';
import { AR, descriptorRows } from './segment-registers.js';
import { ia32e, isCanonicalField, withBits } from './values.js';

const F = VMCS_SLOT;
const { GUEST_LDTR_AR_BYTES, GUEST_TR_AR_BYTES } = VMCS_SLOT;

const BUSY_16 = 3;
const BUSY_32 = 11;
const LDT = 2;

const ldtrUsable = (v: VmcsView): boolean => (v.low(GUEST_LDTR_AR_BYTES) & AR.UNUSABLE) === 0;

const SYSTEM: RuleRow[] = [
  {
    rule: 'TR: in IA-32e mode the type must be 11 (64-bit busy TSS), else 3 or 11',
    reads: ['GUEST_TR_AR_BYTES', 'VM_ENTRY_CONTROLS'],
    holds: (v) => {
      const type = v.low(GUEST_TR_AR_BYTES) & AR.TYPE;
      return type === BUSY_32 || (type === BUSY_16 && !ia32e(v));
    },
    breaks: () => ({ GUEST_TR_AR_BYTES: 0x83n }),
  },
  {
    rule: 'TR: S must be 0',
    reads: ['GUEST_TR_AR_BYTES'],
    holds: (v) => (v.low(GUEST_TR_AR_BYTES) & AR.S) === 0,
    breaks: () => ({ GUEST_TR_AR_BYTES: 0x9bn }),
  },
  ...descriptorRows('TR', 0x8bn, () => true),
  {
    rule: 'TR: it must not be unusable',
    reads: ['GUEST_TR_AR_BYTES'],
    holds: (v) => (v.low(GUEST_TR_AR_BYTES) & AR.UNUSABLE) === 0,
    breaks: (valid) => ({ GUEST_TR_AR_BYTES: withBits(valid, 'GUEST_TR_AR_BYTES', AR.UNUSABLE) }),
  },
  {
    rule: 'LDTR: if usable, the type must be 2 (LDT)',
    reads: ['GUEST_LDTR_AR_BYTES'],
    holds: (v) => !ldtrUsable(v) || (v.low(GUEST_LDTR_AR_BYTES) & AR.TYPE) === LDT,
    breaks: () => ({ GUEST_LDTR_AR_BYTES: 0x83n }),
  },
  {
    rule: 'LDTR: if usable, S must be 0',
    reads: ['GUEST_LDTR_AR_BYTES'],
    holds: (v) => !ldtrUsable(v) || (v.low(GUEST_LDTR_AR_BYTES) & AR.S) === 0,
    breaks: () => ({ GUEST_LDTR_AR_BYTES: 0x92n }),
  },
  ...descriptorRows('LDTR', 0x82n, ldtrUsable),
];

const TABLE_SLOT = {
  GDTR: { base: F.GUEST_GDTR_BASE, limit: F.GUEST_GDTR_LIMIT },
  IDTR: { base: F.GUEST_IDTR_BASE, limit: F.GUEST_IDTR_LIMIT },
} as const;

const TABLES: RuleRow[] = (['GDTR', 'IDTR'] as const).flatMap((table): RuleRow[] => [
  {
    rule: `${table}: the base must be canonical`,
    reads: [`GUEST_${table}_BASE`],
    holds: (v) => isCanonicalField(v, TABLE_SLOT[table].base),
    breaks: () => ({ [`GUEST_${table}_BASE`]: 0x0000_8000_0000_0000n }),
  },
  {
    rule: `${table}: bits 31:16 of the limit must be 0`,
    reads: [`GUEST_${table}_LIMIT`],
    holds: (v) => v.low(TABLE_SLOT[table].limit) >>> 16 === 0,
    breaks: () => ({ [`GUEST_${table}_LIMIT`]: 0x1_0000n }),
  },
]);

/** The rows of this file, TR first. */
export const GUEST_SYSTEM_SEGMENT_RULES = guestRules([...SYSTEM, ...TABLES]);
