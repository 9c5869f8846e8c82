// SPDX-License-Identifier: GPL-2.0-only
/*
 * Completes the guest's instruction as the processor would have: RIP, the
 * shadow of STI and MOV SS, and the single-step trap.
 */
#include "caretaker.h"
#include "cpu.h"

#define SHADOW (GUEST_INTR_STATE_STI | GUEST_INTR_STATE_MOV_SS)

/* VM exit keeps the control equal to EFER.LMA. */
static bool is_64bit_mode(void)
{
	return (vmread(VM_ENTRY_CONTROLS) & VM_ENTRY_IA32E_MODE) &&
	       (vmread(GUEST_CS_AR_BYTES) & VMX_AR_L_MASK);
}

static void raise_single_step(void)
{
	if (vmread(GUEST_IA32_DEBUGCTL) & DEBUGCTLMSR_BTF)
		return;
	vmwrite(GUEST_PENDING_DBG_EXCEPTIONS,
		vmread(GUEST_PENDING_DBG_EXCEPTIONS) | GUEST_PENDING_DBG_BS);
}

void caretaker_advance(u64 rip)
{
	u64 next = rip + vmread(VM_EXIT_INSTRUCTION_LEN);
	u64 interruptibility = vmread(GUEST_INTERRUPTIBILITY_INFO);

	/* Only a carry out of the low half can tell the modes apart. */
	if (unlikely((rip ^ next) >> 32) && !is_64bit_mode())
		next = (u32)next;
	vmwrite(GUEST_RIP, next);
	if (unlikely(interruptibility & SHADOW))
		vmwrite(GUEST_INTERRUPTIBILITY_INFO,
			interruptibility & ~SHADOW);
	if (unlikely(vmread(GUEST_RFLAGS) & X86_EFLAGS_TF))
		raise_single_step();
}
