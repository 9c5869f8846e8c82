/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The second processor's way from SIPI to its program: what boot.S does for the
 * first, on tables that are already there. Copied to LAYOUT_OTHER_BOOT, which
 * is its CS base in real mode.
 */
#include "layout.h"

#define AT(label) (LAYOUT_OTHER_BOOT + label - other_boot)

	.text
	.globl other_boot, other_boot_end
	.code16
other_boot:
	cli
	lgdtl	%cs:(other_gdt_pointer - other_boot)
	movl	%cr0, %eax
	orl	$1, %eax
	movl	%eax, %cr0
	ljmpl	$SELECTOR_CODE32, $AT(other32)

	.code32
other32:
	movw	$SELECTOR_DATA, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
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
	ljmpl	$SELECTOR_CODE64, $AT(other64)

	.code64
other64:
	movl	$LAYOUT_OTHER_STACK, %esp
	movq	other_program, %rdi
	movl	$execute, %eax
	call	*%rax
	ud2

	.balign 8
other_gdt_pointer:
	.word	0x4f
	.long	LAYOUT_GDT
other_boot_end:
