/**
 * One vCPU in one kernel's KVM, with the Caretaker that is interposed on it or attached to it.
 *
 * States: `created` -> `running` (the core is in the guest or in the payload, KVM_ATTACHED) <-> `in-kvm` (routed, or
 * stopped by a kick) -> `detached` (its core runs it alone) -> `adopting` (KVM_ATTACHED again, first exit not yet
 * seen) -> `running`. A kernel that finds the payload parked has it `parked` until there is another instance. `dead` is
 * final.
 * Source: CONTRACT ("Instance", "Entry points", "Who flips, and when"); Linux arch/x86/kvm/vmx/vmx.c: vmx_vcpu_run().
 * Invariant: KVM_DETACHED is written only in state in-kvm; routing pointers and epoch before KVM_ATTACHED.
 */
import {
  CARETAKER_ATTACH_STATE,
  CARETAKER_CCB,
  CARETAKER_REQUEST,
  CARETAKER_RUN_STATE,
} from '../../../abi/ccb.js';
import { offsetsOf, StructView } from '../../../abi/layout.js';
import {
  CARETAKER_SOFT_STATE,
  CARETAKER_SOFT_STATE_MAGIC,
  CARETAKER_SOFT_STATE_VERSION,
} from '../../../abi/soft-state.js';
import {
  CARETAKER_TELEMETRY,
  CARETAKER_TELEMETRY_MAGIC,
  CARETAKER_TELEMETRY_VERSION,
} from '../../../abi/telemetry.js';
import { CARETAKER_CONFIG } from '../../../abi/config.js';
import type { LoadedImage } from '../../../loader/place.js';
import type { IdentityRange } from '../../memory/page-tables.js';
import type { PhysicalMemory } from '../../memory/physical-memory.js';
import { msrPolicy } from './shared-config.js';
import { shadowStackTop, writeShadowStacks } from './shadow-stacks.js';
import { STACK_BYTES, type VcpuMemory } from './vcpu-memory.js';

/** Where a vCPU is in its life. */
export type VcpuState =
  'created' | 'running' | 'in-kvm' | 'detached' | 'adopting' | 'parked' | 'dead';

/** What running a vCPU changes in it; the rest changes with the structure of the host. */
export type KvmVcpuState = Pick<
  KvmVcpu,
  'state' | 'pcpu' | 'kernelStack' | 'vmcsRegion' | 'stopRequested' | 'pvTimeInfo' | 'pvStealTime'
>;

/** The byte that an unused part of the payload's stack holds, so that its deepest use can be read off. */
export const STACK_PATTERN = 0x5a;

/** Where the payload jumps to: the context of KVM's own thread. */
export interface Routing {
  readonly handler: bigint;
  readonly stack: bigint;
  readonly cr3: bigint;
  readonly gsBase: bigint;
  readonly argument: bigint;
}

const PI_DESC_OFFSET = offsetsOf<'pi_desc'>(CARETAKER_SOFT_STATE).pi_desc;

export class KvmVcpu {
  readonly id: number;
  readonly apicId: number;
  readonly memory: VcpuMemory;
  readonly #bytes: PhysicalMemory;
  state: VcpuState = 'created';
  /** The core that runs it. */
  pcpu: number;
  /** The payload as this kernel placed it; null without one, or when it came from another kernel. */
  loaded: LoadedImage | null = null;
  /** The instance's pages with their rights, empty without a payload. */
  ranges: readonly IdentityRange[] = [];
  /** The CCB inside the instance, 0 without one. */
  ccb = 0n;
  /** Root of the payload's own page tables, 0 before they are built. */
  isolatedCr3 = 0n;
  /** KVM's stack for this vCPU, in kernel memory. */
  kernelStack = 0n;
  /** Region of the VMCS that KVM runs it with. */
  vmcsRegion: bigint;
  /** Where the guest has its kvmclock and its steal time, 0 for nowhere. */
  pvTimeInfo = 0n;
  pvStealTime = 0n;
  /** Set by a host that wants the vCPU to stay in KVM at its next routed exit. */
  stopRequested = false;

  constructor(bytes: PhysicalMemory, id: number, pcpu: number, memory: VcpuMemory) {
    this.#bytes = bytes;
    this.id = id;
    this.apicId = id;
    this.pcpu = pcpu;
    this.memory = memory;
    this.vmcsRegion = memory.at('vmcs');
  }

  /** The CCB by field name. */
  get ccbView(): StructView {
    return new StructView(CARETAKER_CCB, this.#bytes, this.ccb);
  }

  get softState(): StructView {
    return new StructView(CARETAKER_SOFT_STATE, this.#bytes, this.memory.at('softState'));
  }

  /** Its posted-interrupt descriptor, which lies in soft state: preserved, and mapped for the other vCPUs. */
  get descriptorAddress(): bigint {
    return this.memory.at('softState') + BigInt(PI_DESC_OFFSET);
  }

  get hasCaretaker(): boolean {
    return this.ranges.length > 0;
  }

  get telemetry(): StructView {
    return new StructView(CARETAKER_TELEMETRY, this.#bytes, this.memory.at('telemetry'));
  }

  /** Fills everything that is KVM's in a fresh instance; the payload's init has not run yet. */
  initialise(vmxon: bigint): void {
    const { memory } = this;
    const stack = memory.at('stack');
    this.#bytes.fill(stack, STACK_BYTES, STACK_PATTERN);
    this.#bytes.writeU64(stack, this.ccb);
    const telemetry = this.telemetry;
    telemetry.set('header.magic', CARETAKER_TELEMETRY_MAGIC);
    telemetry.set('header.version', CARETAKER_TELEMETRY_VERSION);
    telemetry.set('header.size', CARETAKER_TELEMETRY.sizeBytes);
    // A second instance goes on with what the guest has in its first.
    if (this.softState.get('header.magic') === 0n) this.#initialiseSoftState();
    const ccb = this.ccbView;
    ccb.set('vmcs_address', this.vmcsRegion);
    ccb.set('vmxon_address', vmxon);
    ccb.set('vcpu_id', this.id);
    ccb.set('apic_id', this.apicId);
    ccb.set('stack_base', stack);
    ccb.set('stack_size', STACK_BYTES);
    if (memory.has('shadowStack')) {
      const base = memory.at('shadowStack');
      writeShadowStacks(this.#bytes, base);
      ccb.set('ssp', shadowStackTop(base));
      ccb.set('interrupt_ssp_table', base);
    }
    ccb.set('config_address', memory.at('config'));
    ccb.set('config_size', CARETAKER_CONFIG.sizeBytes);
    ccb.set('telemetry_address', memory.at('telemetry'));
    ccb.set('telemetry_size', CARETAKER_TELEMETRY.sizeBytes);
    ccb.set('soft_state_address', memory.at('softState'));
    ccb.set('soft_state_size', CARETAKER_SOFT_STATE.sizeBytes);
  }

  #initialiseSoftState(): void {
    const soft = this.softState;
    soft.set('header.magic', CARETAKER_SOFT_STATE_MAGIC);
    soft.set('header.version', CARETAKER_SOFT_STATE_VERSION);
    soft.set('header.size', CARETAKER_SOFT_STATE.sizeBytes);
    soft.set('apic_id', this.apicId);
    soft.set('lvt_timer', LVT_TIMER_TSC_DEADLINE);
    msrPolicy().forEach((policy, index) => soft.set(`msr_value[${index}]`, policy.initial ?? 0n));
  }

  /** Publishes routing pointers and a new epoch, then KVM_ATTACHED with release order. */
  attach(routing: Routing): void {
    const ccb = this.ccbView;
    for (const [field, value] of this.storesToAttach(routing)) ccb.set(field, value);
  }

  /** The stores of attach(), in their order. */
  storesToAttach(routing: Routing): readonly (readonly [field: string, value: bigint | number])[] {
    return [
      ['routing_handler', routing.handler],
      ['routing_stack', routing.stack],
      ['routing_cr3', routing.cr3],
      ['routing_gs_base', routing.gsBase],
      ['routing_argument', routing.argument],
      ['request', CARETAKER_REQUEST.NONE],
      ['epoch', this.ccbView.get('epoch') + 1n],
      ['attach_state', CARETAKER_ATTACH_STATE.KVM_ATTACHED],
    ];
  }

  /** Writes KVM_DETACHED: the vCPU is stopped inside KVM. */
  detach(): void {
    this.ccbView.set('attach_state', CARETAKER_ATTACH_STATE.KVM_DETACHED);
  }

  /** Whether the flag says KVM_ATTACHED. */
  get isAttached(): boolean {
    return this.ccbView.number('attach_state') === CARETAKER_ATTACH_STATE.KVM_ATTACHED;
  }

  snapshot(): KvmVcpuState {
    const { state, pcpu, kernelStack, vmcsRegion, stopRequested, pvTimeInfo, pvStealTime } = this;
    return { state, pcpu, kernelStack, vmcsRegion, stopRequested, pvTimeInfo, pvStealTime };
  }

  restore(state: KvmVcpuState): void {
    Object.assign(this, state);
  }

  /** What the payload reports of itself. */
  get payloadState(): keyof typeof CARETAKER_RUN_STATE {
    const value = this.ccbView.number('state');
    const names = Object.entries(CARETAKER_RUN_STATE) as [
      keyof typeof CARETAKER_RUN_STATE,
      number,
    ][];
    return names.find(([, number]) => number === value)?.[0] ?? 'PARKED';
  }
}

/** LVT timer of a Linux guest: TSC-deadline mode (bits 18:17 = 2), vector 0xec. */
const LVT_TIMER_TSC_DEADLINE = (2 << 17) | 0xec;
