/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Fixed-width types and the assertion that every structure of the ABI uses.
 * Freestanding: needs nothing but a C11 compiler.
 */
#ifndef CARETAKER_TYPES_H
#define CARETAKER_TYPES_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed int s32;
typedef signed long long s64;

/* This interface is a contract: an offset changes only with its version. */
#define CARETAKER_ABI_FIELD(type, field, offset)                     \
	_Static_assert(__builtin_offsetof(type, field) == (offset), \
		       "caretaker ABI: offset of " #type "." #field " changed")

#define CARETAKER_ABI_SIZE(type, size)                 \
	_Static_assert(sizeof(type) == (size),         \
		       "caretaker ABI: size of " #type " changed")

/* Begins every structure that KVM and a payload share. */
struct caretaker_header {
	/*  0 */ u64 magic;
	/*  8 */ u32 version;
	/* 12 */ u32 size; /* of the whole structure, in bytes */
};
CARETAKER_ABI_FIELD(struct caretaker_header, magic, 0);
CARETAKER_ABI_FIELD(struct caretaker_header, version, 8);
CARETAKER_ABI_FIELD(struct caretaker_header, size, 12);
CARETAKER_ABI_SIZE(struct caretaker_header, 16);

#endif
