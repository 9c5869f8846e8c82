/**
 * Segment registers as the checks of VM entry see them: fields by register, access rights, and rows that all share.
 *
 * Source: SDM, "Checks on Guest Segment Registers", "Format of Access Rights".
 * Invariant: "usable" means bit 16 of the access rights is 0.
 */
import { VMCS_SLOT, type FieldName } from '../../../abi/vmcs-fields.js';
import { SECONDARY } from '../../../abi/vmx-controls.js';
import type { Read, RuleRow, VmcsView } from './rule.js';
import { secondary } from './values.js';

const F = VMCS_SLOT;
const { GUEST_RFLAGS } = VMCS_SLOT;

/** The registers that hold code and data segments. */
export const CODE_AND_DATA = ['CS', 'SS', 'DS', 'ES', 'FS', 'GS'] as const;
/** The registers that hold data segments only. */
export const DATA = ['DS', 'ES', 'FS', 'GS'] as const;
/** A segment register. */
export type Segment = (typeof CODE_AND_DATA)[number] | 'TR' | 'LDTR';

// prettier-ignore
/** Bits of a VMCS access-rights field. */
export const AR = {
  TYPE: 0xf, ACCESSED: 0x1, READABLE: 0x2, CODE: 0x8, S: 0x10, DPL_SHIFT: 5, P: 0x80, L: 0x2000, DB: 0x4000,
  G: 0x8000, UNUSABLE: 0x1_0000, RESERVED: 0xfffe_0f00,
} as const;

const VM_FLAG = 0x2_0000;

/** The name of a register's access-rights field. */
export const ar = (segment: Segment) => `GUEST_${segment}_AR_BYTES` as const;
/** The name of a register's selector field. */
export const selector = (segment: Segment) => `GUEST_${segment}_SELECTOR` as const;
/** The name of a register's base field. */
export const base = (segment: Segment) => `GUEST_${segment}_BASE` as const;
/** The name of a register's limit field. */
export const limit = (segment: Segment) => `GUEST_${segment}_LIMIT` as const;

const ALL = [...CODE_AND_DATA, 'TR', 'LDTR'] as const;
const slotsOf = (nameOf: (segment: Segment) => FieldName): Readonly<Record<Segment, number>> =>
  Object.fromEntries(ALL.map((segment) => [segment, F[nameOf(segment)]])) as Record<
    Segment,
    number
  >;
/** The slots of the access rights, by register. */
export const AR_OF = slotsOf(ar);
/** The slots of the selectors, by register. */
export const SELECTOR_OF = slotsOf(selector);
/** The slots of the bases, by register. */
export const BASE_OF = slotsOf(base);
/** The slots of the limits, by register. */
export const LIMIT_OF = slotsOf(limit);

/** The flag that v8086() reads. */
export const VIRTUAL_8086_FLAG: Read = { field: 'GUEST_RFLAGS', bits: VM_FLAG };
/** Whether the guest will be in virtual-8086 mode. */
export const v8086 = (v: VmcsView): boolean => (v.low(GUEST_RFLAGS) & VM_FLAG) !== 0;
/** Whether the guest is unrestricted. */
export const unrestricted = (v: VmcsView): boolean => secondary(v, SECONDARY.UNRESTRICTED_GUEST);
/** The privilege level in access rights. */
export const dpl = (rights: number): number => (rights >>> AR.DPL_SHIFT) & 3;
/** Whether a register's descriptor is consulted at all: not in virtual-8086 mode, and not when unusable. */
export const checked = (v: VmcsView, segment: Segment): boolean =>
  !v8086(v) && (segment === 'CS' || (v.low(AR_OF[segment]) & AR.UNUSABLE) === 0);
/** What checked() reads. */
export const checkedReads = (segment: Segment): readonly Read[] => [VIRTUAL_8086_FLAG, ar(segment)];

/** Rules on P, reserved bits and granularity that code, data, TR and LDTR share. */
export function descriptorRows(
  segment: Segment,
  rights: bigint,
  isChecked: RuleRow['holds'],
): RuleRow[] {
  const name = ar(segment);
  const slot = F[name];
  const when = segment === 'CS' || segment === 'TR' ? '' : 'if usable, ';
  const reads: readonly Read[] = [VIRTUAL_8086_FLAG, name];
  return [
    {
      rule: `${segment}: ${when}P must be 1`,
      reads,
      holds: (v, cpu) => !isChecked(v, cpu) || (v.low(slot) & AR.P) !== 0,
      breaks: () => ({ [name]: rights & ~0x80n }),
    },
    {
      rule: `${segment}: ${when}bits 11:8 and 31:17 of the access rights must be 0`,
      reads,
      holds: (v, cpu) => !isChecked(v, cpu) || (v.low(slot) & AR.RESERVED) === 0,
      breaks: () => ({ [name]: rights | 0x100n }),
    },
    {
      rule: `${segment}: ${when}G must be 0 if any bit of limit[11:0] is 0`,
      reads: [...reads, limit(segment)],
      holds: (v, cpu) =>
        !isChecked(v, cpu) ||
        (v.low(LIMIT_OF[segment]) & 0xfff) === 0xfff ||
        (v.low(slot) & AR.G) === 0,
      breaks: () => ({ [name]: rights | 0x8000n, [limit(segment)]: 0xffff_f000n }),
    },
    {
      rule: `${segment}: ${when}G must be 1 if any bit of limit[31:20] is 1`,
      reads: [...reads, limit(segment)],
      holds: (v, cpu) =>
        !isChecked(v, cpu) || v.low(LIMIT_OF[segment]) >>> 20 === 0 || (v.low(slot) & AR.G) !== 0,
      breaks: () => ({ [name]: rights & ~0x8000n, [limit(segment)]: 0xffff_ffffn }),
    },
  ];
}
