/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The Caretaker Control Block, section .ccb of a payload.
 *
 * This interface is a contract between KVM and a payload. HOST_GS_BASE holds
 * its address at every VM exit; the word at the stack's base holds it too.
 * Two pages. The first is the payload's: link-time constants, what init
 * publishes, and the state it reports. The second is KVM's, and a payload's
 * own page tables map it read-only: each field has exactly one writer.
 */
#ifndef CARETAKER_CCB_H
#define CARETAKER_CCB_H

#include <caretaker/types.h>

#define CARETAKER_CCB_MAGIC 0x3142434352414321ull /* "!CARCCB1" */
#define CARETAKER_CCB_VERSION 2
#define CARETAKER_CCB_SIZE 8192
#define CARETAKER_CCB_ALIGN 4096
#define CARETAKER_KVM_PAGE 4096 /* offset of the page that KVM writes */

enum caretaker_attach_state {
	KVM_DETACHED = 0,
	KVM_ATTACHED = 1,
};

enum caretaker_request {
	CARETAKER_REQUEST_NONE = 0,
	CARETAKER_REQUEST_STOP = 1, /* stop and serialize */
};

enum caretaker_run_state {
	CARETAKER_RUNNING = 0,
	CARETAKER_HALTED = 1,	  /* HLT policy "root": halted on the core */
	CARETAKER_SPINNING = 2,	  /* a blocking exit waits for KVM_ATTACHED */
	CARETAKER_SERIALIZED = 3, /* stopped; the state is complete */
	CARETAKER_PARKED = 4,	  /* a fault of the payload's own; never runs on */
};

/* Order of the general registers in the save area; RSP is GUEST_RSP. */
enum caretaker_register {
	CARETAKER_RAX, CARETAKER_RCX, CARETAKER_RDX, CARETAKER_RBX,
	CARETAKER_RBP, CARETAKER_RSI, CARETAKER_RDI,
	CARETAKER_R8, CARETAKER_R9, CARETAKER_R10, CARETAKER_R11,
	CARETAKER_R12, CARETAKER_R13, CARETAKER_R14, CARETAKER_R15,
	CARETAKER_REGISTERS,
};

/*
 * caretaker_ccb.exit_reason of a stop that left no exit unanswered, and RDX at
 * the routing handler when the exit in the VMCS has been answered: what brings
 * the vCPU to KVM is a stop, or an event of the host's in soft state. Any other
 * RDX is the whole exit-reason word of the exit in the VMCS, which is KVM's.
 */
#define CARETAKER_NO_EXIT 0xffffffffu

/* caretaker_ccb.vector when VM entry failed: error_code is VM_INSTRUCTION_ERROR. */
#define CARETAKER_VECTOR_VMFAIL 256

/* caretaker_ccb.features: what the payload uses and the next kernel must offer. */
#define CARETAKER_FEATURE_PREEMPTION_TIMER (1ull << 0)
#define CARETAKER_FEATURE_ACK_ON_EXIT (1ull << 1)
#define CARETAKER_FEATURE_X2APIC (1ull << 2)
#define CARETAKER_FEATURE_HLT_ACTIVITY (1ull << 3)
#define CARETAKER_FEATURE_TSC_SCALING (1ull << 4)
/* Said by KVM where it gives shadow stacks. */
#define CARETAKER_FEATURE_SHADOW_STACK (1ull << 5)
#define CARETAKER_FEATURE_INVARIANT_TSC (1ull << 6)
/* Can leave virtual interrupts to the processor; config says whether. */
#define CARETAKER_FEATURE_POSTED_INTERRUPTS (1ull << 7)

struct caretaker_ccb {
	/* Image: set at link time, relocated by the loader. */
	/*    0 */ struct caretaker_header header;
	/*   16 */ u64 entry_init;
	/*   24 */ u64 entry_vmexit; /* equals e_entry */
	/*   32 */ u64 entry_run;
	/*   40 */ u64 reserved_image[3];

	/* Published by init, constant afterwards. */
	/*   64 */ u64 gdt_base;
	/*   72 */ u64 idt_base;
	/*   80 */ u64 tss_base;
	/*   88 */ u32 gdt_limit;
	/*   92 */ u32 idt_limit;
	/*   96 */ u32 tss_limit;
	/*  100 */ u16 selector_cs;
	/*  102 */ u16 selector_ss;
	/*  104 */ u16 selector_tr;
	/*  106 */ u16 reserved_init[3];
	/*  112 */ u64 features;
	/*  120 */ u64 reserved_features;

	/*
	 * Written by the payload at every change of state, read by KVM. What
	 * begins a wait is stored, and visible, before attach_state is looked
	 * at: KVM that has written that, passed a full fence and reads RUNNING
	 * knows that nobody waits on what was there before.
	 */
	/*  128 */ u32 state; /* enum caretaker_run_state, release order */
	/*  132 */ u32 exit_reason;
	/*  136 */ u32 vector;
	/*  140 */ u32 error_code;
	/*  144 */ u64 rip;
	/*  152 */ u64 cr2;
	/*  160 */ u64 reserved_state[4];

	/* Guest registers: by the payload before it routes, by KVM before run. */
	/*  192 */ u64 registers[CARETAKER_REGISTERS];
	/*  312 */ u32 registers_valid;
	/*  316 */ u32 reserved_registers;
	/*  320 */ u8 reserved_payload[3776];

	/* KVM's page. Attachment: written on install, detach and retrieve. */
	/* 4096 */ u32 attach_state; /* enum caretaker_attach_state, release order */
	/* 4100 */ u32 reserved_attach;
	/* 4104 */ u64 epoch; /* counts attachments; for checkers */
	/* 4112 */ u64 reserved_epoch[6];

	/* Routing pointers, valid for one epoch: written before attach_state. */
	/* 4160 */ u64 routing_handler;
	/* 4168 */ u64 routing_stack;
	/* 4176 */ u64 routing_cr3;
	/* 4184 */ u64 routing_gs_base;
	/* 4192 */ u64 routing_argument;
	/* 4200 */ u64 reserved_routing[3];

	/* 4224 */ u32 request; /* enum caretaker_request; written before a kick */
	/* 4228 */ u32 reserved_request[15];

	/* Written by KVM_SET_CARETAKER and at every hand-over. */
	/* 4288 */ u64 vmcs_address;
	/* 4296 */ u64 vmxon_address;
	/* 4304 */ u32 launch_state; /* 0 clear: VMLAUNCH; 1 launched: VMRESUME */
	/* 4308 */ u32 vcpu_id;
	/* 4312 */ u32 apic_id;
	/* 4316 */ u32 reserved_id;
	/* 4320 */ u64 stack_base;
	/* 4328 */ u64 stack_size;
	/* 4336 */ u64 ssp;
	/* 4344 */ u64 interrupt_ssp_table;
	/* 4352 */ u64 config_address;
	/* 4360 */ u64 config_size;
	/* 4368 */ u64 telemetry_address;
	/* 4376 */ u64 telemetry_size;
	/* 4384 */ u64 soft_state_address;
	/* 4392 */ u64 soft_state_size;
	/* 4400 */ u8 reserved_kvm[3792];
} __attribute__((aligned(CARETAKER_CCB_ALIGN)));
CARETAKER_ABI_FIELD(struct caretaker_ccb, header, 0);
CARETAKER_ABI_FIELD(struct caretaker_ccb, entry_init, 16);
CARETAKER_ABI_FIELD(struct caretaker_ccb, entry_vmexit, 24);
CARETAKER_ABI_FIELD(struct caretaker_ccb, entry_run, 32);
CARETAKER_ABI_FIELD(struct caretaker_ccb, reserved_image, 40);
CARETAKER_ABI_FIELD(struct caretaker_ccb, gdt_base, 64);
CARETAKER_ABI_FIELD(struct caretaker_ccb, idt_base, 72);
CARETAKER_ABI_FIELD(struct caretaker_ccb, tss_base, 80);
CARETAKER_ABI_FIELD(struct caretaker_ccb, gdt_limit, 88);
CARETAKER_ABI_FIELD(struct caretaker_ccb, idt_limit, 92);
CARETAKER_ABI_FIELD(struct caretaker_ccb, tss_limit, 96);
CARETAKER_ABI_FIELD(struct caretaker_ccb, selector_cs, 100);
CARETAKER_ABI_FIELD(struct caretaker_ccb, selector_ss, 102);
CARETAKER_ABI_FIELD(struct caretaker_ccb, selector_tr, 104);
CARETAKER_ABI_FIELD(struct caretaker_ccb, reserved_init, 106);
CARETAKER_ABI_FIELD(struct caretaker_ccb, features, 112);
CARETAKER_ABI_FIELD(struct caretaker_ccb, reserved_features, 120);
CARETAKER_ABI_FIELD(struct caretaker_ccb, state, 128);
CARETAKER_ABI_FIELD(struct caretaker_ccb, exit_reason, 132);
CARETAKER_ABI_FIELD(struct caretaker_ccb, vector, 136);
CARETAKER_ABI_FIELD(struct caretaker_ccb, error_code, 140);
CARETAKER_ABI_FIELD(struct caretaker_ccb, rip, 144);
CARETAKER_ABI_FIELD(struct caretaker_ccb, cr2, 152);
CARETAKER_ABI_FIELD(struct caretaker_ccb, reserved_state, 160);
CARETAKER_ABI_FIELD(struct caretaker_ccb, registers, 192);
CARETAKER_ABI_FIELD(struct caretaker_ccb, registers_valid, 312);
CARETAKER_ABI_FIELD(struct caretaker_ccb, reserved_registers, 316);
CARETAKER_ABI_FIELD(struct caretaker_ccb, reserved_payload, 320);
CARETAKER_ABI_FIELD(struct caretaker_ccb, attach_state, 4096);
CARETAKER_ABI_FIELD(struct caretaker_ccb, reserved_attach, 4100);
CARETAKER_ABI_FIELD(struct caretaker_ccb, epoch, 4104);
CARETAKER_ABI_FIELD(struct caretaker_ccb, reserved_epoch, 4112);
CARETAKER_ABI_FIELD(struct caretaker_ccb, routing_handler, 4160);
CARETAKER_ABI_FIELD(struct caretaker_ccb, routing_stack, 4168);
CARETAKER_ABI_FIELD(struct caretaker_ccb, routing_cr3, 4176);
CARETAKER_ABI_FIELD(struct caretaker_ccb, routing_gs_base, 4184);
CARETAKER_ABI_FIELD(struct caretaker_ccb, routing_argument, 4192);
CARETAKER_ABI_FIELD(struct caretaker_ccb, reserved_routing, 4200);
CARETAKER_ABI_FIELD(struct caretaker_ccb, request, 4224);
CARETAKER_ABI_FIELD(struct caretaker_ccb, reserved_request, 4228);
CARETAKER_ABI_FIELD(struct caretaker_ccb, vmcs_address, 4288);
CARETAKER_ABI_FIELD(struct caretaker_ccb, vmxon_address, 4296);
CARETAKER_ABI_FIELD(struct caretaker_ccb, launch_state, 4304);
CARETAKER_ABI_FIELD(struct caretaker_ccb, vcpu_id, 4308);
CARETAKER_ABI_FIELD(struct caretaker_ccb, apic_id, 4312);
CARETAKER_ABI_FIELD(struct caretaker_ccb, reserved_id, 4316);
CARETAKER_ABI_FIELD(struct caretaker_ccb, stack_base, 4320);
CARETAKER_ABI_FIELD(struct caretaker_ccb, stack_size, 4328);
CARETAKER_ABI_FIELD(struct caretaker_ccb, ssp, 4336);
CARETAKER_ABI_FIELD(struct caretaker_ccb, interrupt_ssp_table, 4344);
CARETAKER_ABI_FIELD(struct caretaker_ccb, config_address, 4352);
CARETAKER_ABI_FIELD(struct caretaker_ccb, config_size, 4360);
CARETAKER_ABI_FIELD(struct caretaker_ccb, telemetry_address, 4368);
CARETAKER_ABI_FIELD(struct caretaker_ccb, telemetry_size, 4376);
CARETAKER_ABI_FIELD(struct caretaker_ccb, soft_state_address, 4384);
CARETAKER_ABI_FIELD(struct caretaker_ccb, soft_state_size, 4392);
CARETAKER_ABI_FIELD(struct caretaker_ccb, reserved_kvm, 4400);
CARETAKER_ABI_SIZE(struct caretaker_ccb, 8192);

#endif
