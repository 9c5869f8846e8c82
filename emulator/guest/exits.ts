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
import type { AccessKind, GuestAccess } from '../vmx/ept/guest-access.js';
import { guestExit, type GuestExit } from './guest.js';

/** CPUID with EAX = leaf and ECX = subleaf. */
export function cpuid(leaf: number, subleaf = 0): GuestExit {
  const registers = { RAX: BigInt(leaf), RCX: BigInt(subleaf) };
  return guestExit(EXIT_REASON.EXIT_REASON_CPUID, 0n, 2, registers);
}

/** HLT. */
export function hlt(): GuestExit {
  return guestExit(EXIT_REASON.EXIT_REASON_HLT, 0n, 1);
}

/** PAUSE, with PAUSE exiting. */
export function pause(): GuestExit {
  return guestExit(EXIT_REASON.EXIT_REASON_PAUSE_INSTRUCTION, 0n, 2);
}

/** RDTSC, with RDTSC exiting. */
export function rdtsc(): GuestExit {
  return guestExit(EXIT_REASON.EXIT_REASON_RDTSC, 0n, 2);
}

/** RDMSR with ECX = index. */
export function rdmsr(index: number): GuestExit {
  return guestExit(EXIT_REASON.EXIT_REASON_MSR_READ, 0n, 2, { RCX: BigInt(index >>> 0) });
}

/** WRMSR with ECX = index and EDX:EAX = value; a value that is a number is a time or a bit mask below 2^53. */
export function wrmsr(index: number, value: bigint | number): GuestExit {
  const isNumber = typeof value === 'number';
  const registers = {
    RCX: BigInt(index >>> 0),
    RAX: BigInt(isNumber ? value >>> 0 : low32(value)),
    RDX: BigInt(isNumber ? Math.floor(value / 0x1_0000_0000) : high32(value)),
  };
  return guestExit(EXIT_REASON.EXIT_REASON_MSR_WRITE, 0n, 2, registers);
}

/** OUT to an immediate or DX port; `sizeBytes` is 1, 2 or 4. */
export function out(port: number, sizeBytes: 1 | 2 | 4 = 1): GuestExit {
  const qualification = BigInt((sizeBytes - 1) | (port << 16)) & 0xffff_ffffn;
  const registers = { RDX: BigInt(port) };
  return guestExit(EXIT_REASON.EXIT_REASON_IO_INSTRUCTION, qualification, 1, registers);
}

/** A store to a device's doorbell, whose EPT entry is misconfigured on purpose, as KVM does it for MMIO. */
export function doorbell(guestPhysicalAddress: bigint): GuestExit {
  // The length is not architectural; KVM relies on it all the same (vmx.c: skip_emulated_instruction()).
  const exit = guestExit(EXIT_REASON.EXIT_REASON_EPT_MISCONFIG, undefined, 3);
  exit.guestPhysicalAddress = guestPhysicalAddress;
  return exit;
}

/** Access kinds of an EPT violation: bits 0 to 2 of the qualification. */
export const EPT_ACCESS = { read: 1n, write: 2n, fetch: 4n } as const;

/** An access to a page that EPT does not map; the length is undefined. */
export function eptViolation(
  guestPhysicalAddress: bigint,
  guestLinearAddress: bigint,
  access: keyof typeof EPT_ACCESS = 'write',
  delivering: 'nothing' | 'page-fault' = 'nothing',
): GuestExit {
  const linearValidAndTranslated = 0x180n;
  const qualification = EPT_ACCESS[access] | linearValidAndTranslated;
  const exit = guestExit(EXIT_REASON.EXIT_REASON_EPT_VIOLATION, qualification);
  exit.guestPhysicalAddress = guestPhysicalAddress;
  exit.guestLinearAddress = guestLinearAddress;
  if (delivering === 'page-fault') {
    // The guest was pushing the frame of a #PF when its stack's page was found missing.
    exit.idtVectoringInfo = encodeInterruption('HARD_EXCEPTION', VECTOR.PF, { deliverCode: true });
    exit.idtVectoringErrorCode = 2;
  }
  return exit;
}

/** What a kernel reaches a guest-physical address by. */
const DIRECT_MAP = 0xffff_8880_0000_0000n;

/** An access to guest-physical memory, as the nested page tables will see it. */
export function access(gpa: bigint, kind: AccessKind, delivering = 'nothing'): GuestAccess {
  const event =
    delivering === 'page-fault'
      ? {
          idtVectoringInfo: encodeInterruption('HARD_EXCEPTION', VECTOR.PF, { deliverCode: true }),
          idtVectoringErrorCode: 2,
        }
      : {};
  return { gpa, gla: DIRECT_MAP + gpa, kind, ...event };
}

export const store = (gpa: bigint): GuestAccess => access(gpa, 'write');

/** VMCALL. */
export function vmcall(): GuestExit {
  return guestExit(EXIT_REASON.EXIT_REASON_VMCALL, 0n, 3);
}

/** XSETBV with ECX = 0. */
export function xsetbv(value: bigint): GuestExit {
  const registers = { RCX: 0n, RAX: BigInt(low32(value)), RDX: BigInt(high32(value)) };
  return guestExit(EXIT_REASON.EXIT_REASON_XSETBV, 0n, 3, registers);
}

/** A virtualized EOI for a level-triggered vector: trap-like, without a length. */
export function eoiInduced(vector: number): GuestExit {
  return guestExit(EXIT_REASON.EXIT_REASON_EOI_INDUCED, BigInt(vector));
}
