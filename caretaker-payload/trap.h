/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The payload's own exceptions and interrupts: what idt.S, init.c and trap.c
 * share.
 */
#ifndef PAYLOAD_TRAP_H
#define PAYLOAD_TRAP_H

#include "compiler.h"

#define CARETAKER_TRAP_STUB_SIZE 16
#define CARETAKER_VECTORS	 256
#define CARETAKER_FIRST_IRQ	 32 /* lower vectors are exceptions */

#define CARETAKER_IST_COUNT 4
#define CARETAKER_IST_SIZE  4096 /* a power of two, and the alignment */

/* Interrupt stack table entries, from 1; 0 stays on the interrupted stack. */
enum caretaker_ist {
	CARETAKER_IST_NONE,
	CARETAKER_IST_NMI,
	CARETAKER_IST_MC,
	CARETAKER_IST_DF,
	CARETAKER_IST_FAULT,
};

/* As idt.S pushes it, lowest address first; the CPU's part begins at rip. */
struct caretaker_trap_frame {
	u64 r11, r10, r9, r8, rdi, rsi, rdx, rcx, rax;
	u64 vector;
	u64 error_code; /* 0 where the vector has none */
	u64 rip, cs, rflags, rsp, ss;
};

extern const char caretaker_trap_stubs[];
extern u8 caretaker_ist_stacks[CARETAKER_IST_COUNT][CARETAKER_IST_SIZE];

/* Code in which an event must not go unseen: [begin, end), and where to go. */
extern const char caretaker_last_look[], caretaker_window_end[];
extern const char caretaker_look_again[];
extern const char caretaker_halt_look[], caretaker_halt_end[];
extern const char caretaker_nmi_unblocked[];

u64 caretaker_trap(struct caretaker_trap_frame *frame);

#endif
