// SPDX-License-Identifier: GPL-2.0-only
/*
 * The telemetry buffer: the last exit, a counter for each reason and first
 * outcome, and the ring of stalls.
 *
 * A failed VM entry (bit 31) is counted in entry_failures and in nothing else.
 */
#include "caretaker.h"
#include "cpu.h"

static struct caretaker_counters *
counters_of(struct caretaker_telemetry *telemetry, u32 reason)
{
	u32 basic = reason & VMX_EXIT_REASON_BASIC_MASK;

	return basic < CARETAKER_TELEMETRY_REASONS ? &telemetry->reason[basic] :
						     &telemetry->other;
}

static bool is_entry_failure(u32 reason)
{
	return reason & VMX_EXIT_REASONS_FAILED_VMENTRY;
}

void caretaker_count_entry_failure(struct caretaker_ccb *ccb)
{
	telemetry_of(ccb)->entry_failures++;
}

void caretaker_count_fastpath(struct caretaker_ccb *ccb, u32 reason)
{
	struct caretaker_telemetry *telemetry = telemetry_of(ccb);

	telemetry->total.fastpath++;
	counters_of(telemetry, reason)->fastpath++;
}

void caretaker_count_routed(struct caretaker_ccb *ccb, u32 reason)
{
	struct caretaker_telemetry *telemetry = telemetry_of(ccb);

	if (is_entry_failure(reason))
		return;
	telemetry->total.routed++;
	counters_of(telemetry, reason)->routed++;
}

void caretaker_count_blocked(struct caretaker_ccb *ccb, u32 reason)
{
	struct caretaker_telemetry *telemetry = telemetry_of(ccb);

	if (is_entry_failure(reason))
		return;
	telemetry->total.blocked++;
	counters_of(telemetry, reason)->blocked++;
}

/* Before anything is decided: whatever happens next, this was the last exit. */
void caretaker_record_exit(struct caretaker_ccb *ccb, u32 reason, u64 rip)
{
	struct caretaker_telemetry *telemetry = telemetry_of(ccb);

	telemetry->last_exit_reason = reason;
	telemetry->last_qualification = vmread(EXIT_QUALIFICATION);
	telemetry->last_rip = rip;
	telemetry->last_tsc = rdtsc();
}

/*
 * KVM moves stall_tail on while it reads; a full ring keeps the old records,
 * which tell how the gap began, and counts what it dropped.
 */
void caretaker_record_stall(struct caretaker_ccb *ccb, u32 reason,
			    u64 tsc_entry, u64 tsc_release)
{
	struct caretaker_telemetry *telemetry = telemetry_of(ccb);
	u64 head = telemetry->stall_head;
	struct caretaker_stall *stall;

	telemetry->stall_tsc += tsc_release - tsc_entry;
	if (head - READ_ONCE(telemetry->stall_tail) >= CARETAKER_STALL_RING) {
		telemetry->stall_dropped++;
		return;
	}
	stall = &telemetry->stall[head % CARETAKER_STALL_RING];
	stall->exit_reason = reason;
	stall->qualification = telemetry->last_qualification;
	stall->rip = telemetry->last_rip;
	stall->tsc_entry = tsc_entry;
	stall->tsc_release = tsc_release;
	/* Release: forbids the head from counting a record not yet written. */
	smp_store_release(&telemetry->stall_head, head + 1);
}
