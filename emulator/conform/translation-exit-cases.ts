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
import { EPT_ENTRIES, GUEST } from './guest-area.js';
import type { GuestAccess } from '../vmx/ept/guest-access.js';

const LINEAR_VALID = 0x180n;
/** The access was to the guest's own tables. */
const LINEAR_VALID_ALONE = 0x80n;
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

const ALLOWED: readonly ExitCase[] = (
  [
    ['a page that may be read', GUEST.READ_ONLY],
    ['a page with bits in its entry that mean nothing', GUEST.IGNORED_BITS],
  ] as const
).map(([page, address]) => ({
  title: `a load from ${page} goes on`,
  code: '80 3f 00 f4', // CMP [RDI], 0; HLT
  exit: exits.hlt(),
  registers: { RDI: address },
  rip: 3,
  after: { GUEST_RFLAGS: 0x46n },
}));

const KEEPS_FLAGS = { EPT_POINTER: GUEST.EPT_PML4 | 0x5en } as const;
const TABLE = GUEST.PDPT | 3n;
const ACCESSED = 0x20n;

/** The guest's PML4 lies at the start of a region, and its first entry is what the walk for the first fetch reads. */
const tablesAt = (
  region: bigint,
  entry: bigint,
): { fields: VmcsDescription; memory: NonNullable<ExitCase['memory']> } => ({
  fields: { GUEST_CR3: region },
  memory: [[region, entry]],
});

type WalkRow = readonly [
  title: string,
  how: 'reads' | 'tracks' | 'updates',
  region: bigint,
  rights: bigint,
];

/** A walk that EPT forbids: a read; a write where EPT keeps flags of its own; or one that sets the guest's accessed flag. */
function forbiddenWalk([title, how, region, rights]: WalkRow): ExitCase {
  const { fields, memory } = tablesAt(region, how === 'updates' ? TABLE : TABLE | ACCESSED);
  const accesses = how === 'reads' ? 1n : 3n;
  return {
    title,
    code: 'f4',
    exit: {
      ...exits.eptViolation(region, GUEST.CODE),
      qualification: accesses | (rights << 3n) | LINEAR_VALID_ALONE,
    },
    // Whether an access that reads and writes sets bit 0 too is up to the processor.
    ...(how === 'reads' ? {} : { defined: { EXIT_QUALIFICATION: ~1n } }),
    ...(how === 'updates' ? {} : { access: { gpa: region, gla: GUEST.CODE, kind: 'walk' } }),
    fields: how === 'tracks' ? { ...fields, ...KEEPS_FLAGS } : fields,
    memory,
    after: RESUMED,
  };
}

// prettier-ignore
const WALKS: readonly ExitCase[] = [
  ...([
    ['a walk of guest tables that EPT does not map', 'reads', GUEST.HOLE, 0n],
    ['the same where EPT keeps accessed and dirty flags is a write', 'tracks', GUEST.HOLE, 0n],
    ['a walk of read-only guest tables where EPT keeps accessed and dirty flags', 'tracks', GUEST.READ_ONLY, 1n],
    ['a walk of read-execute guest tables where EPT keeps accessed and dirty flags', 'tracks', GUEST.READ_EXECUTE, 5n],
    ['a walk that sets an accessed flag in read-only guest tables', 'updates', GUEST.READ_ONLY, 1n],
    ['a walk that sets an accessed flag in read-execute guest tables', 'updates', GUEST.READ_EXECUTE, 5n],
  ] as const).map(forbiddenWalk),
  ...([
    ['read-only guest tables with their accessed flag set', GUEST.READ_ONLY, TABLE | ACCESSED],
    ['read-write guest tables', GUEST.READ_WRITE, TABLE],
  ] as const).map(([tables, region, entry]): ExitCase => ({
    title: `a walk of ${tables} is allowed`,
    code: 'f4',
    exit: exits.hlt(),
    ...tablesAt(region, entry),
  })),
];

/** What the guest of the next cases reaches: its tables, its code, and a page each that it loads and stores. */
const REACHED: readonly GuestAccess[] = [
  { gpa: GUEST.PML4, gla: GUEST.CODE, kind: 'walk' },
  { gpa: GUEST.CODE, gla: GUEST.CODE, kind: 'fetch' },
  { gpa: GUEST.READ_ONLY, gla: GUEST.READ_ONLY, kind: 'read' },
  { gpa: GUEST.READ_WRITE, gla: GUEST.READ_WRITE, kind: 'write' },
];

const FLAGGED: readonly ExitCase[] = ([true, false] as const).map((keeps) => ({
  title: `EPT ${keeps ? 'keeps' : 'does not keep'} accessed and dirty flags of what a guest reached`,
  code: '80 3e 00 88 07 f4', // CMP [RSI], 0; MOV [RDI], AL; HLT
  exit: exits.hlt(),
  accesses: REACHED,
  registers: { RSI: GUEST.READ_ONLY, RDI: GUEST.READ_WRITE },
  rip: 5,
  after: { GUEST_RFLAGS: 0x46n },
  fields: keeps ? KEEPS_FLAGS : {},
  memory: [...EPT_ENTRIES, [GUEST.READ_ONLY, 0n]],
  dump: { address: GUEST.EPT_PD, length: 0x80 },
}));

const SPARE_PAGE = 0x1_5000n;

const LOGGED: readonly ExitCase[] = [
  {
    title: 'a page-modification log that is full',
    // The walk of the guest's own tables is a write where EPT keeps accessed and dirty flags.
    code: '90',
    exit: { basic: EXIT_REASON.EXIT_REASON_PML_FULL, qualification: 0n },
    access: { gpa: GUEST.PML4, gla: GUEST.CODE, kind: 'walk' },
    fields: { ...KEEPS_FLAGS, PML_ADDRESS: SPARE_PAGE, GUEST_PML_INDEX: 0xffffn },
    controls: secondary(SECONDARY.ENABLE_PML),
  },
];

/** Translations that fail. */
// prettier-ignore
export const EPT: readonly ExitCase[] = [
  ...ALLOWED,
  ...WALKS,
  ...LOGGED,
  ...FLAGGED,
  violation('a store to a page without EPT translation', 'write', GUEST.HOLE + 0x123n),
  violation('a load from a page without EPT translation', 'read', GUEST.HOLE),
  violation('a fetch from a page without EPT translation', 'fetch', GUEST.HOLE + 5n),
  violation('a store to a page that may be read: its rights are in the qualification', 'write', GUEST.READ_ONLY + 8n, 1n),
  violation('a fetch from a page that may be read: its rights are in the qualification', 'fetch', GUEST.READ_ONLY, 1n),
  violation('a load from a page that may be executed alone', 'read', GUEST.EXECUTE_ONLY, 4n),
  violation('a store to a page that may be executed alone', 'write', GUEST.EXECUTE_ONLY, 4n),
  violation('a fetch from a page that may be read and written', 'fetch', GUEST.READ_WRITE, 3n),
  violation('a store to a page that may be read and executed', 'write', GUEST.READ_EXECUTE, 5n),
  misconfiguration('a load from a page beyond the physical width', 'read', GUEST.BEYOND_WIDTH),
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
