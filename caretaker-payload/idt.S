/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * One stub for each of the 256 vectors, and what they have in common.
 */
#include "asm-offsets.h"
#include "asm.h"
#include <caretaker/vmx.h>

/* #DF, #TS to #PF, #AC and #CP: the CPU pushes one. */
#define HAS_ERROR_CODE(vector)                                  \
	(vector == 8 || (vector >= 10 && vector <= 14) ||       \
	 vector == 17 || vector == 21)

	.text

	/* Push and pop a register, and tell debuggers where it is. */
	.macro SAVE register
	pushq	%\register
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset \register, 0
	.endm

	.macro RESTORE register
	popq	%\register
	.cfi_adjust_cfa_offset -8
	.cfi_restore \register
	.endm

/*
 * Entered through an interrupt gate: IF = 0, CPL 0, any register may be live,
 * and GS base may already be KVM's. Each stub leaves a vector and an error code
 * on the stack, 0 for vectors that have none.
 */
	.balign	TRAP_STUB_SIZE
LABEL caretaker_trap_stubs
	/* The frame of the CPU, its five words below the CFA. */
	.cfi_startproc
	.cfi_signal_frame
	.cfi_offset rip, -40
	.cfi_offset rsp, -16
	.set	vector, 0
	.rept	256
	.balign	TRAP_STUB_SIZE
	.cfi_def_cfa rsp, 40
	.if	HAS_ERROR_CODE(vector)
	.cfi_def_cfa_offset 48
	.endif
	endbr64
	.if	!HAS_ERROR_CODE(vector)
	pushq	$0
	.cfi_def_cfa_offset 48
	.endif
	pushq	$vector
	.cfi_def_cfa_offset 56
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
	SAVE	rax
	SAVE	rcx
	SAVE	rdx
	SAVE	rsi
	SAVE	rdi
	SAVE	r8
	SAVE	r9
	SAVE	r10
	SAVE	r11
	cld
	movq	%rsp, %rdi
	call	caretaker_trap
	testq	%rax, %rax
	jnz	.Lmove_return
.Lreturn:
	.cfi_remember_state
	RESTORE	r11
	RESTORE	r10
	RESTORE	r9
	RESTORE	r8
	RESTORE	rdi
	RESTORE	rsi
	RESTORE	rdx
	RESTORE	rcx
	RESTORE	rax
	addq	$16, %rsp
	.cfi_adjust_cfa_offset -16
	iretq
	.cfi_restore_state

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
	END

/*
 * End the NMI blocking that an NMI's VM exit begins: only IRET does. INT and
 * the IRET of its handler keep frame and shadow stack in step, which an IRET
 * from a frame made by hand would not.
 */
FUNCTION caretaker_unblock_nmi
	endbr64
	int	$IRET_TRAP
LABEL caretaker_nmi_unblocked
	ret
	END

	.section .note.GNU-stack, "", @progbits
