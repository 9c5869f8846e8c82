// SPDX-License-Identifier: GPL-2.0-only
/*
 * Stop and serialize: everything that the next owner of the vCPU needs goes to
 * the save area, soft state and, by VMCLEAR, the VMCS region.
 */
#include "caretaker.h"
#include "cpu.h"

/* A fault-like exit comes again by itself; these parts of others do not. */
static void save_unrepeatable(struct caretaker_ccb *ccb, u32 reason)
{
	u64 info;

	switch (reason & VMX_EXIT_REASON_BASIC_MASK) {
	case EXIT_REASON_EXTERNAL_INTERRUPT:
		info = vmread(VM_EXIT_INTR_INFO);
		if (info & INTR_INFO_VALID_MASK)
			soft_state_of(ccb)->acknowledged_vector =
				info & INTR_INFO_VECTOR_MASK;
		break;
	case EXIT_REASON_EXCEPTION_NMI:
		info = vmread(VM_EXIT_INTR_INFO);
		/* Bit 12 is undefined for #DF. */
		if ((info & INTR_INFO_INTR_TYPE_MASK) ==
			    INTR_TYPE_HARD_EXCEPTION &&
		    (info & INTR_INFO_VECTOR_MASK) != X86_TRAP_DF)
			caretaker_restore_nmi_blocking(info);
		break;
	case EXIT_REASON_EPT_VIOLATION:
	case EXIT_REASON_PML_FULL:
	case EXIT_REASON_SPP_EVENT:
		caretaker_restore_nmi_blocking(vmread(EXIT_QUALIFICATION));
		break;
	default:
		break;
	}
}

/*
 * `unanswered` is the exit at hand, or CARETAKER_NO_EXIT. Of a trap-like exit,
 * which does not come again, KVM finds the reason here and the qualification in
 * telemetry.
 */
u64 caretaker_stop(struct caretaker_ccb *ccb, u32 unanswered)
{
	if (unanswered != CARETAKER_NO_EXIT)
		save_unrepeatable(ccb, unanswered);
	ccb->exit_reason = unanswered;
	ccb->registers_valid = 1;
	vmclear(ccb->vmcs_address);
	set_state(ccb, CARETAKER_SERIALIZED);
	/* Forbids reading the flag before KVM can see the state. */
	smp_mb();
	if (!is_attached(ccb)) {
		caretaker_instance.has_left_vmx = 1;
		vmxoff();
		while (!is_attached(ccb))
			cpu_relax();
	}
	return caretaker_route(ccb, unanswered);
}
