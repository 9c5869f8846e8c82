/**
 * Checks of VM entry on the guest's RIP, RFLAGS and SSP.
 *
 * Source: SDM, "Checks on Guest RIP, RFLAGS, and SSP".
 */
import { INTR_TYPE, encodeInterruption } from '../../../abi/interruption.js';
import { VMCS_SLOT } from '../../../abi/vmcs-fields.js';
import { ENTRY_CONTROL } from '../../../abi/vmx-controls.js';
import { CR } from '../capabilities.js';
import { sspRows } from './cet.js';
import { injectsType } from './entry-controls.js';
import { protectedModeGuest } from './guest-registers.js';
import { guestRules, type VmcsView } from './rule.js';
import { entry, ia32e, withBits } from './values.js';

const { GUEST_CR0, GUEST_CS_AR_BYTES, GUEST_RFLAGS, GUEST_RIP, GUEST_SSP } = VMCS_SLOT;

const IF = 0x200;
const VM = 0x2_0000;
/** Bits 31:22, 15, 5 and 3. */
const RESERVED_0 = 0xffc0_8028;
const CS_L = 0x2000;

/** Whether the guest will execute 64-bit code. */
const is64Bit = (v: VmcsView): boolean => ia32e(v) && (v.low(GUEST_CS_AR_BYTES) & CS_L) !== 0;
const hasIdenticalTop = (high: number): boolean => high >>> 16 === 0 || high >>> 16 === 0xffff;
const loadsCet = (v: VmcsView): boolean => entry(v, ENTRY_CONTROL.LOAD_CET_STATE);

export const GUEST_RIP_RULES = guestRules([
  {
    rule: 'if the guest will not be in 64-bit mode, bits 63:32 of GUEST_RIP must be 0',
    reads: ['VM_ENTRY_CONTROLS', 'GUEST_CS_AR_BYTES', 'GUEST_RIP'],
    holds: (v) => v.high(GUEST_RIP) === 0 || is64Bit(v),
    breaks: () => ({ GUEST_CS_AR_BYTES: 0xc09bn }),
  },
  {
    // Bit 47 may differ: such an address is not canonical, and the guest's first fetch faults instead.
    rule: 'if the guest will be in 64-bit mode, bits 63:48 of GUEST_RIP must be identical',
    reads: ['VM_ENTRY_CONTROLS', 'GUEST_CS_AR_BYTES', 'GUEST_RIP'],
    holds: (v) => hasIdenticalTop(v.high(GUEST_RIP)) || !is64Bit(v),
    breaks: () => ({ GUEST_RIP: 0x0001_0000_0000_0000n }),
  },
  {
    rule: 'reserved bits 63:22, 15, 5 and 3 of GUEST_RFLAGS must be 0',
    reads: ['GUEST_RFLAGS'],
    holds: (v) => v.high(GUEST_RFLAGS) === 0 && (v.low(GUEST_RFLAGS) & RESERVED_0) === 0,
    breaks: (valid) => ({ GUEST_RFLAGS: withBits(valid, 'GUEST_RFLAGS', 0x8) }),
  },
  {
    rule: 'reserved bit 1 of GUEST_RFLAGS must be 1',
    reads: ['GUEST_RFLAGS'],
    holds: (v) => (v.low(GUEST_RFLAGS) & 2) !== 0,
    breaks: () => ({ GUEST_RFLAGS: 0x200n }),
  },
  {
    rule: 'the VM flag of GUEST_RFLAGS must be 0 in IA-32e mode or if PE in GUEST_CR0 is 0',
    reads: [{ field: 'GUEST_RFLAGS', bits: VM }, 'VM_ENTRY_CONTROLS', 'GUEST_CR0'],
    holds: (v) =>
      (v.low(GUEST_RFLAGS) & VM) === 0 || (!ia32e(v) && (v.low(GUEST_CR0) & CR.CR0_PE) !== 0),
    breaks: (valid) => ({
      GUEST_RFLAGS: withBits(valid, 'GUEST_RFLAGS', VM),
      // The segment registers must look virtual-8086 for this rule to be the first that fails.
      ...Object.fromEntries(
        ['CS', 'SS', 'DS', 'ES', 'FS', 'GS'].flatMap((segment) => [
          [`GUEST_${segment}_SELECTOR`, 0n],
          [`GUEST_${segment}_BASE`, 0n],
          [`GUEST_${segment}_LIMIT`, 0xffffn],
          [`GUEST_${segment}_AR_BYTES`, 0xf3n],
        ]),
      ),
      GUEST_RIP: 0x100n,
    }),
  },
  {
    rule: 'if an external interrupt is injected, the IF flag of GUEST_RFLAGS must be 1',
    reads: ['VM_ENTRY_INTR_INFO_FIELD', { field: 'GUEST_RFLAGS', bits: IF }],
    holds: (v) => (v.low(GUEST_RFLAGS) & IF) !== 0 || !injectsType(v, INTR_TYPE.EXT_INTR),
    breaks: () => ({
      VM_ENTRY_INTR_INFO_FIELD: BigInt(encodeInterruption('EXT_INTR', 0x30)),
      GUEST_RFLAGS: 2n,
    }),
  },
  ...sspRows({
    control: 'VM_ENTRY_CONTROLS',
    loads: loadsCet,
    sCet: 'GUEST_S_CET',
    ssp: 'GUEST_SSP',
    table: 'GUEST_INTR_SSP_TABLE',
  }),
  {
    rule: 'if load CET state is 1 and the guest will not be in 64-bit mode, bits 63:32 of GUEST_SSP must be 0',
    reads: ['VM_ENTRY_CONTROLS', 'GUEST_CS_AR_BYTES', 'GUEST_SSP'],
    holds: (v) => v.high(GUEST_SSP) === 0 || !loadsCet(v) || is64Bit(v),
    breaks: (valid) => ({ ...protectedModeGuest(valid), GUEST_SSP: 1n << 32n }),
  },
]);
