/**
 * A program for the monitor: the operations that it executes in the second machine, as words.
 *
 * Source: rom/monitor.h (enum operation) and rom/monitor.c, which reads the words.
 * Invariant: the program never ends without the end operation, which prints the sentinel.
 */
import { MSR } from '../../abi/msrs.js';
import { high32, low32 } from '../../abi/uint.js';
import { VMCS_ENCODING, VMCS_FIELDS, type FieldName } from '../../abi/vmcs-fields.js';
import { GENERAL_REGISTERS } from '../cpu/registers.js';
import type { VmcsDescription } from '../vmx/description.js';

// prettier-ignore
const OPERATION = {
  END: 0, MEMORY: 1, FILL: 2, REGION: 3, VMWRITE: 4, REGISTERS: 5, ENTER: 6, WRMSR: 7, RDMSR: 8, FIELDS: 9,
  DUMP: 10, LABEL: 11, VMX: 12, NMI_PROBE: 13, CPUID: 14, BASE: 15, REGION_AT: 16, START_OTHER: 17, WAIT: 18, DELAY: 19,
  HALT: 20, SEND: 21, TAKE: 22, CONTROL: 23,
} as const;

/** How `enter` enters: `movss` is a VMLAUNCH right after MOV SS; `jump` goes to R8, where somebody else enters. */
export const ENTER = { launch: 0, resume: 1, movss: 2, jump: 3 } as const;
/** What an entry answers besides the VMCS fields. */
export const ANSWERS = { registers: 1, host: 2 } as const;

/** Operands of `vmx`: instructions that the monitor executes on their own. */
export const VMX_KIND = {
  VMXON: 0,
  VMCLEAR: 1,
  VMPTRLD: 2,
  VMWRITE: 3,
  VMREAD: 4,
  VMXOFF: 5,
  INVEPT: 6,
  INVVPID: 7,
  VMPTRST: 8,
  VMLAUNCH: 9,
  VMRESUME: 10,
} as const;

/** General registers by name; RSP is the VMCS's. */
export type GeneralRegisters = Readonly<
  Partial<Record<(typeof GENERAL_REGISTERS)[number], bigint>>
>;

/** Collects operations. */
export class MonitorProgram {
  readonly #words: number[] = [];

  /** Copies bytes to memory. */
  memory(address: bigint, bytes: Uint8Array): this {
    this.#op('MEMORY').#wide(address).#word(bytes.length);
    const padded = new Uint8Array((bytes.length + 3) & ~3);
    padded.set(bytes);
    for (const word of new Uint32Array(padded.buffer)) this.#word(word);
    return this;
  }

  /** Writes 64-bit values to memory. */
  values(address: bigint, ...values: readonly bigint[]): this {
    return this.memory(address, new Uint8Array(BigUint64Array.from(values).buffer));
  }

  /** Fills memory with a byte. */
  fill(address: bigint, length: number, byte: number): this {
    return this.#op('FILL').#wide(address).#word(length).#word(byte);
  }

  /** Makes a fresh VMCS current. */
  region(): this {
    return this.#op('REGION');
  }

  /** Moves the region of later fresh VMCSs. */
  regionAt(address: bigint): this {
    return this.#op('REGION_AT').#wide(address);
  }

  /** Writes the described fields of the current VMCS. */
  vmwrite(description: VmcsDescription): this {
    return this.#op('VMWRITE').#fields(description);
  }

  /** What every later fresh VMCS begins with. */
  base(description: VmcsDescription): this {
    return this.#op('BASE').#fields(description);
  }

  /** Sets the general registers of the next entry; those not named become 0. */
  registers(values: GeneralRegisters = {}): this {
    this.#op('REGISTERS');
    for (const name of GENERAL_REGISTERS) this.#wide(values[name] ?? 0n);
    return this;
  }

  /** Enters the guest; answers when it exits. */
  enter(how: keyof typeof ENTER = 'launch', answers = 0): this {
    return this.#op('ENTER').#word(ENTER[how]).#word(answers);
  }

  /** Writes an MSR; answers whether that raised an exception. */
  wrmsr(index: number, value: bigint): this {
    return this.#op('WRMSR').#word(index).#wide(value);
  }

  /** Reads MSRs. */
  rdmsr(...indices: readonly number[]): this {
    this.#op('RDMSR').#word(indices.length);
    for (const index of indices) this.#word(index);
    return this;
  }

  /** Which VMCS fields each later entry answers. */
  fields(names: readonly FieldName[]): this {
    this.#op('FIELDS').#word(names.length);
    for (const name of names) this.#word(VMCS_ENCODING[name]);
    return this;
  }

  /** Answers bytes of memory. */
  dump(address: bigint, length: number): this {
    return this.#op('DUMP').#wide(address).#word(length);
  }

  /** Answers a number, so that a reader finds its place. */
  label(number: number): this {
    return this.#op('LABEL').#word(number);
  }

  /** Executes one VMX instruction with up to three operands; answers how it ended and what it delivered. */
  vmx(kind: keyof typeof VMX_KIND, first = 0n, second = 0n, third = 0n): this {
    return this.#op('VMX').#word(VMX_KIND[kind]).#wide(first).#wide(second).#wide(third);
  }

  /** Loads CR0 or CR4; what VMX operation fixes may not be changed in it. */
  control(register: 'CR0' | 'CR4', value: bigint): this {
    return this.#op('CONTROL')
      .#word(register === 'CR0' ? 0 : 4)
      .#wide(value);
  }

  /** Sends itself a non-maskable interrupt; answers how many arrive before an IRET and how many after it. */
  probeNmi(): this {
    return this.#op('NMI_PROBE');
  }

  /** Answers a CPUID leaf. */
  cpuid(leaf: number, subleaf = 0): this {
    return this.#op('CPUID').#word(leaf).#word(subleaf);
  }

  /** Lets the second processor execute a program; at its end it halts, or ends the run. */
  startOther(program: MonitorProgram, atEnd: 'halts' | 'ends the run' = 'halts'): this {
    const words = [...program.#words, OPERATION[atEnd === 'halts' ? 'HALT' : 'END']];
    this.#op('START_OTHER').#word(words.length);
    for (const word of words) this.#word(word);
    return this;
  }

  /** Waits until a 32-bit word of memory has a value. */
  wait(address: bigint, value: number): this {
    return this.#op('WAIT').#wide(address).#word(value);
  }

  /** Spins. */
  delay(count: number): this {
    return this.#op('DELAY').#word(count);
  }

  /** Writes the ICR; answers nothing, so that a second processor can do it. */
  send(icr: bigint): this {
    return this.#op('SEND').#wide(icr);
  }

  /** Turns interrupts on for one instruction; answers how many came. */
  takeInterrupts(): this {
    return this.#op('TAKE');
  }

  /** Bytes so far. */
  get sizeBytes(): number {
    return this.#words.length * 4;
  }

  /** The words, ended. */
  bytes(): Uint8Array {
    return new Uint8Array(Uint32Array.from([...this.#words, OPERATION.END]).buffer);
  }

  #fields(description: VmcsDescription): this {
    const fields = VMCS_FIELDS.filter(({ name }) => description[name] !== undefined);
    this.#word(fields.length);
    for (const { name, encoding } of fields) this.#word(encoding).#wide(description[name]!);
    return this;
  }

  #op(name: keyof typeof OPERATION): this {
    return this.#word(OPERATION[name]);
  }

  #word(value: number): this {
    this.#words.push(value >>> 0);
    return this;
  }

  #wide(value: bigint): this {
    return this.#word(low32(value)).#word(high32(value));
  }
}

/** The MSRs by which a machine says what its VMX offers. */
export const CAPABILITY_MSRS: readonly number[] = Array.from(
  { length: MSR.IA32_VMX_VMFUNC - MSR.IA32_VMX_BASIC + 1 },
  (_, i) => MSR.IA32_VMX_BASIC + i,
);
