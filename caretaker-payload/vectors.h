/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Sets of 256 vectors, as IRR, ISR and TMR are: four words, lowest first.
 */
#ifndef PAYLOAD_VECTORS_H
#define PAYLOAD_VECTORS_H

#include "cpu.h"

#define VECTOR_WORDS	     4
#define FIRST_LEGAL_VECTOR   16 /* the local APIC takes no lower one */
#define VECTOR_BIT(vector)   (1ull << ((vector) & 63))
#define PRIORITY_CLASS(byte) ((byte) >> 4)

static inline void set_vector(u64 *words, u32 vector)
{
	words[vector >> 6 & 3] |= VECTOR_BIT(vector);
}

static inline void clear_vector(u64 *words, u32 vector)
{
	words[vector >> 6 & 3] &= ~VECTOR_BIT(vector);
}

static inline bool has_vector(const u64 *words, u32 vector)
{
	return words[vector >> 6 & 3] & VECTOR_BIT(vector);
}

/* 0 for an empty set: vector 0 is never in one. */
static inline u32 highest_vector(const u64 *words)
{
	int i;

	for (i = VECTOR_WORDS - 1; i >= 0; i--)
		if (words[i])
			return (u32)i * 64 + highest_bit(words[i]);
	return 0;
}

#endif
