/**
 * Instruction sequences on both machines from the same state: the engine with the root-mode models, and the second machine.
 *
 * Source: DESIGN ("Hardware rules come from the SDM"): the second machine executes them in VMX non-root operation with no
 * exit but HLT, where they do what they do in root operation.
 * Invariant: general registers, RIP, RFLAGS but its undefined bits, CR2, segment selectors, table registers, control
 * registers, the data page and the stacks are compared after each sequence.
 */
import { MSR } from '../../abi/msrs.js';
import { hex, toIndex, u64 } from '../../abi/uint.js';
import type { FieldName } from '../../abi/vmcs-fields.js';
import { ENTRY_CONTROL, EXIT_CONTROL } from '../../abi/vmx-controls.js';
import { Random } from '../clock/random.js';
import { Engine } from '../cpu/engine.js';
import { EngineMemory } from '../cpu/engine-memory.js';
import { GENERAL_REGISTERS, REG, RFLAGS, type RegisterName } from '../cpu/registers.js';
import { CoreAddressSpaces } from '../machine/core.js';
import { PhysicalMemory } from '../memory/physical-memory.js';
import type { VmxCapabilities } from '../vmx/capabilities.js';
import { NO_PCPU_EVENTS, Pcpu } from '../vmx/pcpu.js';
import { IpiBus } from '../vmx/root/ipi-bus.js';
import type { StopReason } from '../vmx/stop-reason.js';
import type { VmcsDescription } from '../vmx/description.js';
import { VmcsStore } from '../vmx/vmcs-store.js';
import type { Answer } from './answers.js';
import { SHADOW, SHADOW_BYTES, layOutShadowStacks } from './enforcement-area.js';
import { GUEST, guestVmcs, layOutGuest, type ValueWriter } from './guest-area.js';
import {
  AREA,
  HANDLER_SIZE,
  AREA_VMCS,
  handlerAddresses,
  layOutArea,
  layOutDescriptors,
  type Writer,
} from './instruction-area.js';
import {
  knownInstructionDifference,
  type KnownInstructionDifference,
} from './known-instruction-differences.js';
import { MEMORY_BYTES } from './layout.js';
import { ANSWERS, type GeneralRegisters } from './program.js';
import type { SecondMachine } from './second-machine.js';
import type { Sequence } from './sequences.js';

/** Guest-state fields and the registers that hold the same in the model. */
// prettier-ignore
const STATE: readonly (readonly [FieldName, RegisterName])[] = [
  ['GUEST_RIP', 'RIP'], ['GUEST_RSP', 'RSP'], ['GUEST_RFLAGS', 'RFLAGS'],
  ['GUEST_CR0', 'CR0'], ['GUEST_CR3', 'CR3'], ['GUEST_CR4', 'CR4'],
  ['GUEST_CS_SELECTOR', 'CS'], ['GUEST_SS_SELECTOR', 'SS'], ['GUEST_DS_SELECTOR', 'DS'],
  ['GUEST_ES_SELECTOR', 'ES'], ['GUEST_FS_SELECTOR', 'FS'], ['GUEST_GS_SELECTOR', 'GS'],
  ['GUEST_TR_SELECTOR', 'TR'], ['GUEST_FS_BASE', 'FS_BASE'], ['GUEST_GS_BASE', 'GS_BASE'],
  ['GUEST_GDTR_BASE', 'GDTR_BASE'], ['GUEST_GDTR_LIMIT', 'GDTR_LIMIT'],
  ['GUEST_IDTR_BASE', 'IDTR_BASE'], ['GUEST_IDTR_LIMIT', 'IDTR_LIMIT'], ['GUEST_SSP', 'SSP'],
];
const FIELDS: readonly FieldName[] = [
  'VM_EXIT_REASON',
  'GUEST_S_CET',
  ...STATE.map(([field]) => field),
];
const HLT_REASON = 12n;
const TRIPLE_FAULT_REASON = 2n;

/** What is dumped and compared: the data, both stacks. */
const DUMPS: readonly (readonly [what: string, address: bigint, length: number])[] = [
  ['data', GUEST.DATA, 0x100],
  ['stack', GUEST.STACK - 0x80n, 0x80],
  ['interrupt stack', AREA.IST1 - 0x40n, 0x40],
  ['descriptors', AREA.GDT, 0xc0],
  ['shadow stacks', SHADOW.BASE, SHADOW_BYTES],
];
const LIMIT = 2000;
/** Room for a sequence; behind it lies nothing but HLT. */
const CODE_BYTES = 0x200;
const HLT = 0xf4;
const CR4_CET = 1n << 23n;
const START_RSP = GUEST.STACK - 0x20n;

/** One value that differs. */
export interface InstructionDifference {
  readonly what: string;
  readonly model: string;
  readonly second: string;
}

/** A sequence on both machines. */
export interface SequenceResult {
  readonly sequence: Sequence;
  readonly differences: readonly InstructionDifference[];
  readonly known: KnownInstructionDifference | null;
}

/** What a machine's state is after a sequence, by name. */
type Snapshot = ReadonlyMap<string, string>;

/** Runs every sequence on both machines. */
export function compareSequences(
  machine: SecondMachine,
  sequences: readonly Sequence[],
): SequenceResult[] {
  const { capabilities } = machine;
  const cases = machine.runCases(
    sequences.length,
    FIELDS,
    (program, index) => {
      const sequence = sequences[index]!;
      program.region();
      if (sequence.cet !== null) program.vmwrite(enforcement(capabilities, sequence));
      prepare(program, sequence);
      program
        .registers(generalRegisters(sequence))
        .enter('launch', ANSWERS.registers | ANSWERS.host);
      for (const [, address, length] of DUMPS) program.dump(address, length);
    },
    (program) => {
      program.base(vmcsOf(capabilities));
      layOutGuest(program);
      layOutArea(program);
    },
  );
  const model = new InstructionModel(capabilities);
  return sequences.map((sequence, index): SequenceResult => {
    const { answers, stopped } = cases[index]!;
    const second = stopped === null ? secondSnapshot(answers) : new Map([['end', stopped]]);
    const first = model.run(sequence);
    const differences = compare(first, second, sequence);
    const known =
      differences.length === 0
        ? null
        : knownInstructionDifference(sequence, differences, vectorAt(first.get('RIP')));
    return { sequence, differences, known };
  });
}

const vmcsOf = (capabilities: VmxCapabilities) =>
  guestVmcs(capabilities, { ...AREA_VMCS, GUEST_RSP: START_RSP });

/** What of a sequence's VMCS turns control-flow enforcement on in the guest, and off again behind it. */
function enforcement(capabilities: VmxCapabilities, { cet, ssp }: Sequence): VmcsDescription {
  const base = vmcsOf(capabilities);
  return {
    VM_ENTRY_CONTROLS: base.VM_ENTRY_CONTROLS! | u64(ENTRY_CONTROL.LOAD_CET_STATE),
    VM_EXIT_CONTROLS: base.VM_EXIT_CONTROLS! | u64(EXIT_CONTROL.LOAD_CET_STATE),
    GUEST_CR4: base.GUEST_CR4! | CR4_CET,
    GUEST_S_CET: cet!,
    GUEST_SSP: ssp,
    GUEST_INTR_SSP_TABLE: SHADOW.TABLE,
    HOST_S_CET: 0n,
    HOST_SSP: 0n,
    HOST_INTR_SSP_TABLE: 0n,
  };
}

function generalRegisters({ start }: Sequence): GeneralRegisters {
  const free = GENERAL_REGISTERS.filter((name) => name !== 'RDI' && name !== 'RSI');
  return {
    ...Object.fromEntries(free.map((name, i) => [name, start[i]!])),
    RDI: GUEST.DATA,
    RSI: GUEST.DATA + 0x80n,
  };
}

/** Code, data and stacks as every sequence finds them. */
function prepare(to: Writer, { code, seed }: Sequence): void {
  to.memory(
    GUEST.CODE,
    Uint8Array.from({ length: CODE_BYTES }, (_, i) => code[i] ?? HLT),
  );
  layOutDescriptors(to);
  layOutShadowStacks(to);
  const random = new Random(seed);
  const data = Array.from({ length: 0x100 / 8 }, () => random.nextU64());
  to.values(GUEST.DATA, ...data);
  to.values(GUEST.STACK - 0x80n, ...Array.from({ length: 16 }, (_, i) => u64(0x5000 + i)));
  to.values(AREA.IST1 - 0x40n, ...Array.from({ length: 8 }, (_, i) => u64(0x6000 + i)));
}

/** The vector of the handler that an address lies in. */
function vectorAt(rip: string | undefined): number | null {
  const vector = rip === undefined ? -1n : (BigInt(rip) - AREA.HANDLERS) / HANDLER_SIZE;
  return vector >= 0n && vector < 256n ? toIndex(vector) : null;
}

function secondSnapshot(answers: readonly Answer[]): Snapshot {
  const entry = answers.find((one) => one.kind === 'entry')?.entry;
  if (entry?.kind !== 'exit') return new Map([['end', `no exit: ${entry?.kind ?? 'no answer'}`]]);
  const reason = entry.fields.get('VM_EXIT_REASON')!;
  if (reason !== HLT_REASON) {
    const end = reason === TRIPLE_FAULT_REASON ? 'triple fault' : `exit ${reason.toString()}`;
    return new Map([['end', end]]);
  }
  const values = new Map<string, string>([['end', 'halted']]);
  for (const [field, name] of STATE) values.set(name, hex(entry.fields.get(field)!));
  values.set('S_CET', hex(entry.fields.get('GUEST_S_CET')!));
  const registers = answers.find((one) => one.kind === 'registers')!.values;
  GENERAL_REGISTERS.forEach((name, i) => values.set(name, hex(registers[i]!)));
  const host = answers.find((one) => one.kind === 'host')!.values;
  values.set('CR2', hex(host.get('CR2')!));
  const dumps = answers.filter((one) => one.kind === 'memory');
  DUMPS.forEach(([what], i) => values.set(what, Buffer.from(dumps[i]!.bytes).toString('hex')));
  return values;
}

function compare(
  model: Snapshot,
  second: Snapshot,
  { undefinedFlags }: Sequence,
): InstructionDifference[] {
  if (model.get('end') !== second.get('end')) {
    return [{ what: 'end', model: model.get('end')!, second: second.get('end')! }];
  }
  const names = [...model.keys()].filter((name) => {
    if (name !== 'RFLAGS') return model.get(name) !== second.get(name);
    const difference = BigInt(model.get(name)!) ^ BigInt(second.get(name)!);
    return (difference & ~undefinedFlags) !== 0n;
  });
  return names.map((what) => ({ what, model: model.get(what)!, second: second.get(what)! }));
}

/** The first machine: an engine and the root-mode models over the same tables. */
class InstructionModel {
  readonly #memory: PhysicalMemory;
  readonly #engine: Engine;
  readonly #pcpu: Pcpu;
  readonly #start: BigUint64Array;

  constructor(capabilities: VmxCapabilities) {
    const backing = new EngineMemory(MEMORY_BYTES);
    this.#memory = new PhysicalMemory(backing.buffer);
    const writer = this.#writer();
    layOutGuest(writer);
    layOutArea(writer);
    this.#engine = new Engine(backing);
    const memory = this.#memory;
    this.#pcpu = new Pcpu(
      {
        id: 0,
        apicId: 0,
        seed: 1,
        features: { xcr0: 0xe7n, isNmiBlockedBySti: false },
        timerTicksPerCount: 1,
        capabilities,
      },
      this.#engine,
      {
        memory,
        ipi: new IpiBus(),
        vmcsStore: new VmcsStore(memory),
        addressSpace: new CoreAddressSpaces(
          memory,
          this.#engine,
          () => false,
          () => [],
        ),
        cpuid: { execute: () => ({ eax: 0, ebx: 0, ecx: 0, edx: 0 }) },
        portIo: { read: () => undefined, write: () => false },
        vmx: { execute: () => ({ kind: 'succeed' }) },
      },
      NO_PCPU_EVENTS,
    );
    this.#engine.addInstructionStarts([GUEST.CODE, ...handlerAddresses()]);
    this.#start = this.#initialRegisters(capabilities);
  }

  run(sequence: Sequence): Snapshot {
    const pcpu = this.#pcpu;
    prepare(this.#writer(), sequence);
    this.#engine.invalidateCode(GUEST.CODE, 0x1000);
    pcpu.registers.values.set(this.#start);
    for (const [name, value] of Object.entries(generalRegisters(sequence))) {
      pcpu.registers.set(name as RegisterName, value);
    }
    const { file } = pcpu.msrs;
    file.load(MSR.IA32_S_CET, sequence.cet ?? 0n);
    file.load(MSR.IA32_INTERRUPT_SSP_TABLE_ADDR, sequence.cet === null ? 0n : SHADOW.TABLE);
    pcpu.registers.set('SSP', sequence.ssp);
    if (sequence.cet !== null) pcpu.registers.values[REG.CR4]! |= CR4_CET;
    pcpu.activity = 'active';
    pcpu.blocking.sti = false;
    pcpu.blocking.movSs = false;
    return this.#snapshot(pcpu.run(LIMIT));
  }

  #snapshot(stop: StopReason): Snapshot {
    if (stop.kind !== 'halted') return new Map([['end', endOf(stop)]]);
    const { registers } = this.#pcpu;
    // The second machine's exit is before HLT, this machine's stop behind it.
    registers.set('RIP', registers.get('RIP') - 1n);
    const values = new Map<string, string>([['end', 'halted']]);
    for (const [, name] of STATE) values.set(name, hex(registers.get(name)));
    for (const name of GENERAL_REGISTERS) values.set(name, hex(registers.get(name)));
    values.set('CR2', hex(registers.get('CR2')));
    values.set('S_CET', hex(this.#pcpu.msrs.file.read(MSR.IA32_S_CET)!));
    for (const [what, address, length] of DUMPS) {
      values.set(what, Buffer.from(this.#memory.read(address, length)).toString('hex'));
    }
    return values;
  }

  #initialRegisters(capabilities: VmxCapabilities): BigUint64Array {
    const { registers } = this.#pcpu;
    const vmcs = vmcsOf(capabilities);
    for (const [field, name] of STATE) registers.set(name, vmcs[field] ?? 0n);
    registers.set('EFER', vmcs.GUEST_IA32_EFER!);
    registers.set('DR6', 0xffff_0ff0n);
    registers.set('DR7', 0x400n);
    registers.set('TR_BASE', GUEST.TSS);
    registers.set('TR_LIMIT', 0x67n);
    registers.set('RFLAGS', RFLAGS.FIXED);
    return registers.values.slice();
  }

  #writer(): Writer & ValueWriter {
    const memory = this.#memory;
    const writer = {
      values(address: bigint, ...values: readonly bigint[]) {
        values.forEach((value, i) => memory.writeU64(address + u64(i * 8), value));
        return writer;
      },
      memory(address: bigint, bytes: Uint8Array) {
        memory.bytes.set(bytes, toIndex(address));
        return writer;
      },
    };
    return writer;
  }
}

function endOf(stop: StopReason): string {
  if (stop.kind === 'triple-fault') return 'triple fault';
  if (stop.kind === 'unmodelled') return `unmodelled ${stop.name}: ${stop.detail}`;
  return stop.kind;
}
