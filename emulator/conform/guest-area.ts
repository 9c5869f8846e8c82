/**
 * The second machine's guest: its page tables, EPT, descriptors and code pages, and the VMCS that runs code in them.
 *
 * Source: SDM, "4-Level Paging", "EPT Translation Mechanism", "Segment Descriptors"; all translations are identities.
 * Invariant: HOLE has no EPT translation, MISCONFIGURED an illegal one, and UNMAPPED none in the guest's own tables.
 */
import { toIndex } from '../../abi/uint.js';
import type { VmxCapabilities } from '../vmx/capabilities.js';
import type { VmcsDescription } from '../vmx/description.js';
import { baseVmcs } from './base-vmcs.js';
import { MEMORY_BYTES } from './layout.js';

// prettier-ignore
/** Guest-physical and guest-linear addresses. */
export const GUEST = {
  EPT_PML4:      0x10_0000n,
  EPT_PDPT:      0x10_1000n,
  EPT_PD:        0x10_2000n,
  PML4:          0x10_3000n,
  PDPT:          0x10_4000n,
  PD:            0x10_5000n,
  GDT:           0x10_6000n,
  TSS:           0x10_7000n,
  IDT:           0x10_8000n,
  TASK:          0x10_9000n,
  CODE:          0x11_0000n,
  DATA:          0x11_8000n,
  STACK:         0x12_0000n,
  /** 2 MiB without EPT translation. */
  HOLE:          0x100_0000n,
  /** 2 MiB whose EPT entry is writable and not readable. */
  MISCONFIGURED: 0x120_0000n,
  APIC_ACCESS:   0x140_0000n,
  /** 2 MiB that the guest's own tables do not map. */
  UNMAPPED:      0x160_0000n,
  /** 2 MiB each whose EPT entry gives these rights alone; and one with bits set that mean nothing. */
  READ_EXECUTE:  0x80_0000n,
  IGNORED_BITS:  0xa0_0000n,
  READ_ONLY:     0x180_0000n,
  EXECUTE_ONLY:  0x1a0_0000n,
  READ_WRITE:    0x1c0_0000n,
  /** 2 MiB each whose EPT entry is illegal: an address beyond the physical width, memory type 2, an address bit below the
   * page, execute and write without read. */
  BEYOND_WIDTH:  0x60_0000n,
  BAD_TYPE:      0x1e0_0000n,
  BAD_ADDRESS:   0xc0_0000n,
  WRITE_EXECUTE: 0xe0_0000n,
  NON_CANONICAL: 0x8000_0000_0000_0000n,
} as const;

// prettier-ignore
/** Selectors of the guest's GDT. */
export const GUEST_SELECTOR = { CODE: 0x10, DATA: 0x18, NOT_PRESENT: 0x28, TASK: 0x30, TR: 0x40, CODE32: 0x50 } as const;

const LARGE_PAGE = 0x20_0000n;
const PRESENT = 0x3n;
const LARGE = 0x83n;
const EPT_ALL = 0x7n;
const EPT_LARGE = 0xb7n; // read, write, execute, write-back, page
/** What else the entry of a page says than EPT_LARGE. */
const EPT_SPECIAL: ReadonlyMap<bigint, bigint> = new Map([
  [GUEST.READ_EXECUTE, 0xb5n],
  [GUEST.IGNORED_BITS, 0xb7n | (1n << 10n) | (1n << 11n) | (0xffn << 52n)],
  [GUEST.BEYOND_WIDTH, 0xb7n | (1n << 51n)],
  [GUEST.MISCONFIGURED, 0xb2n],
  [GUEST.READ_ONLY, 0xb1n],
  [GUEST.EXECUTE_ONLY, 0xb4n],
  [GUEST.READ_WRITE, 0xb3n],
  [GUEST.BAD_TYPE, 0x97n],
  [GUEST.BAD_ADDRESS, 0x20b7n],
  [GUEST.WRITE_EXECUTE, 0xb6n],
]);

const GDT_SIZE_BYTES = 0x58;
const IDT_SIZE_BYTES = 0x200;

function systemDescriptor(base: bigint, limit: bigint, type: bigint): bigint {
  const low = (limit & 0xffffn) | ((base & 0xff_ffffn) << 16n);
  return low | ((0x80n | type) << 40n) | ((base >> 24n) << 56n);
}

/** Something that 64-bit values can be written to. */
export interface ValueWriter {
  values(address: bigint, ...values: readonly bigint[]): ValueWriter;
}

const LARGE_PAGES: readonly bigint[] = Array.from(
  { length: MEMORY_BYTES / toIndex(LARGE_PAGE) },
  (_, i) => BigInt(i) * LARGE_PAGE,
);

/** The EPT structures, entry by entry. */
export const EPT_ENTRIES: readonly (readonly [address: bigint, value: bigint])[] = [
  [GUEST.EPT_PML4, GUEST.EPT_PDPT | EPT_ALL],
  [GUEST.EPT_PDPT, GUEST.EPT_PD | EPT_ALL],
  ...LARGE_PAGES.map((page, i) => [GUEST.EPT_PD + BigInt(8 * i), eptEntry(page)] as const),
];

/** Puts the guest's tables in memory. */
export function layOutGuest(program: ValueWriter): void {
  for (const [address, value] of EPT_ENTRIES) program.values(address, value);
  program
    .values(GUEST.PML4, GUEST.PDPT | PRESENT)
    .values(GUEST.PDPT, GUEST.PD | PRESENT)
    .values(GUEST.PD, ...LARGE_PAGES.map((page) => (page === GUEST.UNMAPPED ? 0n : page | LARGE)))
    .values(
      GUEST.GDT,
      0n,
      0n,
      0x00af_9b00_0000_ffffn,
      0x00cf_9300_0000_ffffn,
      0n,
      0x00cf_1300_0000_ffffn,
      systemDescriptor(GUEST.TASK, 0x67n, 0x9n),
      0n,
      systemDescriptor(GUEST.TSS, 0x67n, 0xbn),
      0n,
      0x00cf_9b00_0000_ffffn,
    );
}

function eptEntry(page: bigint): bigint {
  if (page === GUEST.HOLE) return 0n;
  return page | (EPT_SPECIAL.get(page) ?? EPT_LARGE);
}

/** The VMCS of a 64-bit guest at CODE, with interrupts off. */
export function guestVmcs(
  capabilities: VmxCapabilities,
  overrides: VmcsDescription = {},
): VmcsDescription {
  return baseVmcs(capabilities, {
    EPT_POINTER: GUEST.EPT_PML4 | 0x1en,
    GUEST_CR3: GUEST.PML4,
    GUEST_GDTR_BASE: GUEST.GDT,
    GUEST_GDTR_LIMIT: BigInt(GDT_SIZE_BYTES - 1),
    GUEST_IDTR_BASE: GUEST.IDT,
    GUEST_IDTR_LIMIT: BigInt(IDT_SIZE_BYTES - 1),
    GUEST_TR_BASE: GUEST.TSS,
    GUEST_GS_BASE: GUEST.DATA,
    GUEST_FS_BASE: GUEST.DATA,
    GUEST_RSP: GUEST.STACK,
    GUEST_RIP: GUEST.CODE,
    GUEST_RFLAGS: 2n,
    ...overrides,
  });
}

/** A 32-bit guest without paging, for what 64-bit mode has not. */
export const FLAT_32_BIT: VmcsDescription = {
  GUEST_CR0: 0x0005_0033n,
  GUEST_CR4: 0x0004_2660n,
  GUEST_IA32_EFER: 0n,
  GUEST_CS_AR_BYTES: 0xc09bn,
  GUEST_CS_SELECTOR: 0x50n,
};
