/**
 * Checks on control-flow enforcement state that the host-state and guest-state areas share.
 *
 * Source: SDM, "Checks on Host Control Registers, MSRs, and SSP", "Checks on Guest Control Registers, Debug Registers,
 * and MSRs", "Checks on Guest RIP, RFLAGS, and SSP".
 */
import { CET } from '../../../abi/msrs.js';
import { low32 } from '../../../abi/uint.js';
import { VMCS_SLOT, type FieldName } from '../../../abi/vmcs-fields.js';
import type { RuleRow, VmcsView } from './rule.js';
import { isCanonicalField } from './values.js';

const F = VMCS_SLOT;
const RESERVED = low32(CET.RESERVED);
const SUPPRESSED_TRACKER = low32(CET.SUPPRESS | CET.TRACKER);

/** The fields of one area and the control that loads them. */
export interface CetArea {
  readonly control: 'VM_EXIT_CONTROLS' | 'VM_ENTRY_CONTROLS';
  readonly loads: (v: VmcsView) => boolean;
  readonly sCet: FieldName;
  readonly ssp: FieldName;
  readonly table: FieldName;
}

/** The rules on IA32_S_CET and the interrupt SSP table address. */
export function cetMsrRows(area: CetArea): RuleRow[] {
  const { control, loads, sCet, table } = area;
  const sCetSlot = F[sCet];
  const tableSlot = F[table];
  return [
    {
      rule: `if load CET state is 1, reserved bits 9:6 of ${sCet} must be 0`,
      reads: [control, sCet],
      holds: (v) => !loads(v) || (v.low(sCetSlot) & RESERVED) === 0,
      breaks: () => ({ [sCet]: 0x40n }),
    },
    {
      rule: `if load CET state is 1, ${sCet} must be canonical`,
      reads: [control, sCet],
      holds: (v) => !loads(v) || isCanonicalField(v, sCetSlot),
      breaks: () => ({ [sCet]: 0x0000_8000_0000_0000n }),
    },
    {
      rule: `if load CET state is 1, ${sCet} must not set both SUPPRESS and TRACKER`,
      reads: [control, sCet],
      holds: (v) => !loads(v) || (v.low(sCetSlot) & SUPPRESSED_TRACKER) !== SUPPRESSED_TRACKER,
      breaks: () => ({ [sCet]: CET.SUPPRESS | CET.TRACKER }),
    },
    {
      rule: `if load CET state is 1, ${table} must be canonical`,
      reads: [control, table],
      holds: (v) => !loads(v) || isCanonicalField(v, tableSlot),
      breaks: () => ({ [table]: 0x8000_0000_0000_0000n }),
    },
  ];
}

/** The rules on SSP that hold in every mode. */
export function sspRows(area: CetArea): RuleRow[] {
  const { control, loads, ssp } = area;
  const sspSlot = F[ssp];
  return [
    {
      rule: `if load CET state is 1, bits 1:0 of ${ssp} must be 0`,
      reads: [control, ssp],
      holds: (v) => !loads(v) || (v.low(sspSlot) & 3) === 0,
      breaks: () => ({ [ssp]: 0x1002n }),
    },
    {
      rule: `if load CET state is 1, ${ssp} must be canonical`,
      reads: [control, ssp],
      holds: (v) => !loads(v) || isCanonicalField(v, sspSlot),
      breaks: () => ({ [ssp]: 0x0001_0000_0000_0000n }),
    },
  ];
}
