/**
 * Guest code whose translations fail.
 *
 * Source: SDM, "Exit Qualification for EPT Violations", "Exit Qualification for APIC-Access VM Exits".
 * Invariant: that of exit-case.ts.
 */
import { EXIT_REASON } from '../../abi/exit-reasons.js';
import { SECONDARY } from '../../abi/vmx-controls.js';
import * as exits from '../guest/exits.js';
import type { VmcsDescription } from '../vmx/description.js';
import { secondary, type ExitCase } from './exit-case.js';
import { GUEST } from './guest-area.js';

const LINEAR_VALID = 0x180n;
/** RFLAGS as a fault saves it: RF is set so that the instruction can be tried again. */
const RESUMED: VmcsDescription = { GUEST_RFLAGS: 0x1_0002n };

/** Translations that fail. */
export const EPT: readonly ExitCase[] = [
  {
    title: 'a store to a page without EPT translation',
    code: '88 07',
    exit: exits.eptViolation(GUEST.HOLE + 0x123n, GUEST.HOLE + 0x123n, 'write'),
    registers: { RDI: GUEST.HOLE + 0x123n },
    after: RESUMED,
  },
  {
    title: 'a load from a page without EPT translation',
    code: '8a 07',
    exit: exits.eptViolation(GUEST.HOLE, GUEST.HOLE, 'read'),
    registers: { RDI: GUEST.HOLE },
    after: RESUMED,
  },
  {
    title: 'a fetch from a page without EPT translation',
    code: 'ff e7',
    exit: exits.eptViolation(GUEST.HOLE + 5n, GUEST.HOLE + 5n, 'fetch'),
    registers: { RDI: GUEST.HOLE + 5n },
    after: { ...RESUMED, GUEST_RIP: GUEST.HOLE + 5n },
  },
  {
    title: 'a locked read-modify-write without EPT translation is a write',
    code: 'f0 ff 07',
    exit: { ...exits.eptViolation(GUEST.HOLE, GUEST.HOLE), qualification: 3n | LINEAR_VALID },
    // Whether bit 0 is set too is up to the processor.
    defined: { EXIT_QUALIFICATION: ~1n },
    registers: { RDI: GUEST.HOLE },
    after: RESUMED,
  },
  {
    title: 'a store to a misconfigured page',
    code: '88 07',
    // The length is KVM's wish, not the architecture's.
    exit: {
      basic: EXIT_REASON.EXIT_REASON_EPT_MISCONFIG,
      guestPhysicalAddress: exits.doorbell(GUEST.MISCONFIGURED).guestPhysicalAddress!,
    },
    registers: { RDI: GUEST.MISCONFIGURED },
    after: RESUMED,
  },
  ...[
    ['a load from', '8a 07', 0n, 0x20n],
    ['a store to', '88 07', 1n, 0x300n],
  ].map(([verb, code, type, offset]): ExitCase => ({
    title: `${verb as string} the APIC-access page`,
    code: code as string,
    exit: {
      basic: EXIT_REASON.EXIT_REASON_APIC_ACCESS,
      qualification: ((type as bigint) << 12n) | (offset as bigint),
    },
    registers: { RDI: GUEST.APIC_ACCESS + (offset as bigint) },
    after: RESUMED,
    fields: { APIC_ACCESS_ADDR: GUEST.APIC_ACCESS },
    controls: secondary(SECONDARY.VIRTUALIZE_APIC_ACCESSES),
  })),
];
