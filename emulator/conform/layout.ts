/**
 * Where everything lies in the second machine's memory.
 *
 * Source: rom/layout.h says the same to the monitor; a test compares both. Pages 0x10000 to 0x16fff are VALID_VMCS_PAGES.
 */

// prettier-ignore
/** Physical addresses, which are linear addresses too. */
export const LAYOUT = {
  IDT:          0x1000n,
  VMXON_REGION: 0x2000n,
  VMCS_REGION:  0x3000n,
  GDT:          0x5000n,
  TSS:          0x5800n,
  HOST_CR3:     0x1_4000n,
  MONITOR:      0x4_0000n,
  EXIT_STUB:    0x4_0020n,
  EXIT_STACK:   0x9_0000n,
} as const;

/** Bytes of the second machine's memory. */
export const MEMORY_BYTES = 32 * 1024 * 1024;
