/**
 * The exits that a guest's instructions cause, one function a kind: registers, qualification, length as hardware
 * reports them.
 *
 * Source: SDM, "Exit Qualification for ...", "Information for VM Exits Due to Instruction Execution"; Linux
 * arch/x86/kvm/vmx/vmx.c: kvm_vmx_exit_handlers.
 * Invariant: what the architecture leaves undefined for a reason is absent.
 */
import { EXIT_REASON } from '../../abi/exit-reasons.js';
import { encodeInterruption, VECTOR } from '../../abi/interruption.js';
import { high32, low32 } from '../../abi/uint.js';
import type { GuestExit } from './guest.js';

/** CPUID with EAX = leaf and ECX = subleaf. */
export function cpuid(leaf: number, subleaf = 0): GuestExit {
  return {
    basic: EXIT_REASON.EXIT_REASON_CPUID,
    qualification: 0n,
    instructionLength: 2,
    registers: { RAX: BigInt(leaf), RCX: BigInt(subleaf) },
  };
}

/** HLT. */
export function hlt(): GuestExit {
  return { basic: EXIT_REASON.EXIT_REASON_HLT, qualification: 0n, instructionLength: 1 };
}

/** PAUSE, with PAUSE exiting. */
export function pause(): GuestExit {
  return {
    basic: EXIT_REASON.EXIT_REASON_PAUSE_INSTRUCTION,
    qualification: 0n,
    instructionLength: 2,
  };
}

/** RDTSC, with RDTSC exiting. */
export function rdtsc(): GuestExit {
  return { basic: EXIT_REASON.EXIT_REASON_RDTSC, qualification: 0n, instructionLength: 2 };
}

/** RDMSR with ECX = index. */
export function rdmsr(index: number): GuestExit {
  return {
    basic: EXIT_REASON.EXIT_REASON_MSR_READ,
    qualification: 0n,
    instructionLength: 2,
    registers: { RCX: BigInt(index >>> 0) },
  };
}

/** WRMSR with ECX = index and EDX:EAX = value. */
export function wrmsr(index: number, value: bigint): GuestExit {
  return {
    basic: EXIT_REASON.EXIT_REASON_MSR_WRITE,
    qualification: 0n,
    instructionLength: 2,
    registers: { RCX: BigInt(index >>> 0), RAX: BigInt(low32(value)), RDX: BigInt(high32(value)) },
  };
}

/** OUT to an immediate or DX port; `sizeBytes` is 1, 2 or 4. */
export function out(port: number, sizeBytes: 1 | 2 | 4 = 1): GuestExit {
  return {
    basic: EXIT_REASON.EXIT_REASON_IO_INSTRUCTION,
    qualification: BigInt((sizeBytes - 1) | (port << 16)) & 0xffff_ffffn,
    instructionLength: 1,
    registers: { RDX: BigInt(port) },
  };
}

/** A store to a device's doorbell, whose EPT entry is misconfigured on purpose, as KVM does it for MMIO. */
export function doorbell(guestPhysicalAddress: bigint): GuestExit {
  return {
    basic: EXIT_REASON.EXIT_REASON_EPT_MISCONFIG,
    // Not architectural; KVM relies on it all the same (vmx.c: skip_emulated_instruction()).
    instructionLength: 3,
    guestPhysicalAddress,
  };
}

/** Access kinds of an EPT violation: bits 0 to 2 of the qualification. */
export const EPT_ACCESS = { read: 1n, write: 2n, fetch: 4n } as const;

/** The guest was pushing the frame of a #PF when its stack's page was found missing. */
const DELIVERING_PAGE_FAULT = {
  idtVectoringInfo: encodeInterruption('HARD_EXCEPTION', VECTOR.PF, { deliverCode: true }),
  idtVectoringErrorCode: 2,
} as const;

/** An access to a page that EPT does not map; the length is undefined. */
export function eptViolation(
  guestPhysicalAddress: bigint,
  guestLinearAddress: bigint,
  access: keyof typeof EPT_ACCESS = 'write',
  delivering: 'nothing' | 'page-fault' = 'nothing',
): GuestExit {
  const linearValidAndTranslated = 0x180n;
  return {
    ...(delivering === 'page-fault' ? DELIVERING_PAGE_FAULT : {}),
    basic: EXIT_REASON.EXIT_REASON_EPT_VIOLATION,
    qualification: EPT_ACCESS[access] | linearValidAndTranslated,
    guestPhysicalAddress,
    guestLinearAddress,
  };
}

/** VMCALL. */
export function vmcall(): GuestExit {
  return { basic: EXIT_REASON.EXIT_REASON_VMCALL, qualification: 0n, instructionLength: 3 };
}

/** XSETBV with ECX = 0. */
export function xsetbv(value: bigint): GuestExit {
  return {
    basic: EXIT_REASON.EXIT_REASON_XSETBV,
    qualification: 0n,
    instructionLength: 3,
    registers: { RCX: 0n, RAX: BigInt(low32(value)), RDX: BigInt(high32(value)) },
  };
}

/** A virtualized EOI for a level-triggered vector: trap-like, without a length. */
export function eoiInduced(vector: number): GuestExit {
  return { basic: EXIT_REASON.EXIT_REASON_EOI_INDUCED, qualification: BigInt(vector) };
}
