/* SPDX-License-Identifier: GPL-2.0 */
/* What the monitor's program consists of, and what entry.S hands to C. */
#ifndef CONFORM_MONITOR_H
#define CONFORM_MONITOR_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

/* In the order in which exit_stub pushes them, lowest first. */
struct registers {
	u64 rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15;
	u64 rflags;
};

/* Operations of a program; emulator/conform/program.ts writes them. */
enum operation {
	OP_END = 0,
	OP_MEMORY = 1,
	OP_FILL = 2,
	OP_REGION = 3,
	OP_VMWRITE = 4,
	OP_REGISTERS = 5,
	OP_ENTER = 6,
	OP_WRMSR = 7,
	OP_RDMSR = 8,
	OP_FIELDS = 9,
	OP_DUMP = 10,
	OP_LABEL = 11,
	OP_VMX = 12,
	OP_NMI_PROBE = 13,
	OP_CPUID = 14,
	OP_BASE = 15,
	OP_REGION_AT = 16,
	OP_START_OTHER = 17,
	OP_WAIT = 18,
	OP_DELAY = 19,
	OP_HALT = 20,
	OP_SEND = 21,
	OP_TAKE = 22,
	OP_CONTROL = 23,
};

/* Flags of OP_ENTER. */
enum {
	ENTER_REPORTS_REGISTERS = 1,
	ENTER_REPORTS_HOST = 2,
};

#define MSR_S_CET 0x6a2

/*
 * 0 success, 1 VMfailInvalid, 2 VMfailValid, 3 an exception, whose vector is
 * in fixup_vector. Every arithmetic flag is set before the instruction, and
 * RFLAGS behind it is in vmx_flags.
 */
#define ARITHMETIC_FLAGS 0x8d5
#define VMX_INSTRUCTION(text, constraints...)                               \
	({                                                                  \
		u32 result_;                                                \
		asm volatile("movq $1f, fixup_rip\n\tmovl $3, %0\n\t"       \
			     "pushq $0x8d7\n\tpopfq\n\t" text               \
			     "\n\tpushfq\n\tpopq vmx_flags\n\t"              \
			     "movl $1, %0\n\tjc 1f\n\tmovl $2, %0\n\t"      \
			     "jz 1f\n\tmovl $0, %0\n1:\tmovq $0, fixup_rip" \
			     : "=&r"(result_)                               \
			     : constraints                                  \
			     : "memory", "cc");                             \
		result_;                                                    \
	})

void put(char c);
void print(const char *text);
void hex(u64 value);
void hex_byte(u8 value);
void __attribute__((noreturn)) shut_down(const char *last);

/* Whether there was no exception. */
int read_msr(u32 index, u64 *value);
int write_msr(u32 index, u64 value);
u64 msr_or_zero(u32 index);
u32 vmwrite(u64 field, u64 value);
u64 vmread(u64 field);
u32 vmclear(u64 address);
u32 vmptrld(u64 address);
u32 vmxon(u64 address);

void load_idt(void);
void take_baseline(void);
void report_host(void);

int enter_guest(const struct registers *guest, int how);
void exit_stub(void);
void monitor(const u32 *program);
void unexpected_exception(u64 vector, u64 code, u64 rip);

void execute(const u32 *at);

extern u8 exception_stubs[], other_boot[], other_boot_end[];
extern const u32 *other_program;
extern u64 fixup_rip, fixup_vector, vmx_flags, nmi_count, interrupt_count;

#endif
