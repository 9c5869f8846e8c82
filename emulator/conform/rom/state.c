// SPDX-License-Identifier: GPL-2.0
/* The state in which operations execute, and the one that a VM exit has loaded. */
#include "layout.h"
#include "monitor.h"

struct table_pointer {
	u16 limit;
	u64 base;
} __attribute__((packed));

void load_idt(void)
{
	u64 *idt = (u64 *)LAYOUT_IDT;
	struct table_pointer pointer = { 0xfff, LAYOUT_IDT };
	int vector;

	for (vector = 0; vector < 256; vector++) {
		u64 stub = (u64)exception_stubs + vector * 16;

		idt[vector * 2] = (stub & 0xffff) | SELECTOR_CODE64 << 16 |
				  0x8e0000000000 | (stub >> 16) << 48;
		idt[vector * 2 + 1] = stub >> 32;
	}
	asm volatile("lidt %0" : : "m"(pointer));
}

/* The state in which operations execute, whatever the last VM exit loaded. */
void take_baseline(void)
{
	struct table_pointer gdt = { 0x4f, LAYOUT_GDT };
	struct table_pointer idt = { 0xfff, LAYOUT_IDT };
	u64 cr4;

	asm volatile("mov %%cr4, %0" : "=r"(cr4));
	if (cr4 & 0x800000)
		write_msr(MSR_S_CET, 0);
	asm volatile("mov %0, %%cr4" : : "r"((u64)(BOOT_CR4 | CR4_VMXE)));
	asm volatile("mov %0, %%cr0" : : "r"((u64)BOOT_CR0));
	asm volatile("lgdt %0" : : "m"(gdt));
	asm volatile("lidt %0" : : "m"(idt));
	asm volatile("mov %0, %%ds\n\tmov %0, %%es\n\tmov %0, %%ss\n\t"
		     "mov %0, %%fs\n\tmov %0, %%gs"
		     : : "r"(SELECTOR_DATA));
	((u64 *)LAYOUT_GDT)[SELECTOR_TSS / 8] &= ~0x20000000000;
	asm volatile("ltr %w0" : : "r"(SELECTOR_TSS));
	write_msr(MSR_EFER, 0xd01);
	asm volatile("mov %0, %%cr2" : : "r"(0ul));
	asm volatile("mov %0, %%dr0" : : "r"(0ul));
	asm volatile("mov %0, %%dr6" : : "r"(0xffff0ff0ul));
}

void report_host(void)
{
	struct table_pointer gdt, idt;
	u64 value;
	u32 selector;

#define PRINT_REGISTER(name)                                  \
	do {                                                  \
		asm volatile("mov %%" name ", %0" : "=r"(value)); \
		hex(value);                                   \
	} while (0)
#define PRINT_SELECTOR(text)                                      \
	do {                                                      \
		asm volatile("xorl %0, %0\n\t" text : "=&r"(selector)); \
		hex(selector);                                    \
	} while (0)
	asm volatile("sgdt %0" : "=m"(gdt));
	asm volatile("sidt %0" : "=m"(idt));
	put('H');
	PRINT_REGISTER("cr0");
	PRINT_REGISTER("cr3");
	PRINT_REGISTER("cr4");
	PRINT_REGISTER("dr7");
	PRINT_SELECTOR("movl %%cs, %0");
	PRINT_SELECTOR("movl %%ss, %0");
	PRINT_SELECTOR("movl %%ds, %0");
	PRINT_SELECTOR("movl %%es, %0");
	PRINT_SELECTOR("movl %%fs, %0");
	PRINT_SELECTOR("movl %%gs, %0");
	PRINT_SELECTOR("str %0");
	PRINT_SELECTOR("sldt %0");
	hex(gdt.base);
	hex(gdt.limit);
	hex(idt.base);
	hex(idt.limit);
	hex(msr_or_zero(0xc0000080));
	hex(msr_or_zero(0xc0000100));
	hex(msr_or_zero(0xc0000101));
	hex(msr_or_zero(0x174));
	hex(msr_or_zero(0x175));
	hex(msr_or_zero(0x176));
	hex(msr_or_zero(0x277));
	hex(msr_or_zero(MSR_S_CET));
	hex(msr_or_zero(0x6a8));
	PRINT_REGISTER("cr2");
	PRINT_REGISTER("cr8");
	PRINT_REGISTER("dr0");
	PRINT_REGISTER("dr6");
	hex(nmi_count);
	hex(interrupt_count);
	print("\n");
}
