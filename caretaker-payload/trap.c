// SPDX-License-Identifier: GPL-2.0-only
/*
 * The payload's own IDT: NMI, machine check, interrupts while the core halts or
 * waits in root operation, and the faults that nothing but a bug can cause.
 */
#include "caretaker.h"
#include "cpu.h"
#include "trap.h"

static bool is_between(u64 rip, const char *begin, const char *end)
{
	return rip >= (u64)begin && rip < (u64)end;
}

static bool is_on_ist(u64 rsp, enum caretaker_ist ist)
{
	u64 base = (u64)caretaker_ist_stacks[ist - 1];

	return rsp > base && rsp <= base + CARETAKER_IST_SIZE;
}

/* What was looked at before the event may be outdated: look again. */
static u64 look_again(struct caretaker_trap_frame *frame)
{
	if (is_between(frame->rip, caretaker_last_look, caretaker_window_end))
		return (u64)caretaker_look_again;
	if (is_between(frame->rip, caretaker_halt_look, caretaker_halt_end)) {
		/* STI may be done: an interrupt must not come before HLT. */
		frame->rflags &= ~(u64)X86_EFLAGS_IF;
		return (u64)caretaker_halt_look;
	}
	return 0;
}

/*
 * While attached an NMI is the host's: remember it for KVM. Detached it is a
 * kick or a stray.
 */
static u64 nmi(struct caretaker_ccb *ccb, struct caretaker_trap_frame *frame)
{
	if (is_attached(ccb))
		WRITE_ONCE(soft_state_of(ccb)->host_nmi_pending, 1);
	else
		count_one(&telemetry_of(ccb)->nmis);
	return look_again(frame);
}

/*
 * The host's while attached, as an NMI is. IRET from here ends NMI blocking,
 * and a second machine check reuses this stack: inside those two handlers
 * returning is not safe, so the core parks.
 */
static u64 machine_check(struct caretaker_ccb *ccb,
			 struct caretaker_trap_frame *frame)
{
	bool is_inside_handler = is_on_ist(frame->rsp, CARETAKER_IST_NMI) ||
				 is_on_ist(frame->rsp, CARETAKER_IST_MC);

	if (is_inside_handler || !caretaker_survive_machine_check(ccb))
		caretaker_park(ccb, X86_TRAP_MC, 0, frame->rip);
	return look_again(frame);
}

/* IF is open in a halt, which one interrupt ends, and in a wait for KVM. */
static u64 interrupt(struct caretaker_ccb *ccb,
		     struct caretaker_trap_frame *frame)
{
	frame->rflags &= ~(u64)X86_EFLAGS_IF;
	/* The host's is acknowledged but not ended: KVM does that. */
	if (is_attached(ccb))
		soft_state_of(ccb)->acknowledged_vector = (u32)frame->vector;
	else
		caretaker_answer_interrupt(ccb, (u32)frame->vector);
	if (is_between(frame->rip, caretaker_halt_look, caretaker_halt_end))
		return (u64)caretaker_halt_end;
	return 0;
}

/* Returns where to go on instead of frame->rip, or 0. */
u64 caretaker_trap(struct caretaker_trap_frame *frame)
{
	struct caretaker_ccb *ccb = &caretaker_ccb;

	if (frame->vector == X86_TRAP_NMI)
		return nmi(ccb, frame);
	if (frame->vector == X86_TRAP_MC)
		return machine_check(ccb, frame);
	if (frame->vector >= CARETAKER_FIRST_IRQ)
		return interrupt(ccb, frame);
	if (frame->vector == CARETAKER_IRET_TRAP &&
	    frame->rip == (u64)caretaker_nmi_unblocked)
		return 0;
	caretaker_park(ccb, (u32)frame->vector, (u32)frame->error_code,
		       frame->rip);
}
