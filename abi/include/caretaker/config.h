/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Shared Configuration Metadata: what KVM negotiated for one vCPU, written
 * by KVM at install and while the vCPU is stopped, read by the payload.
 *
 * This interface is a contract. The pages are preserved via KHO.
 */
#ifndef CARETAKER_CONFIG_H
#define CARETAKER_CONFIG_H

#include <caretaker/types.h>

#define CARETAKER_CONFIG_MAGIC 0x3147464352414321ull /* "!CARCFG1" */
#define CARETAKER_CONFIG_VERSION 2
#define CARETAKER_CPUID_MAX 64
#define CARETAKER_MSR_MAX 64
#define CARETAKER_VCPU_MAX 64
#define CARETAKER_IRQ_ROUTE_MAX 32
#define CARETAKER_EXIT_POLICY_MAX 128

/* caretaker_cpuid.flags: which output bits follow the guest's state. */
enum caretaker_cpuid_flags {
	CARETAKER_CPUID_SUBLEAF = 1,	/* ECX is significant */
	CARETAKER_CPUID_OSXSAVE = 2,	/* ECX[27] = CR4.OSXSAVE */
	CARETAKER_CPUID_OSPKE = 4,	/* ECX[4] = CR4.PKE */
	CARETAKER_CPUID_XSAVE_SIZE = 8, /* EBX = size for XCR0: see xsave_size */
};

struct caretaker_cpuid {
	/*  0 */ u32 leaf;
	/*  4 */ u32 subleaf;
	/*  8 */ u32 flags;
	/* 12 */ u32 eax;
	/* 16 */ u32 ebx;
	/* 20 */ u32 ecx;
	/* 24 */ u32 edx;
	/* 28 */ u32 reserved;
};
CARETAKER_ABI_FIELD(struct caretaker_cpuid, leaf, 0);
CARETAKER_ABI_FIELD(struct caretaker_cpuid, subleaf, 4);
CARETAKER_ABI_FIELD(struct caretaker_cpuid, flags, 8);
CARETAKER_ABI_FIELD(struct caretaker_cpuid, eax, 12);
CARETAKER_ABI_FIELD(struct caretaker_cpuid, ebx, 16);
CARETAKER_ABI_FIELD(struct caretaker_cpuid, ecx, 20);
CARETAKER_ABI_FIELD(struct caretaker_cpuid, edx, 24);
CARETAKER_ABI_FIELD(struct caretaker_cpuid, reserved, 28);
CARETAKER_ABI_SIZE(struct caretaker_cpuid, 32);

/* What a payload does with a guest RDMSR or WRMSR of the named register. */
enum caretaker_msr_action {
	CARETAKER_MSR_ROUTE = 0,   /* KVM's: route, or block while detached */
	CARETAKER_MSR_VALUE = 1,   /* soft state msr_value[] of the same index */
	CARETAKER_MSR_VMCS = 2,	   /* the guest-state field named by vmcs_field */
	CARETAKER_MSR_IGNORE = 3,  /* reads 0, writes are dropped */
	CARETAKER_MSR_FAULT = 4,   /* inject #GP(0) */
};

struct caretaker_msr {
	/*  0 */ u32 index;
	/*  4 */ u32 read_action;
	/*  8 */ u32 write_action;
	/* 12 */ u32 vmcs_field;
	/* 16 */ u64 writable; /* a set bit outside raises #GP(0) */
	/* 24 */ u64 reserved;
};
CARETAKER_ABI_FIELD(struct caretaker_msr, index, 0);
CARETAKER_ABI_FIELD(struct caretaker_msr, read_action, 4);
CARETAKER_ABI_FIELD(struct caretaker_msr, write_action, 8);
CARETAKER_ABI_FIELD(struct caretaker_msr, vmcs_field, 12);
CARETAKER_ABI_FIELD(struct caretaker_msr, writable, 16);
CARETAKER_ABI_FIELD(struct caretaker_msr, reserved, 24);
CARETAKER_ABI_SIZE(struct caretaker_msr, 32);

struct caretaker_vcpu {
	/*  0 */ u32 vcpu_id;
	/*  4 */ u32 apic_id;	       /* the guest's x2APIC id */
	/*  8 */ u32 physical_apic_id; /* where a kick goes */
	/* 12 */ u32 reserved;
	/* 16 */ u64 soft_state_address;
};
CARETAKER_ABI_FIELD(struct caretaker_vcpu, vcpu_id, 0);
CARETAKER_ABI_FIELD(struct caretaker_vcpu, apic_id, 4);
CARETAKER_ABI_FIELD(struct caretaker_vcpu, physical_apic_id, 8);
CARETAKER_ABI_FIELD(struct caretaker_vcpu, reserved, 12);
CARETAKER_ABI_FIELD(struct caretaker_vcpu, soft_state_address, 16);
CARETAKER_ABI_SIZE(struct caretaker_vcpu, 24);

/* A device interrupt that KVM would forward: host vector to guest vector. */
struct caretaker_irq_route {
	/*  0 */ u8 host_vector;
	/*  1 */ u8 guest_vector;
	/*  2 */ u16 vcpu_id;
};
CARETAKER_ABI_FIELD(struct caretaker_irq_route, host_vector, 0);
CARETAKER_ABI_FIELD(struct caretaker_irq_route, guest_vector, 1);
CARETAKER_ABI_FIELD(struct caretaker_irq_route, vcpu_id, 2);
CARETAKER_ABI_SIZE(struct caretaker_irq_route, 4);

/* caretaker_config.exit_policy[basic reason]; a clear bit routes or blocks. */
enum caretaker_exit_policy {
	CARETAKER_HANDLE_ATTACHED = 1,
	CARETAKER_HANDLE_DETACHED = 2,
};

enum caretaker_hlt_policy {
	CARETAKER_HLT_ACTIVITY = 0, /* guest activity state HLT, then VMRESUME */
	CARETAKER_HLT_ROOT = 1,	    /* STI; HLT in root operation */
};

/*
 * PROCESSOR: virtual-interrupt delivery and posted interrupts are on. VIRR,
 * VISR, VTPR and RVI are the guest's APIC in place of irr, isr and tpr in soft
 * state, which a payload may still collect requests in; others may post in
 * pi_desc as well, and its notification is no VM exit.
 */
enum caretaker_interrupt_delivery {
	CARETAKER_DELIVERY_PAYLOAD = 0,	  /* by VM-entry injection */
	CARETAKER_DELIVERY_PROCESSOR = 1,
};

struct caretaker_config {
	/*    0 */ struct caretaker_header header;
	/*   16 */ u32 cpuid_count;
	/*   20 */ u32 cpuid_max_basic;
	/*   24 */ u32 cpuid_max_extended;
	/*   28 */ u32 msr_count;
	/*   32 */ u32 vcpu_count;
	/*   36 */ u32 irq_route_count;
	/*   40 */ u32 hlt_policy;
	/*   44 */ u32 preemption_timer_shift;
	/*   48 */ u64 tsc_frequency; /* Hz */
	/*   56 */ u64 tsc_offset;    /* guest TSC = host TSC * scale + offset */
	/*   64 */ u64 tsc_multiplier; /* 16.48 fixed point; 1 << 48 is 1.0 */
	/*   72 */ u32 notification_vector; /* a kick: look at posted[] */
	/*   76 */ u32 xsave_size;
	/*   80 */ u32 interrupt_delivery; /* enum caretaker_interrupt_delivery */
	/*   84 */ u32 reserved_delivery;
	/*   88 */ u64 virtual_apic_address; /* for CARETAKER_DELIVERY_PROCESSOR */
	/*   96 */ u64 reserved[4];
	/*  128 */ u8 exit_policy[CARETAKER_EXIT_POLICY_MAX];
	/*  256 */ struct caretaker_cpuid cpuid[CARETAKER_CPUID_MAX];
	/* 2304 */ struct caretaker_msr msr[CARETAKER_MSR_MAX];
	/* 4352 */ struct caretaker_vcpu vcpu[CARETAKER_VCPU_MAX];
	/* 5888 */ struct caretaker_irq_route irq_route[CARETAKER_IRQ_ROUTE_MAX];
	/* 6016 */ u8 reserved_tail[2176];
};
CARETAKER_ABI_FIELD(struct caretaker_config, header, 0);
CARETAKER_ABI_FIELD(struct caretaker_config, cpuid_count, 16);
CARETAKER_ABI_FIELD(struct caretaker_config, cpuid_max_basic, 20);
CARETAKER_ABI_FIELD(struct caretaker_config, cpuid_max_extended, 24);
CARETAKER_ABI_FIELD(struct caretaker_config, msr_count, 28);
CARETAKER_ABI_FIELD(struct caretaker_config, vcpu_count, 32);
CARETAKER_ABI_FIELD(struct caretaker_config, irq_route_count, 36);
CARETAKER_ABI_FIELD(struct caretaker_config, hlt_policy, 40);
CARETAKER_ABI_FIELD(struct caretaker_config, preemption_timer_shift, 44);
CARETAKER_ABI_FIELD(struct caretaker_config, tsc_frequency, 48);
CARETAKER_ABI_FIELD(struct caretaker_config, tsc_offset, 56);
CARETAKER_ABI_FIELD(struct caretaker_config, tsc_multiplier, 64);
CARETAKER_ABI_FIELD(struct caretaker_config, notification_vector, 72);
CARETAKER_ABI_FIELD(struct caretaker_config, xsave_size, 76);
CARETAKER_ABI_FIELD(struct caretaker_config, interrupt_delivery, 80);
CARETAKER_ABI_FIELD(struct caretaker_config, reserved_delivery, 84);
CARETAKER_ABI_FIELD(struct caretaker_config, virtual_apic_address, 88);
CARETAKER_ABI_FIELD(struct caretaker_config, reserved, 96);
CARETAKER_ABI_FIELD(struct caretaker_config, exit_policy, 128);
CARETAKER_ABI_FIELD(struct caretaker_config, cpuid, 256);
CARETAKER_ABI_FIELD(struct caretaker_config, msr, 2304);
CARETAKER_ABI_FIELD(struct caretaker_config, vcpu, 4352);
CARETAKER_ABI_FIELD(struct caretaker_config, irq_route, 5888);
CARETAKER_ABI_FIELD(struct caretaker_config, reserved_tail, 6016);
CARETAKER_ABI_SIZE(struct caretaker_config, 8192);

#endif
