// SPDX-License-Identifier: GPL-2.0-only
/*
 * IPIs between the vCPUs of the VM, and interrupts to another of them: the bit
 * first, then the physical kick that makes its owner look.
 */
#include "caretaker.h"
#include "vectors.h"

static bool is_self(const struct caretaker_ccb *ccb,
		    const struct caretaker_vcpu *target)
{
	return target->vcpu_id == ccb->vcpu_id;
}

static struct caretaker_soft_state *
soft_state_of_target(const struct caretaker_vcpu *target)
{
	return (struct caretaker_soft_state *)target->soft_state_address;
}

static void kick(const struct caretaker_ccb *ccb,
		 const struct caretaker_vcpu *target)
{
	x2apic_fence(); /* forbids the kick from overtaking the posted bit */
	wrmsr(X2APIC_MSR(APIC_ICR),
	      (u64)target->physical_apic_id << 32 |
		      config_of(ccb)->notification_vector);
}

void caretaker_request_interrupt(struct caretaker_ccb *ccb,
				 const struct caretaker_vcpu *target,
				 u32 vector)
{
	struct caretaker_soft_state *soft = soft_state_of_target(target);

	if (is_self(ccb, target)) {
		set_vector(soft_state_of(ccb)->irr, vector);
		return;
	}
	__atomic_fetch_or(&soft->posted[vector >> 6 & 3], VECTOR_BIT(vector),
			  __ATOMIC_SEQ_CST);
	kick(ccb, target);
}

static void request_nmi(struct caretaker_ccb *ccb,
			const struct caretaker_vcpu *target)
{
	if (is_self(ccb, target)) {
		soft_state_of(ccb)->virtual_nmi_pending = 1;
		return;
	}
	__atomic_fetch_or(&soft_state_of_target(target)->posted_nmi, 1,
			  __ATOMIC_SEQ_CST);
	kick(ccb, target);
}

static bool is_addressed(const struct caretaker_ccb *ccb,
			 const struct caretaker_vcpu *target, u64 icr)
{
	u32 destination = icr >> 32;
	u32 id = caretaker_logical_id(target->apic_id);

	switch (icr & APIC_SHORT_MASK) {
	case APIC_DEST_SELF:
		return is_self(ccb, target);
	case APIC_DEST_ALLINC:
		return true;
	case APIC_DEST_ALLBUT:
		return !is_self(ccb, target);
	default:
		break;
	}
	if (destination == X2APIC_BROADCAST)
		return true;
	if (icr & APIC_DEST_LOGICAL)
		return id >> 16 == destination >> 16 && id & (u16)destination;
	return target->apic_id == destination;
}

/* A destination that the table does not know in full is KVM's to resolve. */
static bool is_covered(const struct caretaker_ccb *ccb, u32 count, u64 icr)
{
	const struct caretaker_vcpu *vcpus = config_of(ccb)->vcpu;
	u32 missing = icr & APIC_DEST_LOGICAL ? (u16)(icr >> 32) : 1;
	u32 i;

	if (icr & APIC_SHORT_MASK || icr >> 32 == X2APIC_BROADCAST)
		return true;
	for (i = 0; i < count; i++) {
		if (!is_addressed(ccb, &vcpus[i], icr))
			continue;
		missing &= icr & APIC_DEST_LOGICAL ?
				   ~caretaker_logical_id(vcpus[i].apic_id) :
				   0;
	}
	return !missing;
}

/* SMI, INIT and SIPI, and what an APIC would refuse, are KVM's. */
static bool is_deliverable(u64 icr)
{
	u32 shorthand = icr & APIC_SHORT_MASK;

	switch (icr & APIC_MODE_MASK) {
	case APIC_DM_FIXED:
		return (icr & APIC_VECTOR_MASK) >= FIRST_LEGAL_VECTOR;
	case APIC_DM_LOWEST:
		return (icr & APIC_VECTOR_MASK) >= FIRST_LEGAL_VECTOR &&
		       shorthand != APIC_DEST_SELF &&
		       shorthand != APIC_DEST_ALLINC;
	case APIC_DM_NMI:
		return shorthand != APIC_DEST_SELF &&
		       shorthand != APIC_DEST_ALLINC;
	default:
		return false;
	}
}

enum caretaker_answer caretaker_send_ipi(struct caretaker_ccb *ccb, u64 icr)
{
	const struct caretaker_config *config = config_of(ccb);
	u32 count = table_length(config->vcpu_count, CARETAKER_VCPU_MAX);
	u32 i;

	if (!is_deliverable(icr) || !is_covered(ccb, count, icr))
		return CARETAKER_UNANSWERED;
	for (i = 0; i < count; i++) {
		if (!is_addressed(ccb, &config->vcpu[i], icr))
			continue;
		if ((icr & APIC_MODE_MASK) == APIC_DM_NMI)
			request_nmi(ccb, &config->vcpu[i]);
		else
			caretaker_request_interrupt(ccb, &config->vcpu[i],
						    icr & APIC_VECTOR_MASK);
		if ((icr & APIC_MODE_MASK) == APIC_DM_LOWEST)
			break; /* one of them takes it: the first */
	}
	return CARETAKER_ADVANCE;
}
