/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * One stub for each of the 256 vectors, and what they have in common.
 */
#include "asm-offsets.h"
#include <caretaker/vmx.h>

	.text

/*
 * Entered through an interrupt gate: IF = 0, CPL 0, any register may be live,
 * and GS base may already be KVM's. Each stub leaves a vector and an error code
 * on the stack, 0 for vectors that have none.
 */
	.globl	caretaker_trap_stubs
	.hidden	caretaker_trap_stubs
	.balign	TRAP_STUB_SIZE
caretaker_trap_stubs:
	.set	vector, 0
	.rept	256
	.balign	TRAP_STUB_SIZE
	endbr64
	.if	(vector != 8) && (vector < 10 || vector > 14) && (vector != 17) && (vector != 21)
	pushq	$0
	.endif
	pushq	$vector
	jmp	.Ltrap
	.set	vector, vector + 1
	.endr

/*
 * Saves what C may destroy (struct caretaker_trap_frame). The CPU has aligned
 * RSP to 16 before its five words, so with error code, vector and nine
 * registers it is aligned again at the call.
 */
	.balign	16
.Ltrap:
	pushq	%rax
	pushq	%rcx
	pushq	%rdx
	pushq	%rsi
	pushq	%rdi
	pushq	%r8
	pushq	%r9
	pushq	%r10
	pushq	%r11
	cld
	movq	%rsp, %rdi
	call	caretaker_trap
	testq	%rax, %rax
	jnz	.Lmove_return
.Lreturn:
	popq	%r11
	popq	%r10
	popq	%r9
	popq	%r8
	popq	%rdi
	popq	%rsi
	popq	%rdx
	popq	%rcx
	popq	%rax
	addq	$16, %rsp
	iretq

/*
 * Return to RAX instead. With shadow stacks IRET compares the frame's RIP with
 * the one above the old SSP, so that moves too; WRSS is enabled only for this.
 */
.Lmove_return:
	movq	%rax, FRAME_RIP(%rsp)
	cmpq	$0, caretaker_ccb + CCB_SSP(%rip)
	je	.Lreturn
	movq	%rax, %rsi
	xorl	%edi, %edi
	rdsspq	%rdi
	testq	%rdi, %rdi
	jz	.Lreturn
	movl	$MSR_IA32_S_CET, %ecx
	rdmsr
	movl	%eax, %r8d
	orl	$CET_WRSS_EN, %eax
	wrmsr
	wrssq	%rsi, 8(%rdi)
	movl	%r8d, %eax
	wrmsr
	jmp	.Lreturn

	.section .note.GNU-stack, "", @progbits
