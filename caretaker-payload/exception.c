// SPDX-License-Identifier: GPL-2.0-only
/*
 * Exit reason 0 while KVM is gone: NMIs and machine checks are the machine's,
 * all other exceptions wait for KVM.
 */
#include "caretaker.h"
#include "cpu.h"

/*
 * The exit interrupted an IRET that had already ended NMI blocking: IRET will
 * be executed again, so NMIs are still blocked until then.
 */
void caretaker_restore_nmi_blocking(u64 info)
{
	if (info & INTR_INFO_UNBLOCK_NMI &&
	    !(vmread(IDT_VECTORING_INFO_FIELD) & INTR_INFO_VALID_MASK))
		vmwrite(GUEST_INTERRUPTIBILITY_INFO,
			vmread(GUEST_INTERRUPTIBILITY_INFO) |
				GUEST_INTR_STATE_NMI);
}

enum caretaker_answer caretaker_exception_exit(struct caretaker_ccb *ccb)
{
	u64 info = vmread(VM_EXIT_INTR_INFO);
	enum caretaker_answer how;

	if (is_attached(ccb) || !(info & INTR_INFO_VALID_MASK))
		return CARETAKER_UNANSWERED;
	if ((info & INTR_INFO_INTR_TYPE_MASK) == INTR_TYPE_NMI_INTR) {
		count_one(&telemetry_of(ccb)->nmis);
		caretaker_unblock_nmi();
		return CARETAKER_RESUME;
	}
	if (!is_machine_check(info))
		return CARETAKER_UNANSWERED;
	how = caretaker_machine_check_exit(ccb);
	if (how == CARETAKER_RESUME)
		caretaker_restore_nmi_blocking(info);
	return how;
}
