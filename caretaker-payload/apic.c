// SPDX-License-Identifier: GPL-2.0-only
/*
 * Writes to the virtual local APIC in x2APIC mode. Preparing the VM entry
 * injects what a write has made deliverable.
 */
#include "caretaker.h"
#include "vectors.h"

/* The virtual EOI: the physical one belongs to who took the interrupt. */
static enum caretaker_answer end_of_interrupt(struct caretaker_soft_state *soft)
{
	u32 vector = highest_vector(soft->isr);

	if (!vector)
		return CARETAKER_ADVANCE;
	if (has_vector(soft->tmr, vector))
		return CARETAKER_UNANSWERED; /* the I/O APIC waits for it */
	clear_vector(soft->isr, vector);
	return CARETAKER_ADVANCE;
}

static enum caretaker_answer self_ipi(struct caretaker_soft_state *soft,
				      u32 vector)
{
	if (vector < FIRST_LEGAL_VECTOR)
		return CARETAKER_UNANSWERED; /* an APIC error is KVM's */
	set_vector(soft->irr, vector);
	return CARETAKER_ADVANCE;
}

static enum caretaker_answer write_lvt_timer(struct caretaker_soft_state *soft,
					     u32 value)
{
	/* A change of mode disarms the timer. */
	if ((soft->lvt_timer ^ value) & APIC_LVT_TIMER_MODE)
		soft->tsc_deadline = 0;
	soft->lvt_timer = value;
	return CARETAKER_ADVANCE;
}

enum caretaker_answer caretaker_apic_write(struct caretaker_ccb *ccb, u32 index,
					   u64 value)
{
	struct caretaker_soft_state *soft = soft_state_of(ccb);

	switch (index) {
	case X2APIC_MSR(APIC_EOI):
		if (value)
			return caretaker_inject_gp(ccb);
		return end_of_interrupt(soft);
	case X2APIC_MSR(APIC_TASKPRI):
		if (value & ~0xffull)
			return caretaker_inject_gp(ccb);
		soft->tpr = (u32)value;
		return CARETAKER_ADVANCE;
	case X2APIC_MSR(APIC_SELF_IPI):
		if (value & ~0xffull)
			return caretaker_inject_gp(ccb);
		return self_ipi(soft, (u32)value);
	case X2APIC_MSR(APIC_ICR):
		if (value & APIC_ICR_RESERVED)
			return caretaker_inject_gp(ccb);
		return caretaker_send_ipi(ccb, value);
	case X2APIC_MSR(APIC_LVTT):
		if (value >> 32 || value & APIC_LVTT_RESERVED)
			return caretaker_inject_gp(ccb);
		return write_lvt_timer(soft, (u32)value);
	default:
		return CARETAKER_UNANSWERED;
	}
}
