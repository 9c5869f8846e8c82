/**
 * Every register that GDB sees, and where the machine keeps it.
 *
 * Source: GDB manual, "Target Descriptions", "i386 Features": `core` wants these in this order, `sse` and `segments`
 * too; SDM, "Basic Program Execution Registers"; abi/vmcs-fields.ts for the VMCS.
 * Invariant: a register's number is its place in the list; the general ones come first, so that `g` has no gaps.
 */
import { VMCS_FIELDS, type VmcsField } from '../../abi/vmcs-fields.js';
import type { RegisterName } from '../cpu/registers.js';
import type { GdbRegister, RegisterType } from './target.js';

/** Where a register's value is. */
export type RegisterSource =
  | { readonly kind: 'file'; readonly name: RegisterName }
  /** An XMM register, of 16 bytes. */
  | { readonly kind: 'vector'; readonly index: number }
  /** Of the state that FXSAVE stores. */
  | { readonly kind: 'x87'; readonly name: X87Name }
  | { readonly kind: 'vmcs'; readonly field: VmcsField };

/** The x87 registers and MXCSR. */
export type X87Name = (typeof STACK)[number] | (typeof X87_CONTROL)[number] | 'mxcsr';

/** A register and its source. */
export interface SourcedRegister extends GdbRegister {
  readonly source: RegisterSource;
}

const CORE = 'org.gnu.gdb.i386.core';
const SSE = 'org.gnu.gdb.i386.sse';
const SEGMENTS = 'org.gnu.gdb.i386.segments';
const CONTROL = 'org.caretaker.control';
const VMCS = 'org.caretaker.vmcs';

const STACK = ['st0', 'st1', 'st2', 'st3', 'st4', 'st5', 'st6', 'st7'] as const;
const X87_CONTROL = ['fctrl', 'fstat', 'ftag', 'fiseg', 'fioff', 'foseg', 'fooff', 'fop'] as const;
const EXPEDITED: ReadonlySet<string> = new Set(['rbp', 'rsp', 'rip']);

// prettier-ignore
const GENERAL: readonly (readonly [name: RegisterName, bits: number, type: RegisterType])[] = [
  ['RAX', 64, 'int64'], ['RBX', 64, 'int64'], ['RCX', 64, 'int64'], ['RDX', 64, 'int64'],
  ['RSI', 64, 'int64'], ['RDI', 64, 'int64'], ['RBP', 64, 'data_ptr'], ['RSP', 64, 'data_ptr'],
  ['R8', 64, 'int64'], ['R9', 64, 'int64'], ['R10', 64, 'int64'], ['R11', 64, 'int64'],
  ['R12', 64, 'int64'], ['R13', 64, 'int64'], ['R14', 64, 'int64'], ['R15', 64, 'int64'],
  ['RIP', 64, 'code_ptr'], ['RFLAGS', 32, 'i386_eflags'],
  ['CS', 32, 'int'], ['SS', 32, 'int'], ['DS', 32, 'int'], ['ES', 32, 'int'], ['FS', 32, 'int'], ['GS', 32, 'int'],
];

// prettier-ignore
const SYSTEM: readonly (readonly [name: RegisterName, bits: number, type: RegisterType])[] = [
  ['CR0', 64, 'cr0_flags'], ['CR2', 64, 'data_ptr'], ['CR3', 64, 'data_ptr'], ['CR4', 64, 'cr4_flags'],
  ['CR8', 64, 'uint64'], ['EFER', 64, 'efer_flags'], ['XCR0', 64, 'uint64'], ['SSP', 64, 'data_ptr'],
  ['DR0', 64, 'data_ptr'], ['DR1', 64, 'data_ptr'], ['DR2', 64, 'data_ptr'], ['DR3', 64, 'data_ptr'],
  ['DR6', 64, 'uint64'], ['DR7', 64, 'uint64'],
  ['GDTR_BASE', 64, 'data_ptr'], ['GDTR_LIMIT', 16, 'uint16'], ['IDTR_BASE', 64, 'data_ptr'],
  ['IDTR_LIMIT', 16, 'uint16'], ['TR', 16, 'uint16'], ['TR_BASE', 64, 'data_ptr'], ['TR_LIMIT', 32, 'uint32'],
  ['LDTR', 16, 'uint16'],
];

/** GDB's name of a register of the file. */
function nameOf(register: RegisterName): string {
  return register === 'RFLAGS' ? 'eflags' : register.toLowerCase();
}

function general(
  feature: string,
  name: string,
  bits: number,
  type: RegisterType,
  source: RegisterSource,
): SourcedRegister {
  const isExpedited = EXPEDITED.has(name);
  return { name, bits, type, feature, group: null, isGeneral: true, isExpedited, source };
}

function core(): SourcedRegister[] {
  return [
    ...GENERAL.map(([name, bits, type]) =>
      general(CORE, nameOf(name), bits, type, { kind: 'file', name }),
    ),
    ...STACK.map((name) => general(CORE, name, 80, 'i387_ext', { kind: 'x87', name })),
    ...X87_CONTROL.map((name) => ({
      ...general(CORE, name, 32, 'int', { kind: 'x87', name }),
      group: 'float',
    })),
  ];
}

function sse(): SourcedRegister[] {
  const vectors = Array.from({ length: 16 }, (_, index) =>
    general(SSE, `xmm${index.toString()}`, 128, 'vec128', { kind: 'vector', index }),
  );
  const mxcsr = general(SSE, 'mxcsr', 32, 'i386_mxcsr', { kind: 'x87', name: 'mxcsr' });
  return [...vectors, { ...mxcsr, group: 'vector' }];
}

function segments(): SourcedRegister[] {
  return (['FS_BASE', 'GS_BASE'] as const).map((name) =>
    general(SEGMENTS, nameOf(name), 64, 'data_ptr', { kind: 'file', name }),
  );
}

function system(): SourcedRegister[] {
  return SYSTEM.map(([name, bits, type]) => ({
    ...general(CONTROL, nameOf(name), bits, type, { kind: 'file', name }),
    group: 'system',
    isGeneral: false,
  }));
}

function typeOfField({ name, width }: VmcsField): RegisterType {
  if (name.endsWith('_RIP')) return 'code_ptr';
  if (width !== 'natural') return `uint${width.toString() as '16' | '32' | '64'}`;
  return /_(?:BASE|RSP|CR3|SSP|SSP_TABLE|ESP|EIP)$/.test(name) ? 'data_ptr' : 'uint64';
}

function vmcs(): SourcedRegister[] {
  return VMCS_FIELDS.map((field) => ({
    name: field.name,
    bits: field.width === 'natural' ? 64 : field.width,
    type: typeOfField(field),
    feature: VMCS,
    group: 'vmcs',
    isGeneral: false,
    isExpedited: false,
    source: { kind: 'vmcs', field },
  }));
}

/** All of them. */
export const GDB_REGISTERS: readonly SourcedRegister[] = [
  ...core(),
  ...sse(),
  ...segments(),
  ...system(),
  ...vmcs(),
];
