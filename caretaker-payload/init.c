// SPDX-License-Identifier: GPL-2.0-only
/*
 * The control block, the descriptor tables, and init, which fills both. Runs
 * once for each instance on the host's CR3 and IDT: it loads no table, KVM
 * programs the HOST_ fields from what is published here.
 */
#include "caretaker.h"
#include "trap.h"

#define EINVAL 22

#define SELECTOR_CS 0x08
#define SELECTOR_SS 0x10
#define SELECTOR_TR 0x18

#define DESCRIPTOR_CODE64	 0x00af9b000000ffffull
#define DESCRIPTOR_DATA		 0x00cf93000000ffffull
#define DESCRIPTOR_TSS_AVAILABLE 0x0000890000000000ull
#define GATE_INTERRUPT_PRESENT	 0x8e00

struct caretaker_gate {
	u16 offset_low;
	u16 selector;
	u16 flags; /* IST in bits 2:0 */
	u16 offset_middle;
	u32 offset_high;
	u32 reserved;
};

struct caretaker_tss {
	u32 reserved0;
	u64 rsp[3];
	u64 reserved1;
	u64 ist[7];
	u64 reserved2;
	u16 reserved3;
	u16 io_map_base;
} __attribute__((packed));
_Static_assert(sizeof(struct caretaker_tss) == 0x68,
	       "VM exit gives TR the limit 0x67");

struct caretaker_ccb caretaker_ccb __attribute__((section(".ccb"))) = {
	.header.magic = CARETAKER_CCB_MAGIC,
	.header.version = CARETAKER_CCB_VERSION,
	.header.size = CARETAKER_CCB_SIZE,
	.entry_init = (u64)caretaker_init,
	.entry_vmexit = (u64)caretaker_vmexit,
	.entry_run = (u64)caretaker_run,
};

struct caretaker_instance caretaker_instance;

u8 caretaker_ist_stacks[CARETAKER_IST_COUNT][CARETAKER_IST_SIZE]
	__attribute__((aligned(CARETAKER_IST_SIZE)));

static struct caretaker_gate idt[CARETAKER_VECTORS]
	__attribute__((aligned(4096)));
static u64 gdt[5] __attribute__((aligned(64)));
static struct caretaker_tss tss __attribute__((aligned(128)));

static u16 ist_of(u32 vector)
{
	switch (vector) {
	case X86_TRAP_NMI:
		return CARETAKER_IST_NMI;
	case X86_TRAP_MC:
		return CARETAKER_IST_MC;
	case X86_TRAP_DF:
		return CARETAKER_IST_DF;
	default:
		return vector < CARETAKER_FIRST_IRQ ? CARETAKER_IST_FAULT :
						      CARETAKER_IST_NONE;
	}
}

static void build_idt(void)
{
	u32 vector;

	for (vector = 0; vector < CARETAKER_VECTORS; vector++) {
		u64 stub = (u64)caretaker_trap_stubs +
			   vector * CARETAKER_TRAP_STUB_SIZE;

		idt[vector] = (struct caretaker_gate){
			.offset_low = (u16)stub,
			.selector = SELECTOR_CS,
			.flags = GATE_INTERRUPT_PRESENT | ist_of(vector),
			.offset_middle = (u16)(stub >> 16),
			.offset_high = (u32)(stub >> 32),
		};
	}
}

/* The base word lets code that has lost GS find the CCB by masking RSP. */
static void build_tss(struct caretaker_ccb *ccb)
{
	u32 i;

	for (i = 0; i < CARETAKER_IST_COUNT; i++) {
		*(u64 *)caretaker_ist_stacks[i] = (u64)ccb;
		tss.ist[i] = (u64)caretaker_ist_stacks[i] + CARETAKER_IST_SIZE;
	}
	tss.io_map_base = sizeof(tss); /* past the limit: no I/O bitmap */
}

static void build_gdt(void)
{
	u64 base = (u64)&tss;

	gdt[1] = DESCRIPTOR_CODE64;
	gdt[2] = DESCRIPTOR_DATA;
	gdt[3] = DESCRIPTOR_TSS_AVAILABLE | (sizeof(tss) - 1) |
		 (base & 0xffffff) << 16 | (base >> 24 & 0xff) << 56;
	gdt[4] = base >> 32;
}

static void publish(struct caretaker_ccb *ccb)
{
	ccb->gdt_base = (u64)gdt;
	ccb->gdt_limit = sizeof(gdt) - 1;
	ccb->idt_base = (u64)idt;
	ccb->idt_limit = sizeof(idt) - 1;
	ccb->tss_base = (u64)&tss;
	ccb->tss_limit = sizeof(tss) - 1;
	ccb->selector_cs = SELECTOR_CS;
	ccb->selector_ss = SELECTOR_SS;
	ccb->selector_tr = SELECTOR_TR;
	ccb->features = CARETAKER_FEATURE_PREEMPTION_TIMER |
			CARETAKER_FEATURE_ACK_ON_EXIT |
			CARETAKER_FEATURE_X2APIC |
			CARETAKER_FEATURE_HLT_ACTIVITY |
			CARETAKER_FEATURE_INVARIANT_TSC |
			CARETAKER_FEATURE_POSTED_INTERRUPTS;
}

static bool is_config_ours(const struct caretaker_ccb *ccb)
{
	const struct caretaker_config *config =
		(const struct caretaker_config *)ccb->config_address;

	return config && ccb->config_size >= sizeof(*config) &&
	       config->header.magic == CARETAKER_CONFIG_MAGIC &&
	       config->header.version == CARETAKER_CONFIG_VERSION &&
	       config->header.size == sizeof(*config);
}

static bool has_pages(const struct caretaker_ccb *ccb)
{
	return ccb->telemetry_address && ccb->soft_state_address &&
	       ccb->telemetry_size >= sizeof(struct caretaker_telemetry) &&
	       ccb->soft_state_size >= sizeof(struct caretaker_soft_state);
}

static void keep_addresses(const struct caretaker_ccb *ccb)
{
	caretaker_instance.config =
		(const struct caretaker_config *)ccb->config_address;
	caretaker_instance.soft_state =
		(struct caretaker_soft_state *)ccb->soft_state_address;
	caretaker_instance.telemetry =
		(struct caretaker_telemetry *)ccb->telemetry_address;
}

long caretaker_init(struct caretaker_ccb *ccb)
{
	if (ccb != &caretaker_ccb || !is_config_ours(ccb) || !has_pages(ccb))
		return -EINVAL;
	keep_addresses(ccb);
	build_idt();
	build_tss(ccb);
	build_gdt();
	publish(ccb);
	return 0;
}
