// SPDX-License-Identifier: GPL-2.0-only
/*
 * Events for the guest: the one whose delivery an exit interrupted, NMIs, and
 * interrupts by priority; and the windows to wait for when it cannot take them.
 */
#include "caretaker.h"
#include "controls.h"
#include "vectors.h"

#define EVENT_MASK                                          \
	(INTR_INFO_VECTOR_MASK | INTR_INFO_INTR_TYPE_MASK | \
	 INTR_INFO_DELIVER_CODE_MASK | INTR_INFO_VALID_MASK)
#define RVI_MASK 0xffull
#define SHADOW (GUEST_INTR_STATE_STI | GUEST_INTR_STATE_MOV_SS)

/* VM-entry injection of interrupts is not the payload's where this is set. */
static bool is_processors(const struct caretaker_config *config)
{
	return config->interrupt_delivery == CARETAKER_DELIVERY_PROCESSOR;
}

static bool has_request(const struct caretaker_soft_state *soft)
{
	return soft->irr[0] | soft->irr[1] | soft->irr[2] | soft->irr[3];
}

static bool is_software_event(u32 info)
{
	u32 type = info & INTR_INFO_INTR_TYPE_MASK;

	return type == INTR_TYPE_SOFT_INTR ||
	       type == INTR_TYPE_PRIV_SW_EXCEPTION ||
	       type == INTR_TYPE_SOFT_EXCEPTION;
}

/*
 * Soft state has the event of the coming VM entry until the exit after it, so
 * that a route, a stop or a second preparation in between does not lose it.
 */
void caretaker_save_vectored_event(struct caretaker_ccb *ccb)
{
	struct caretaker_soft_state *soft = soft_state_of(ccb);
	u32 info = (u32)vmread(IDT_VECTORING_INFO_FIELD);

	if (likely(!(info & INTR_INFO_VALID_MASK))) {
		if (soft->event_info)
			soft->event_info = 0;
		return;
	}
	soft->event_info = info & EVENT_MASK;
	/* Where the event has no such thing the field is undefined. */
	if (info & INTR_INFO_DELIVER_CODE_MASK)
		soft->event_error_code = (u32)vmread(IDT_VECTORING_ERROR_CODE);
	if (is_software_event(info))
		soft->event_instruction_length =
			(u32)vmread(VM_EXIT_INSTRUCTION_LEN);
}

/* What KVM has already set up to inject comes before the payload's choice. */
void caretaker_adopt_event(struct caretaker_ccb *ccb)
{
	struct caretaker_soft_state *soft = soft_state_of(ccb);
	u32 info = (u32)vmread(VM_ENTRY_INTR_INFO_FIELD);

	if (!(info & INTR_INFO_VALID_MASK))
		return;
	soft->event_info = info;
	soft->event_error_code = (u32)vmread(VM_ENTRY_EXCEPTION_ERROR_CODE);
	soft->event_instruction_length = (u32)vmread(VM_ENTRY_INSTRUCTION_LEN);
}

/* #GP(0) instead of the instruction; real mode pushes no error code. */
enum caretaker_answer caretaker_inject_gp(struct caretaker_ccb *ccb)
{
	struct caretaker_soft_state *soft = soft_state_of(ccb);

	soft->event_info = INTR_INFO_VALID_MASK | INTR_TYPE_HARD_EXCEPTION |
			   X86_TRAP_GP;
	if (vmread(GUEST_CR0) & X86_CR0_PE)
		soft->event_info |= INTR_INFO_DELIVER_CODE_MASK;
	soft->event_error_code = 0;
	return CARETAKER_RESUME;
}

/*
 * Clear ON first: who posts after that sends a notification again, and the
 * processor takes what it tells of.
 */
static noinline void merge_descriptor(struct caretaker_soft_state *soft)
{
	u64 *pir = soft->pi_desc.pir;
	u32 i;

	__atomic_fetch_and(&soft->pi_desc.control, ~CARETAKER_PI_ON,
			   __ATOMIC_SEQ_CST);
	for (i = 0; i < VECTOR_WORDS; i++)
		if (READ_ONCE(pir[i]))
			soft->irr[i] |= __atomic_exchange_n(&pir[i], 0,
							    __ATOMIC_SEQ_CST);
}

/* Others set a bit and kick; the exchange takes over exactly what it clears. */
void caretaker_merge_posted(struct caretaker_soft_state *soft)
{
	u32 i;

	for (i = 0; i < VECTOR_WORDS; i++)
		if (READ_ONCE(soft->posted[i]))
			soft->irr[i] |= __atomic_exchange_n(&soft->posted[i], 0,
							    __ATOMIC_SEQ_CST);
	if (READ_ONCE(soft->posted_nmi)) {
		__atomic_exchange_n(&soft->posted_nmi, 0, __ATOMIC_SEQ_CST);
		soft->virtual_nmi_pending = 1;
	}
	if (READ_ONCE(soft->pi_desc.control) & CARETAKER_PI_ON)
		merge_descriptor(soft);
}

/*
 * The processor delivers: what waits is the virtual-APIC page's. It holds 32
 * vectors in the first four of each 16 bytes.
 */
static noinline void request_of_processor(const struct caretaker_config *config,
					  struct caretaker_soft_state *soft)
{
	u32 *virr = (u32 *)(config->virtual_apic_address + APIC_IRR);
	u64 status = vmread(GUEST_INTR_STATUS);
	u32 highest = highest_vector(soft->irr);
	u32 i;

	for (i = 0; i < VECTOR_WORDS; i++) {
		virr[8 * i] |= (u32)soft->irr[i];
		virr[8 * i + 4] |= (u32)(soft->irr[i] >> 32);
		soft->irr[i] = 0;
	}
	if (highest > (status & RVI_MASK))
		vmwrite(GUEST_INTR_STATUS, (status & ~RVI_MASK) | highest);
}

/* The vector that only RFLAGS.IF and a shadow may still hold back, or 0. */
static u32 deliverable_vector(const struct caretaker_soft_state *soft)
{
	u32 vector = highest_vector(soft->irr);
	u32 priority = caretaker_processor_priority(soft);

	return PRIORITY_CLASS(vector) > PRIORITY_CLASS(priority) ? vector : 0;
}

/* The same of the processor's, which goes by RVI and SVI. */
static bool has_deliverable(struct caretaker_ccb *ccb)
{
	const struct caretaker_config *config = config_of(ccb);
	struct caretaker_soft_state *soft = soft_state_of(ccb);
	u64 status;
	u32 priority;

	if (!is_processors(config))
		return deliverable_vector(soft);
	request_of_processor(config, soft);
	status = vmread(GUEST_INTR_STATUS);
	priority = *(u32 *)(config->virtual_apic_address + APIC_TASKPRI) & 0xff;
	if (priority < status >> 8)
		priority = (u32)(status >> 8);
	return PRIORITY_CLASS(status & RVI_MASK) > PRIORITY_CLASS(priority);
}

static bool is_interruptible(void)
{
	return vmread(GUEST_RFLAGS) & X86_EFLAGS_IF;
}

/* An instruction that completes ends the shadow, so it does not count here. */
bool caretaker_has_injectable(struct caretaker_ccb *ccb)
{
	struct caretaker_soft_state *soft = soft_state_of(ccb);

	caretaker_merge_posted(soft);
	if (soft->tsc_deadline)
		caretaker_expire_timer(
			soft, caretaker_guest_tsc(config_of(ccb), rdtsc()));
	if (soft->virtual_nmi_pending &&
	    !(vmread(GUEST_INTERRUPTIBILITY_INFO) & GUEST_INTR_STATE_NMI))
		return true;
	return has_deliverable(ccb) && is_interruptible();
}

/*
 * A debug trap of the instruction before comes before an NMI and an interrupt,
 * and one that is injected with it pending would take its place for good: VM
 * entry delivers it, and the windows open behind it.
 */
static bool has_debug_trap(void)
{
	return vmread(GUEST_PENDING_DBG_EXCEPTIONS) & GUEST_PENDING_DBG_VALID;
}

/* One event an entry: an NMI before an interrupt, if the guest takes it now. */
static void choose_event(struct caretaker_soft_state *soft)
{
	u64 blocking = vmread(GUEST_INTERRUPTIBILITY_INFO);
	u32 vector = deliverable_vector(soft);

	if (blocking & SHADOW || has_debug_trap())
		return;
	if (soft->virtual_nmi_pending && !(blocking & GUEST_INTR_STATE_NMI)) {
		soft->virtual_nmi_pending = 0;
		soft->event_info = INTR_INFO_VALID_MASK | INTR_TYPE_NMI_INTR |
				   X86_TRAP_NMI;
	} else if (vector && is_interruptible()) {
		clear_vector(soft->irr, vector);
		set_vector(soft->isr, vector);
		soft->event_info = INTR_INFO_VALID_MASK | INTR_TYPE_EXT_INTR |
				   vector;
	}
}

/* An NMI whose delivery was interrupted has already blocked NMIs: unblock. */
static void unblock_virtual_nmi(void)
{
	u64 blocking = vmread(GUEST_INTERRUPTIBILITY_INFO);

	if (blocking & GUEST_INTR_STATE_NMI)
		vmwrite(GUEST_INTERRUPTIBILITY_INFO,
			blocking & ~(u64)GUEST_INTR_STATE_NMI);
}

static void write_event(const struct caretaker_soft_state *soft)
{
	u32 info = soft->event_info;

	vmwrite(VM_ENTRY_INTR_INFO_FIELD, info);
	if (info & INTR_INFO_DELIVER_CODE_MASK)
		vmwrite(VM_ENTRY_EXCEPTION_ERROR_CODE, soft->event_error_code);
	if (is_software_event(info))
		vmwrite(VM_ENTRY_INSTRUCTION_LEN,
			soft->event_instruction_length);
	if ((info & INTR_INFO_INTR_TYPE_MASK) == INTR_TYPE_NMI_INTR)
		unblock_virtual_nmi();
}

/* What still waits after this entry's event needs an exit when it can go. */
static u32 wanted_windows(const struct caretaker_soft_state *soft)
{
	u32 windows = 0;

	/* Without virtual NMIs there is no window to wait for. */
	if (soft->virtual_nmi_pending &&
	    vmread(PIN_BASED_VM_EXEC_CONTROL) & PIN_BASED_VIRTUAL_NMIS)
		windows |= CPU_BASED_NMI_WINDOW_EXITING;
	if (deliverable_vector(soft))
		windows |= CPU_BASED_INTR_WINDOW_EXITING;
	return windows;
}

/* Out of line, so that the usual exit, with nothing waiting, saves nothing. */
static noinline void inject_waiting(struct caretaker_soft_state *soft)
{
	if (!(soft->event_info & INTR_INFO_VALID_MASK))
		choose_event(soft);
	if (soft->event_info & INTR_INFO_VALID_MASK)
		write_event(soft);
	set_window_controls(wanted_windows(soft));
}

void caretaker_inject(struct caretaker_ccb *ccb)
{
	struct caretaker_soft_state *soft = soft_state_of(ccb);

	if (has_request(soft) && is_processors(config_of(ccb)))
		request_of_processor(config_of(ccb), soft);
	if (has_request(soft) | soft->virtual_nmi_pending | soft->event_info)
		inject_waiting(soft);
	else
		set_window_controls(0);
}
