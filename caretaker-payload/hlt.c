// SPDX-License-Identifier: GPL-2.0-only
/*
 * HLT: in the guest, where the preemption timer goes on (the default), or in
 * root operation with the core's own timer.
 */
#include "caretaker.h"
#include "cpu.h"

struct physical_timer {
	bool is_armed;
	u64 lvt; /* the host's */
	u64 deadline;
};

/* What VM exit does not reload goes back to what the host left: keep it. */
static void arm_physical_timer(struct caretaker_ccb *ccb,
			       struct physical_timer *host)
{
	const struct caretaker_config *config = config_of(ccb);
	u64 deadline = soft_state_of(ccb)->tsc_deadline;

	host->is_armed = deadline != 0;
	if (!host->is_armed)
		return;
	host->lvt = rdmsr(X2APIC_MSR(APIC_LVTT));
	host->deadline = rdmsr(MSR_IA32_TSC_DEADLINE);
	wrmsr(X2APIC_MSR(APIC_LVTT),
	      APIC_LVT_TIMER_TSCDEADLINE | config->notification_vector);
	x2apic_fence(); /* forbids arming before the mode is TSC-deadline */
	wrmsr(MSR_IA32_TSC_DEADLINE, deadline - config->tsc_offset);
}

static void restore_physical_timer(const struct physical_timer *host)
{
	if (!host->is_armed)
		return;
	wrmsr(MSR_IA32_TSC_DEADLINE, 0);
	wrmsr(X2APIC_MSR(APIC_LVTT), host->lvt);
	x2apic_fence(); /* forbids arming before the mode is the host's */
	wrmsr(MSR_IA32_TSC_DEADLINE, host->deadline);
}

/* A stray interrupt ends the core's halt and not the guest's. */
static bool halt_in_root(struct caretaker_ccb *ccb)
{
	struct physical_timer host;
	bool is_woken = false;

	arm_physical_timer(ccb, &host);
	set_state(ccb, CARETAKER_HALTED);
	/* Forbids reading the flag before KVM can see who needs a kick. */
	smp_mb();
	while (!is_woken && !is_stop_requested(ccb) && !is_attached(ccb)) {
		caretaker_halt(ccb);
		is_woken = caretaker_has_injectable(ccb);
	}
	set_state(ccb, CARETAKER_RUNNING);
	restore_physical_timer(&host);
	return is_woken;
}

enum caretaker_answer caretaker_hlt(struct caretaker_ccb *ccb)
{
	const struct caretaker_config *config = config_of(ccb);
	bool is_root = config->hlt_policy == CARETAKER_HLT_ROOT;

	if (caretaker_tsc_is_scaled(config))
		return CARETAKER_UNANSWERED; /* KVM has the timer */
	/* In root operation the interrupts that end a halt are the host's. */
	if (is_root && is_attached(ccb))
		return CARETAKER_UNANSWERED;
	if (caretaker_has_injectable(ccb))
		return CARETAKER_ADVANCE;
	if (!is_root || !halt_in_root(ccb))
		vmwrite(GUEST_ACTIVITY_STATE, GUEST_ACTIVITY_HLT);
	return CARETAKER_ADVANCE;
}
