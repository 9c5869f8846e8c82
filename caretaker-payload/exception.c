// SPDX-License-Identifier: GPL-2.0-only
/*
 * Exit reason 0 while KVM is gone: NMIs and machine checks are the machine's,
 * all other exceptions wait for KVM.
 */
#include "caretaker.h"
#include "cpu.h"

/* False: the interrupted context is lost, and with it the core. */
bool caretaker_answer_machine_check(struct caretaker_ccb *ccb)
{
	u64 status = rdmsr(MSR_IA32_MCG_STATUS);

	if (!(status & MCG_STATUS_RIPV))
		return false;
	count_one(&telemetry_of(ccb)->machine_checks);
	/* The banks stay for the next kernel; MCIP would shut the CPU down. */
	wrmsr(MSR_IA32_MCG_STATUS, 0);
	return true;
}

/* KVM does with it what do_machine_check() would, before the guest goes on. */
bool caretaker_remember_machine_check(struct caretaker_ccb *ccb)
{
	u64 status = rdmsr(MSR_IA32_MCG_STATUS);

	if (!(status & MCG_STATUS_RIPV))
		return false;
	soft_state_of(ccb)->mcg_status |= status;
	wrmsr(MSR_IA32_MCG_STATUS, 0);
	return true;
}

/*
 * The exit interrupted an IRET that had already ended NMI blocking: IRET will
 * be executed again, so NMIs are still blocked until then.
 */
void caretaker_restore_nmi_blocking(u64 info)
{
	if (info & INTR_INFO_UNBLOCK_NMI &&
	    !(vmread(IDT_VECTORING_INFO_FIELD) & INTR_INFO_VALID_MASK))
		vmwrite(GUEST_INTERRUPTIBILITY_INFO,
			vmread(GUEST_INTERRUPTIBILITY_INFO) |
				GUEST_INTR_STATE_NMI);
}

enum caretaker_answer caretaker_exception_exit(struct caretaker_ccb *ccb)
{
	u64 info = vmread(VM_EXIT_INTR_INFO);

	if (is_attached(ccb) || !(info & INTR_INFO_VALID_MASK))
		return CARETAKER_UNANSWERED;
	if ((info & INTR_INFO_INTR_TYPE_MASK) == INTR_TYPE_NMI_INTR) {
		count_one(&telemetry_of(ccb)->nmis);
		caretaker_unblock_nmi();
		return CARETAKER_RESUME;
	}
	if ((info & (INTR_INFO_INTR_TYPE_MASK | INTR_INFO_VECTOR_MASK)) !=
	    (INTR_TYPE_HARD_EXCEPTION | X86_TRAP_MC))
		return CARETAKER_UNANSWERED;
	if (!caretaker_answer_machine_check(ccb))
		caretaker_park(ccb, X86_TRAP_MC, 0, vmread(GUEST_RIP));
	caretaker_restore_nmi_blocking(info);
	return CARETAKER_RESUME;
}
