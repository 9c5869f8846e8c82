// SPDX-License-Identifier: GPL-2.0-only
/*
 * RDMSR and WRMSR by KVM's policy. TSC_DEADLINE and the x2APIC registers have
 * models of their own; KVM may leave them out of the table.
 */
#include "caretaker.h"
#include "cpu.h"

#define PAT_RESERVED   0xf8f8f8f8f8f8f8f8ull
#define PAT_TYPE_BIT_1 0x0202020202020202ull

static const struct caretaker_msr *find(const struct caretaker_config *config,
					u32 index)
{
	u32 count = table_length(config->msr_count, CARETAKER_MSR_MAX);
	const struct caretaker_msr *entry = config->msr;
	const struct caretaker_msr *end = entry + count;

	for (; entry < end; entry++)
		if (entry->index == index)
			return entry;
	return 0;
}

/* Where soft state keeps the value of an entry. */
static u64 *value_of(struct caretaker_ccb *ccb, const struct caretaker_msr *msr)
{
	return &soft_state_of(ccb)->msr_value[msr - config_of(ccb)->msr];
}

static bool is_x2apic(u32 index)
{
	return index >= APIC_BASE_MSR && index <= X2APIC_MSR_LAST;
}

static bool is_canonical(u64 value)
{
	u32 unused = vmread(GUEST_CR4) & X86_CR4_LA57 ? 7 : 16;

	return (u64)((s64)(value << unused) >> unused) == value;
}

static bool is_pat(u64 value)
{
	/* Memory types 2 and 3 do not exist: bit 1 needs bit 2. */
	return !(value & PAT_RESERVED) &&
	       !(value & PAT_TYPE_BIT_1 & ~(value >> 1));
}

/* VM entry would fail with what WRMSR refuses. */
static bool fits_field(u32 field, u64 value)
{
	if ((field & VMCS_FIELD_WIDTH_MASK) == VMCS_FIELD_WIDTH_NATURAL)
		return is_canonical(value);
	return field != GUEST_IA32_PAT || is_pat(value);
}

/* False: no model of the payload's knows this register. */
static bool read_model(struct caretaker_ccb *ccb, u32 index, u64 *value)
{
	if (index == MSR_IA32_TSC_DEADLINE) {
		*value = soft_state_of(ccb)->tsc_deadline;
		return true;
	}
	return is_x2apic(index) && caretaker_apic_read(ccb, index, value);
}

enum caretaker_answer caretaker_rdmsr(struct caretaker_ccb *ccb)
{
	u32 index = (u32)ccb->registers[CARETAKER_RCX];
	const struct caretaker_msr *msr = find(config_of(ccb), index);
	u32 action = msr ? msr->read_action : CARETAKER_MSR_VALUE;
	u64 value = 0;

	switch (action) {
	case CARETAKER_MSR_VALUE:
		if (read_model(ccb, index, &value))
			break;
		if (!msr)
			return CARETAKER_UNANSWERED;
		value = *value_of(ccb, msr);
		break;
	case CARETAKER_MSR_VMCS:
		value = vmread(msr->vmcs_field);
		break;
	case CARETAKER_MSR_IGNORE:
		break;
	case CARETAKER_MSR_FAULT:
		return caretaker_inject_gp(ccb);
	default:
		return CARETAKER_UNANSWERED;
	}
	ccb->registers[CARETAKER_RAX] = (u32)value;
	ccb->registers[CARETAKER_RDX] = value >> 32;
	return CARETAKER_ADVANCE;
}

static bool is_modelled_apic_write(u32 index)
{
	switch (index) {
	case X2APIC_MSR(APIC_EOI):
	case X2APIC_MSR(APIC_TASKPRI):
	case X2APIC_MSR(APIC_ICR):
	case X2APIC_MSR(APIC_SELF_IPI):
	case X2APIC_MSR(APIC_LVTT):
		return true;
	default:
		return false;
	}
}

/* Out of line, so that the deadline, the most frequent write, saves nothing. */
static noinline enum caretaker_answer
write_other(struct caretaker_ccb *ccb, const struct caretaker_msr *msr,
	    u32 index, u64 value)
{
	enum caretaker_answer how = CARETAKER_ADVANCE;

	if (is_modelled_apic_write(index)) {
		how = caretaker_apic_write(ccb, index, value);
		/* The ICR alone is read back as written. */
		if (index != X2APIC_MSR(APIC_ICR) || how != CARETAKER_ADVANCE)
			return how;
	} else if (!msr) {
		return CARETAKER_UNANSWERED;
	}
	if (msr)
		*value_of(ccb, msr) = value;
	return how;
}

/* `msr` is null for a register that the policy does not name. */
static enum caretaker_answer write_value(struct caretaker_ccb *ccb,
					 const struct caretaker_msr *msr,
					 u32 index, u64 value)
{
	if (likely(index == MSR_IA32_TSC_DEADLINE))
		return caretaker_write_deadline(ccb, value);
	return write_other(ccb, msr, index, value);
}

enum caretaker_answer caretaker_wrmsr(struct caretaker_ccb *ccb)
{
	u32 index = (u32)ccb->registers[CARETAKER_RCX];
	u64 value = ccb->registers[CARETAKER_RDX] << 32 |
		    (u32)ccb->registers[CARETAKER_RAX];
	const struct caretaker_msr *msr = find(config_of(ccb), index);

	if (!msr)
		return write_value(ccb, 0, index, value);
	switch (msr->write_action) {
	case CARETAKER_MSR_VALUE:
		if (value & ~msr->writable)
			return caretaker_inject_gp(ccb);
		return write_value(ccb, msr, index, value);
	case CARETAKER_MSR_VMCS:
		if (value & ~msr->writable ||
		    !fits_field(msr->vmcs_field, value))
			return caretaker_inject_gp(ccb);
		vmwrite(msr->vmcs_field, value);
		return CARETAKER_ADVANCE;
	case CARETAKER_MSR_IGNORE:
		return CARETAKER_ADVANCE;
	case CARETAKER_MSR_FAULT:
		return caretaker_inject_gp(ccb);
	default:
		return CARETAKER_UNANSWERED;
	}
}
