// SPDX-License-Identifier: GPL-2.0-only
/*
 * A payload that its guest has taken over, for the scenario of that name: a
 * VMCALL with the magic in RAX has it do to the address in RBX what RCX says,
 * and leaves what was found there in RBX. Linked over the objects of the
 * reference payload with --wrap; nothing of them is changed.
 */
#include "caretaker.h"
#include "cpu.h"
#include "trap.h"

#define ATTACK_MAGIC 0x64656b636174746bull

enum attack {
	ATTACK_READ,
	ATTACK_WRITE,
	ATTACK_READ_BY_OWN_TABLES,
	ATTACK_WRITE_UNPROTECTED,
};

#define X86_CR0_WP (1ull << 16)

#define PTE_PRESENT	(1ull << 0)
#define PTE_WRITABLE	(1ull << 1)
#define PTE_LARGE	(1ull << 7)
#define PTE_NX		(1ull << 63)
#define PTE_TABLE	(PTE_PRESENT | PTE_WRITABLE)
#define PTE_DATA	(PTE_PRESENT | PTE_WRITABLE | PTE_NX)
#define PAGE_BYTES	0x1000ull
#define LARGE_BYTES	0x200000ull
#define ENTRIES		512
/* 128 MiB are enough for any of this machine's secrets. */
#define LARGE_PAGES	64

u64 __real_caretaker_dispatch(struct caretaker_ccb *ccb);
u64 __wrap_caretaker_dispatch(struct caretaker_ccb *ccb);

static u64 level4[ENTRIES] __attribute__((aligned(4096)));
static u64 level3[ENTRIES] __attribute__((aligned(4096)));
static u64 level2[ENTRIES] __attribute__((aligned(4096)));
static u64 level1[ENTRIES] __attribute__((aligned(4096)));

static u64 read_cr0(void)
{
	u64 value;

	__asm__ volatile("mov %%cr0, %0" : "=r"(value));
	return value;
}

static void write_cr0(u64 value)
{
	__asm__ volatile("mov %0, %%cr0" ::"r"(value) : "memory");
}

static u64 read_cr3(void)
{
	u64 value;

	__asm__ volatile("mov %%cr3, %0" : "=r"(value));
	return value;
}

static void write_cr3(u64 value)
{
	__asm__ volatile("mov %0, %%cr3" ::"r"(value) : "memory");
}

/*
 * All of memory, writable, in pages of 2 MiB; the one with this code in it in
 * small pages, those of the text executable instead. This is the last of the
 * text that is linked.
 */
static void build_tables(void)
{
	u64 text = (u64)caretaker_trap_stubs & ~(PAGE_BYTES - 1);
	u64 region = text & ~(LARGE_BYTES - 1);
	u64 page = region | PTE_DATA;
	u32 i;

	level4[0] = (u64)level3 | PTE_TABLE;
	level3[0] = (u64)level2 | PTE_TABLE;
	for (i = 0; i < LARGE_PAGES; i++)
		level2[i] = i * LARGE_BYTES | PTE_DATA | PTE_LARGE;
	level2[region / LARGE_BYTES] = (u64)level1 | PTE_TABLE;
	for (i = 0; i < ENTRIES; i++, page += PAGE_BYTES)
		level1[i] = page;
	for (; text <= (u64)__wrap_caretaker_dispatch; text += PAGE_BYTES)
		level1[(text - region) / PAGE_BYTES] = text | PTE_PRESENT;
}

/* Ring 0 may load what tables it likes: CR3 has no guard in VMX root. */
static u64 read_by_own_tables(const volatile u64 *address)
{
	u64 cr3 = read_cr3(), found;

	build_tables();
	write_cr3((u64)level4);
	found = *address;
	write_cr3(cr3);
	return found;
}

/* Writes back what it reads: that it may is enough to show. */
static u64 write_same(volatile u64 *address)
{
	u64 found = *address;

	*address = found;
	return found;
}

static u64 write_unprotected(volatile u64 *address)
{
	u64 cr0 = read_cr0(), found;

	write_cr0(cr0 & ~X86_CR0_WP);
	found = write_same(address);
	write_cr0(cr0);
	return found;
}

static u64 attack(u64 how, volatile u64 *address)
{
	switch (how) {
	case ATTACK_READ:
		return *address;
	case ATTACK_WRITE:
		return write_same(address);
	case ATTACK_READ_BY_OWN_TABLES:
		return read_by_own_tables(address);
	case ATTACK_WRITE_UNPROTECTED:
		return write_unprotected(address);
	default:
		return 0;
	}
}

u64 __wrap_caretaker_dispatch(struct caretaker_ccb *ccb)
{
	u64 *registers = ccb->registers;

	if ((u32)vmread(VM_EXIT_REASON) == EXIT_REASON_VMCALL &&
	    registers[CARETAKER_RAX] == ATTACK_MAGIC)
		registers[CARETAKER_RBX] =
			attack(registers[CARETAKER_RCX],
			       (volatile u64 *)registers[CARETAKER_RBX]);
	return __real_caretaker_dispatch(ccb);
}
