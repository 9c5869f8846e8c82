/**
 * Checks of VM entry that follow pointers of the guest-state area: the VMCS link pointer and the PDPTEs.
 *
 * Source: SDM, "Checks on Guest Non-Register State", "Checks on Guest Page-Directory-Pointer-Table Entries".
 * Not modelled: SMM, in which the link pointer means something else.
 */
import { toIndex } from '../../../abi/uint.js';
import { ENTRY_FAIL } from '../../../abi/vm-errors.js';
import { VMCS_SLOT } from '../../../abi/vmcs-fields.js';
import { SECONDARY } from '../../../abi/vmx-controls.js';
import { CR } from '../capabilities.js';
import { NO_VMCS, VALID_VMCS_PAGES, type VmcsDescription } from '../description.js';
import { protectedModeGuest } from './guest-registers.js';
import { guestRules, type EntryCpu, type Read, type RuleRow, type VmcsView } from './rule.js';
import {
  SECONDARY_READS,
  ia32e,
  isPage,
  readPhysical,
  secondary,
  withBits,
  withoutBits,
} from './values.js';

const { GUEST_CR0, GUEST_CR3, GUEST_CR4, VMCS_LINK_POINTER } = VMCS_SLOT;
const { spare } = VALID_VMCS_PAGES;

const linked = (v: VmcsView): boolean =>
  v.low(VMCS_LINK_POINTER) !== 0xffff_ffff || v.high(VMCS_LINK_POINTER) !== 0xffff_ffff;

const LINK_POINTER_ROWS: RuleRow[] = [
  {
    rule: 'if the VMCS link pointer is not all ones, it must be the physical address of a page',
    reads: ['VMCS_LINK_POINTER'],
    holds: (v, cpu) => !linked(v) || isPage(v, VMCS_LINK_POINTER, cpu),
    breaks: () => ({ VMCS_LINK_POINTER: NO_VMCS & ~1n }),
    qualification: ENTRY_FAIL.ENTRY_FAIL_VMCS_LINK_PTR,
  },
  {
    rule: 'the page at the VMCS link pointer must begin with the VMCS revision, bit 31 set as VMCS shadowing says',
    reads: [...SECONDARY_READS, 'VMCS_LINK_POINTER'],
    volatile: true,
    holds: (v, cpu) => {
      if (!linked(v)) return true;
      const revision = toIndex(readPhysical(cpu.memory, v.get(VMCS_LINK_POINTER)) & 0xffff_ffffn);
      const shadow = secondary(v, SECONDARY.SHADOW_VMCS) ? 0x8000_0000 : 0;
      return revision === cpu.capabilities.revision + shadow;
    },
    breaks: () => ({ VMCS_LINK_POINTER: spare }),
    setting: { memory: [[spare, 0x1234n]] },
    qualification: ENTRY_FAIL.ENTRY_FAIL_VMCS_LINK_PTR,
  },
];

const PDPTE_RESERVED_LOW = 0x1e6;

/** Whether the guest will use PAE paging. */
const paePaging = (v: VmcsView): boolean =>
  !ia32e(v) && (v.low(GUEST_CR0) & CR.CR0_PG) !== 0 && (v.low(GUEST_CR4) & CR.CR4_PAE) !== 0;
const PAE_READS: readonly Read[] = [
  ...SECONDARY_READS,
  'VM_ENTRY_CONTROLS',
  'GUEST_CR0',
  'GUEST_CR4',
];
const paeGuest = (valid: VmcsDescription): VmcsDescription => ({
  ...protectedModeGuest(valid),
  GUEST_CR4: withBits(valid, 'GUEST_CR4', CR.CR4_PAE),
});

function isPdpte(low: number, high: number, cpu: EntryCpu): boolean {
  if ((low & 1) === 0) return true;
  return (
    (low & PDPTE_RESERVED_LOW) === 0 && high >>> (cpu.capabilities.physicalAddressBits - 32) === 0
  );
}

const PDPTR_SLOT = {
  GUEST_PDPTR0: VMCS_SLOT.GUEST_PDPTR0,
  GUEST_PDPTR1: VMCS_SLOT.GUEST_PDPTR1,
  GUEST_PDPTR2: VMCS_SLOT.GUEST_PDPTR2,
  GUEST_PDPTR3: VMCS_SLOT.GUEST_PDPTR3,
} as const;

const PDPTE_ROWS: RuleRow[] = [
  ...(['GUEST_PDPTR0', 'GUEST_PDPTR1', 'GUEST_PDPTR2', 'GUEST_PDPTR3'] as const).map(
    (name): RuleRow => ({
      rule: `with PAE paging and EPT, reserved bits of a present ${name} must be 0`,
      reads: [...PAE_READS, name],
      holds: (v, cpu) =>
        !paePaging(v) ||
        !secondary(v, SECONDARY.ENABLE_EPT) ||
        isPdpte(v.low(PDPTR_SLOT[name]), v.high(PDPTR_SLOT[name]), cpu),
      breaks: (valid) => ({ ...paeGuest(valid), [name]: 0x3n }),
      qualification: ENTRY_FAIL.ENTRY_FAIL_PDPTE,
    }),
  ),
  {
    rule: 'with PAE paging and no EPT, reserved bits of the present PDPTEs at GUEST_CR3 must be 0',
    reads: [...PAE_READS, 'GUEST_CR3'],
    volatile: true,
    holds: (v, cpu) => {
      if (!paePaging(v) || secondary(v, SECONDARY.ENABLE_EPT)) return true;
      const table = BigInt((v.low(GUEST_CR3) & 0xffff_ffe0) >>> 0);
      return [0n, 8n, 16n, 24n].every((offset) => {
        const entry = readPhysical(cpu.memory, table + offset);
        return isPdpte(toIndex(entry & 0xffff_ffffn), toIndex(entry >> 32n), cpu);
      });
    },
    breaks: (valid) => ({
      ...paeGuest(valid),
      SECONDARY_VM_EXEC_CONTROL: withoutBits(
        valid,
        'SECONDARY_VM_EXEC_CONTROL',
        SECONDARY.ENABLE_EPT,
      ),
    }),
    setting: { memory: [[VALID_VMCS_PAGES.guestCr3 + 16n, 0x3n]] },
    qualification: ENTRY_FAIL.ENTRY_FAIL_PDPTE,
  },
];

/** The rows of this file, the link pointer first. */
export const GUEST_TABLE_RULES = guestRules([...LINK_POINTER_ROWS, ...PDPTE_ROWS]);
