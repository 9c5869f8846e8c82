/**
 * The place where a payload works on both machines: installed by this project's KVM, then copied page by page.
 *
 * Source: CONTRACT ("Instance", "Entry points", "CR3 policies"); emulator/host/kvm is the KVM that installs it.
 * Invariant: instance, tables, configuration, CCB and the kernel's routing pointers have the same bytes at the same
 * addresses on both machines; what stands at the routing handler differs, because another kernel is behind it.
 */
import { HarnessBug } from '../../../abi/errors.js';
import { MSR } from '../../../abi/msrs.js';
import { toIndex, u64 } from '../../../abi/uint.js';
import { VMCS_FIELDS, type FieldName } from '../../../abi/vmcs-fields.js';
import type { LoadedImage } from '../../../loader/place.js';
import { SHADOW_STACK_PAGES, tokens } from '../../host/kvm/shadow-stacks.js';
import type { Routing } from '../../host/kvm/vcpu.js';
import { tablePages } from '../../memory/page-tables.js';
import { PAGE_SIZE, type Owner } from '../../memory/physical-memory.js';
import { Conductor } from '../../machine/conductor.js';
import type { Lane } from '../../machine/lane.js';
import { loadScenario } from '../../machine/scenario/load.js';
import type { Scenario } from '../../machine/scenario/schema.js';
import type { VmcsDescription } from '../../vmx/description.js';
import { CARETAKER_CONFIG } from '../../../abi/config.js';
import { StructView } from '../../../abi/layout.js';
import type { VmxCapabilities } from '../../vmx/capabilities.js';
import { LAYOUT } from '../layout.js';
import type { MonitorProgram } from '../program.js';

/** Owners of what the payload can reach. */
const REACHABLE: ReadonlySet<Owner> = new Set<Owner>(['payload', 'shared-metadata']);
/** KVM's stack of one vCPU. */
const KERNEL_STACK_BYTES = 2 * PAGE_SIZE;
/** How far behind the routing handler the code lies that goes to the run entry. */
const RUN_STUB_OFFSET = 64n;
/** Behind the start of that code: its jump. */
const JUMP_OFFSET = 6n;
/** The next kernel: its handler and stack beside the old one's, its tables in a page that nobody has. */
const NEXT_HANDLER_OFFSET = 0x100n;
const NEXT_STACK_OFFSET = 0x200n;
const NEXT_CR3 = 0x7f_0000n;

/** Addresses at which the payload gives control away or gets it. */
export interface StagePlaces {
  readonly exit: bigint;
  readonly run: bigint;
  readonly vmresume: readonly bigint[];
  readonly vmlaunch: readonly bigint[];
  /** Of KVM, and of the next kernel's. */
  readonly handlers: readonly bigint[];
}

/** How the host is set up, by the names of a scenario. */
export type StageSettings = Partial<Pick<Scenario, 'vcpus' | 'cr3' | 'shadow-stacks'>>;

export class Stage {
  readonly lane: Lane;
  readonly loaded: LoadedImage;
  readonly routing: Routing;
  /** What the second processor writes before it attaches. */
  readonly nextRouting: Routing;
  readonly places: StagePlaces;
  /** The host-state area, as KVM gave it to the payload while it is attached. */
  readonly host: VmcsDescription;
  /** The same once it is detached: with the payload's own tables, whatever the policy. */
  readonly detachedHost: VmcsDescription;
  readonly tscOffset: bigint;
  /** Where the second machine's kernel goes from to the run entry: CR3 = RAX, RSP = RCX, then a jump to RDX. */
  readonly runStub: bigint;
  readonly #conductor: Conductor;

  /** Installs the payload; the first vCPU is the one that is led. @throws ConductorError when it is refused. */
  constructor(payload: Uint8Array, capabilities: VmxCapabilities, settings: StageSettings = {}) {
    const scenario = loadScenario('live-update');
    this.#conductor = new Conductor(
      { ...scenario, vcpus: 1, ...settings, steps: [] },
      payload,
      false,
    );
    this.#conductor.run();
    const { machine } = this.#conductor;
    this.lane = machine.lanes[0]!;
    const found = machine.kvm?.findVcpu(0);
    if (found === undefined || this.lane.phase !== 'guest') {
      throw new HarnessBug(`the vCPU is not in its guest: ${this.lane.phase}`);
    }
    if (found.vcpu.loaded === null) throw new HarnessBug('the vCPU has no payload');
    this.loaded = found.vcpu.loaded;
    this.routing = found.vm.routingOf(found.vcpu);
    this.nextRouting = {
      handler: this.routing.handler + NEXT_HANDLER_OFFSET,
      stack: this.routing.stack - NEXT_STACK_OFFSET,
      cr3: NEXT_CR3,
      gsBase: this.routing.gsBase + NEXT_STACK_OFFSET,
      argument: this.routing.argument + 1n,
    };
    // The next kernel has tables of its own; what they map is the same.
    machine.memory.write(NEXT_CR3, machine.memory.read(this.routing.cr3, PAGE_SIZE));
    this.runStub = this.routing.handler + RUN_STUB_OFFSET;
    const { vmcs, vcpu, engine } = this.lane;
    const sites = (name: string): bigint[] =>
      engine
        .sites()
        .flatMap(({ address, instruction }) => (instruction.name === name ? [address] : []));
    this.places = {
      exit: vcpu.ccbView.get('entry_vmexit'),
      run: vcpu.ccbView.get('entry_run'),
      vmresume: sites('VMRESUME'),
      vmlaunch: sites('VMLAUNCH'),
      handlers: [this.routing.handler, this.nextRouting.handler],
    };
    this.host = Object.fromEntries(
      VMCS_FIELDS.filter(({ type }) => type === 'host').map(({ name }): [FieldName, bigint] => [
        name,
        vmcs.read(name),
      ]),
    );
    this.detachedHost = { ...this.host, HOST_CR3: vcpu.isolatedCr3 };
    this.tscOffset = vmcs.read('TSC_OFFSET');
    // KVM would have read the second machine's own IA32_VMX_MISC.
    const config = new StructView(CARETAKER_CONFIG, machine.memory, vcpu.memory.at('config'));
    config.set('preemption_timer_shift', capabilities.preemptionTimerShift);
  }

  /** The jump to the run entry. */
  get beforeRun(): bigint {
    return this.runStub + JUMP_OFFSET;
  }

  /** The VMCS region, at the same address on both machines. */
  get vmcsRegion(): bigint {
    return this.lane.vcpu.memory.at('vmcs');
  }

  /** The tokens of the payload's shadow stacks; none without. */
  get tokens(): readonly bigint[] {
    const { memory } = this.lane.vcpu;
    return memory.has('shadowStack') ? tokens(memory.at('shadowStack')) : [];
  }

  /** Whether an address lies on the payload's shadow stacks. */
  isOnShadowStack(address: bigint): boolean {
    const { memory } = this.lane.vcpu;
    if (!memory.has('shadowStack')) return false;
    const offset = address - memory.at('shadowStack');
    return offset >= 0n && offset < BigInt(SHADOW_STACK_PAGES * PAGE_SIZE);
  }

  /** Memory that the payload, or KVM on its own stack in the payload's run entry, may write. */
  written(): readonly {
    readonly what: string;
    readonly address: bigint;
    readonly bytes: number;
  }[] {
    const { memory } = this.#conductor.machine;
    const ranges: { what: string; address: bigint; bytes: number }[] = [];
    for (let page = 0; page < memory.sizeBytes; page += PAGE_SIZE) {
      const region = memory.regionAt(page);
      if (region === undefined || !REACHABLE.has(region.owner)) continue;
      const last = ranges.at(-1);
      if (last?.what === region.label && last.address + BigInt(last.bytes) === BigInt(page)) {
        last.bytes += PAGE_SIZE;
      } else ranges.push({ what: region.label, address: u64(page), bytes: PAGE_SIZE });
    }
    const stack = this.routing.gsBase;
    return [...ranges, { what: 'KVM stack', address: stack, bytes: KERNEL_STACK_BYTES }];
  }

  /** Puts a copy of everything in a program for the second machine. */
  copyTo(program: MonitorProgram): void {
    const { memory } = this.#conductor.machine;
    const pages = new Set(tablePages(memory, this.routing.cr3).map(toIndex)).add(toIndex(NEXT_CR3));
    for (const { address, bytes } of this.written()) {
      for (let at = 0; at < bytes; at += PAGE_SIZE) pages.add(toIndex(address) + at);
    }
    for (const page of pages) {
      const bytes = memory.read(u64(page), PAGE_SIZE);
      if (bytes.some((byte) => byte !== 0)) program.memory(u64(page), bytes);
    }
    program.memory(this.routing.handler, kernelCode());
    program.memory(this.nextRouting.handler, kernelCode());
  }
}

/** The second machine's kernel, where routed exits arrive and from where it goes to the run entry. */
function kernelCode(): Uint8Array {
  const wide = (value: bigint): number[] => [...new Uint8Array(BigUint64Array.of(value).buffer)];
  const narrow = (value: number): number[] => [...new Uint8Array(Uint32Array.of(value).buffer)];
  const arrive = [
    // It runs without shadow stacks, and returns.
    ...[0xb9, ...narrow(MSR.IA32_S_CET)], // mov ecx, IA32_S_CET
    ...[0x31, 0xc0, 0x31, 0xd2], // xor eax, eax; xor edx, edx
    ...[0x0f, 0x30], // wrmsr
    ...[0x48, 0xb8, ...wide(LAYOUT.HOST_CR3)], // mov rax, the monitor's CR3
    ...[0x0f, 0x22, 0xd8], // mov cr3, rax
    ...[0x48, 0xbc, ...wide(LAYOUT.EXIT_STACK)], // mov rsp, the monitor's stack
    ...[0x48, 0xb8, ...wide(LAYOUT.EXIT_STUB)], // mov rax, the monitor's exit stub
    ...[0xff, 0xe0], // jmp rax
  ];
  const leave = [
    ...[0x0f, 0x22, 0xd8], // mov cr3, rax
    ...[0x48, 0x89, 0xcc], // mov rsp, rcx
    ...[0xff, 0xe2], // jmp rdx
  ];
  const code = new Uint8Array(toIndex(RUN_STUB_OFFSET) + leave.length).fill(0xcc);
  code.set(arrive, 0);
  code.set(leave, toIndex(RUN_STUB_OFFSET));
  return code;
}
