// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * A Caretaker by somebody else: one file, written from the public headers and
 * the contract alone. It answers CPUID, HLT, PAUSE, its timer, the interrupt
 * window, kicks and devices; everything else is KVM's, or waits for it.
 *
 * Guest registers live in a frame on the stack and RSP stays there at VM entry;
 * the wait counts its polls. Both are a payload's own business.
 */
#include <caretaker/ccb.h>
#include <caretaker/config.h>
#include <caretaker/soft-state.h>
#include <caretaker/telemetry.h>
#include <caretaker/vmx.h>

#define NAKED	 __attribute__((naked, used))
#define ROUTE	 (1ull << 32)
#define WINDOW	 CPU_BASED_INTR_WINDOW_EXITING
#define VALID	 INTR_INFO_VALID_MASK
#define POLL(x)	 (*(volatile __typeof__(x) *)&(x))
#define ACQUIRE(x) __atomic_load_n(&(x), __ATOMIC_ACQUIRE)

long init(struct caretaker_ccb *c);
void vmexit(void);
void run(void);
void nmi_gate(void);
void check_gate(void);
void end_nmi(void);
void fault_gates(void);
void interrupt_gates(void);
void interrupted(u32 vector);
void give_up(u32 vector, u32 error_code, u64 rip);
u64 handle(u64 *guest);
u64 is_bad(void);
u64 *prepare(struct caretaker_ccb *c);

struct caretaker_ccb the_ccb __attribute__((section(".ccb"))) = {
	.header = { CARETAKER_CCB_MAGIC, CARETAKER_CCB_VERSION,
		    CARETAKER_CCB_SIZE },
	.entry_init = (u64)init,
	.entry_vmexit = (u64)vmexit,
	.entry_run = (u64)run,
};

struct gate {
	u64 low, high;
};
struct tss {
	u32 words[26];
};
static struct gate idt[256] __attribute__((aligned(16)));
static u64 gdt[6];
static struct tss tss __attribute__((aligned(128)));
static u8 nmi_stack[4096] __attribute__((aligned(4096)));
static u8 check_stack[4096] __attribute__((aligned(4096)));
static u8 fault_stack[4096] __attribute__((aligned(4096)));

static u64 vmr(u64 field)
{
	u64 value;

	__asm__ volatile("vmread %1, %0" : "=r"(value) : "r"(field) : "cc");
	return value;
}

static void vmw(u64 field, u64 value)
{
	__asm__ volatile("vmwrite %1, %0" : : "r"(field), "r"(value) : "cc");
}

static u64 tsc(void)
{
	u32 low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (u64)high << 32 | low;
}

static struct caretaker_config *config(struct caretaker_ccb *c)
{
	return (struct caretaker_config *)c->config_address;
}

static struct caretaker_soft_state *soft(struct caretaker_ccb *c)
{
	return (struct caretaker_soft_state *)c->soft_state_address;
}

static struct caretaker_telemetry *telemetry(struct caretaker_ccb *c)
{
	return (struct caretaker_telemetry *)c->telemetry_address;
}

/* Changes bits of a control field, if they need to change. */
static void control(u64 field, u32 bit, int on)
{
	u32 now = (u32)vmr(field), then = on ? now | bit : now & ~bit;

	if (now != then)
		vmw(field, then);
}

static u32 top_vector(const u64 *set)
{
	int i;

	for (i = 3; i >= 0; i--)
		if (set[i])
			return 64 * i + 63 - __builtin_clzll(set[i]);
	return 0;
}

/* The deadline becomes the preemption timer, or, when it is due, a request. */
static void arm(struct caretaker_ccb *c)
{
	struct caretaker_soft_state *s = soft(c);
	u64 now = tsc() + config(c)->tsc_offset;
	u64 units;

	if (s->tsc_deadline && s->tsc_deadline <= now) {
		u32 vector = s->lvt_timer & 255;

		s->tsc_deadline = 0;
		if (!(s->lvt_timer & APIC_LVT_MASKED) && vector >= 16)
			s->irr[vector / 64] |= 1ull << vector % 64;
	}
	if (s->tsc_deadline) {
		units = s->tsc_deadline - now - 1;
		units = (units >> config(c)->preemption_timer_shift) + 1;
		vmw(VMX_PREEMPTION_TIMER_VALUE,
		    units >> 32 ? 0xffffffff : units);
	}
	control(PIN_BASED_VM_EXEC_CONTROL, PIN_BASED_VMX_PREEMPTION_TIMER,
		s->tsc_deadline != 0);
}

static void collect(struct caretaker_soft_state *s)
{
	int i;

	for (i = 0; i < 4; i++)
		if (POLL(s->posted[i]))
			s->irr[i] |= __atomic_exchange_n(&s->posted[i], 0, 5);
}

/* The vector that the virtual APIC would deliver now, or 0. */
static u32 ready(const struct caretaker_soft_state *s)
{
	u32 vector = top_vector(s->irr), busy = top_vector(s->isr);

	if (busy < s->tpr)
		busy = s->tpr;
	return vector >> 4 > busy >> 4 ? vector : 0;
}

static void inject(struct caretaker_ccb *c)
{
	struct caretaker_soft_state *s = soft(c);
	u32 vector;

	if (s->event_info & VALID) {
		vmw(VM_ENTRY_INTR_INFO_FIELD, s->event_info);
		if (s->event_info & INTR_INFO_DELIVER_CODE_MASK)
			vmw(VM_ENTRY_EXCEPTION_ERROR_CODE,
			    s->event_error_code);
		vmw(VM_ENTRY_INSTRUCTION_LEN, s->event_instruction_length);
	} else if (!(vmr(VM_ENTRY_INTR_INFO_FIELD) & VALID) &&
		   (vector = ready(s)) &&
		   vmr(GUEST_RFLAGS) & X86_EFLAGS_IF &&
		   !(vmr(GUEST_PENDING_DBG_EXCEPTIONS) &
		     GUEST_PENDING_DBG_VALID) &&
		   !(vmr(GUEST_INTERRUPTIBILITY_INFO) & 3)) {
		s->irr[vector / 64] &= ~(1ull << vector % 64);
		s->isr[vector / 64] |= 1ull << vector % 64;
		s->event_info = VALID | vector;
		vmw(VM_ENTRY_INTR_INFO_FIELD, s->event_info);
	}
	control(CPU_BASED_VM_EXEC_CONTROL, WINDOW, ready(s) != 0);
}

/* Everything that a VM entry needs; soft state has the event until the exit. */
static void outfit(struct caretaker_ccb *c)
{
	collect(soft(c));
	arm(c);
	inject(c);
}

static int answer_cpuid(struct caretaker_ccb *c, u64 *guest)
{
	const struct caretaker_config *f = config(c);
	u32 leaf = (u32)guest[CARETAKER_RAX], sub = (u32)guest[CARETAKER_RCX];
	u32 last = leaf >> 31 ? f->cpuid_max_extended : f->cpuid_max_basic;
	const struct caretaker_cpuid *row = 0;
	u32 wanted[2] = { leaf, f->cpuid_max_basic }, round, i, ecx, ebx;

	for (round = 0; round < 2 && !row; round++)
		for (i = 0; i < f->cpuid_count && !row; i++) {
			const struct caretaker_cpuid *r = &f->cpuid[i];

			if (round && leaf <= last)
				break;
			if (r->leaf == wanted[round] &&
			    (r->subleaf == sub ||
			     !(r->flags & CARETAKER_CPUID_SUBLEAF)))
				row = r;
		}
	ecx = row ? row->ecx : 0;
	ebx = row ? row->ebx : 0;
	if (row && row->flags & CARETAKER_CPUID_OSXSAVE)
		ecx = (ecx & ~(1u << 27)) |
		      (u32)(vmr(GUEST_CR4) >> 18 & 1) << 27;
	if (row && row->flags & CARETAKER_CPUID_OSPKE)
		ecx = (ecx & ~(1u << 4)) |
		      (u32)(vmr(GUEST_CR4) >> 22 & 1) << 4;
	if (row && row->flags & CARETAKER_CPUID_XSAVE_SIZE)
		ebx = f->xsave_size;
	guest[CARETAKER_RAX] = row ? row->eax : 0;
	guest[CARETAKER_RBX] = ebx;
	guest[CARETAKER_RCX] = ecx;
	guest[CARETAKER_RDX] = row ? row->edx : 0;
	return 1;
}

/* The instruction completed. */
static void step_over(void)
{
	u64 next = vmr(GUEST_RIP) + vmr(VM_EXIT_INSTRUCTION_LEN);
	u64 blocking = vmr(GUEST_INTERRUPTIBILITY_INFO);

	if (!(vmr(GUEST_CS_AR_BYTES) & VMX_AR_L_MASK))
		next = (u32)next;
	vmw(GUEST_RIP, next);
	if (blocking & 3)
		vmw(GUEST_INTERRUPTIBILITY_INFO, blocking & ~3ull);
	if (vmr(GUEST_RFLAGS) & X86_EFLAGS_TF &&
	    !(vmr(GUEST_IA32_DEBUGCTL) & DEBUGCTLMSR_BTF))
		vmw(GUEST_PENDING_DBG_EXCEPTIONS,
		    vmr(GUEST_PENDING_DBG_EXCEPTIONS) | GUEST_PENDING_DBG_BS);
}

static u64 rdmsr(u32 index)
{
	u32 low, high;

	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(index));
	return (u64)high << 32 | low;
}

/* Nonzero when what the machine check interrupted may not go on as it is. */
u64 is_bad(void)
{
	u64 mcg = rdmsr(MSR_IA32_MCG_STATUS), bad = !(mcg & MCG_STATUS_RIPV);
	u32 i;

	for (i = 0; i < (rdmsr(MSR_IA32_MCG_CAP) & MCG_CAP_COUNT_MASK); i++) {
		u64 status = rdmsr(MSR_IA32_MC0_STATUS + 4 * i);

		if (status >> 63 && status & MCI_STATUS_UC)
			bad |= status & MCI_STATUS_PCC ||
			       (status & MCI_STATUS_AR &&
				mcg & MCG_STATUS_EIPV);
	}
	return bad;
}

/* An NMI needs an IRET; a machine check that can go on needs MCIP cleared. */
static int answer_exception(void)
{
	u32 info = (u32)vmr(VM_EXIT_INTR_INFO);

	if ((info & INTR_INFO_INTR_TYPE_MASK) == INTR_TYPE_NMI_INTR) {
		end_nmi();
		return 1;
	}
	if ((info & 0x7ff) != (INTR_TYPE_HARD_EXCEPTION | X86_TRAP_MC) ||
	    is_bad())
		return 0;
	__asm__ volatile("wrmsr" : : "c"(MSR_IA32_MCG_STATUS), "a"(0), "d"(0)
			 : "memory");
	return 1;
}

/* The posted bit of whom the route names, then a kick that it cannot miss. */
static int forward(struct caretaker_ccb *c, u32 vector)
{
	const struct caretaker_config *f = config(c);
	const struct caretaker_irq_route *r = f->irq_route;
	const struct caretaker_vcpu *v = f->vcpu;

	while (r < f->irq_route + f->irq_route_count &&
	       r->host_vector != vector)
		r++;
	if (r == f->irq_route + f->irq_route_count)
		return 0;
	while (v < f->vcpu + f->vcpu_count && v->vcpu_id != r->vcpu_id)
		v++;
	if (v == f->vcpu + f->vcpu_count)
		return 0;
	__atomic_fetch_or(
		&((struct caretaker_soft_state *)v->soft_state_address)
			 ->posted[r->guest_vector / 64],
		1ull << r->guest_vector % 64, 5);
	if (v->vcpu_id != c->vcpu_id)
		__asm__ volatile("mfence; lfence; wrmsr"
				 : : "c"(X2APIC_MSR(APIC_ICR)),
				     "a"(f->notification_vector),
				     "d"(v->physical_apic_id) : "memory");
	return 1;
}

/* A kick, a device's, or one that nobody wants; a spurious one gets no EOI. */
static void take(struct caretaker_ccb *c, u32 vector)
{
	u32 isr = X2APIC_MSR(APIC_ISR) + vector / 32;

	if (rdmsr(isr) >> vector % 32 & 1) {
		__asm__ volatile("wrmsr" : : "c"(X2APIC_MSR(APIC_EOI)), "a"(0),
				 "d"(0) : "memory");
		if (vector == config(c)->notification_vector ||
		    forward(c, vector))
			return;
	}
	telemetry(c)->stray_interrupts++;
}

/* While it waits for KVM, of which it may be the first sign. */
void interrupted(u32 vector)
{
	struct caretaker_ccb *c = &the_ccb;

	if (!ACQUIRE(c->attach_state)) {
		take(c, vector);
		return;
	}
	soft(c)->acknowledged_vector = vector;
}

static int answer_interrupt(struct caretaker_ccb *c)
{
	u32 info = (u32)vmr(VM_EXIT_INTR_INFO);

	if (!(info & VALID))
		return 0;
	take(c, info & 255);
	return 1;
}

static int may_interrupt(struct caretaker_ccb *c)
{
	collect(soft(c));
	return soft(c)->tsc_deadline &&
		       soft(c)->tsc_deadline <= tsc() + config(c)->tsc_offset ?
		       1 :
		       ready(soft(c)) != 0;
}

/* 0: not this payload's to answer, and nothing has been changed. */
static int answer(struct caretaker_ccb *c, u32 word, u64 *guest)
{
	u8 bit = ACQUIRE(c->attach_state) ? CARETAKER_HANDLE_ATTACHED :
					    CARETAKER_HANDLE_DETACHED;

	if (word >= CARETAKER_EXIT_POLICY_MAX ||
	    !(config(c)->exit_policy[word] & bit))
		return 0;
	if (word == EXIT_REASON_PREEMPTION_TIMER ||
	    word == EXIT_REASON_INTERRUPT_WINDOW)
		return 1;
	if (word == EXIT_REASON_EXTERNAL_INTERRUPT)
		return answer_interrupt(c);
	if (word == EXIT_REASON_EXCEPTION_NMI)
		return answer_exception();
	if (word == EXIT_REASON_HLT) {
		if (config(c)->hlt_policy != CARETAKER_HLT_ACTIVITY)
			return 0;
		if (!may_interrupt(c))
			vmw(GUEST_ACTIVITY_STATE, GUEST_ACTIVITY_HLT);
	} else if (word == EXIT_REASON_CPUID) {
		answer_cpuid(c, guest);
	} else if (word != EXIT_REASON_PAUSE_INSTRUCTION) {
		return 0;
	}
	step_over();
	return 1;
}

static struct caretaker_counters *counters(struct caretaker_telemetry *t,
					   u32 word)
{
	word &= VMX_EXIT_REASON_BASIC_MASK;
	return word < CARETAKER_TELEMETRY_REASONS ? &t->reason[word] :
						    &t->other;
}

static void to_save_area(struct caretaker_ccb *c, const u64 *guest)
{
	int i;

	for (i = 0; i < CARETAKER_REGISTERS; i++)
		c->registers[i] = guest[i];
	c->registers_valid = 1;
}

/* KVM has asked for the vCPU: give it all, then wait until KVM is there. */
static u64 serialize(struct caretaker_ccb *c, u32 unanswered,
		     const u64 *guest)
{
	to_save_area(c, guest);
	if (unanswered == EXIT_REASON_EXTERNAL_INTERRUPT)
		soft(c)->acknowledged_vector = vmr(VM_EXIT_INTR_INFO) & 255;
	c->exit_reason = unanswered;
	__asm__ volatile("vmclear %0" : : "m"(c->vmcs_address) : "memory");
	__atomic_store_n(&c->state, CARETAKER_SERIALIZED, __ATOMIC_SEQ_CST);
	if (!ACQUIRE(c->attach_state)) {
		__asm__ volatile("vmxoff" : : : "cc", "memory");
		while (!ACQUIRE(c->attach_state))
			__builtin_ia32_pause();
	}
	return ROUTE | unanswered;
}

static u64 wait(struct caretaker_ccb *c, u32 word, const u64 *guest)
{
	struct caretaker_telemetry *t = telemetry(c);
	u64 begin, end, polls = 0;

	t->total.blocked++;
	counters(t, word)->blocked++;
	c->exit_reason = word;
	to_save_area(c, guest);
	__atomic_store_n(&c->state, CARETAKER_SPINNING, __ATOMIC_SEQ_CST);
	begin = tsc();
	do {
		__asm__ volatile("sti; pause; cli" ::: "memory");
		c->reserved_state[0] = ++polls;
	} while (!ACQUIRE(c->attach_state) && !POLL(c->request));
	end = tsc();
	t->stall_tsc += end - begin;
	if (t->stall_head - POLL(t->stall_tail) < CARETAKER_STALL_RING) {
		t->stall[t->stall_head % CARETAKER_STALL_RING] =
			(struct caretaker_stall){ word, 0,
						  t->last_qualification,
						  t->last_rip, begin, end };
		__atomic_store_n(&t->stall_head, t->stall_head + 1, 3);
	} else {
		t->stall_dropped++;
	}
	if (POLL(c->request))
		return serialize(c, word, guest);
	__atomic_store_n(&c->state, CARETAKER_RUNNING, 3);
	return ROUTE | word;
}

/* RAX: 0 to enter the guest, ROUTE and a reason to go to KVM. */
u64 handle(u64 *guest)
{
	struct caretaker_ccb *c = &the_ccb;
	struct caretaker_telemetry *t = telemetry(c);
	struct caretaker_soft_state *s = soft(c);
	u32 word = (u32)vmr(VM_EXIT_REASON), event;

	t->last_exit_reason = word;
	t->last_qualification = vmr(EXIT_QUALIFICATION);
	t->last_rip = vmr(GUEST_RIP);
	t->last_tsc = tsc();
	c->registers_valid = 0;
	if (c->state != CARETAKER_RUNNING)
		__atomic_store_n(&c->state, CARETAKER_RUNNING, 3);
	if (word & VMX_EXIT_REASONS_FAILED_VMENTRY) {
		t->entry_failures++;
	} else {
		event = (u32)vmr(IDT_VECTORING_INFO_FIELD);
		s->event_info = event & VALID ? event & ~0x1000u : 0;
		if (event & VALID) {
			s->event_error_code = (u32)vmr(IDT_VECTORING_ERROR_CODE);
			s->event_instruction_length =
				(u32)vmr(VM_EXIT_INSTRUCTION_LEN);
		}
		if (answer(c, word, guest)) {
			t->total.fastpath++;
			counters(t, word)->fastpath++;
			if (POLL(c->request))
				return serialize(c, CARETAKER_NO_EXIT, guest);
			outfit(c);
			return 0;
		}
	}
	if (!ACQUIRE(c->attach_state) || POLL(c->request))
		return wait(c, word, guest);
	if (!(word & VMX_EXIT_REASONS_FAILED_VMENTRY)) {
		t->total.routed++;
		counters(t, word)->routed++;
	}
	to_save_area(c, guest);
	return ROUTE | word;
}

/* The last look found an event of the host's or a request. */
u64 reconsider(u64 *guest)
{
	struct caretaker_ccb *c = &the_ccb;

	if (POLL(c->request))
		return serialize(c, CARETAKER_NO_EXIT, guest);
	if (ACQUIRE(c->attach_state)) {
		to_save_area(c, guest);
		return ROUTE | CARETAKER_NO_EXIT;
	}
	outfit(c);
	return 0;
}

u64 *prepare(struct caretaker_ccb *c)
{
	struct caretaker_soft_state *s = soft(c);
	u32 info = (u32)vmr(VM_ENTRY_INTR_INFO_FIELD);

	c->registers_valid = 0;
	__atomic_store_n(&c->state, CARETAKER_RUNNING, 3);
	if (info & VALID) {
		s->event_info = info;
		s->event_error_code = (u32)vmr(VM_ENTRY_EXCEPTION_ERROR_CODE);
		s->event_instruction_length =
			(u32)vmr(VM_ENTRY_INSTRUCTION_LEN);
	}
	outfit(c);
	return c->registers;
}

#define STR_(x) #x
#define STR(x)	STR_(x)

/* Guest registers below HOST_RSP, RAX lowest: the order of the save area. */
NAKED void vmexit(void)
{
	__asm__("sub $8, %rsp\n"
		"push %r15; push %r14; push %r13; push %r12\n"
		"push %r11; push %r10; push %r9; push %r8\n"
		"push %rdi; push %rsi; push %rbp; push %rbx\n"
		"push %rdx; push %rcx; push %rax\n"
		"mov %rsp, %rdi; call handle\n"
		"look: test %rax, %rax; jnz leave\n"
		"last_look: mov the_ccb + 4384(%rip), %rdi\n"
		"cmpl $0, 152(%rdi); jne again; cmpl $0, 160(%rdi); jne again\n"
		"cmpl $0, the_ccb + 4224(%rip); jne again\n"
		"mov %rsp, %rdi\n"
		"enter: mov (%rdi), %rax; mov 8(%rdi), %rcx\n"
		"mov 16(%rdi), %rdx; mov 24(%rdi), %rbx\n"
		"mov 32(%rdi), %rbp; mov 40(%rdi), %rsi\n"
		"mov 56(%rdi), %r8; mov 64(%rdi), %r9\n"
		"mov 72(%rdi), %r10; mov 80(%rdi), %r11\n"
		"mov 88(%rdi), %r12; mov 96(%rdi), %r13\n"
		"mov 104(%rdi), %r14; mov 112(%rdi), %r15\n"
		"mov 48(%rdi), %rdi\n"
		"vmresume\n"
		"vmlaunch\n"
		"last_look_end: ud2\n"
		"again: mov %rsp, %rdi; call reconsider; jmp look\n"
		/* To KVM: the flag has been seen, so read the pointers now. */
		"leave: lea the_ccb(%rip), %rsi; mov %eax, %ebx\n"
		"mov 4176(%rsi), %rax; mov %rax, %cr3\n"
		"mov 4184(%rsi), %eax; mov 4188(%rsi), %edx\n"
		"mov $0xc0000101, %ecx; wrmsr\n"
		"mov 4168(%rsi), %rsp; mov 4192(%rsi), %rdi\n"
		"mov %ebx, %edx; mov 4160(%rsi), %rax; jmp *%rax\n");
}

/* RDI = CCB; KVM's stack up to VM entry. */
NAKED void run(void)
{
	__asm__("and $-16, %rsp; call prepare; mov %rax, %rdi; jmp enter\n");
}

/* On its own stack. What was looked at before is looked at again. */
NAKED void nmi_gate(void)
{
	__asm__("push %rax\n"
		"cmpl $1, the_ccb + 4096(%rip); jne 1f\n"
		"mov the_ccb + 4384(%rip), %rax; movl $1, 152(%rax)\n"
		"1: lea last_look(%rip), %rax; cmp %rax, 8(%rsp); jb 2f\n"
		"lea last_look_end(%rip), %rax; cmp %rax, 8(%rsp); jae 2f\n"
		"lea last_look(%rip), %rax; mov %rax, 8(%rsp)\n"
		"2: pop %rax; iretq\n");
}

/*
 * A machine check that loses its context is one fault more, and so is one on the NMI's stack: the IRET would unblock NMIs.
 * Any other is the host's, if there is one.
 */
NAKED void check_gate(void)
{
	__asm__("push %rax; push %rcx; push %rdx; push %rsi; push %rdi\n"
		"push %r8; push %r9; push %r10; push %r11\n"
		"cld; call is_bad; test %rax, %rax; jnz 1f\n"
		"mov 96(%rsp), %rax; lea nmi_stack + 1(%rip), %rdx\n"
		"sub %rdx, %rax; cmp $4096, %rax; jb 1f\n"
		"mov $" STR(MSR_IA32_MCG_STATUS) ", %ecx\n"
		"cmpl $1, the_ccb + 4096(%rip); jne 2f; rdmsr\n"
		"mov the_ccb + 4384(%rip), %rdx; or %rax, 160(%rdx)\n"
		"2: xor %eax, %eax; xor %edx, %edx; wrmsr\n"
		"lea last_look(%rip), %rax; cmp %rax, 72(%rsp); jb 3f\n"
		"lea last_look_end(%rip), %rax; cmp %rax, 72(%rsp); jae 3f\n"
		"lea last_look(%rip), %rax; mov %rax, 72(%rsp)\n"
		"3: pop %r11; pop %r10; pop %r9; pop %r8; pop %rdi; pop %rsi\n"
		"pop %rdx; pop %rcx; pop %rax; iretq\n"
		"1: mov $" STR(X86_TRAP_MC) ", %edi; xor %esi, %esi\n"
		"mov 72(%rsp), %rdx; call give_up\n");
}

/* IRET to the caller: it is all that unblocks NMIs. */
NAKED void end_nmi(void)
{
	__asm__("mov %rsp, %rax; mov %ss, %edx; push %rdx; push %rax\n"
		"pushf; mov %cs, %edx; push %rdx\n"
		"lea 1f(%rip), %rdx; push %rdx; iretq\n"
		"1: ret\n");
}

/* Any other vector is a bug: say so, let go of the guest, and stay. */
void give_up(u32 vector, u32 error_code, u64 rip)
{
	struct caretaker_ccb *c = &the_ccb;
	struct caretaker_telemetry *t = telemetry(c);
	u64 cr2;

	__asm__ volatile("mov %%cr2, %0" : "=r"(cr2));
	c->vector = t->park_vector = vector;
	c->error_code = t->park_error_code = error_code;
	c->rip = t->park_rip = rip;
	c->cr2 = t->park_cr2 = cr2;
	c->exit_reason = t->park_exit_reason = t->last_exit_reason;
	t->park_valid = 1;
	__asm__ volatile("vmclear %0; vmxoff" ::"m"(c->vmcs_address) : "memory");
	__atomic_store_n(&c->state, CARETAKER_PARKED, __ATOMIC_RELEASE);
	for (;;)
		__asm__ volatile("pause; hlt");
}

/* 16 bytes a vector. */
__attribute__((aligned(16))) NAKED void fault_gates(void)
{
	__asm__(".set v, 0; .rept 32; .balign 16\n"
		".if !(v == 8 || (v >= 10 && v <= 14) || v == 17 || v == 21)\n"
		"push $0; .endif; push $v; jmp 1f; .set v, v + 1; .endr\n"
		"1: mov (%rsp), %edi; mov 8(%rsp), %esi; mov 16(%rsp), %rdx\n"
		"call give_up\n");
}

/* One interrupt a poll: IF stays clear until the next. */
__attribute__((aligned(16))) NAKED void interrupt_gates(void)
{
	__asm__(".set v, 32; .rept 224; .balign 16\n"
		"push $v; jmp 1f; .set v, v + 1; .endr\n"
		"1: push %rax; push %rcx; push %rdx; push %rsi; push %rdi\n"
		"push %r8; push %r9; push %r10; push %r11\n"
		"mov 72(%rsp), %edi; andq $-513, 96(%rsp); call interrupted\n"
		"pop %r11; pop %r10; pop %r9; pop %r8\n"
		"pop %rdi; pop %rsi; pop %rdx; pop %rcx; pop %rax\n"
		"add $8, %rsp; iretq\n");
}

static void gate(u32 vector, u64 to, u32 ist)
{
	idt[vector].low = (to & 0xffff) | 0x08 << 16 | (u64)ist << 32 |
			  0x8eull << 40 | (to >> 16 & 0xffff) << 48;
	idt[vector].high = to >> 32;
}

static void put64(u32 *at, u64 value)
{
	at[0] = (u32)value;
	at[1] = (u32)(value >> 32);
}

long init(struct caretaker_ccb *c)
{
	u64 base = (u64)&tss;
	u32 i;

	if (config(c)->header.magic != CARETAKER_CONFIG_MAGIC ||
	    config(c)->header.version != CARETAKER_CONFIG_VERSION)
		return -22;
	for (i = 0; i < 256; i++)
		gate(i,
		     i < 32 ? (u64)fault_gates + 16 * i :
			      (u64)interrupt_gates + 16 * (i - 32),
		     i < 32 ? 2 : 0);
	gate(X86_TRAP_NMI, (u64)nmi_gate, 1);
	gate(X86_TRAP_MC, (u64)check_gate, 3);
	*(u64 *)nmi_stack = *(u64 *)fault_stack = *(u64 *)check_stack = (u64)c;
	put64(&tss.words[9], (u64)nmi_stack + sizeof(nmi_stack));
	put64(&tss.words[11], (u64)fault_stack + sizeof(fault_stack));
	put64(&tss.words[13], (u64)check_stack + sizeof(check_stack));
	tss.words[25] = 0x680000;
	gdt[1] = 0x00af9b000000ffff;
	gdt[3] = 0x00cf93000000ffff;
	gdt[4] = 0x67 | (base & 0xffffff) << 16 | 0x89ull << 40 |
		 (base >> 24 & 0xff) << 56;
	gdt[5] = base >> 32;
	c->gdt_base = (u64)gdt;
	c->gdt_limit = sizeof(gdt) - 1;
	c->idt_base = (u64)idt;
	c->idt_limit = sizeof(idt) - 1;
	c->tss_base = base;
	c->tss_limit = 0x67;
	c->selector_cs = 0x08;
	c->selector_ss = 0x18;
	c->selector_tr = 0x20;
	c->features = CARETAKER_FEATURE_PREEMPTION_TIMER |
		      CARETAKER_FEATURE_ACK_ON_EXIT |
		      CARETAKER_FEATURE_HLT_ACTIVITY;
	return 0;
}
