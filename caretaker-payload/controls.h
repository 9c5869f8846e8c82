/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The VM-execution controls that a payload may change. The VMCS's value is
 * kept beside, because most exits want no change and a VMREAD costs.
 */
#ifndef PAYLOAD_CONTROLS_H
#define PAYLOAD_CONTROLS_H

#include "caretaker.h"
#include "cpu.h"

/* 0 is never a valid value: some controls are fixed to 1. */
static inline void set_controls(u32 *known, u64 field, u32 mask, u32 bits)
{
	u32 wanted;

	if (unlikely(!*known))
		*known = (u32)vmread(field);
	wanted = (*known & ~mask) | bits;
	if (wanted != *known) {
		*known = wanted;
		vmwrite(field, wanted);
	}
}

static inline void set_timer_control(u32 bits)
{
	set_controls(&caretaker_instance.pin_controls,
		     PIN_BASED_VM_EXEC_CONTROL, PIN_BASED_VMX_PREEMPTION_TIMER,
		     bits);
}

static inline void set_window_controls(u32 bits)
{
	set_controls(
		&caretaker_instance.cpu_controls, CPU_BASED_VM_EXEC_CONTROL,
		CPU_BASED_INTR_WINDOW_EXITING | CPU_BASED_NMI_WINDOW_EXITING,
		bits);
}

#endif
