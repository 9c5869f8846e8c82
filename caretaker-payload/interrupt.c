// SPDX-License-Identifier: GPL-2.0-only
/*
 * External interrupts while KVM is gone: a kick, a device's vector that KVM
 * would have forwarded, or a stray.
 */
#include "caretaker.h"
#include "cpu.h"

static const struct caretaker_vcpu *
find_vcpu(const struct caretaker_config *config, u32 vcpu_id)
{
	u32 count = table_length(config->vcpu_count, CARETAKER_VCPU_MAX);
	u32 i;

	for (i = 0; i < count; i++)
		if (config->vcpu[i].vcpu_id == vcpu_id)
			return &config->vcpu[i];
	return 0;
}

static bool forward(struct caretaker_ccb *ccb, u32 vector)
{
	const struct caretaker_config *config = config_of(ccb);
	u32 count =
		table_length(config->irq_route_count, CARETAKER_IRQ_ROUTE_MAX);
	const struct caretaker_vcpu *target;
	u32 i;

	for (i = 0; i < count; i++) {
		if (config->irq_route[i].host_vector != vector)
			continue;
		target = find_vcpu(config, config->irq_route[i].vcpu_id);
		if (!target)
			return false;
		caretaker_request_interrupt(ccb, target,
					    config->irq_route[i].guest_vector);
		return true;
	}
	return false;
}

/* The registers of a set are 0x10 apart and hold 32 vectors each. */
static bool is_in_service(u32 vector)
{
	u64 word = rdmsr(X2APIC_MSR(APIC_ISR + 0x10 * (vector / 32)));

	return word >> (vector % 32) & 1;
}

/* In root operation it is an interrupt like any other, and the bits stay. */
static bool is_posted_notification(struct caretaker_ccb *ccb, u32 vector)
{
	const struct caretaker_pi_desc *desc = &soft_state_of(ccb)->pi_desc;

	return config_of(ccb)->interrupt_delivery ==
		       CARETAKER_DELIVERY_PROCESSOR &&
	       (READ_ONCE(desc->control) >> 16 & 0xff) == vector;
}

/*
 * The vector has been acknowledged, on exit or by the payload's own IDT. A
 * spurious one is not in service: an EOI would end somebody else's. A device
 * may have the same vector, so the number alone does not tell.
 */
void caretaker_answer_interrupt(struct caretaker_ccb *ccb, u32 vector)
{
	if (!is_in_service(vector)) {
		telemetry_of(ccb)->stray_interrupts++;
		return;
	}
	wrmsr(X2APIC_MSR(APIC_EOI), 0);
	if (vector == config_of(ccb)->notification_vector ||
	    is_posted_notification(ccb, vector))
		return; /* the last look finds what it is about */
	if (!forward(ccb, vector))
		telemetry_of(ccb)->stray_interrupts++;
}

enum caretaker_answer caretaker_interrupt_exit(struct caretaker_ccb *ccb)
{
	u64 info = vmread(VM_EXIT_INTR_INFO);

	if (is_attached(ccb) || !(info & INTR_INFO_VALID_MASK))
		return CARETAKER_UNANSWERED;
	caretaker_answer_interrupt(ccb, info & INTR_INFO_VECTOR_MASK);
	return CARETAKER_RESUME;
}
