/**
 * Guest code whose translations fail.
 *
 * Source: SDM, "Exit Qualification for EPT Violations", "Exit Qualification for APIC-Access VM Exits".
 * Invariant: that of exit-case.ts.
 */
import { EXIT_REASON } from '../../abi/exit-reasons.js';
import { SECONDARY } from '../../abi/vmx-controls.js';
import * as exits from '../guest/exits.js';
import type { VmExit } from '../vmx/vm-exit.js';
import type { VmcsDescription } from '../vmx/description.js';
import { secondary, type ExitCase } from './exit-case.js';
import { GUEST } from './guest-area.js';

const LINEAR_VALID = 0x180n;
/** RFLAGS as a fault saves it: RF is set so that the instruction can be tried again. */
const RESUMED: VmcsDescription = { GUEST_RFLAGS: 0x1_0002n };

/** A store, a load and a jump through RDI. */
const CODE = { write: '88 07', read: '8a 07', fetch: 'ff e7' } as const;

type Row = readonly [title: string, kind: keyof typeof CODE, gpa: bigint, rights?: bigint];

/** The same twice: what the exit reports, and the access for which the model must find that in the guest's EPT. */
const translationCase = ([title, kind, gpa]: Row, exit: VmExit): ExitCase => ({
  title,
  code: CODE[kind],
  exit,
  access: { gpa, gla: gpa, kind },
  registers: { RDI: gpa },
  after: kind === 'fetch' ? { ...RESUMED, GUEST_RIP: gpa } : RESUMED,
});

/** `rights` are those that the page has. */
const violation = (...row: Row): ExitCase => {
  const [, kind, gpa, rights = 0n] = row;
  const exit = exits.eptViolation(gpa, gpa, kind);
  return translationCase(row, { ...exit, qualification: exit.qualification! | (rights << 3n) });
};

// The length is KVM's wish, not the architecture's.
const misconfiguration = (...row: Row): ExitCase =>
  translationCase(row, {
    basic: EXIT_REASON.EXIT_REASON_EPT_MISCONFIG,
    guestPhysicalAddress: row[2],
  });

/** Translations that fail. */
// prettier-ignore
export const EPT: readonly ExitCase[] = [
  violation('a store to a page without EPT translation', 'write', GUEST.HOLE + 0x123n),
  violation('a load from a page without EPT translation', 'read', GUEST.HOLE),
  violation('a fetch from a page without EPT translation', 'fetch', GUEST.HOLE + 5n),
  violation('a store to a page that may be read: its rights are in the qualification', 'write', GUEST.READ_ONLY + 8n, 1n),
  violation('a fetch from a page that may be read: its rights are in the qualification', 'fetch', GUEST.READ_ONLY, 1n),
  violation('a load from a page that may be executed alone', 'read', GUEST.EXECUTE_ONLY, 4n),
  violation('a store to a page that may be executed alone', 'write', GUEST.EXECUTE_ONLY, 4n),
  violation('a fetch from a page that may be read and written', 'fetch', GUEST.READ_WRITE, 3n),
  misconfiguration('a store to a page that may be written and not read', 'write', GUEST.MISCONFIGURED),
  misconfiguration('a load from a page that may be written and not read', 'read', GUEST.MISCONFIGURED + 0xff8n),
  misconfiguration('a fetch from a page that may be written, executed and not read', 'fetch', GUEST.WRITE_EXECUTE),
  misconfiguration('a load from a page whose memory type is 2', 'read', GUEST.BAD_TYPE),
  misconfiguration('a load from a page with an address bit below its size', 'read', GUEST.BAD_ADDRESS),
  {
    title: 'a locked read-modify-write without EPT translation is a write',
    code: 'f0 ff 07',
    exit: { ...exits.eptViolation(GUEST.HOLE, GUEST.HOLE), qualification: 3n | LINEAR_VALID },
    // Whether bit 0 is set too is up to the processor.
    defined: { EXIT_QUALIFICATION: ~1n },
    registers: { RDI: GUEST.HOLE },
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
