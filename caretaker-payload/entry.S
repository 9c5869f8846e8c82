/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The ways in and out of the payload: VM exit, run, and the trampoline, which
 * is the only jump that leaves .text.
 */
#include "asm-offsets.h"
#include "asm.h"
#include <caretaker/vmx.h>

/*
 * Go to `seen` when others ask for something: a request, an event of the host's
 * that KVM must have, bits that they have posted. RDI = CCB; destroys RAX and
 * RCX.
 */
	.macro LOOK seen
	cmpl	$REQUEST_STOP, CCB_REQUEST(%rdi)
	je	\seen
	movq	CCB_SOFT_STATE(%rdi), %rax
	movl	SOFT_POSTED_NMI(%rax), %ecx
	orl	SOFT_HOST_NMI(%rax), %ecx
	orl	SOFT_ACKNOWLEDGED(%rax), %ecx
	orq	SOFT_MCG_STATUS(%rax), %rcx
	orq	SOFT_POSTED(%rax), %rcx
	orq	SOFT_POSTED + 8(%rax), %rcx
	orq	SOFT_POSTED + 16(%rax), %rcx
	orq	SOFT_POSTED + 24(%rax), %rcx
	jnz	\seen
	.endm

	.text

/*
 * VM exit. The CPU has loaded: RSP = HOST_RSP, the top of the payload's stack;
 * GS base = the CCB; CS, SS, TR, GDTR, IDTR of the payload; RFLAGS = 2, so
 * IF = DF = 0. All 15 general registers are the guest's: each goes to the save
 * area before it is used. CR2, DR0-3, DR6, XCR0 and all of x87, SSE and AVX
 * stay the guest's, and nothing here touches them.
 */
FUNCTION caretaker_vmexit
	OUTERMOST
	endbr64
	movq	%rax, %gs:CCB_RAX
	movq	%rcx, %gs:CCB_RCX
	movq	%rdx, %gs:CCB_RDX
	movq	%rbx, %gs:CCB_RBX
	movq	%rbp, %gs:CCB_RBP
	movq	%rsi, %gs:CCB_RSI
	movq	%rdi, %gs:CCB_RDI
	movq	%r8, %gs:CCB_R8
	movq	%r9, %gs:CCB_R9
	movq	%r10, %gs:CCB_R10
	movq	%r11, %gs:CCB_R11
	movq	%r12, %gs:CCB_R12
	movq	%r13, %gs:CCB_R13
	movq	%r14, %gs:CCB_R14
	movq	%r15, %gs:CCB_R15

	leaq	caretaker_ccb(%rip), %rdi
	call	caretaker_dispatch
	testq	%rax, %rax
	jnz	.Ltrampoline

/*
 * What others may have asked for since the exit was answered. An NMI does not
 * wait for VM entry: one that lands from here to VMRESUME may have come with a
 * request already looked at, so its handler returns to caretaker_look_again.
 * That is sound because RSP is the top of the stack throughout, and the save
 * area still holds all the guest registers. An interrupt needs no such care:
 * with IF = 0 it stays pending and ends the guest's run at once.
 */
LABEL caretaker_last_look
	leaq	caretaker_ccb(%rip), %rdi
	LOOK	caretaker_look_again

/* RDI = CCB, the only live register. KVM's stack, GS and IDT when from run. */
.Lenter:
	movq	CCB_RAX(%rdi), %rax
	movq	CCB_RCX(%rdi), %rcx
	movq	CCB_RDX(%rdi), %rdx
	movq	CCB_RBX(%rdi), %rbx
	movq	CCB_RBP(%rdi), %rbp
	movq	CCB_RSI(%rdi), %rsi
	movq	CCB_R8(%rdi), %r8
	movq	CCB_R9(%rdi), %r9
	movq	CCB_R10(%rdi), %r10
	movq	CCB_R11(%rdi), %r11
	movq	CCB_R12(%rdi), %r12
	movq	CCB_R13(%rdi), %r13
	movq	CCB_R14(%rdi), %r14
	movq	CCB_R15(%rdi), %r15
	movq	CCB_RDI(%rdi), %rdi
.Lvmresume:
	vmresume

	/* VM-fail: all registers are the guest's; CF: there is no VMCS. */
	jc	.Lvmresume_failed_invalid
	movl	$VM_INSTRUCTION_ERROR, %eax
	vmread	%rax, %rax
	cmpl	$VMXERR_VMRESUME_NONLAUNCHED_VMCS, %eax
	jne	.Lvmresume_failed
	leaq	caretaker_ccb(%rip), %rdi
	movq	CCB_RAX(%rdi), %rax
	movq	CCB_RDI(%rdi), %rdi
.Lvmlaunch:
	vmlaunch
LABEL caretaker_window_end
	leaq	.Lvmlaunch(%rip), %rdi
	setnc	%al
	movzbl	%al, %esi
	call	caretaker_entry_failed
	ud2
.Lvmresume_failed_invalid:
	leaq	.Lvmresume(%rip), %rdi
	xorl	%esi, %esi
	call	caretaker_entry_failed
	ud2
.Lvmresume_failed:
	leaq	.Lvmresume(%rip), %rdi
	movl	$1, %esi
	call	caretaker_entry_failed
	ud2

/* RSP is the top of the stack, GS base the CCB; no other register is live. */
LABEL caretaker_look_again
	leaq	caretaker_ccb(%rip), %rdi
	call	caretaker_attend
	testq	%rax, %rax
	jz	caretaker_last_look

/*
 * Jump to KVM. EAX = the word for it; the flag has been seen as
 * KVM_ATTACHED with acquire order, so the pointers below are that epoch's.
 * The instance is mapped at the same address in both CR3s. No register of the
 * guest's or of the payload's is left for the handler to see but the three
 * arguments, so it jumps through memory.
 */
.Ltrampoline:
	leaq	caretaker_ccb(%rip), %rsi
	movl	%eax, %r8d
	movq	CCB_ROUTING_CR3(%rsi), %rax
	movq	%cr3, %rcx
	cmpq	%rax, %rcx
	je	1f			/* a reload would flush the TLB */
	movq	%rax, %cr3
1:	movl	$MSR_GS_BASE, %ecx
	movl	CCB_ROUTING_GS_BASE(%rsi), %eax
	movl	CCB_ROUTING_GS_BASE + 4(%rsi), %edx
	wrmsr
	movq	CCB_ROUTING_STACK(%rsi), %rsp
	movq	CCB_ROUTING_ARGUMENT(%rsi), %rdi
	movl	%r8d, %edx
	xorl	%eax, %eax
	xorl	%ecx, %ecx
	xorl	%ebx, %ebx
	xorl	%ebp, %ebp
	xorl	%r8d, %r8d
	xorl	%r9d, %r9d
	xorl	%r10d, %r10d
	xorl	%r11d, %r11d
	xorl	%r12d, %r12d
	xorl	%r13d, %r13d
	xorl	%r14d, %r14d
	xorl	%r15d, %r15d
	jmpq	*CCB_ROUTING_HANDLER(%rsi)
	END

/*
 * "You're up for running this vCPU now." RDI = CCB, the guest's registers are
 * in its save area, the VMCS is current. CR3, stack, GS and IDT are KVM's up to
 * VM entry, so nothing is found through GS and no NMI is the payload's.
 */
FUNCTION caretaker_run
	endbr64
	andq	$-16, %rsp		/* as a C function may expect it */
	OUTERMOST
	call	caretaker_prepare_run
	leaq	caretaker_ccb(%rip), %rdi
	jmp	.Lenter
	END

/*
 * Halt the core until something may concern the guest. RDI = CCB; called with
 * IF = 0 and returns so. STI holds interrupts back until HLT has begun, but not
 * NMIs: the handler of one that lands in here returns to caretaker_halt_look.
 */
FUNCTION caretaker_halt
	endbr64
LABEL caretaker_halt_look
	cmpl	$ATTACHED, CCB_ATTACH_STATE(%rdi)
	je	1f
	LOOK	1f
	sti
	hlt
LABEL caretaker_halt_end
	cli
1:	ret
	END

	.section .note.GNU-stack, "", @progbits
