/**
 * The mutants: what each gets wrong, the trial that shows it, the invariant that must name it, and what it must say.
 *
 * Source: DESIGN ("Invariants"). A row is NAME of patches/NAME.patch, or NAME of another row's patch under a second trial.
 */
import type { InvariantId } from '../../emulator/vmx/stop-reason.js';
import type { TrialName } from './scenarios.js';

/** One fault. */
export interface Mutant {
  readonly patch: string;
  readonly invariant: InvariantId;
  /** The register, field or fault that the finding names. */
  readonly says: RegExp;
  readonly trial: TrialName;
}

type Row = readonly [patch: string, invariant: InvariantId, says: RegExp, trial?: TrialName];

// prettier-ignore
const ROWS: readonly Row[] = [
  ['r12-clobbered', 'guest-registers', /R12 is/],
  ['r9-not-saved', 'guest-registers', /R9 is 0x0/],
  ['xmm-used', 'guest-registers', /PXOR uses/],
  ['x87-used', 'guest-registers', /uses x87/],
  ['cpuid-subleaf-ignored', 'guest-registers', /leaf 0x7\.0x1 gave RAX/],
  ['cpuid-past-the-maximum', 'guest-registers', /leaf 0x77\.0x0 gave RAX/],
  ['vectors-restored-with-others', 'guest-registers', /FXRSTOR64 changed XMM/],
  ['stopped-with-a-wrong-register', 'guest-registers', /stopped with RBX/, 'stops'],
  ['register-outputs-wide', 'guest-registers', /RAX .* upper half/],

  ['run-with-another-r12', 'guest-registers', /run .*R12 is 0x1234 at VM entry/, 'stops'],
  ['launch-with-another-rax', 'guest-registers', /run .*RAX is 0x5 at VM entry/, 'stops'],
  ['run-advances-rip', 'rip', /run .*GUEST_RIP is/, 'stops'],
  ['run-writes-guest-rsp', 'vmcs-writes', /run .*VMWRITE to GUEST_RSP/, 'stops'],
  ['run-leaks-a-host-msr', 'host-state', /run .*MSR 0xc0000082/, 'stops'],
  ['run-writes-what-is-kvms', 'ownership', /run .*ccb\.vcpu_id/, 'stops'],
  ['run-forgets-the-event', 'event-reinjected', /run .*the injection field has/, 'stops'],

  ['msr-value-inverted', 'guest-registers', /MSR 0x.* is not what/],
  ['task-priority-dropped', 'guest-registers', /MSR 0x808 was written/],

  ['rip-advanced-twice', 'rip', /GUEST_RIP is/],
  ['rip-not-advanced', 'rip', /PAUSE_INSTRUCTION.*GUEST_RIP is/],
  ['rip-advanced-on-blocked-exit', 'rip', /EPT_VIOLATION.*handed to KVM/],
  ['stopped-past-the-instruction', 'rip', /stopped with GUEST_RIP/, 'stops'],
  ['mov-ss-shadow-left', 'rip', /STI or MOV SS shadow/],
  ['gp-of-a-wrmsr-swallowed', 'rip', /the policy has #GP\(0\) for MSR 0x808/],
  ['interrupt-shadow-left', 'rip', /STI or MOV SS shadow/],
  ['single-step-lost', 'rip', /single-step trap/],
  ['debug-trap-displaced', 'rip', /a debug trap is pending, and vector 99 is injected/],
  ['fault-for-cpuid', 'rip', /CPUID.*gets exception 13/],
  ['hlt-as-nop', 'rip', /HLT.*activity state is 0/],
  ['pause-as-hlt', 'rip', /PAUSE.*activity state is 1/],
  ['nmi-blocking-set', 'rip', /interruptibility is 0x8/],

  ['flag-written', 'isolation', /vector 14 accessing/],
  ['flag-written', 'ownership', /ccb\.attach_state/, 'live-update-shared'],
  ['host-tables-in-the-gap', 'isolation', /VM entry comes from the tables at/, 'stops'],
  ['old-kernel-read-in-the-gap', 'isolation', /EPT_VIOLATION.*vector 14 accessing/],
  ['old-kernel-read-in-the-gap', 'isolation', /EPT_VIOLATION.*vector 14 accessing/, 'live-update-shared'],
  ['ept-repaired-in-the-gap', 'isolation', /EPT_VIOLATION.*vector 14 accessing/],
  ['pointer-before-flag', 'no-routing-while-detached', /pointer was loaded before the flag/],
  ['pointer-before-flag', 'no-routing-while-detached', /pointer was loaded before the flag/, 'live-update-shared'],
  ['routed-without-flag', 'no-routing-while-detached', /while KVM_DETACHED/, 'many-stalls'],
  ['routed-without-flag', 'isolation', /tables at .* map nothing/],
  ['unpreserved-vmcs-pointer', 'reachable-preserved', /VIRTUAL_APIC_PAGE_ADDR at 0x1000/],
  ['unpreserved-pointer-in-the-gap', 'reachable-preserved', /VIRTUAL_APIC_PAGE_ADDR was set to 0x1000/],
  ['wrong-vmcs-field', 'vmcs-writes', /GUEST_RSP/],
  ['vmcs-cleared-in-an-exit', 'no-lost-exit', /PAUSE_INSTRUCTION.*no current VMCS/],
  ['vmcs-cleared-while-it-waits', 'no-lost-exit', /EPT_VIOLATION.*no current VMCS/],

  ['counter-of-another-outcome', 'telemetry', /EPT_VIOLATION blocked is 0/],
  ['counter-total-wrong', 'telemetry', /total fastpath/],
  ['counted-twice-after-a-stall', 'telemetry', /EPT_VIOLATION routed/],
  ['stall-time-wrong', 'telemetry', /stall record says .* ticks/],
  ['stall-without-a-record', 'telemetry', /stall records written or dropped is 0/],
  ['ring-wrap-off-by-one', 'telemetry', /stall record says/, 'many-stalls'],
  ['qualification-not-recorded', 'telemetry', /last_qualification is not the exit's/],
  ['exit-time-not-recorded', 'telemetry', /last_tsc is 0/],
  ['stall-without-its-qualification', 'telemetry', /the stall record's qualification/],
  ['stall-with-another-rip', 'telemetry', /the stall record's RIP/],
  ['stall-time-not-summed', 'telemetry', /stall_tsc is 0/],
  ['stray-interrupt-not-counted', 'telemetry', /stray_interrupts moved by 0/, 'stray-events'],
  ['ring-overwrites', 'telemetry', /overwrote one that nobody has read/, 'many-stalls'],

  ['nmis-left-blocked', 'nmi', /NMIs are still blocked/],
  ['host-nmi-forgotten', 'nmi', /not handed to KVM/, 'stray-events'],
  ['host-nmi-as-an-exit', 'no-routing-while-detached', /routed with RDX 0x0/, 'stray-events'],
  ['host-machine-check-swallowed', 'nmi', /machine check of the host's was not handed to KVM/, 'stray-events'],
  ['mcip-left-set', 'nmi', /MCIP is left set/, 'stray-events'],
  ['machine-check-banks-ignored', 'no-lost-exit', /answered .*the specification allows blocked, or parked/, 'machine-check'],
  ['machine-check-banks-ignored', 'nmi', /went on after a machine check that destroyed/, 'machine-check'],
  ['action-required-forgotten', 'no-lost-exit', /answered .*the specification allows blocked, or parked/, 'machine-check'],
  ['nmi-counted-twice', 'nmi', /telemetry\.nmis moved by 2/, 'stray-events'],
  ['machine-check-survived-inside-an-nmi', 'nmi', /frame on its interrupt stack was overwritten/, 'machine-check'],
  ['park-record-of-the-guest', 'telemetry', /telemetry\.park_rip is/, 'payload-fault'],
  ['parked-with-its-vmcs', 'preserved', /says PARKED without VMCLEAR/, 'payload-fault'],
  ['nmi-ends-the-wait', 'no-lost-exit', /blocked, and then resumed/],
  ['blocked-exit-resumed', 'no-lost-exit', /EPT_VIOLATION.*blocked, and then left for a host event/],
  ['answered-against-policy', 'no-lost-exit', /IO_INSTRUCTION.*the specification allows routed/],
  ['event-not-reinjected', 'event-reinjected', /soft state has 0x0/],
  ['stopped-without-the-event', 'event-reinjected', /soft state has 0x0/, 'stops'],
  ['event-error-code-lost', 'event-reinjected', /error code/],
  ['stack-imbalance-on-an-error-path', 'stack', /RSP is/, 'stray-events'],
  ['return-address-changed', 'stack', /EXCEPTION_NMI.*vector 21: RET to another address/, 'shadow-stack'],
  ['shadow-frame-left', 'stack', /vector 21 \(#CP, error code 2\)/, 'shadow-stack'],
  ['routed-with-a-word-pushed', 'stack', /routed with RSP/],
  ['stopped-in-vmx', 'preserved', /core 1, which ran vCPU 0, is workload with VMX root/, 'feature-mismatch'],
  ['timer-not-among-its-features', 'vmcs-writes', /arms the preemption timer, which the features/],
  ['spin-without-pause', 'bounded', /no end after/],
  ['stopped-without-vmclear', 'preserved', /without VMCLEAR/, 'stops'],
  ['int3-in-the-payload', 'no-lost-exit', /vector 3 at .*parked; the specification allows/],
  ['kernel-gs-base-leaked', 'host-state', /MSR 0xc0000102/],
  ['xcr0-left', 'host-state', /XCR0 changed/],
  ['host-timer-restored-when-armed-only', 'host-state', /local APIC's LVT_TIMER/, 'halt-in-root'],
  ['host-msr-leaked', 'host-state', /MSR 0xc0000082/],
  ['task-priority-leaked', 'host-state', /task priority/],
  ['cr2-clobbered', 'host-state', /CR2 changed/],
  ['dr0-clobbered', 'host-state', /DR0 changed/],

  ['virtual-eoi-for-physical', 'interrupts', /physical vector .* still in service/],
  ['physical-eoi-for-virtual', 'interrupts', /physical EOI .* nothing in service/],
  ['eoi-for-the-spurious-vector', 'interrupts', /nothing in service/, 'stray-events'],
  ['physical-eoi-twice', 'interrupts', /physical EOI .* nothing in service/],
  ['virtual-eoi-twice', 'interrupts', /virtual vector .* is not in service/],
  ['self-ipi-dropped', 'interrupts', /vector 97 was asserted/],
  ['ipi-without-a-kick', 'interrupts', /was not kicked/],
  ['logical-destination-as-physical', 'interrupts', /vector 101 was asserted/, 'ipi'],
  ['ipi-to-all-but-self-to-all', 'interrupts', /vector 105 delivered \d+ times, asserted 0/, 'ipi'],
  ['lowest-priority-to-all', 'interrupts', /lowest-priority IPI waits at 2 vCPUs/, 'ipi'],
  ['nmi-to-a-guest-dropped', 'interrupts', /vector 2 was asserted/, 'ipi'],
  ['device-interrupt-dropped', 'interrupts', /vector 81 was asserted/],
  ['route-of-another-vector', 'completions', /queue 0 .* vector 0x52 has not come/, 'irq-fallback'],
  ['route-to-whoever-took-it', 'completions', /queue 1 .* vector 0x53 has not come/, 'irq-fallback'],
  ['virtual-eoi-for-physical', 'interrupts', /physical vector .* still in service/, 'irq-fallback'],
  ['ipi-without-a-kick', 'interrupts', /EXTERNAL_INTERRUPT.*was not kicked/, 'irq-fallback'],
  ['device-dropped-while-halted', 'completions', /queue . .*has not come/, 'irq-fallback-halted'],
  ['spin-with-interrupts-off', 'completions', /vCPU 0 .*queue 4 .* vector 0x56 has not come/, 'irq-fallback'],
  ['window-not-asked-for', 'interrupts', /interrupt-window exiting is 0 and vector \d+ waits/, 'irq-fallback'],
  ['descriptor-not-merged', 'completions', /vCPU 3 .* vector 0x56 has not come/, 'posted-interrupts'],
  ['notification-left-outstanding', 'completions', /vector 0x5[0-9a-f] has not come/, 'posted-interrupts-halted'],
  ['rvi-not-raised', 'interrupts', /RVI is .* the highest vector in VIRR/, 'posted-interrupts'],
  ['request-left-in-soft-state', 'interrupts', /waits in soft state, where the processor does not look/, 'posted-interrupts'],
  ['interrupt-injected-twice', 'interrupts', /delivered \d+ times, asserted/],

  ['lowest-vector-first', 'interrupts', /vector 98 is injected before vector 146/],
  ['priority-ignored', 'interrupts', /vector 98 is injected at processor priority 144/],
  ['window-for-what-is-masked', 'interrupts', /interrupt-window exiting is 1 and nothing waits/],
  ['nmi-window-forgotten', 'interrupts', /NMI-window exiting is 0 and vector 2 waits/, 'ipi'],
  ['apic-reads-of-other-registers', 'guest-registers', /MSR 0x814 reads as 0x0, should be 0x40000/],
  ['apic-reads-of-other-registers', 'guest-registers', /MSR 0x823 reads as/],
  ['apic-reads-of-other-registers', 'guest-registers', /MSR 0x80a reads as 0x0, should be 0x90/],
  ['apic-reads-of-other-registers', 'guest-registers', /MSR 0x80d reads as 0x0, should be 0x1/],
  ['any-write-of-the-timer-disarms', 'time', /dropped before it was due|deadline is TSC/],
  ['mode-change-does-not-disarm', 'time', /should be none/],
  ['shadow-ended-by-a-routed-exit', 'rip', /GUEST_INTERRUPTIBILITY_INFO changed from 0x2 to 0x0/],
  ['runs-while-it-spins', 'ownership', /ccb\.state is RUNNING, should be SPINNING/],
  ['registers-left-valid', 'ownership', /registers_valid is set at VM entry/],

  ['past-deadline-lost', 'time', /passed without its interrupt|should be/],
  ['tsc-of-another-time', 'time', /gave host TSC/],
  ['timer-never-armed', 'time', /preemption timer ends at Infinity/],
  ['timer-without-the-shift', 'time', /preemption timer ends at/],
];

/** All of them. */
export const MUTANTS: readonly Mutant[] = ROWS.map(
  ([patch, invariant, says, trial = 'live-update']) => ({ patch, invariant, says, trial }),
);
