/* SPDX-License-Identifier: GPL-2.0 */
/*
 * From the reset vector to the monitor: real mode, protected mode, an identity
 * mapping of 4 GiB in pages of 2 MiB, IA-32e mode.
 *
 * This page lies at the end of the ROM, 4 GiB below which the machine starts
 * with CS based at 0xffff0000. The monitor is copied to memory first: its
 * variables must lie within 2 GiB of its code.
 */
#include "layout.h"

	.section .boot, "ax"
	.code16
start16:
	cli
	lgdtl	%cs:(gdt_pointer - LAYOUT_ROM_TAIL)
	movl	%cr0, %eax
	orl	$1, %eax
	movl	%eax, %cr0
	ljmpl	$SELECTOR_CODE32, $start32

	.code32
start32:
	movw	$SELECTOR_DATA, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	cld
	/* The monitor, and zeroes for its variables. */
	movl	$LAYOUT_ROM_TAIL, %esi
	movl	$LAYOUT_MONITOR, %edi
	movl	$((LAYOUT_MONITOR_END - LAYOUT_MONITOR) / 4), %ecx
	rep movsl
	movl	$LAYOUT_BSS, %edi
	xorl	%eax, %eax
	movl	$((LAYOUT_STACK - LAYOUT_BSS) / 4), %ecx
	rep stosl
	/* One PML4 entry, four PDPT entries, 2048 entries of 2 MiB. */
	movl	$LAYOUT_HOST_CR3, %edi
	movl	$1024, %ecx
	rep stosl
	movl	$LAYOUT_PDPT, %edi
	movl	$1024, %ecx
	rep stosl
	movl	$(LAYOUT_PDPT + 3), LAYOUT_HOST_CR3
	movl	$(LAYOUT_PAGE_DIRECTORY + 0x0003), LAYOUT_PDPT
	movl	$(LAYOUT_PAGE_DIRECTORY + 0x1003), LAYOUT_PDPT + 8
	movl	$(LAYOUT_PAGE_DIRECTORY + 0x2003), LAYOUT_PDPT + 16
	movl	$(LAYOUT_PAGE_DIRECTORY + 0x3003), LAYOUT_PDPT + 24
	movl	$LAYOUT_PAGE_DIRECTORY, %edi
	movl	$0x83, %eax
	movl	$2048, %ecx
1:	movl	%eax, (%edi)
	movl	$0, 4(%edi)
	addl	$8, %edi
	addl	$0x200000, %eax
	loop	1b
	/* The descriptors, where the monitor can mark its TSS busy. */
	movl	$gdt, %esi
	movl	$LAYOUT_GDT, %edi
	movl	$(gdt_end - gdt), %ecx
	rep movsb

	movl	$BOOT_CR4, %eax
	movl	%eax, %cr4
	movl	$LAYOUT_HOST_CR3, %eax
	movl	%eax, %cr3
	movl	$MSR_EFER, %ecx
	rdmsr
	orl	$EFER_LME_NXE, %eax
	wrmsr
	movl	$BOOT_CR0, %eax
	movl	%eax, %cr0
	ljmpl	$SELECTOR_CODE64, $start64

	.code64
start64:
	movl	$LAYOUT_STACK, %esp
	movl	$LAYOUT_PROGRAM_POINTER, %edi
	movl	(%rdi), %edi
	movl	$LAYOUT_MONITOR, %eax
	jmp	*%rax

	.balign 8
gdt:	.quad	0
	.quad	0x00cf9b000000ffff	/* 0x08: 32-bit code */
	.quad	0x00af9b000000ffff	/* 0x10: 64-bit code */
	.quad	0x00cf93000000ffff	/* 0x18: data */
	.quad	0x00cf93000000ffff	/* 0x20: data */
	.quad	0x00cf93000000ffff	/* 0x28: data */
	.quad	0x00cf93000000ffff	/* 0x30: data */
	.quad	0x00cf93000000ffff	/* 0x38: data */
	.quad	0x0000890058000067	/* 0x40: TSS at LAYOUT_TSS */
	.quad	0
gdt_end:
gdt_pointer:
	.word	gdt_end - gdt - 1
	.long	gdt

	.section .reset, "ax"
	.code16
	/* 0xfffffff0. The displacement wraps in 16 bits. */
	.byte	0xe9
	.word	start16 - LAYOUT_ROM_TAIL - 0xfff3
	.balign 8
program_pointer:
	.quad	0
