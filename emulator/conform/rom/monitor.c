// SPDX-License-Identifier: GPL-2.0
/*
 * The monitor: executes a program of operations and prints what happened.
 *
 * A program is a list of 32-bit words behind this code in the ROM; 64-bit
 * values are two words, low first. Every answer is one line of hexadecimal
 * words behind a letter, to port 0xe9. The last line is the sentinel.
 */
#include "layout.h"
#include "monitor.h"

#define MSR_APIC_BASE 0x1b
#define MSR_FEATURE_CONTROL 0x3a
#define MSR_VMX_BASIC 0x480
#define MSR_X2APIC_ICR 0x830
#define VM_INSTRUCTION_ERROR 0x4400
#define MAX_FIELDS 128
#define SHORTEST_RUN 8

static u32 fields[MAX_FIELDS];
static u32 field_count;
static struct registers guest;
/* Field values that every fresh VMCS begins with: a count, then pairs. */
static const u32 *base;
const u32 *other_program;
static u64 region_address = LAYOUT_VMCS_REGION;

static void report_registers(const struct registers *registers)
{
	const u64 *value = (const u64 *)registers;
	u32 i;

	put('R');
	for (i = 0; i < sizeof(*registers) / 8; i++)
		hex(value[i]);
	print("\n");
}

static void enter(u32 how, u32 flags)
{
	const struct registers *at_exit =
		(const void *)(LAYOUT_EXIT_STACK - sizeof(struct registers));
	u32 kind = enter_guest(&guest, how);
	u32 i;

	if (kind == 0) {
		if (flags & ENTER_REPORTS_HOST)
			report_host();
		take_baseline();
	}
	put('E');
	hex(kind);
	hex(kind == 2 ? vmread(VM_INSTRUCTION_ERROR) : 0);
	for (i = 0; i < field_count; i++)
		hex(kind == 1 ? 0 : vmread(fields[i]));
	print("\n");
	if (kind == 0) {
		guest = *at_exit;
		if (flags & ENTER_REPORTS_REGISTERS)
			report_registers(&guest);
	}
}

/* Whether a non-maskable interrupt sent to itself arrives: before an IRET, and after one. */
static void probe_nmi(void)
{
	u64 before = nmi_count, between;
	u32 i;

	write_msr(MSR_X2APIC_ICR, 0x4400);
	for (i = 0; i < 1000; i++)
		asm volatile("pause");
	between = nmi_count;
	asm volatile("movq %%rsp, %%rax\n\tpushq %0\n\tpushq %%rax\n\tpushfq\n\tpushq %1\n\t"
		     "pushq $1f\n\tiretq\n1:"
		     : : "i"(SELECTOR_DATA), "i"(SELECTOR_CODE64) : "rax", "memory");
	for (i = 0; i < 1000; i++)
		asm volatile("pause");
	put('N');
	hex(between - before);
	hex(nmi_count - between);
	print("\n");
}

/* One instruction with interrupts on; how many came. */
static void take_interrupts(void)
{
	u64 before = interrupt_count;

	asm volatile("sti\n\tnop\n\tcli" : : : "memory");
	put('T');
	hex(interrupt_count - before);
	print("\n");
}

static void vmx_instruction(u32 kind, u64 first, u64 second, u64 third)
{
	struct {
		u64 low, high;
	} descriptor = { second, third };
	u64 value = 0, flags;
	u32 result = 4;

	switch (kind) {
	case 0: result = vmxon(first); break;
	case 1: result = vmclear(first); break;
	case 2: result = vmptrld(first); break;
	case 3: result = vmwrite(first, second); break;
	case 4: result = VMX_INSTRUCTION("vmread %1, (%2)", "r"(first), "r"(&value)); break;
	case 5: result = VMX_INSTRUCTION("vmxoff", "r"(0ul)); break;
	case 6: result = VMX_INSTRUCTION("invept %1, %2", "m"(descriptor), "r"(first)); break;
	case 7: result = VMX_INSTRUCTION("invvpid %1, %2", "m"(descriptor), "r"(first)); break;
	case 8: result = VMX_INSTRUCTION("vmptrst (%1)", "r"(&value)); break;
	case 9: result = VMX_INSTRUCTION("vmlaunch", "r"(0ul)); break;
	case 10: result = VMX_INSTRUCTION("vmresume", "r"(0ul)); break;
	}
	put('V');
	hex(result);
	flags = vmx_flags & ARITHMETIC_FLAGS;
	hex(result == 2 ? vmread(VM_INSTRUCTION_ERROR) : result == 3 ? fixup_vector : 0);
	hex(result ? 0 : value);
	hex(result == 3 ? 0 : flags);
	print("\n");
}

static void fresh_region(void)
{
	u64 *region = (u64 *)region_address;
	u64 basic = msr_or_zero(MSR_VMX_BASIC);
	u32 i;

	vmclear(region_address);
	for (i = 0; i < 512; i++)
		region[i] = 0;
	region[0] = basic & 0x7fffffff;
	if (vmclear(region_address) || vmptrld(region_address))
		shut_down("BROKEN region\n");
}

static u64 take64(const u32 **at)
{
	u64 low = *(*at)++;
	u64 high = *(*at)++;

	return high << 32 | low;
}

/* Two digits a byte; a run of equal ones is * and the byte, the length, and a point. */
static void dump(const u8 *from, u32 length)
{
	const u8 *end = from + length;

	put('D');
	hex((u64)from);
	put(' ');
	while (from < end) {
		const u8 *run = from;

		while (run < end && *run == *from)
			run++;
		if (run - from < SHORTEST_RUN) {
			hex_byte(*from++);
			continue;
		}
		put('*');
		hex_byte(*from);
		hex(run - from);
		put('.');
		from = run;
	}
	print("\n");
}

static const u32 *write_fields(const u32 *at)
{
	u32 count, field;

	for (count = *at++; count; count--) {
		field = *at++;
		if (vmwrite(field, take64(&at))) {
			put('W');
			hex(field);
			print("\n");
		}
	}
	return at;
}

/* INIT and SIPI to the second processor, which executes a program of its own. */
static void start_other(const u32 *program)
{
	u8 *to = (u8 *)LAYOUT_OTHER_BOOT;
	const u8 *from = other_boot;

	other_program = program;
	while (from < other_boot_end)
		*to++ = *from++;
	write_msr(MSR_X2APIC_ICR, 1ull << 32 | 0x4500);
	write_msr(MSR_X2APIC_ICR, 1ull << 32 | 0x4600 | LAYOUT_OTHER_BOOT >> 12);
}

static void wait_for(const volatile u32 *word, u32 value)
{
	while (*word != value)
		asm volatile("pause");
}

static void __attribute__((noreturn)) halt(void)
{
	for (;;)
		asm volatile("cli; hlt");
}

static void enable_x2apic(void)
{
	write_msr(MSR_APIC_BASE, msr_or_zero(MSR_APIC_BASE) | 0xc00);
}

void monitor(const u32 *program)
{
	load_idt();
	write_msr(MSR_FEATURE_CONTROL, 5);
	enable_x2apic();
	asm volatile("mov %0, %%cr4" : : "r"((u64)(BOOT_CR4 | CR4_VMXE)));
	*(u32 *)LAYOUT_VMXON_REGION = msr_or_zero(MSR_VMX_BASIC) & 0x7fffffff;
	take_baseline();
	if (vmxon(LAYOUT_VMXON_REGION))
		shut_down("BROKEN vmxon\n");
	execute(program);
}

/*
 * Both processors. The second one's programs write, wait, send and halt; one
 * that prints and ends the run does so when the first is no longer there.
 */
void execute(const u32 *at)
{
	u64 value, second, *registers = (u64 *)&guest;
	u32 count, i, word;

	for (;;) {
		switch (*at++) {
		case OP_END:
			shut_down("DONE\n");
		case OP_MEMORY: {
			u8 *to = (u8 *)take64(&at);

			count = *at++;
			for (i = 0; i < count; i++)
				to[i] = ((const u8 *)at)[i];
			at += (count + 3) / 4;
			break;
		}
		case OP_FILL: {
			u8 *to = (u8 *)take64(&at);

			count = *at++;
			word = *at++;
			for (i = 0; i < count; i++)
				to[i] = word;
			break;
		}
		case OP_REGION:
			fresh_region();
			if (base)
				write_fields(base);
			break;
		case OP_START_OTHER:
			count = *at++;
			start_other(at);
			at += count;
			break;
		case OP_WAIT:
			value = take64(&at);
			wait_for((const u32 *)value, *at++);
			break;
		case OP_DELAY:
			for (count = *at++; count; count--)
				asm volatile("pause");
			break;
		case OP_HALT:
			halt();
		case OP_TAKE:
			take_interrupts();
			break;
		case OP_SEND:
			enable_x2apic();
			write_msr(MSR_X2APIC_ICR, take64(&at));
			break;
		case OP_REGION_AT:
			region_address = take64(&at);
			break;
		case OP_VMWRITE:
			at = write_fields(at);
			break;
		case OP_BASE:
			base = at;
			at += 1 + 3 * *at;
			break;
		case OP_REGISTERS:
			for (i = 0; i < 15; i++)
				registers[i] = take64(&at);
			break;
		case OP_ENTER:
			word = *at++;
			enter(word, *at++);
			break;
		case OP_WRMSR:
			word = *at++;
			put('w');
			hex(!write_msr(word, take64(&at)));
			print("\n");
			break;
		case OP_RDMSR:
			for (count = *at++; count; count--) {
				word = *at++;
				put('M');
				hex(word);
				if (read_msr(word, &value))
					hex(value);
				print("\n");
			}
			break;
		case OP_FIELDS:
			field_count = *at++;
			for (i = 0; i < field_count; i++)
				fields[i] = *at++;
			break;
		case OP_DUMP:
			value = take64(&at);
			dump((const u8 *)value, *at++);
			break;
		case OP_LABEL:
			put('L');
			hex(*at++);
			print("\n");
			break;
		case OP_VMX:
			word = *at++;
			value = take64(&at);
			second = take64(&at);
			vmx_instruction(word, value, second, take64(&at));
			break;
		case OP_CONTROL:
			word = *at++;
			value = take64(&at);
			if (word == 0)
				asm volatile("mov %0, %%cr0" : : "r"(value));
			else
				asm volatile("mov %0, %%cr4" : : "r"(value));
			break;
		case OP_NMI_PROBE:
			probe_nmi();
			break;
		case OP_CPUID: {
			u32 a = *at++, b, c = *at++, d;

			asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
			put('C');
			hex(a);
			hex(b);
			hex(c);
			hex(d);
			print("\n");
			break;
		}
		default:
			shut_down("BROKEN program\n");
		}
	}
}
