/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Soft state: one preserved page per vCPU with what the guest sees and no
 * VMCS field holds. Whoever runs the vCPU owns it; KVM reads it at every
 * routed exit and at adoption.
 *
 * This interface is a contract. Only posted[], posted_nmi and pi_desc are
 * written by others, atomically, and before the kick that tells of them.
 */
#ifndef CARETAKER_SOFT_STATE_H
#define CARETAKER_SOFT_STATE_H

#include <caretaker/types.h>
#include <caretaker/config.h>

#define CARETAKER_SOFT_STATE_MAGIC 0x3154465352414321ull /* "!CARSFT1" */
#define CARETAKER_SOFT_STATE_VERSION 3
#define CARETAKER_SOFT_STATE_SIZE 4096

/*
 * The posted-interrupt descriptor as the SDM and VT-d have it. Who posts sets a
 * bit of pir, then ON, and where ON was clear sends NV to NDST.
 */
struct caretaker_pi_desc {
	/*  0 */ u64 pir[4];
	/* 32 */ u64 control; /* ON 0, SN 1, NV 23:16, NDST 63:32 */
	/* 40 */ u64 reserved[3];
};
CARETAKER_ABI_FIELD(struct caretaker_pi_desc, pir, 0);
CARETAKER_ABI_FIELD(struct caretaker_pi_desc, control, 32);
CARETAKER_ABI_FIELD(struct caretaker_pi_desc, reserved, 40);
CARETAKER_ABI_SIZE(struct caretaker_pi_desc, 64);

#define CARETAKER_PI_ON 1ull

struct caretaker_soft_state {
	/*    0 */ struct caretaker_header header;
	/*   16 */ u64 tsc_deadline; /* guest TSC; 0 disarmed */
	/*   24 */ u32 tpr;
	/*   28 */ u32 lvt_timer;
	/*   32 */ u64 irr[4];
	/*   64 */ u64 isr[4];
	/*   96 */ u64 tmr[4];
	/*  128 */ u32 event_info; /* VM-entry interruption information, bit 31 valid */
	/*  132 */ u32 event_error_code;
	/*  136 */ u32 event_instruction_length;
	/*  140 */ u32 acknowledged_vector; /* the host's, see below; 0 none */
	/*  144 */ u32 virtual_nmi_pending;
	/*  148 */ u32 apic_id;

	/*
	 * The host's events that the payload has taken and not answered: these
	 * two and acknowledged_vector, which has had no EOI. A payload's handler
	 * may set them up to KVM's own LIDT, so KVM takes them after that, with
	 * an exchange for 0, at every routed exit and before it looks at RDX.
	 */
	/*  152 */ u32 host_nmi_pending; /* its IRET is done */
	/*  156 */ u32 reserved_host;
	/*  160 */ u64 mcg_status; /* IA32_MCG_STATUS as it was; 0 none */
	/*  168 */ u64 reserved[3];

	/* Written by other vCPUs and by devices with LOCK OR, then a kick. */
	/*  192 */ u64 posted[4];
	/*  224 */ u32 posted_nmi;
	/*  228 */ u32 reserved_posted[7];

	/*  256 */ u64 msr_value[CARETAKER_MSR_MAX]; /* as caretaker_config.msr[] */
	/*  768 */ struct caretaker_pi_desc pi_desc; /* see config.interrupt_delivery */
	/*  832 */ u8 reserved_tail[3264];
};
CARETAKER_ABI_FIELD(struct caretaker_soft_state, header, 0);
CARETAKER_ABI_FIELD(struct caretaker_soft_state, tsc_deadline, 16);
CARETAKER_ABI_FIELD(struct caretaker_soft_state, tpr, 24);
CARETAKER_ABI_FIELD(struct caretaker_soft_state, lvt_timer, 28);
CARETAKER_ABI_FIELD(struct caretaker_soft_state, irr, 32);
CARETAKER_ABI_FIELD(struct caretaker_soft_state, isr, 64);
CARETAKER_ABI_FIELD(struct caretaker_soft_state, tmr, 96);
CARETAKER_ABI_FIELD(struct caretaker_soft_state, event_info, 128);
CARETAKER_ABI_FIELD(struct caretaker_soft_state, event_error_code, 132);
CARETAKER_ABI_FIELD(struct caretaker_soft_state, event_instruction_length, 136);
CARETAKER_ABI_FIELD(struct caretaker_soft_state, acknowledged_vector, 140);
CARETAKER_ABI_FIELD(struct caretaker_soft_state, virtual_nmi_pending, 144);
CARETAKER_ABI_FIELD(struct caretaker_soft_state, apic_id, 148);
CARETAKER_ABI_FIELD(struct caretaker_soft_state, host_nmi_pending, 152);
CARETAKER_ABI_FIELD(struct caretaker_soft_state, reserved_host, 156);
CARETAKER_ABI_FIELD(struct caretaker_soft_state, mcg_status, 160);
CARETAKER_ABI_FIELD(struct caretaker_soft_state, reserved, 168);
CARETAKER_ABI_FIELD(struct caretaker_soft_state, posted, 192);
CARETAKER_ABI_FIELD(struct caretaker_soft_state, posted_nmi, 224);
CARETAKER_ABI_FIELD(struct caretaker_soft_state, reserved_posted, 228);
CARETAKER_ABI_FIELD(struct caretaker_soft_state, msr_value, 256);
CARETAKER_ABI_FIELD(struct caretaker_soft_state, pi_desc, 768);
CARETAKER_ABI_FIELD(struct caretaker_soft_state, reserved_tail, 832);
CARETAKER_ABI_SIZE(struct caretaker_soft_state, 4096);

#endif
