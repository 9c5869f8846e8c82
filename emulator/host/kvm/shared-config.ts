/**
 * Shared Configuration Metadata as KVM fills it for one vCPU: CPUID, MSR policy, exit policy, the other vCPUs.
 *
 * Source: the RFC, "KVM-Caretaker ABI"; CONTRACT ("What the payload handles"); Linux arch/x86/kvm/cpuid.c, lapic.c.
 * Invariant: a reason is handled while attached only when KVM need not see it (vmx_exit_handlers_fastpath() and what
 * has no effect outside the vCPU).
 * Not modelled: KVM_SET_CPUID2 by a VMM; every VM gets the same leaves.
 */
import {
  CARETAKER_CONFIG,
  CARETAKER_CONFIG_MAGIC,
  CARETAKER_CONFIG_VERSION,
  CARETAKER_CPUID_FLAGS,
  CARETAKER_EXIT_POLICY,
  CARETAKER_HLT_POLICY,
  CARETAKER_INTERRUPT_DELIVERY,
  CARETAKER_MSR_ACTION,
} from '../../../abi/config.js';
import { EXIT_REASON, type ExitReasonName } from '../../../abi/exit-reasons.js';
import { StructView } from '../../../abi/layout.js';
import { MSR } from '../../../abi/msrs.js';
import { VMCS_ENCODING, type FieldName } from '../../../abi/vmcs-fields.js';
import { X2APIC, X2APIC_WRITABLE } from '../../../abi/x2apic.js';
import type { PhysicalBytes } from '../../memory/physical-memory.js';

const { SUBLEAF, OSXSAVE, OSPKE, XSAVE_SIZE } = CARETAKER_CPUID_FLAGS;
const { VALUE, VMCS, IGNORE, FAULT } = CARETAKER_MSR_ACTION;

/** One pre-computed CPUID answer. */
export interface CpuidLeaf {
  readonly leaf: number;
  readonly subleaf: number;
  readonly flags: number;
  readonly eax: number;
  readonly ebx: number;
  readonly ecx: number;
  readonly edx: number;
}

/** The leaves of a recent server part, as KVM would present them to a guest. */
// prettier-ignore
const LEAVES: readonly (readonly [leaf: number, subleaf: number, flags: number, eax: number, ebx: number, ecx: number, edx: number])[] = [
  [0x0, 0, 0, 0x16, 0x756e6547, 0x6c65746e, 0x49656e69],
  [0x1, 0, OSXSAVE, 0x806f8, 0x00400800, 0xf6fa3203, 0x0f8bfbff],
  [0x2, 0, 0, 0x00feff01, 0xf0, 0, 0],
  [0x4, 0, SUBLEAF, 0x04000121, 0x02c0003f, 0x3f, 0],
  [0x4, 1, SUBLEAF, 0x04000122, 0x01c0003f, 0x3f, 0],
  [0x4, 2, SUBLEAF, 0x04000143, 0x03c0003f, 0x7ff, 0],
  [0x4, 3, SUBLEAF, 0x04000163, 0x03c0003f, 0x3fff, 4],
  [0x6, 0, 0, 4, 0, 0, 0],
  [0x7, 0, SUBLEAF | OSPKE, 2, 0xf1bf27eb, 0x1b415f5e, 0xbc814410],
  [0x7, 1, SUBLEAF, 0x1c30, 0, 0, 0],
  [0x7, 2, SUBLEAF, 0, 0, 0, 0x17],
  [0xb, 0, SUBLEAF, 0, 1, 0x100, 0],
  [0xb, 1, SUBLEAF, 6, 0x40, 0x201, 0],
  [0xd, 0, SUBLEAF | XSAVE_SIZE, 0x2e7, 0xa88, 0xa88, 0],
  [0xd, 1, SUBLEAF, 0xf, 0, 0, 0],
  [0x15, 0, 0, 2, 0xa0, 25_000_000, 0],
  [0x16, 0, 0, 0x7d0, 0xed8, 0x64, 0],
  [0x4000_0000, 0, 0, 0x4000_0001, 0x4b4d564b, 0x564b4d56, 0x4d],
  [0x4000_0001, 0, 0, 0x01007afb, 0, 0, 0],
  [0x8000_0000, 0, 0, 0x8000_0008, 0, 0, 0],
  [0x8000_0001, 0, 0, 0, 0, 0x121, 0x2c100800],
  [0x8000_0008, 0, 0, 0x302e, 0x200, 0, 0],
];

/** Leaves that carry the vCPU's x2APIC id in EDX or EBX[31:24]. */
const TOPOLOGY_LEAF = 0xb;
const FEATURE_LEAF = 1;

/** The leaves of one vCPU. */
export function cpuidLeaves(apicId: number): readonly CpuidLeaf[] {
  return LEAVES.map(([leaf, subleaf, flags, eax, ebx, ecx, edx]) => ({
    leaf,
    subleaf,
    flags,
    eax,
    ebx: leaf === FEATURE_LEAF ? ((ebx & 0x00ff_ffff) | (apicId << 24)) >>> 0 : ebx,
    ecx,
    edx: leaf === TOPOLOGY_LEAF ? apicId : edx,
  }));
}

/** What the payload does with guest accesses to an MSR. */
interface MsrPolicy {
  readonly index: number;
  readonly read: number;
  readonly write: number;
  readonly field?: FieldName;
  readonly writable?: bigint;
  /** What a read finds before the guest has written. */
  readonly initial?: bigint;
}

const ALL = 0xffff_ffff_ffff_ffffn;
const bitsOf = (index: number): bigint => X2APIC_WRITABLE.get(index)!;

/** The policy in table order; soft state keeps the value of entry n in msr_value[n]. */
export function msrPolicy(): readonly MsrPolicy[] {
  return [
    { index: MSR.IA32_TSC_DEADLINE, read: VALUE, write: VALUE, writable: ALL },
    { index: X2APIC.EOI, read: FAULT, write: VALUE, writable: bitsOf(X2APIC.EOI) },
    { index: X2APIC.ICR, read: VALUE, write: VALUE, writable: bitsOf(X2APIC.ICR) },
    { index: X2APIC.TPR, read: VALUE, write: VALUE, writable: bitsOf(X2APIC.TPR) },
    { index: X2APIC.SELF_IPI, read: FAULT, write: VALUE, writable: bitsOf(X2APIC.SELF_IPI) },
    { index: X2APIC.APICID, read: VALUE, write: FAULT },
    { index: X2APIC.LVT_TIMER, read: VALUE, write: VALUE, writable: bitsOf(X2APIC.LVT_TIMER) },
    {
      index: MSR.IA32_SYSENTER_CS,
      read: VMCS,
      write: VMCS,
      field: 'GUEST_SYSENTER_CS',
      writable: 0xffff_ffffn,
    },
    {
      index: MSR.IA32_SYSENTER_ESP,
      read: VMCS,
      write: VMCS,
      field: 'GUEST_SYSENTER_ESP',
      writable: ALL,
    },
    {
      index: MSR.IA32_SYSENTER_EIP,
      read: VMCS,
      write: VMCS,
      field: 'GUEST_SYSENTER_EIP',
      writable: ALL,
    },
    { index: MSR.IA32_BIOS_SIGN_ID, read: VALUE, write: IGNORE, initial: 0x2b00_05c0_0000_0000n },
    { index: MSR.IA32_MISC_ENABLE, read: VALUE, write: VALUE, writable: 0x44_0009n, initial: 1n },
  ];
}

const BOTH = CARETAKER_EXIT_POLICY.HANDLE_ATTACHED | CARETAKER_EXIT_POLICY.HANDLE_DETACHED;
const GAP = CARETAKER_EXIT_POLICY.HANDLE_DETACHED;

/** Reasons that the payload answers, and when; all others are routed or block. */
export const EXIT_POLICY: Readonly<Partial<Record<ExitReasonName, number>>> = {
  EXIT_REASON_CPUID: BOTH,
  EXIT_REASON_HLT: BOTH,
  EXIT_REASON_MSR_READ: BOTH,
  EXIT_REASON_MSR_WRITE: BOTH,
  EXIT_REASON_RDTSC: BOTH,
  EXIT_REASON_RDTSCP: BOTH,
  EXIT_REASON_PAUSE_INSTRUCTION: BOTH,
  EXIT_REASON_INTERRUPT_WINDOW: BOTH,
  EXIT_REASON_NMI_WINDOW: BOTH,
  EXIT_REASON_PREEMPTION_TIMER: BOTH,
  EXIT_REASON_EXTERNAL_INTERRUPT: GAP,
  EXIT_REASON_EXCEPTION_NMI: GAP,
};

/** Another vCPU of the VM, as one of them finds it. */
export interface Peer {
  readonly vcpuId: number;
  readonly apicId: number;
  readonly physicalApicId: number;
  readonly softStateAddress: bigint;
}

/** What differs from vCPU to vCPU and from VM to VM. */
export interface SharedConfigSettings {
  readonly apicId: number;
  readonly peers: readonly Peer[];
  readonly tscFrequencyHz: number;
  readonly tscOffset: bigint;
  readonly preemptionTimerShift: number;
  readonly notificationVector: number;
  readonly hltPolicy: keyof typeof CARETAKER_HLT_POLICY;
  /** The virtual-APIC page where the processor delivers virtual interrupts, null where the payload does. */
  readonly virtualApic: bigint | null;
  readonly irqRoutes: readonly { hostVector: number; guestVector: number; vcpuId: number }[];
}

/** Writes the configuration of one vCPU at `address`, 8 KiB of zeroed memory. */
export function writeSharedConfig(
  bytes: PhysicalBytes,
  address: bigint,
  settings: SharedConfigSettings,
): void {
  const view = new StructView(CARETAKER_CONFIG, bytes, address);
  const rows = (name: string, list: readonly Readonly<Record<string, number | bigint>>[]): void => {
    list.forEach((row, index) => {
      for (const [field, value] of Object.entries(row))
        view.set(`${name}[${index}].${field}`, value);
    });
  };
  const leaves = cpuidLeaves(settings.apicId);
  const policy = msrPolicy();
  view.set('header.magic', CARETAKER_CONFIG_MAGIC);
  view.set('header.version', CARETAKER_CONFIG_VERSION);
  view.set('header.size', CARETAKER_CONFIG.sizeBytes);
  view.set('cpuid_count', leaves.length);
  view.set('cpuid_max_basic', 0x16);
  view.set('cpuid_max_extended', 0x8000_0008);
  view.set('msr_count', policy.length);
  view.set('vcpu_count', settings.peers.length);
  view.set('irq_route_count', settings.irqRoutes.length);
  view.set('hlt_policy', CARETAKER_HLT_POLICY[settings.hltPolicy]);
  view.set('preemption_timer_shift', settings.preemptionTimerShift);
  view.set('tsc_frequency', settings.tscFrequencyHz);
  view.set('tsc_offset', settings.tscOffset);
  view.set('tsc_multiplier', 1n << 48n);
  view.set('notification_vector', settings.notificationVector);
  view.set('xsave_size', 0xa88);
  if (settings.virtualApic !== null) {
    view.set('interrupt_delivery', CARETAKER_INTERRUPT_DELIVERY.PROCESSOR);
    view.set('virtual_apic_address', settings.virtualApic);
  }
  for (const [reason, bits] of Object.entries(EXIT_POLICY)) {
    view.set(`exit_policy[${EXIT_REASON[reason as ExitReasonName]}]`, bits);
  }
  rows(
    'cpuid',
    leaves.map((leaf) => ({ ...leaf })),
  );
  rows(
    'msr',
    policy.map(({ index, read, write, field, writable }) => ({
      index,
      read_action: read,
      write_action: write,
      vmcs_field: field === undefined ? 0 : VMCS_ENCODING[field],
      writable: writable ?? 0n,
    })),
  );
  rows(
    'vcpu',
    settings.peers.map((peer) => ({
      vcpu_id: peer.vcpuId,
      apic_id: peer.apicId,
      physical_apic_id: peer.physicalApicId,
      soft_state_address: peer.softStateAddress,
    })),
  );
  rows(
    'irq_route',
    settings.irqRoutes.map((route) => ({
      host_vector: route.hostVector,
      guest_vector: route.guestVector,
      vcpu_id: route.vcpuId,
    })),
  );
}
