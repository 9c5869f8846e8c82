// SPDX-License-Identifier: GPL-2.0-only
/*
 * CPUID from the leaves that KVM computed, and the bits that follow CR4 and
 * XCR0.
 */
#include "caretaker.h"
#include "cpu.h"

#define EXTENDED_LEAF	  0x80000000u
#define LEAF1_ECX_OSXSAVE (1u << 27)
#define LEAF7_ECX_OSPKE	  (1u << 4)
#define DYNAMIC                                            \
	(CARETAKER_CPUID_OSXSAVE | CARETAKER_CPUID_OSPKE | \
	 CARETAKER_CPUID_XSAVE_SIZE)

static const struct caretaker_cpuid no_leaf;

static const struct caretaker_cpuid *find(const struct caretaker_config *config,
					  u32 leaf, u32 subleaf)
{
	u32 count = table_length(config->cpuid_count, CARETAKER_CPUID_MAX);
	const struct caretaker_cpuid *entry = config->cpuid;
	const struct caretaker_cpuid *end = entry + count;

	for (; entry < end; entry++) {
		if (entry->leaf != leaf)
			continue;
		if (!(entry->flags & CARETAKER_CPUID_SUBLEAF) ||
		    entry->subleaf == subleaf)
			return entry;
	}
	return 0;
}

static bool is_in_range(const struct caretaker_config *config, u32 leaf)
{
	return leaf < EXTENDED_LEAF ? leaf <= config->cpuid_max_basic :
				      leaf <= config->cpuid_max_extended;
}

/* Past the maximum the processor answers as for the highest basic leaf. */
static const struct caretaker_cpuid *
find_or_default(const struct caretaker_config *config, u32 leaf, u32 subleaf)
{
	const struct caretaker_cpuid *entry = find(config, leaf, subleaf);

	if (!entry && !is_in_range(config, leaf))
		entry = find(config, config->cpuid_max_basic, subleaf);
	return entry ? entry : &no_leaf;
}

static u32 follow(u32 ecx, u32 bit, u64 cr4_bit)
{
	return vmread(GUEST_CR4) & cr4_bit ? ecx | bit : ecx & ~bit;
}

enum caretaker_answer caretaker_cpuid(struct caretaker_ccb *ccb)
{
	const struct caretaker_config *config = config_of(ccb);
	u64 *registers = ccb->registers;
	const struct caretaker_cpuid *entry =
		find_or_default(config, (u32)registers[CARETAKER_RAX],
				(u32)registers[CARETAKER_RCX]);
	u32 ebx = entry->ebx;
	u32 ecx = entry->ecx;

	if (entry->flags & DYNAMIC) {
		if (entry->flags & CARETAKER_CPUID_OSXSAVE)
			ecx = follow(ecx, LEAF1_ECX_OSXSAVE, X86_CR4_OSXSAVE);
		if (entry->flags & CARETAKER_CPUID_OSPKE)
			ecx = follow(ecx, LEAF7_ECX_OSPKE, X86_CR4_PKE);
		if (entry->flags & CARETAKER_CPUID_XSAVE_SIZE)
			ebx = config->xsave_size;
	}
	registers[CARETAKER_RAX] = entry->eax;
	registers[CARETAKER_RBX] = ebx;
	registers[CARETAKER_RCX] = ecx;
	registers[CARETAKER_RDX] = entry->edx;
	return CARETAKER_ADVANCE;
}
