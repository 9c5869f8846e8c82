// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reads of the virtual local APIC, from soft state.
 */
#include "caretaker.h"
#include "vectors.h"

#define REGISTERS_A_SET 8 /* of 32 bits: ISR, TMR and IRR each */

/* The higher class of the task's priority and of the interrupt in service. */
u32 caretaker_processor_priority(const struct caretaker_soft_state *soft)
{
	u32 in_service = highest_vector(soft->isr);
	u32 tpr = soft->tpr & 0xff;

	return PRIORITY_CLASS(tpr) >= PRIORITY_CLASS(in_service) ?
		       tpr :
		       in_service & 0xf0;
}

/* x2APIC: a cluster of sixteen in the high half, a bit each in the low one. */
u32 caretaker_logical_id(u32 apic_id)
{
	return apic_id >> 4 << 16 | 1u << (apic_id & 15);
}

static bool read_set(const u64 *words, u32 number, u64 *value)
{
	*value = (u32)(words[number >> 1] >> ((number & 1) * 32));
	return true;
}

/* `index` is the register `number` of the set that begins at `first`. */
static bool is_in_set(u32 index, u32 first, u32 *number)
{
	*number = index - first;
	return *number < REGISTERS_A_SET;
}

/* False for a register that soft state does not hold. */
bool caretaker_apic_read(struct caretaker_ccb *ccb, u32 index, u64 *value)
{
	struct caretaker_soft_state *soft = soft_state_of(ccb);
	u32 number;

	if (is_in_set(index, X2APIC_MSR(APIC_ISR), &number))
		return read_set(soft->isr, number, value);
	if (is_in_set(index, X2APIC_MSR(APIC_TMR), &number))
		return read_set(soft->tmr, number, value);
	if (is_in_set(index, X2APIC_MSR(APIC_IRR), &number)) {
		caretaker_merge_posted(soft);
		return read_set(soft->irr, number, value);
	}
	switch (index) {
	case X2APIC_MSR(APIC_ID):
		*value = soft->apic_id;
		return true;
	case X2APIC_MSR(APIC_LDR):
		*value = caretaker_logical_id(soft->apic_id);
		return true;
	case X2APIC_MSR(APIC_TASKPRI):
		*value = soft->tpr;
		return true;
	case X2APIC_MSR(APIC_PROCPRI):
		*value = caretaker_processor_priority(soft);
		return true;
	case X2APIC_MSR(APIC_LVTT):
		*value = soft->lvt_timer;
		return true;
	default:
		return false;
	}
}
