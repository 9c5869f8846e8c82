// SPDX-License-Identifier: GPL-2.0-only
/*
 * Machine checks: what is left of what one interrupted, by IA32_MCG_STATUS and
 * the banks, and who deals with it. The banks stay for the host.
 */
#include "caretaker.h"
#include "cpu.h"

#define REPORTED (MCI_STATUS_VAL | MCI_STATUS_UC | MCI_STATUS_EN)
#define ACTION	 (MCI_STATUS_S | MCI_STATUS_AR)

/* Uncorrected errors count, and PCC among them more than S and AR. */
enum caretaker_severity caretaker_judge_machine_check(u64 mcg_status)
{
	enum caretaker_severity severity = CARETAKER_SURVIVABLE;
	u32 banks = rdmsr(MSR_IA32_MCG_CAP) & MCG_CAP_COUNT_MASK;
	u32 i;

	if (!(mcg_status & MCG_STATUS_RIPV))
		return CARETAKER_LOST;
	for (i = 0; i < banks; i++) {
		u64 status = rdmsr(MSR_IA32_MC0_STATUS + 4 * i);

		if ((status & REPORTED) != REPORTED)
			continue;
		if (status & MCI_STATUS_PCC)
			return CARETAKER_LOST;
		/* Without EIPV the error is another processor's. */
		if (mcg_status & MCG_STATUS_EIPV &&
		    (status & ACTION) == ACTION)
			severity = CARETAKER_ACTION_REQUIRED;
	}
	return severity;
}

/* KVM does with it what do_machine_check() would, before the guest goes on. */
void caretaker_remember_machine_check(struct caretaker_ccb *ccb, u64 mcg_status)
{
	soft_state_of(ccb)->mcg_status |= mcg_status;
	/* Another one with MCIP still set would shut the processor down. */
	wrmsr(MSR_IA32_MCG_STATUS, 0);
}

/* One that the policy leaves to KVM, with the exit that it caused. */
void caretaker_leave_machine_check(struct caretaker_ccb *ccb, u32 reason)
{
	if (reason == EXIT_REASON_EXCEPTION_NMI &&
	    is_machine_check(vmread(VM_EXIT_INTR_INFO)))
		caretaker_remember_machine_check(ccb,
						 rdmsr(MSR_IA32_MCG_STATUS));
}

void caretaker_count_machine_check(struct caretaker_ccb *ccb)
{
	count_one(&telemetry_of(ccb)->machine_checks);
	wrmsr(MSR_IA32_MCG_STATUS, 0);
}

/* In root operation. False: the payload must not go on. */
bool caretaker_survive_machine_check(struct caretaker_ccb *ccb)
{
	u64 mcg_status = rdmsr(MSR_IA32_MCG_STATUS);

	if (caretaker_judge_machine_check(mcg_status) != CARETAKER_SURVIVABLE)
		return false;
	if (is_attached(ccb))
		caretaker_remember_machine_check(ccb, mcg_status);
	else
		caretaker_count_machine_check(ccb);
	return true;
}

/* The guest's, while KVM is gone: it waits for KVM if memory needs repair. */
enum caretaker_answer caretaker_machine_check_exit(struct caretaker_ccb *ccb)
{
	u64 mcg_status = rdmsr(MSR_IA32_MCG_STATUS);

	switch (caretaker_judge_machine_check(mcg_status)) {
	case CARETAKER_SURVIVABLE:
		caretaker_count_machine_check(ccb);
		return CARETAKER_RESUME;
	case CARETAKER_ACTION_REQUIRED:
		caretaker_remember_machine_check(ccb, mcg_status);
		return CARETAKER_UNANSWERED;
	default:
		caretaker_park(ccb, X86_TRAP_MC, 0, vmread(GUEST_RIP));
	}
}
