// SPDX-License-Identifier: GPL-2.0-only
/*
 * The guest's TSC and its deadline timer, which the VMX preemption timer
 * stands in for while the guest runs.
 */
#include "caretaker.h"
#include "controls.h"
#include "vectors.h"

#define TSC_MULTIPLIER_ONE (1ull << 48)
#define TIMER_VALUE_MAX	   0xffffffffull

/* Scaled time is KVM's: the payload does not announce TSC_SCALING. */
bool caretaker_tsc_is_scaled(const struct caretaker_config *config)
{
	return config->tsc_multiplier != TSC_MULTIPLIER_ONE;
}

u64 caretaker_guest_tsc(const struct caretaker_config *config, u64 host_tsc)
{
	return host_tsc + config->tsc_offset;
}

/* The timer fires once: it disarms, and requests its vector unless masked. */
bool caretaker_expire_timer(struct caretaker_soft_state *soft, u64 guest_tsc)
{
	u64 deadline = soft->tsc_deadline;
	u32 vector = soft->lvt_timer & APIC_VECTOR_MASK;

	if (!deadline || guest_tsc < deadline)
		return false;
	soft->tsc_deadline = 0;
	if (!(soft->lvt_timer & APIC_LVT_MASKED) &&
	    vector >= FIRST_LEGAL_VECTOR)
		set_vector(soft->irr, vector);
	return true;
}

/*
 * The timer counts in units of 2^shift TSC ticks and has 32 bits: rounded up it
 * does not expire early by its own unit, and too long a wait is cut and taken
 * up again. Recomputed at each entry, because it does not count in root.
 */
void caretaker_arm_timer(struct caretaker_ccb *ccb)
{
	const struct caretaker_config *config = config_of(ccb);
	struct caretaker_soft_state *soft = soft_state_of(ccb);
	u32 shift = config->preemption_timer_shift & 31;
	u64 now, left, value;

	if (!soft->tsc_deadline || caretaker_tsc_is_scaled(config)) {
		set_timer_control(0);
		return;
	}
	now = caretaker_guest_tsc(config, rdtsc());
	if (caretaker_expire_timer(soft, now)) {
		set_timer_control(0);
		return;
	}
	left = soft->tsc_deadline - now;
	value = (left >> shift) + !!(left & ((1u << shift) - 1));
	if (value > TIMER_VALUE_MAX)
		value = TIMER_VALUE_MAX;
	vmwrite(VMX_PREEMPTION_TIMER_VALUE, value);
	set_timer_control(PIN_BASED_VMX_PREEMPTION_TIMER);
}

/* VM exit before the guest's first instruction. */
void caretaker_force_exit(void)
{
	vmwrite(VMX_PREEMPTION_TIMER_VALUE, 0);
	set_timer_control(PIN_BASED_VMX_PREEMPTION_TIMER);
}

/* In the timer's other modes the register is not the payload's to model. */
enum caretaker_answer caretaker_write_deadline(struct caretaker_ccb *ccb,
					       u64 deadline)
{
	struct caretaker_soft_state *soft = soft_state_of(ccb);

	if (caretaker_tsc_is_scaled(config_of(ccb)) ||
	    (soft->lvt_timer & APIC_LVT_TIMER_MODE) !=
		    APIC_LVT_TIMER_TSCDEADLINE)
		return CARETAKER_UNANSWERED;
	soft->tsc_deadline = deadline;
	return CARETAKER_ADVANCE;
}

static void answer_tsc(struct caretaker_ccb *ccb, u64 host_tsc)
{
	u64 tsc = caretaker_guest_tsc(config_of(ccb), host_tsc);

	ccb->registers[CARETAKER_RAX] = (u32)tsc;
	ccb->registers[CARETAKER_RDX] = tsc >> 32;
}

enum caretaker_answer caretaker_rdtsc(struct caretaker_ccb *ccb)
{
	if (caretaker_tsc_is_scaled(config_of(ccb)))
		return CARETAKER_UNANSWERED;
	answer_tsc(ccb, rdtsc());
	return CARETAKER_ADVANCE;
}

enum caretaker_answer caretaker_rdtscp(struct caretaker_ccb *ccb)
{
	u32 aux;

	if (caretaker_tsc_is_scaled(config_of(ccb)))
		return CARETAKER_UNANSWERED;
	answer_tsc(ccb, rdtscp(&aux));
	ccb->registers[CARETAKER_RCX] = aux;
	return CARETAKER_ADVANCE;
}
