// SPDX-License-Identifier: GPL-2.0-only
/*
 * The end of the road: record why, publish it, and keep the core still.
 */
#include "caretaker.h"
#include "cpu.h"

static void record(struct caretaker_ccb *ccb, u32 vector, u32 error_code,
		   u64 rip)
{
	struct caretaker_telemetry *telemetry = telemetry_of(ccb);
	u64 cr2 = read_cr2();

	ccb->vector = vector;
	ccb->error_code = error_code;
	ccb->rip = rip;
	ccb->cr2 = cr2;
	ccb->exit_reason = telemetry->last_exit_reason;

	telemetry->park_vector = vector;
	telemetry->park_error_code = error_code;
	telemetry->park_exit_reason = telemetry->last_exit_reason;
	telemetry->park_rip = rip;
	telemetry->park_cr2 = cr2;
	telemetry->park_tsc = rdtsc();
	telemetry->park_valid = 1;
}

/*
 * The guest goes to memory, and the core out of VMX, where the next kernel's
 * INIT can reach it.
 */
static void leave_vmx(struct caretaker_ccb *ccb)
{
	if (caretaker_instance.has_left_vmx)
		return;
	vmclear(ccb->vmcs_address);
	vmxoff();
}

/*
 * The first fault is the one to know: one while recording it, or later, goes on
 * with the next step and not with the record. An NMI ends HLT, hence the loop.
 */
void caretaker_park(struct caretaker_ccb *ccb, u32 vector, u32 error_code,
		    u64 rip)
{
	u32 *step = &caretaker_instance.park_step;

	if (*step == CARETAKER_PARK_RECORD) {
		WRITE_ONCE(*step, CARETAKER_PARK_LEAVE);
		barrier(); /* a fault in record() must find it set */
		record(ccb, vector, error_code, rip);
	}
	if (*step == CARETAKER_PARK_LEAVE) {
		WRITE_ONCE(*step, CARETAKER_PARK_STAY);
		barrier(); /* the same for leave_vmx() */
		leave_vmx(ccb);
	}
	set_state(ccb, CARETAKER_PARKED);
	for (;;) {
		cpu_relax();
		halt();
	}
}

/* VMRESUME or VMLAUNCH at rip failed; VMfailInvalid leaves no error number. */
void caretaker_entry_failed(u64 rip, bool is_valid)
{
	u32 error = is_valid ? (u32)vmread(VM_INSTRUCTION_ERROR) : 0;

	caretaker_park(&caretaker_ccb, CARETAKER_VECTOR_VMFAIL, error, rip);
}
