/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The monitor's entry, VM entry and VM exit, and its exception stubs.
 *
 * struct registers (monitor.h) is what exit_stub pushes: RFLAGS first, then the
 * general registers from R15 down to RAX, so that RAX lies lowest.
 */
#include "layout.h"

	.macro push_registers
	push	%r15
	push	%r14
	push	%r13
	push	%r12
	push	%r11
	push	%r10
	push	%r9
	push	%r8
	push	%rdi
	push	%rsi
	push	%rbp
	push	%rbx
	push	%rdx
	push	%rcx
	push	%rax
	.endm

	.section .text.entry, "ax"
	.globl monitor_entry
monitor_entry:
	call	monitor
1:	hlt
	jmp	1b

/* HOST_RIP, at LAYOUT_EXIT_STUB. The registers end up right below HOST_RSP. */
	.balign 32
	.globl exit_stub
exit_stub:
	pushfq
	push_registers
	xorl	%eax, %eax
	jmp	leave_guest

	.text
/*
 * int enter_guest(const struct registers *guest, int how)
 *
 * how: 0 VMLAUNCH, 1 VMRESUME, 2 VMLAUNCH under blocking by MOV SS, 3 a jump
 * to R8 with the registers given: another monitor enters the guest, and what
 * its exits lead to comes back through exit_stub.
 * Returns 0 after a VM exit, 1 for VMfailInvalid, 2 for VMfailValid.
 */
	.globl enter_guest
enter_guest:
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	movq	%rsp, saved_rsp
	movl	%esi, entry_kind
	movq	%rdi, %rax
	movq	8(%rax), %rcx
	movq	16(%rax), %rdx
	movq	24(%rax), %rbx
	movq	32(%rax), %rbp
	movq	40(%rax), %rsi
	movq	48(%rax), %rdi
	movq	56(%rax), %r8
	movq	64(%rax), %r9
	movq	72(%rax), %r10
	movq	80(%rax), %r11
	movq	88(%rax), %r12
	movq	96(%rax), %r13
	movq	104(%rax), %r14
	movq	112(%rax), %r15
	movq	(%rax), %rax
	cmpl	$1, entry_kind
	je	1f
	cmpl	$2, entry_kind
	je	2f
	cmpl	$3, entry_kind
	je	3f
	vmlaunch
	jmp	entry_failed
1:	vmresume
	jmp	entry_failed
2:	push	%rax
	movl	$SELECTOR_DATA, %eax
	movl	%eax, scratch
	pop	%rax
	movw	scratch, %ss
	vmlaunch
	jmp	entry_failed
3:	jmp	*%r8
entry_failed:
	movl	$1, %eax
	jc	leave_guest
	movl	$2, %eax
	jz	leave_guest
	movl	$3, %eax
leave_guest:
	movq	saved_rsp, %rsp
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	ret

/*
 * Exceptions: a fixup, when one is set, takes over; a non-maskable interrupt is
 * counted; everything else ends the run.
 */
	.globl exception_stubs
	.balign 16
exception_stubs:
	.set	vector, 0
	.rept	256
	.balign	16
	.if	(vector != 8) && ((vector < 10) || (vector > 14)) && (vector != 17) && (vector != 21)
	push	$0
	.endif
	push	$vector
	jmp	exception
	.set	vector, vector + 1
	.endr

exception:
	cmpq	$2, (%rsp)
	je	2f
	cmpq	$32, (%rsp)
	jae	3f
	cmpq	$0, fixup_rip
	je	1f
	push	%rax
	movq	fixup_rip, %rax
	movq	%rax, 24(%rsp)
	movq	8(%rsp), %rax
	movq	%rax, fixup_vector
	pop	%rax
	movq	$0, fixup_rip
	addq	$16, %rsp
	iretq
1:	movq	(%rsp), %rdi
	movq	8(%rsp), %rsi
	movq	16(%rsp), %rdx
	call	unexpected_exception
2:	incq	nmi_count
	addq	$16, %rsp
	iretq
3:	incq	interrupt_count
	addq	$16, %rsp
	iretq

	.bss
	.globl	fixup_rip, fixup_vector, vmx_flags, nmi_count, interrupt_count
	.balign 8
saved_rsp:	.quad 0
fixup_rip:	.quad 0
fixup_vector:	.quad 0
vmx_flags:	.quad 0
nmi_count:	.quad 0
interrupt_count: .quad 0
entry_kind:	.long 0
scratch:	.long 0
