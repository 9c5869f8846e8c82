// SPDX-License-Identifier: GPL-2.0-only
/*
 * The way of one exit: record it, answer it or not, count it, and prepare the
 * next VM entry. entry.S carries out what these functions return.
 */
#include "caretaker.h"
#include "cpu.h"

/* By default everything blocks: only the policy's bits open a handler. */
static bool may_answer(struct caretaker_ccb *ccb, u32 reason)
{
	u8 bit = is_attached(ccb) ? CARETAKER_HANDLE_ATTACHED :
				    CARETAKER_HANDLE_DETACHED;

	/* A modifier above the basic reason is for KVM to understand. */
	if (reason >= CARETAKER_EXIT_POLICY_MAX)
		return false;
	return config_of(ccb)->exit_policy[reason] & bit;
}

static enum caretaker_answer answer(struct caretaker_ccb *ccb, u32 reason)
{
	switch (reason) {
	case EXIT_REASON_EXCEPTION_NMI:
		return caretaker_exception_exit(ccb);
	case EXIT_REASON_EXTERNAL_INTERRUPT:
		return caretaker_interrupt_exit(ccb);
	case EXIT_REASON_INTERRUPT_WINDOW:
	case EXIT_REASON_NMI_WINDOW:
	case EXIT_REASON_PREEMPTION_TIMER:
		return CARETAKER_RESUME; /* preparing the entry does the rest */
	case EXIT_REASON_PAUSE_INSTRUCTION:
		return CARETAKER_ADVANCE;
	case EXIT_REASON_CPUID:
		return caretaker_cpuid(ccb);
	case EXIT_REASON_HLT:
		return caretaker_hlt(ccb);
	case EXIT_REASON_MSR_READ:
		return caretaker_rdmsr(ccb);
	case EXIT_REASON_MSR_WRITE:
		return caretaker_wrmsr(ccb);
	case EXIT_REASON_RDTSC:
		return caretaker_rdtsc(ccb);
	case EXIT_REASON_RDTSCP:
		return caretaker_rdtscp(ccb);
	default:
		return CARETAKER_UNANSWERED;
	}
}

/*
 * `word` is the exit's, or CARETAKER_NO_EXIT when that has been answered. The
 * caller has seen KVM_ATTACHED; entry.S loads the pointers after this.
 */
u64 caretaker_route(struct caretaker_ccb *ccb, u32 word)
{
	forget_controls();
	ccb->registers_valid = 1;
	return CARETAKER_ROUTE | word;
}

/* A stop comes before KVM's handler: then the exit counts as blocked. */
static u64 route_or_block(struct caretaker_ccb *ccb, u32 reason)
{
	if (!is_stop_requested(ccb) && is_attached(ccb)) {
		caretaker_count_routed(ccb, reason);
		return caretaker_route(ccb, reason);
	}
	return caretaker_block(ccb, reason);
}

/* The timer first: when it is due it becomes an interrupt to inject. */
static u64 prepare_entry(struct caretaker_ccb *ccb)
{
	caretaker_arm_timer(ccb);
	caretaker_inject(ccb);
	return CARETAKER_ENTER;
}

/* The vCPU is the payload's again, and the save area no longer the guest. */
static void take_over(struct caretaker_ccb *ccb)
{
	ccb->registers_valid = 0;
	caretaker_instance.has_left_vmx = 0;
	if (ccb->state != CARETAKER_RUNNING)
		set_state(ccb, CARETAKER_RUNNING);
}

/* An exit has happened and the save area holds the guest's registers. */
u64 caretaker_dispatch(struct caretaker_ccb *ccb)
{
	u32 reason = (u32)vmread(VM_EXIT_REASON);
	u64 rip = vmread(GUEST_RIP);
	enum caretaker_answer how = CARETAKER_UNANSWERED;

	caretaker_record_exit(ccb, reason, rip);
	if (unlikely(ccb->registers_valid))
		take_over(ccb); /* KVM entered the guest itself */
	if (reason & VMX_EXIT_REASONS_FAILED_VMENTRY) {
		/* Nothing was delivered: soft state still has the event. */
		caretaker_count_entry_failure(ccb);
		return route_or_block(ccb, reason);
	}
	caretaker_save_vectored_event(ccb);

	if (may_answer(ccb, reason))
		how = answer(ccb, reason);
	if (how == CARETAKER_UNANSWERED)
		return route_or_block(ccb, reason);
	if (how == CARETAKER_ADVANCE)
		caretaker_advance(rip);
	caretaker_count_fastpath(ccb, reason);
	return prepare_entry(ccb);
}

static bool has_host_event(const struct caretaker_soft_state *soft)
{
	return READ_ONCE(soft->host_nmi_pending) | soft->acknowledged_vector |
	       READ_ONCE(soft->mcg_status);
}

/* KVM took them when it had the vCPU: there is nobody to hand them to. */
static void forget_host_events(struct caretaker_soft_state *soft)
{
	WRITE_ONCE(soft->host_nmi_pending, 0);
	soft->acknowledged_vector = 0;
	WRITE_ONCE(soft->mcg_status, 0);
}

/* The last look before VM entry saw something, or an NMI made it repeat. */
u64 caretaker_attend(struct caretaker_ccb *ccb)
{
	struct caretaker_soft_state *soft = soft_state_of(ccb);

	if (is_stop_requested(ccb))
		return caretaker_stop(ccb, CARETAKER_NO_EXIT);
	if (has_host_event(soft)) {
		if (is_attached(ccb))
			return caretaker_route(ccb, CARETAKER_NO_EXIT);
		forget_host_events(soft);
	}
	caretaker_merge_posted(soft);
	return prepare_entry(ccb);
}

/*
 * KVM hands the vCPU over; its VMCS may be set up in any way. A request that
 * is already there must not be served on KVM's stack and CR3: the guest is
 * made to exit at once, and the exit's last look finds it.
 */
void caretaker_prepare_run(struct caretaker_ccb *ccb)
{
	forget_controls();
	take_over(ccb);
	caretaker_adopt_event(ccb);
	caretaker_merge_posted(soft_state_of(ccb));
	prepare_entry(ccb);
	if (is_stop_requested(ccb))
		caretaker_force_exit();
}
