// SPDX-License-Identifier: GPL-2.0
/* MSRs and VMX instructions, whose failures are answers. */
#include "monitor.h"

int read_msr(u32 index, u64 *value)
{
	u32 low, high, failed;

	asm volatile("movq $1f, fixup_rip\n\tmovl $1, %0\n\trdmsr\n\t"
		     "xorl %0, %0\n1:\tmovq $0, fixup_rip"
		     : "=&r"(failed), "=a"(low), "=d"(high)
		     : "c"(index)
		     : "memory");
	*value = (u64)high << 32 | low;
	return !failed;
}

int write_msr(u32 index, u64 value)
{
	u32 failed;

	asm volatile("movq $1f, fixup_rip\n\tmovl $1, %0\n\twrmsr\n\t"
		     "xorl %0, %0\n1:\tmovq $0, fixup_rip"
		     : "=&r"(failed)
		     : "c"(index), "a"((u32)value), "d"((u32)(value >> 32))
		     : "memory");
	return !failed;
}

u64 msr_or_zero(u32 index)
{
	u64 value;

	return read_msr(index, &value) ? value : 0;
}

u32 vmwrite(u64 field, u64 value)
{
	return VMX_INSTRUCTION("vmwrite %2, %1", "r"(field), "r"(value));
}

u64 vmread(u64 field)
{
	u64 value = 0;

	asm volatile("vmread %1, %0" : "=rm"(value) : "r"(field) : "cc");
	return value;
}

u32 vmclear(u64 address)
{
	return VMX_INSTRUCTION("vmclear %1", "m"(address));
}

u32 vmptrld(u64 address)
{
	return VMX_INSTRUCTION("vmptrld %1", "m"(address));
}

u32 vmxon(u64 address)
{
	return VMX_INSTRUCTION("vmxon %1", "m"(address));
}
