/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the compiler is told: visibility, single accesses, and the orders that
 * the protocol with KVM and with other vCPUs needs.
 */
#ifndef PAYLOAD_COMPILER_H
#define PAYLOAD_COMPILER_H

/*
 * Covers extern declarations too, which -fvisibility=hidden does not: without
 * it clang reaches them through a GOT, and a payload has none.
 */
#pragma GCC visibility push(hidden)

#include <caretaker/types.h>

typedef _Bool bool;
#define true  1
#define false 0

#define noinline       __attribute__((noinline))
#define __maybe_unused __attribute__((unused))
#define likely(x)      __builtin_expect(!!(x), 1)
#define unlikely(x)    __builtin_expect(!!(x), 0)

#define READ_ONCE(x)	 (*(const volatile __typeof__(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile __typeof__(x) *)&(x) = (v))

#define barrier() __asm__ volatile("" ::: "memory")

/* x86 keeps loads in order: only the compiler must not move later loads up. */
#define smp_load_acquire(p)                            \
	({                                             \
		__typeof__(*(p)) v_ = READ_ONCE(*(p)); \
		barrier();                             \
		v_;                                    \
	})

/* Likewise with stores: only the compiler must not move earlier ones down. */
#define smp_store_release(p, v)      \
	do {                         \
		barrier();           \
		WRITE_ONCE(*(p), v); \
	} while (0)

/* The one order x86 does not keep: a later load passing an earlier store. */
#define smp_mb() __asm__ volatile("mfence" ::: "memory")

#endif
