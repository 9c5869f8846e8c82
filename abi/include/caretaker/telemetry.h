/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Telemetry: what a payload records of its exits while nobody else looks.
 *
 * This interface is a contract. The payload writes everything but stall_tail,
 * which is KVM's: the reader of the ring of stalls moves it on.
 */
#ifndef CARETAKER_TELEMETRY_H
#define CARETAKER_TELEMETRY_H

#include <caretaker/types.h>

#define CARETAKER_TELEMETRY_MAGIC 0x314c455452414321ull /* "!CARTEL1" */
#define CARETAKER_TELEMETRY_VERSION 1
#define CARETAKER_TELEMETRY_REASONS 96 /* basic reasons from 0; others in other */
#define CARETAKER_STALL_RING 64

/* The first outcome of each exit; an exit has exactly one. */
struct caretaker_counters {
	/*  0 */ u64 fastpath;
	/*  8 */ u64 routed;
	/* 16 */ u64 blocked;
};
CARETAKER_ABI_FIELD(struct caretaker_counters, fastpath, 0);
CARETAKER_ABI_FIELD(struct caretaker_counters, routed, 8);
CARETAKER_ABI_FIELD(struct caretaker_counters, blocked, 16);
CARETAKER_ABI_SIZE(struct caretaker_counters, 24);

struct caretaker_stall {
	/*  0 */ u32 exit_reason;
	/*  4 */ u32 reserved;
	/*  8 */ u64 qualification;
	/* 16 */ u64 rip; /* the guest's */
	/* 24 */ u64 tsc_entry;
	/* 32 */ u64 tsc_release; /* KVM_ATTACHED or a stop request was seen */
};
CARETAKER_ABI_FIELD(struct caretaker_stall, exit_reason, 0);
CARETAKER_ABI_FIELD(struct caretaker_stall, reserved, 4);
CARETAKER_ABI_FIELD(struct caretaker_stall, qualification, 8);
CARETAKER_ABI_FIELD(struct caretaker_stall, rip, 16);
CARETAKER_ABI_FIELD(struct caretaker_stall, tsc_entry, 24);
CARETAKER_ABI_FIELD(struct caretaker_stall, tsc_release, 32);
CARETAKER_ABI_SIZE(struct caretaker_stall, 40);

struct caretaker_telemetry {
	/*    0 */ struct caretaker_header header;
	/*   16 */ struct caretaker_counters total;
	/*   40 */ struct caretaker_counters other; /* reasons past the table */
	/*   64 */ u64 entry_failures; /* exit reason bit 31 */
	/*   72 */ u64 stray_interrupts;
	/*   80 */ u64 nmis;
	/*   88 */ u64 machine_checks;
	/*   96 */ u64 stall_tsc; /* sum over all stalls */
	/*  104 */ u64 stall_head; /* records ever written */
	/*  112 */ u64 stall_tail; /* records read; written by KVM */
	/*  120 */ u64 stall_dropped; /* stalls without a record: the ring was full */

	/* The last exit: written at entry, before anything else is decided. */
	/*  128 */ u32 last_exit_reason;
	/*  132 */ u32 reserved_last;
	/*  136 */ u64 last_qualification;
	/*  144 */ u64 last_rip;
	/*  152 */ u64 last_tsc;

	/* Why the core is parked. */
	/*  160 */ u32 park_valid;
	/*  164 */ u32 park_vector;
	/*  168 */ u32 park_error_code;
	/*  172 */ u32 park_exit_reason;
	/*  176 */ u64 park_rip;
	/*  184 */ u64 park_cr2;
	/*  192 */ u64 park_tsc;
	/*  200 */ u64 reserved[7];

	/*  256 */ struct caretaker_counters reason[CARETAKER_TELEMETRY_REASONS];
	/* 2560 */ struct caretaker_stall stall[CARETAKER_STALL_RING];
	/* 5120 */ u8 reserved_tail[3072];
};
CARETAKER_ABI_FIELD(struct caretaker_telemetry, header, 0);
CARETAKER_ABI_FIELD(struct caretaker_telemetry, total, 16);
CARETAKER_ABI_FIELD(struct caretaker_telemetry, other, 40);
CARETAKER_ABI_FIELD(struct caretaker_telemetry, entry_failures, 64);
CARETAKER_ABI_FIELD(struct caretaker_telemetry, stray_interrupts, 72);
CARETAKER_ABI_FIELD(struct caretaker_telemetry, nmis, 80);
CARETAKER_ABI_FIELD(struct caretaker_telemetry, machine_checks, 88);
CARETAKER_ABI_FIELD(struct caretaker_telemetry, stall_tsc, 96);
CARETAKER_ABI_FIELD(struct caretaker_telemetry, stall_head, 104);
CARETAKER_ABI_FIELD(struct caretaker_telemetry, stall_tail, 112);
CARETAKER_ABI_FIELD(struct caretaker_telemetry, stall_dropped, 120);
CARETAKER_ABI_FIELD(struct caretaker_telemetry, last_exit_reason, 128);
CARETAKER_ABI_FIELD(struct caretaker_telemetry, reserved_last, 132);
CARETAKER_ABI_FIELD(struct caretaker_telemetry, last_qualification, 136);
CARETAKER_ABI_FIELD(struct caretaker_telemetry, last_rip, 144);
CARETAKER_ABI_FIELD(struct caretaker_telemetry, last_tsc, 152);
CARETAKER_ABI_FIELD(struct caretaker_telemetry, park_valid, 160);
CARETAKER_ABI_FIELD(struct caretaker_telemetry, park_vector, 164);
CARETAKER_ABI_FIELD(struct caretaker_telemetry, park_error_code, 168);
CARETAKER_ABI_FIELD(struct caretaker_telemetry, park_exit_reason, 172);
CARETAKER_ABI_FIELD(struct caretaker_telemetry, park_rip, 176);
CARETAKER_ABI_FIELD(struct caretaker_telemetry, park_cr2, 184);
CARETAKER_ABI_FIELD(struct caretaker_telemetry, park_tsc, 192);
CARETAKER_ABI_FIELD(struct caretaker_telemetry, reserved, 200);
CARETAKER_ABI_FIELD(struct caretaker_telemetry, reason, 256);
CARETAKER_ABI_FIELD(struct caretaker_telemetry, stall, 2560);
CARETAKER_ABI_FIELD(struct caretaker_telemetry, reserved_tail, 5120);
CARETAKER_ABI_SIZE(struct caretaker_telemetry, 8192);

#endif
