// SPDX-License-Identifier: GPL-2.0
/* Answers, to port 0xe9, and the end of a run. */
#include "monitor.h"

static void out8(u16 port, u8 value)
{
	asm volatile("outb %0, %1" : : "a"(value), "d"(port));
}

void put(char c)
{
	out8(0xe9, c);
}

void print(const char *text)
{
	while (*text)
		put(*text++);
}

void hex(u64 value)
{
	int shift = 60;

	put(' ');
	while (shift > 0 && !(value >> shift))
		shift -= 4;
	for (; shift >= 0; shift -= 4)
		put("0123456789abcdef"[value >> shift & 15]);
}

void hex_byte(u8 value)
{
	put("0123456789abcdef"[value >> 4]);
	put("0123456789abcdef"[value & 15]);
}

void __attribute__((noreturn)) shut_down(const char *last)
{
	const char *word = "Shutdown";

	print(last);
	while (*word)
		out8(0x8900, *word++);
	for (;;)
		asm volatile("cli; hlt");
}

void unexpected_exception(u64 vector, u64 code, u64 rip)
{
	put('X');
	hex(vector);
	hex(code);
	hex(rip);
	print("\n");
	shut_down("BROKEN\n");
}
