// SPDX-License-Identifier: GPL-2.0-only
/*
 * A blocking exit: the guest waits here until KVM is back or asks for it. The
 * core's interrupts do not wait with it: one may be for another vCPU.
 */
#include "caretaker.h"
#include "cpu.h"

u64 caretaker_block(struct caretaker_ccb *ccb, u32 reason)
{
	u64 tsc_entry;

	caretaker_count_blocked(ccb, reason);
	caretaker_leave_machine_check(ccb, reason);
	ccb->exit_reason = reason;
	ccb->registers_valid = 1;
	set_state(ccb, CARETAKER_SPINNING);
	/* Forbids reading the flag before KVM can see that the vCPU waits. */
	smp_mb();

	tsc_entry = rdtsc();
	while (!is_attached(ccb) && !is_stop_requested(ccb))
		cpu_relax_interruptible();
	caretaker_record_stall(ccb, reason, tsc_entry, rdtsc());

	if (is_stop_requested(ccb))
		return caretaker_stop(ccb, reason);
	set_state(ccb, CARETAKER_RUNNING);
	return caretaker_route(ccb, reason);
}
