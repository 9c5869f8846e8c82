/**
 * The same payload binary as the exit handler on both machines: the same instance, tables, configuration and CCB, copied
 * from a machine in which KVM has just installed it.
 *
 * Source: CONTRACT ("Entry points", "What the payload handles"); DESIGN ("One VM exit, as the data flows").
 * Happy path: a guest on the second machine executes what exits, and stores its general registers after each; the payload
 * there answers, until a VMCALL is routed to the monitor in KVM's place. Here the same exits are delivered one by one.
 * Invariant: after each exit the guest's registers are compared, at the end the registers at the routing handler, the save
 * area, the payload's state, the telemetry and the soft state; fields that hold a time are left out.
 */
import { CARETAKER_CCB, CARETAKER_KVM_PAGE } from '../../abi/ccb.js';
import { HarnessBug } from '../../abi/errors.js';
import { offsetsOf } from '../../abi/layout.js';
import { hex, toIndex, u64 } from '../../abi/uint.js';
import { VMCS_FIELDS, type FieldName } from '../../abi/vmcs-fields.js';
import { PRIMARY } from '../../abi/vmx-controls.js';
import { CARETAKER_TELEMETRY } from '../../abi/telemetry.js';
import { X2APIC } from '../../abi/x2apic.js';
import { GENERAL_REGISTERS } from '../cpu/registers.js';
import * as exits from '../guest/exits.js';
import type { GuestExit } from '../guest/guest.js';
import { Conductor } from '../machine/conductor.js';
import type { Lane } from '../machine/lane.js';
import { loadScenario } from '../machine/scenario/load.js';
import type { AllowedBits, VmxCapabilities } from '../vmx/capabilities.js';
import type { VmcsDescription } from '../vmx/description.js';
import { describeVmcs } from '../vmx/description.js';
import type { StopReason } from '../vmx/stop-reason.js';
import { deliverExit } from '../vmx/vm-exit.js';
import type { Answer } from './answers.js';
import { guestVmcs } from './guest-area.js';
import { LAYOUT } from './layout.js';
import { ANSWERS, MonitorProgram } from './program.js';
import type { SecondMachine } from './second-machine.js';

/** An exit, and the guest's instruction that makes it. */
interface PayloadExit {
  readonly title: string;
  readonly code: readonly number[];
  readonly exit: GuestExit;
}

/** A value that differs. */
export interface PayloadDifference {
  readonly exit: string;
  readonly what: string;
  readonly model: string;
  readonly second: string;
}

/** What became of the payload on both machines. */
export interface PayloadResult {
  readonly exits: number;
  readonly values: number;
  readonly differences: readonly PayloadDifference[];
}

const TSC_DEADLINE = 0x6e0;
/** A deadline that no run reaches. */
const NEVER = 0x7fff_ffff_0000_0000n;

const CPUID = [0x0f, 0xa2];
const WRMSR = [0x0f, 0x30];
const RDMSR = [0x0f, 0x32];

const EXITS: readonly PayloadExit[] = [
  ...[0, 1, 2, 4, 7, 0xb, 0xd, 0x15, 0x4000_0000, 0x8000_0000, 0x8000_0008, 0x1234_5678].map(
    (leaf) => ({ title: `CPUID ${hex(leaf)}`, code: CPUID, exit: exits.cpuid(leaf) }),
  ),
  { title: 'CPUID 0xd.1', code: CPUID, exit: exits.cpuid(0xd, 1) },
  { title: 'PAUSE', code: [0xf3, 0x90], exit: exits.pause() },
  ...(
    [
      [TSC_DEADLINE, NEVER],
      [X2APIC.TPR, 0x20n],
      [X2APIC.SELF_IPI, 0x31n],
      [X2APIC.SELF_IPI, 0xd1n],
      [X2APIC.EOI, 0n],
      [X2APIC.TPR, 0n],
      [TSC_DEADLINE, 0n],
    ] as const
  ).map(([index, value]) => ({
    title: `WRMSR ${hex(index)}`,
    code: WRMSR,
    exit: exits.wrmsr(index, value),
  })),
  ...[X2APIC.TPR, X2APIC.IRR0 + 1, X2APIC.IRR0 + 6, X2APIC.ISR0, X2APIC.PPR, TSC_DEADLINE].map(
    (index) => ({ title: `RDMSR ${hex(index)}`, code: RDMSR, exit: exits.rdmsr(index) }),
  ),
  ...[X2APIC.TPR, X2APIC.EOI].map((index) => ({
    title: `WRMSR ${hex(index)} again`,
    code: WRMSR,
    exit: exits.wrmsr(index, index === X2APIC.EOI ? 0n : 0x30n),
  })),
];
const LAST: PayloadExit = { title: 'VMCALL', code: [0x0f, 0x01, 0xc1], exit: exits.vmcall() };

// prettier-ignore
/** Pages of the second machine that the first one leaves alone. */
const PLACE = {
  EPT_PML4: 0x1e0_0000n, EPT_PDPT: 0x1e0_1000n, PML4: 0x1e0_2000n, PDPT: 0x1e0_3000n,
  CODE: 0x1e1_0000n, LOG: 0x1e2_0000n, MSR_BITMAP: 0x1e3_0000n, VIRTUAL_APIC: 0x1e3_1000n,
} as const;
const LOG_BYTES = 128;
const KVM = offsetsOf<
  'routing_handler' | 'routing_stack' | 'routing_cr3' | 'routing_gs_base' | 'routing_argument'
>(CARETAKER_CCB);
const TELEMETRY = offsetsOf<'last_tsc' | 'stall_tsc'>(CARETAKER_TELEMETRY);
/** Fields that hold a time. */
const TIMES: ReadonlySet<number> = new Set([TELEMETRY.last_tsc, TELEMETRY.stall_tsc]);
const LIMIT = 200_000;
/** Owners of what the payload can reach. */
const COPIED: ReadonlySet<string> = new Set(['payload', 'shared-metadata']);
const PAGE = 4096;

/** Lets the payload answer the same exits on both machines. @throws ConductorError when it is refused. */
export function comparePayload(machine: SecondMachine, payload: Uint8Array): PayloadResult {
  const scenario = loadScenario('live-update');
  const conductor = new Conductor(
    { ...scenario, vcpus: 1, steps: [{ run: { exits: 20, script: [] } }] },
    payload,
    false,
  );
  conductor.run();
  const lane = conductor.machine.lanes[0]!;
  if (lane.phase !== 'guest') throw new HarnessBug(`the vCPU is not in its guest: ${lane.phase}`);
  const areas = areasOf(lane);
  const second = onSecond(machine, conductor, areas);
  return compare(lane, areas, second);
}

/** What is compared at the end: the payload's half of the CCB, the soft state; telemetry and config are pages of counts. */
function areasOf(
  lane: Lane,
): readonly (readonly [what: string, address: bigint, length: number])[] {
  return [
    ['CCB', lane.vcpu.ccb, CARETAKER_KVM_PAGE],
    ['soft state', lane.vcpu.memory.at('softState'), PAGE],
    ['telemetry', lane.vcpu.memory.at('telemetry'), 2 * PAGE],
  ];
}

function onSecond(
  machine: SecondMachine,
  conductor: Conductor,
  areas: ReturnType<typeof areasOf>,
): Answer[] {
  const lane = conductor.machine.lanes[0]!;
  const { memory } = conductor.machine;
  const program = new MonitorProgram();
  for (let page = 0; page < memory.sizeBytes; page += PAGE) {
    const bytes = memory.read(u64(page), PAGE);
    const owner = memory.regionAt(page)?.owner ?? 'free';
    if (COPIED.has(owner) && bytes.some((byte) => byte !== 0)) program.memory(u64(page), bytes);
  }
  const { ccb } = lane.vcpu;
  const routing: readonly (readonly [number, bigint])[] = [
    [KVM.routing_handler, LAYOUT.EXIT_STUB],
    [KVM.routing_stack, LAYOUT.EXIT_STACK],
    [KVM.routing_cr3, LAYOUT.HOST_CR3],
    [KVM.routing_gs_base, 0n],
  ];
  for (const [offset, value] of routing) program.values(ccb + u64(offset), value);
  program
    .values(PLACE.EPT_PML4, PLACE.EPT_PDPT | 7n)
    .values(PLACE.EPT_PDPT, 0xb7n)
    .values(PLACE.PML4, PLACE.PDPT | 3n)
    .values(PLACE.PDPT, 0x83n)
    .fill(PLACE.MSR_BITMAP, PAGE, 0xff)
    .memory(PLACE.CODE, guestCode().bytes)
    .wrmsr(X2APIC.SIVR, 0x1ffn)
    .fields(['VM_EXIT_REASON', 'EXIT_QUALIFICATION', 'VM_INSTRUCTION_ERROR', 'GUEST_RIP'])
    .region()
    .vmwrite(vmcsFor(machine.capabilities, lane))
    .registers()
    .enter('launch', ANSWERS.registers | ANSWERS.host)
    .dump(PLACE.LOG, LOG_BYTES * EXITS.length);
  for (const [, address, length] of areas) program.dump(address, length);
  return machine.run(program, [
    'VM_EXIT_REASON',
    'EXIT_QUALIFICATION',
    'VM_INSTRUCTION_ERROR',
    'GUEST_RIP',
  ]);
}

/** MOV to the registers that an exit takes, the instruction, and a MOV of each register to the log. */
function guestCode(): { bytes: Uint8Array; rips: readonly bigint[] } {
  const bytes: number[] = [];
  const rips: bigint[] = [];
  const word = (value: bigint, size: number): number[] =>
    Array.from({ length: size }, (_, i) => toIndex((value >> u64(8 * i)) & 0xffn));
  [...EXITS, LAST].forEach(({ code, exit }, index) => {
    for (const [name, value] of Object.entries(exit.registers ?? {})) {
      const number = ['RAX', 'RCX', 'RDX'].indexOf(name);
      if (number < 0) throw new HarnessBug(`${name} is not set by a guest`);
      bytes.push(0x48, 0xb8 + number, ...word(value, 8));
    }
    rips.push(PLACE.CODE + u64(bytes.length));
    bytes.push(...code);
    GENERAL_REGISTERS.forEach((_, i) => {
      const register = i < 4 ? i : i + 1; // RSP apart
      const address = PLACE.LOG + u64(index * LOG_BYTES + i * 8);
      bytes.push(register < 8 ? 0x48 : 0x4c, 0x89, 0x04 | ((register & 7) << 3), 0x25);
      bytes.push(...word(address, 4));
    });
  });
  return { bytes: Uint8Array.from([...bytes, 0xf4]), rips };
}

/** The guest on the second machine, and the host state and controls that KVM gave the first. */
function vmcsFor(capabilities: VmxCapabilities, lane: Lane): VmcsDescription {
  const here = describeVmcs(lane.vmcs);
  const host = VMCS_FIELDS.filter(({ type }) => type === 'host').map(
    ({ name }): [FieldName, bigint] => [name, here[name] ?? 0n],
  );
  const base = guestVmcs(capabilities, {});
  const offered = (name: FieldName, { allowed0, allowed1 }: AllowedBits): bigint =>
    ((here[name] ?? 0n) & u64(allowed1)) | u64(allowed0);
  return {
    ...base,
    ...(Object.fromEntries(host) as VmcsDescription),
    HOST_CR4: (here.HOST_CR4 ?? 0n) & capabilities.cr4Fixed1,
    EPT_POINTER: PLACE.EPT_PML4 | 0x1en,
    GUEST_CR3: PLACE.PML4,
    GUEST_RIP: PLACE.CODE,
    MSR_BITMAP: PLACE.MSR_BITMAP,
    VIRTUAL_APIC_PAGE_ADDR: PLACE.VIRTUAL_APIC,
    PIN_BASED_VM_EXEC_CONTROL: offered('PIN_BASED_VM_EXEC_CONTROL', capabilities.pin),
    CPU_BASED_VM_EXEC_CONTROL: base.CPU_BASED_VM_EXEC_CONTROL! | u64(PRIMARY.PAUSE_EXITING),
    VM_EXIT_CONTROLS: offered('VM_EXIT_CONTROLS', capabilities.exit),
    VMX_PREEMPTION_TIMER_VALUE: 0xffff_ffffn,
  };
}

function compare(
  lane: Lane,
  areas: ReturnType<typeof areasOf>,
  answers: readonly Answer[],
): PayloadResult {
  const differences: PayloadDifference[] = [];
  let values = 0;
  const hold = (exit: string, what: string, model: bigint, second: bigint): void => {
    values++;
    if (model !== second) differences.push({ exit, what, model: hex(model), second: hex(second) });
  };
  const dumps = answers.filter((one) => one.kind === 'memory').map(({ bytes }) => bytes);
  const entry = answers.find((one) => one.kind === 'entry')?.entry;
  const at = answers.find((one) => one.kind === 'registers')?.values ?? [];
  if (entry?.kind !== 'exit') {
    throw new HarnessBug(
      `no guest on the second machine: ${entry?.kind ?? ''} ${entry?.error ?? ''}`,
    );
  }
  const { registers } = lane.pcpu;
  GENERAL_REGISTERS.forEach((name) => registers.set(name, 0n));
  // The second machine's guest has interrupts off.
  lane.vmcs.write('GUEST_RFLAGS', 2n);
  lane.vmcs.write('GUEST_INTERRUPTIBILITY_INFO', 0n);
  const { rips } = guestCode();
  const log = new BigUint64Array(dumps[0]!.slice().buffer);
  const ended = [...EXITS, LAST].findIndex((one, index) => {
    const rip = rips[index]!;
    const stop = deliver(lane, one, rip);
    if (stop.kind !== 'vmresume') {
      hold(one.title, 'exit reason', u64(one.exit.basic), entry.fields.get('VM_EXIT_REASON')!);
      hold(one.title, 'GUEST_RIP', lane.vmcs.read('GUEST_RIP'), entry.fields.get('GUEST_RIP')!);
      if (stop.kind !== 'routed') {
        differences.push({ exit: one.title, what: 'end', model: stop.kind, second: 'routed' });
      }
      return true;
    }
    hold(one.title, 'GUEST_RIP', lane.vmcs.read('GUEST_RIP'), rip + u64(one.code.length));
    GENERAL_REGISTERS.forEach((name, i) => {
      hold(one.title, name, registers.get(name), log[(index * LOG_BYTES) / 8 + i]!);
    });
    return false;
  });
  for (const name of ['RSI', 'RDX'] as const) {
    const there = at[GENERAL_REGISTERS.indexOf(name)]!;
    hold('at the handler', name, registers.get(name), there);
  }
  areas.forEach(([what, address, length], i) => {
    const here = new BigUint64Array(lane.pcpu.memory.read(address, length).buffer);
    const there = new BigUint64Array(dumps[i + 1]!.slice().buffer);
    here.forEach((value, word) => {
      if (what === 'telemetry' && TIMES.has(word * 8)) return;
      hold('at the end', `${what} +${hex(word * 8)}`, value, there[word]!);
    });
  });
  return { exits: ended + 1, values, differences };
}

function deliver(lane: Lane, { exit }: PayloadExit, rip: bigint): StopReason {
  const { pcpu } = lane;
  lane.vmcs.write('GUEST_RIP', rip);
  for (const [name, value] of Object.entries(exit.registers ?? {})) {
    pcpu.registers.set(name as 'RAX', value);
  }
  pcpu.vmx.mode = 'non-root';
  deliverExit(pcpu, lane.vmcs, exit);
  return pcpu.run(LIMIT);
}
