/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where everything of the monitor lies in the second machine's memory.
 *
 * The pages 0x10000 to 0x16fff are those of VALID_VMCS_PAGES in
 * emulator/vmx/description.ts; emulator/conform/layout.ts names the addresses
 * below for TypeScript and a test compares both.
 */
#ifndef CONFORM_LAYOUT_H
#define CONFORM_LAYOUT_H

#define LAYOUT_IDT		0x1000
#define LAYOUT_VMXON_REGION	0x2000
#define LAYOUT_VMCS_REGION	0x3000
#define LAYOUT_GDT		0x5000
#define LAYOUT_TSS		0x5800
#define LAYOUT_PDPT		0x6000
#define LAYOUT_PAGE_DIRECTORY	0x7000
#define LAYOUT_OTHER_BOOT	0x8000
#define LAYOUT_HOST_CR3		0x14000
#define LAYOUT_MONITOR		0x40000
#define LAYOUT_EXIT_STUB	0x40020
#define LAYOUT_MONITOR_END	0x4f000
#define LAYOUT_BSS		0x50000
#define LAYOUT_STACK		0x80000
#define LAYOUT_EXIT_STACK	0x90000
#define LAYOUT_OTHER_STACK	0x98000

/* The ROM's last page begins the machine; its last 8 bytes say where the
 * program for the monitor lies. */
#define LAYOUT_ROM_TAIL		0xffff0000
#define LAYOUT_ROM_BOOT		0xfffff000
#define LAYOUT_PROGRAM_POINTER	0xfffffff8

#define SELECTOR_CODE32		0x08
#define SELECTOR_CODE64		0x10
#define SELECTOR_DATA		0x18
#define SELECTOR_TSS		0x40

#define MSR_EFER		0xc0000080
#define EFER_LME_NXE		0x900
#define BOOT_CR0		0x80050033
#define BOOT_CR4		0x00052660
#define CR4_VMXE		0x2000

#endif
