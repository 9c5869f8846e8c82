/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Compiled to assembly only: each string "->NAME value" becomes a #define of
 * asm-offsets.h, so that assembly knows the structures of C.
 */
#include "caretaker.h"
#include "trap.h"

#define DEFINE(name, value) \
	__asm__ volatile("\n.ascii \"->" #name " %0\"" ::"i"((u64)(value)))
#define OFFSET(name, type, field) \
	DEFINE(name, __builtin_offsetof(struct type, field))
#define REGISTER(name)                                               \
	DEFINE(CCB_##name,                                           \
	       __builtin_offsetof(struct caretaker_ccb, registers) + \
		       8 * CARETAKER_##name)

void asm_offsets(void);
void asm_offsets(void)
{
	REGISTER(RAX);
	REGISTER(RCX);
	REGISTER(RDX);
	REGISTER(RBX);
	REGISTER(RBP);
	REGISTER(RSI);
	REGISTER(RDI);
	REGISTER(R8);
	REGISTER(R9);
	REGISTER(R10);
	REGISTER(R11);
	REGISTER(R12);
	REGISTER(R13);
	REGISTER(R14);
	REGISTER(R15);

	OFFSET(CCB_ATTACH_STATE, caretaker_ccb, attach_state);
	OFFSET(CCB_REQUEST, caretaker_ccb, request);
	OFFSET(CCB_ROUTING_HANDLER, caretaker_ccb, routing_handler);
	OFFSET(CCB_ROUTING_STACK, caretaker_ccb, routing_stack);
	OFFSET(CCB_ROUTING_CR3, caretaker_ccb, routing_cr3);
	OFFSET(CCB_ROUTING_GS_BASE, caretaker_ccb, routing_gs_base);
	OFFSET(CCB_ROUTING_ARGUMENT, caretaker_ccb, routing_argument);
	OFFSET(CCB_SSP, caretaker_ccb, ssp);
	OFFSET(CCB_SOFT_STATE, caretaker_ccb, soft_state_address);
	DEFINE(ATTACHED, KVM_ATTACHED);
	DEFINE(REQUEST_STOP, CARETAKER_REQUEST_STOP);

	OFFSET(SOFT_POSTED, caretaker_soft_state, posted);
	OFFSET(SOFT_POSTED_NMI, caretaker_soft_state, posted_nmi);
	OFFSET(SOFT_ACKNOWLEDGED, caretaker_soft_state, acknowledged_vector);
	OFFSET(SOFT_HOST_NMI, caretaker_soft_state, host_nmi_pending);
	OFFSET(SOFT_MCG_STATUS, caretaker_soft_state, mcg_status);

	OFFSET(FRAME_RIP, caretaker_trap_frame, rip);
	DEFINE(TRAP_STUB_SIZE, CARETAKER_TRAP_STUB_SIZE);
	DEFINE(IRET_TRAP, CARETAKER_IRET_TRAP);
}
