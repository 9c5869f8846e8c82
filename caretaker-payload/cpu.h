/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * One function for each instruction that C has no word for.
 */
#ifndef PAYLOAD_CPU_H
#define PAYLOAD_CPU_H

#include "compiler.h"

/*
 * A field that the processor lacks leaves the result 0. Volatile: a VMREAD must
 * not be moved across a VMWRITE, and what it reads changes at every exit.
 */
static inline u64 vmread(u64 field)
{
	u64 value = 0;

	__asm__ volatile("vmread %1, %0" : "+r"(value) : "r"(field) : "cc");
	return value;
}

static inline void vmwrite(u64 field, u64 value)
{
	__asm__ volatile("vmwrite %1, %0" ::"r"(field), "r"(value) : "cc");
}

static inline void vmclear(u64 address)
{
	__asm__ volatile("vmclear %0" ::"m"(address) : "cc", "memory");
}

static inline void vmxoff(void)
{
	__asm__ volatile("vmxoff" ::: "cc", "memory");
}

static inline u64 rdmsr(u32 index)
{
	u32 low, high;

	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(index));
	return (u64)high << 32 | low;
}

static inline void wrmsr(u32 index, u64 value)
{
	__asm__ volatile("wrmsr" ::"c"(index), "a"((u32)value),
			 "d"((u32)(value >> 32))
			 : "memory");
}

static inline u64 rdtsc(void)
{
	u32 low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (u64)high << 32 | low;
}

/* TSC_AUX still holds the guest's value, so this answers for the guest. */
static inline u64 rdtscp(u32 *aux)
{
	u32 low, high;

	__asm__ volatile("rdtscp" : "=a"(low), "=d"(high), "=c"(*aux));
	return (u64)high << 32 | low;
}

static inline u64 read_cr2(void)
{
	u64 value;

	__asm__ volatile("mov %%cr2, %0" : "=r"(value));
	return value;
}

static inline void cpu_relax(void)
{
	__asm__ volatile("pause" ::: "memory");
}

/* The shadow of STI covers PAUSE: an interrupt that waits is taken behind it. */
static inline void cpu_relax_interruptible(void)
{
	__asm__ volatile("sti; pause; cli" ::: "memory");
}

/* With IF = 0 only an NMI ends it. */
static inline void halt(void)
{
	__asm__ volatile("hlt" ::: "memory");
}

/*
 * WRMSR to an x2APIC register does not wait for earlier stores: MFENCE makes
 * them visible first, LFENCE keeps the WRMSR from starting before that.
 */
static inline void x2apic_fence(void)
{
	__asm__ volatile("mfence; lfence" ::: "memory");
}

/* One instruction, so that an NMI between load and store loses no count. */
static inline void count_one(u64 *counter)
{
	__asm__ volatile("incq %0" : "+m"(*counter)::"cc");
}

/* Highest set bit; undefined for 0, as BSR is. */
static inline u32 highest_bit(u64 value)
{
	return 63 - (u32)__builtin_clzll(value);
}

#endif
