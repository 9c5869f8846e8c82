/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the files of the payload tell each other.
 *
 * The image is copied once for each vCPU, so a static variable is per vCPU and
 * RIP-relative addressing finds it wherever GS base points.
 */
#ifndef PAYLOAD_CARETAKER_H
#define PAYLOAD_CARETAKER_H

#include "compiler.h"
#include <caretaker/ccb.h>
#include <caretaker/config.h>
#include <caretaker/soft-state.h>
#include <caretaker/telemetry.h>
#include <caretaker/vmx.h>

/* What to do after an exit: enter the guest, or route with this word in RDX. */
#define CARETAKER_ENTER	    0ull
#define CARETAKER_ROUTE	    (1ull << 32)
#define CARETAKER_IRET_TRAP 31 /* INT in caretaker_unblock_nmi */

/* How a handler leaves an exit. UNANSWERED means: nothing has been changed. */
enum caretaker_answer {
	CARETAKER_UNANSWERED,
	CARETAKER_ADVANCE, /* the instruction completed */
	CARETAKER_RESUME,  /* GUEST_RIP stays */
};

/* What is left of what a machine check interrupted. */
enum caretaker_severity {
	CARETAKER_SURVIVABLE,
	CARETAKER_ACTION_REQUIRED, /* not before its memory is repaired */
	CARETAKER_LOST,
};

/* What a core that parks does next; each is tried once. */
enum caretaker_park_step {
	CARETAKER_PARK_RECORD,
	CARETAKER_PARK_LEAVE,
	CARETAKER_PARK_STAY,
};

/* Private to the payload, one for each vCPU. */
struct caretaker_instance {
	u32 park_step; /* enum caretaker_park_step */
	u32 has_left_vmx; /* serialized while KVM was gone */
	u32 pin_controls; /* as the VMCS has them, 0: not known */
	u32 cpu_controls; /* as the VMCS has them, 0: not known */
	/* KVM's addresses as init found them sound: they do not move. */
	const struct caretaker_config *config;
	struct caretaker_soft_state *soft_state;
	struct caretaker_telemetry *telemetry;
};

extern struct caretaker_ccb caretaker_ccb;
extern struct caretaker_instance caretaker_instance;

/*
 * An instance has one CCB. Its pointers are taken from here and not from the
 * CCB: KVM can write that page at any time, and only init checks what it says.
 */
static inline const struct caretaker_config *
config_of(const struct caretaker_ccb *ccb __maybe_unused)
{
	return caretaker_instance.config;
}

static inline struct caretaker_soft_state *
soft_state_of(const struct caretaker_ccb *ccb __maybe_unused)
{
	return caretaker_instance.soft_state;
}

static inline struct caretaker_telemetry *
telemetry_of(const struct caretaker_ccb *ccb __maybe_unused)
{
	return caretaker_instance.telemetry;
}

/* Acquire: forbids loading the routing pointers before the flag. */
static inline bool is_attached(const struct caretaker_ccb *ccb)
{
	return smp_load_acquire(&ccb->attach_state) == KVM_ATTACHED;
}

static inline bool is_stop_requested(const struct caretaker_ccb *ccb)
{
	return READ_ONCE(ccb->request) == CARETAKER_REQUEST_STOP;
}

/* Release: forbids what the new state promises from being stored after it. */
static inline void set_state(struct caretaker_ccb *ccb, u32 state)
{
	smp_store_release(&ccb->state, state);
}

/* KVM may have changed the controls when it had the VMCS: read them again. */
static inline void forget_controls(void)
{
	caretaker_instance.pin_controls = 0;
	caretaker_instance.cpu_controls = 0;
}

/* Of VM-exit interruption information. */
static inline bool is_machine_check(u64 info)
{
	return (info & (INTR_INFO_INTR_TYPE_MASK | INTR_INFO_VECTOR_MASK)) ==
	       (INTR_TYPE_HARD_EXCEPTION | X86_TRAP_MC);
}

/* A table length written by KVM, kept inside the table whatever it says. */
static inline u32 table_length(u32 count, u32 max)
{
	return count < max ? count : max;
}

/* entry.S */
void caretaker_vmexit(void);
void caretaker_run(void);
void caretaker_halt(struct caretaker_ccb *ccb);
void caretaker_unblock_nmi(void);

/* dispatch.c */
u64 caretaker_dispatch(struct caretaker_ccb *ccb);
u64 caretaker_attend(struct caretaker_ccb *ccb);
void caretaker_prepare_run(struct caretaker_ccb *ccb);
u64 caretaker_route(struct caretaker_ccb *ccb, u32 word);

/* advance.c */
void caretaker_advance(u64 rip);

/* cpuid.c */
enum caretaker_answer caretaker_cpuid(struct caretaker_ccb *ccb);

/* msr.c */
enum caretaker_answer caretaker_rdmsr(struct caretaker_ccb *ccb);
enum caretaker_answer caretaker_wrmsr(struct caretaker_ccb *ccb);

/* apic.c, apic-read.c, ipi.c */
enum caretaker_answer caretaker_apic_write(struct caretaker_ccb *ccb, u32 index,
					   u64 value);
bool caretaker_apic_read(struct caretaker_ccb *ccb, u32 index, u64 *value);
u32 caretaker_processor_priority(const struct caretaker_soft_state *soft);
enum caretaker_answer caretaker_send_ipi(struct caretaker_ccb *ccb, u64 icr);
u32 caretaker_logical_id(u32 apic_id);
void caretaker_request_interrupt(struct caretaker_ccb *ccb,
				 const struct caretaker_vcpu *target,
				 u32 vector);

/* timer.c */
u64 caretaker_guest_tsc(const struct caretaker_config *config, u64 host_tsc);
bool caretaker_tsc_is_scaled(const struct caretaker_config *config);
bool caretaker_expire_timer(struct caretaker_soft_state *soft, u64 guest_tsc);
void caretaker_arm_timer(struct caretaker_ccb *ccb);
void caretaker_force_exit(void);
enum caretaker_answer caretaker_write_deadline(struct caretaker_ccb *ccb,
					       u64 deadline);
enum caretaker_answer caretaker_rdtsc(struct caretaker_ccb *ccb);
enum caretaker_answer caretaker_rdtscp(struct caretaker_ccb *ccb);

/* hlt.c */
enum caretaker_answer caretaker_hlt(struct caretaker_ccb *ccb);

/* interrupt.c */
enum caretaker_answer caretaker_interrupt_exit(struct caretaker_ccb *ccb);
void caretaker_answer_interrupt(struct caretaker_ccb *ccb, u32 vector);

/* exception.c */
enum caretaker_answer caretaker_exception_exit(struct caretaker_ccb *ccb);
void caretaker_restore_nmi_blocking(u64 info);

/* machine-check.c */
enum caretaker_severity caretaker_judge_machine_check(u64 mcg_status);
void caretaker_remember_machine_check(struct caretaker_ccb *ccb,
				      u64 mcg_status);
void caretaker_leave_machine_check(struct caretaker_ccb *ccb, u32 reason);
void caretaker_count_machine_check(struct caretaker_ccb *ccb);
bool caretaker_survive_machine_check(struct caretaker_ccb *ccb);
enum caretaker_answer caretaker_machine_check_exit(struct caretaker_ccb *ccb);

/* inject.c */
void caretaker_adopt_event(struct caretaker_ccb *ccb);
void caretaker_save_vectored_event(struct caretaker_ccb *ccb);
void caretaker_merge_posted(struct caretaker_soft_state *soft);
void caretaker_inject(struct caretaker_ccb *ccb);
bool caretaker_has_injectable(struct caretaker_ccb *ccb);
enum caretaker_answer caretaker_inject_gp(struct caretaker_ccb *ccb);

/* spin.c */
u64 caretaker_block(struct caretaker_ccb *ccb, u32 reason);

/* stop.c */
u64 caretaker_stop(struct caretaker_ccb *ccb, u32 unanswered);

/* fault.c */
void __attribute__((noreturn))
caretaker_park(struct caretaker_ccb *ccb, u32 vector, u32 error_code, u64 rip);
void __attribute__((noreturn)) caretaker_entry_failed(u64 rip, bool is_valid);

/* telemetry.c */
void caretaker_count_entry_failure(struct caretaker_ccb *ccb);
void caretaker_record_exit(struct caretaker_ccb *ccb, u32 reason, u64 rip);
void caretaker_count_fastpath(struct caretaker_ccb *ccb, u32 reason);
void caretaker_count_routed(struct caretaker_ccb *ccb, u32 reason);
void caretaker_count_blocked(struct caretaker_ccb *ccb, u32 reason);
void caretaker_record_stall(struct caretaker_ccb *ccb, u32 reason,
			    u64 tsc_entry, u64 tsc_release);

/* init.c */
long caretaker_init(struct caretaker_ccb *ccb);

#endif
