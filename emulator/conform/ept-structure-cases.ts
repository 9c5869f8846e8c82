/**
 * Guests on EPT structures of their own: entries that are misconfigured, pages of each size, the page-modification log.
 *
 * Source: SDM, "EPT Misconfigurations", "EPT Translation Mechanism", "Page-Modification Logging", "Accessed and Dirty Flags
 * for EPT".
 * Invariant: that of exit-case.ts. The structures are those of guest-area.ts elsewhere, with the entries that a case names.
 */
import { EXIT_REASON } from '../../abi/exit-reasons.js';
import type { FieldName } from '../../abi/vmcs-fields.js';
import { SECONDARY } from '../../abi/vmx-controls.js';
import * as exits from '../guest/exits.js';
import { EPTE, EPTP } from '../vmx/ept/entries.js';
import type { GuestAccess } from '../vmx/ept/guest-access.js';
import { secondary, type ExitCase } from './exit-case.js';
import { EPT_ENTRIES, GUEST } from './guest-area.js';

const PML4 = 0x14_0000n;
const PDPT = 0x14_1000n;
const PD = 0x14_2000n;
const PT = 0x14_3000n;
const MOVED = PML4 - GUEST.EPT_PML4;
const TABLE = EPTE.RWX;
const LARGE = EPTE.RWX | EPTE.WRITE_BACK | EPTE.PAGE;
/** The page directory's entry of a guest-physical address below 1 GiB. */
const pde = (gpa: bigint): bigint => PD + 8n * (gpa >> 21n);

type Entry = readonly [address: bigint, value: bigint];

/** The structures, and the EPT pointer to them; `entries` stand in the place of theirs. */
function structures(...entries: readonly Entry[]) {
  const moved = EPT_ENTRIES.map(([address, value]): Entry => {
    const isTable = address < GUEST.EPT_PD;
    return [address + MOVED, isTable ? value + MOVED : value];
  });
  return {
    fields: { EPT_POINTER: PML4 | EPTP.WRITE_BACK | EPTP.WALK_4 },
    memory: [...moved, ...entries, [GUEST.HOLE, 0n] as Entry],
  } as const satisfies { fields: Partial<Record<FieldName, bigint>>; memory: unknown };
}

const RESUMED = { GUEST_RFLAGS: 0x1_0002n } as const;
const WALK: GuestAccess = { gpa: GUEST.PML4, gla: GUEST.CODE, kind: 'walk' };
const FETCH: GuestAccess = { gpa: GUEST.CODE, gla: GUEST.CODE, kind: 'fetch' };
const LOAD: GuestAccess = { gpa: GUEST.HOLE, gla: GUEST.HOLE, kind: 'read' };

/** An access that meets a misconfigured entry. */
const misconfigured = (title: string, access: GuestAccess, entry: Entry): ExitCase => ({
  title,
  code: '8a 07 f4', // MOV AL, [RDI]; HLT
  exit: {
    basic: EXIT_REASON.EXIT_REASON_EPT_MISCONFIG,
    guestPhysicalAddress: access.gpa,
  },
  access,
  registers: { RDI: GUEST.HOLE },
  after: RESUMED,
  ...structures(entry),
});

const bit = (number: number): bigint => 1n << BigInt(number);
const bitsOf = (from: number, to: number): number[] =>
  Array.from({ length: to - from + 1 }, (_, i) => from + i);

const MISCONFIGURATIONS: readonly ExitCase[] = [
  ...bitsOf(3, 7).map((number) =>
    misconfigured(`a PML4 entry with bit ${number}`, WALK, [PML4, PDPT | TABLE | bit(number)]),
  ),
  ...bitsOf(3, 6).map((number) =>
    misconfigured(`a PDPT entry that names a table with bit ${number}`, WALK, [
      PDPT,
      PD | TABLE | bit(number),
    ]),
  ),
  ...bitsOf(3, 6).map((number) =>
    misconfigured(`a PD entry that names a table with bit ${number}`, LOAD, [
      pde(GUEST.HOLE),
      PT | TABLE | bit(number),
    ]),
  ),
  ...[2n, 3n, 7n].map((type) =>
    misconfigured(`a page of memory type ${type.toString()}`, LOAD, [
      pde(GUEST.HOLE),
      GUEST.HOLE | TABLE | EPTE.PAGE | (type << 3n),
    ]),
  ),
  ...bitsOf(12, 20).map((number) =>
    misconfigured(`a 2 MiB page with bit ${number} of its address`, LOAD, [
      pde(GUEST.HOLE),
      GUEST.HOLE | LARGE | bit(number),
    ]),
  ),
];

/** A load that goes through. */
const reached = (title: string, ...entries: readonly Entry[]): ExitCase => ({
  title,
  code: '8a 07 f4', // MOV AL, [RDI]; HLT
  exit: exits.hlt(),
  accesses: [WALK, FETCH, LOAD],
  registers: { RDI: GUEST.HOLE },
  registersAfter: { RAX: 0n },
  rip: 2,
  ...structures(...entries),
});

const SIZES: readonly ExitCase[] = [
  reached('a load through a 1 GiB page', [PDPT, LARGE]),
  reached('a load through a 2 MiB page', [pde(GUEST.HOLE), GUEST.HOLE | LARGE]),
  reached(
    'a load through a 4 KiB page, in whose entry bit 7 means nothing',
    [pde(GUEST.HOLE), PT | TABLE],
    [PT, GUEST.HOLE | LARGE],
  ),
  ...[0n, 1n, 4n, 5n, 6n].map((type) =>
    reached(`a load through a page of memory type ${type.toString()}`, [
      pde(GUEST.HOLE),
      GUEST.HOLE | TABLE | EPTE.PAGE | (type << 3n),
    ]),
  ),
];

const LOG = 0x1_5000n;
const LAST = 511n;
const KEEPS_FLAGS = { EPT_POINTER: GUEST.EPT_PML4 | 0x5en } as const;
const STORE_AT = GUEST.READ_WRITE + 0x123n;

const LOGGED: readonly ExitCase[] = [
  {
    title: 'a page-modification log gets the page of each dirty flag that is set, from its end',
    code: '88 07 88 07 f4', // MOV [RDI], AL, twice; HLT
    exit: exits.hlt(),
    accesses: [
      WALK,
      FETCH,
      { gpa: STORE_AT, gla: STORE_AT, kind: 'write' },
      { gpa: STORE_AT, gla: STORE_AT, kind: 'write' },
    ],
    registers: { RDI: STORE_AT },
    rip: 4,
    fields: { ...KEEPS_FLAGS, PML_ADDRESS: LOG, GUEST_PML_INDEX: LAST },
    controls: secondary(SECONDARY.ENABLE_PML),
    memory: [...EPT_ENTRIES, [LOG + 8n * LAST, 0n], [LOG + 8n * (LAST - 1n), 0n]],
    dump: { address: LOG + 8n * (LAST - 1n), length: 16 },
  },
];

const READ_ONLY_TABLE = GUEST.PDPT | 0x23n; // present, writable, accessed
const MOVE_TO_CR3_ENDS = 6;

const CACHED: readonly ExitCase[] = [
  {
    title: 'a walk that is a write is none of what a load of the same page has cached',
    code: '80 3f 00 0f 22 de f4', // CMP [RDI], 0; MOV CR3, RSI; HLT
    exit: {
      ...exits.eptViolation(GUEST.READ_ONLY, GUEST.CODE + BigInt(MOVE_TO_CR3_ENDS)),
      qualification: 0x8bn,
    },
    // Whether a walk that is a write sets bit 0 too is up to the processor.
    defined: { EXIT_QUALIFICATION: ~1n },
    accesses: [WALK, FETCH, { gpa: GUEST.READ_ONLY, gla: GUEST.READ_ONLY, kind: 'read' }],
    access: {
      gpa: GUEST.READ_ONLY,
      gla: GUEST.CODE + BigInt(MOVE_TO_CR3_ENDS),
      kind: 'walk',
    },
    registers: { RDI: GUEST.READ_ONLY, RSI: GUEST.READ_ONLY },
    fields: KEEPS_FLAGS,
    without: { CPU_BASED_VM_EXEC_CONTROL: 1 << 15 },
    memory: [...EPT_ENTRIES, [GUEST.READ_ONLY, READ_ONLY_TABLE]],
    rip: MOVE_TO_CR3_ENDS,
    after: { GUEST_CR3: GUEST.READ_ONLY, GUEST_RFLAGS: 0x1_0002n },
  },
];

/** Every case. */
export const EPT_STRUCTURE_CASES: readonly ExitCase[] = [
  ...MISCONFIGURATIONS,
  ...SIZES,
  ...LOGGED,
  ...CACHED,
];
