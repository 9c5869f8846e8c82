// SPDX-License-Identifier: GPL-2.0-only
/*
 * The two functions that a compiler may call on its own, also freestanding.
 */
#include "compiler.h"

void *memcpy(void *to, const void *from, unsigned long count);
void *memset(void *to, int value, unsigned long count);

/* String instructions: a C loop would be compiled into a call of itself. */
void *memcpy(void *to, const void *from, unsigned long count)
{
	void *start = to;

	__asm__ volatile("rep movsb"
			 : "+D"(to), "+S"(from), "+c"(count)::"memory");
	return start;
}

void *memset(void *to, int value, unsigned long count)
{
	void *start = to;

	__asm__ volatile("rep stosb"
			 : "+D"(to), "+c"(count)
			 : "a"(value)
			 : "memory");
	return start;
}
