/**
 * What names mean at a stop: variables of the frame, shared structures, globals, enumerators, symbols, VMCS and MSRs.
 *
 * Invariant: an inner name hides an outer one: variables in scope, then `ccb` and its kin, globals, constants, symbols.
 * A variable that the compiler did not keep hides nothing of that name that can be read.
 */
import { msrName, MSR } from '../../../../abi/msrs.js';
import type { MsrName } from '../../../../abi/msrs.js';
import { hex, u64 } from '../../../../abi/uint.js';
import { VMCS_FIELDS } from '../../../../abi/vmcs-fields.js';
import { unsignedOf } from '../../../../loader/dwarf/c-types.js';
import type { CType } from '../../../../loader/dwarf/c-types.js';
import type { Frame } from '../backtrace.js';
import {
  ADDRESS_FIELD,
  isSharedName,
  KNOWN_CONSTANTS,
  recordOf,
  SHARED_STRUCTURES,
} from '../contract-types.js';
import type { SharedName } from '../contract-types.js';
import type { CoreView } from '../core-view.js';
import { REGISTER_SPELLINGS, registerNamed } from '../register-names.js';
import { DWARF_REGISTERS } from '../../../../loader/dwarf/constants.js';
import {
  globalNamed,
  globalsOf,
  memoryValue,
  variableNamed,
  variablesOf,
} from '../values/locate.js';
import { bytesOf, isThere, numberValue, S64, U16, U32, U64, U8 } from '../values/value.js';
import type { MaybeValue, Value } from '../values/value.js';

const SCALARS: Readonly<Record<string, CType>> = { u8: U8, u16: U16, u32: U32, u64: U64 };

/** The names of one core at one stop, seen from one frame. */
export class ExpressionScope {
  readonly core: CoreView;
  readonly #frameOf: (() => Frame | null) | null;
  #frame: Frame | null = null;

  /** A frame that is asked for when the first name needs it is a function. */
  constructor(core: CoreView, frame: Frame | null | (() => Frame | null) = null) {
    this.core = core;
    if (typeof frame === 'function') this.#frameOf = frame;
    else {
      this.#frameOf = null;
      this.#frame = frame;
    }
  }

  get frame(): Frame | null {
    if (this.#frame === null && this.#frameOf !== null) this.#frame = this.#frameOf();
    return this.#frame;
  }

  /** A name without `$`; undefined when nothing has it. */
  named(name: string): MaybeValue | undefined {
    const variable = this.#variable(name);
    if (variable !== undefined && isThere(variable)) return variable;
    return this.#outer(name) ?? variable;
  }

  /** A register, a part of one, or a value of the session; undefined when there is none. */
  register(name: string): MaybeValue | undefined {
    const session = this.core.sessionValues.get(name);
    if (session !== undefined) return numberValue(session, U64);
    const part = registerNamed(name);
    if (part === null) return undefined;
    const { register, bitOffset, bits } = part;
    const type = bits === 8 ? U8 : bits === 16 ? U16 : bits === 32 ? U32 : U64;
    const whole = this.#registerOfFrame(register.toLowerCase());
    if (whole === null) return { type, problem: `${name} was not saved by the callee` };
    const place: Value['place'] = { kind: 'register', register, bitOffset };
    return { type, place, bytes: bytesOf(whole >> BigInt(bitOffset), bits / 8), bits: null };
  }

  /** A field of the current VMCS; undefined when there is no such field. */
  vmcs(name: string): MaybeValue | undefined {
    const field = VMCS_FIELDS.find((one) => one.name === name.toUpperCase());
    if (field === undefined) return undefined;
    const { width } = field;
    const type = width === 16 ? U16 : width === 32 ? U32 : U64;
    const value = this.core.vmcsField(field.name);
    if (value === null) return { type, problem: `${field.name} has no defined value now` };
    const place: Value['place'] = { kind: 'vmcs', field: field.name };
    return { type, place, bytes: bytesOf(value, type.sizeBytes), bits: null };
  }

  /** An MSR by its name; undefined when there is no such name. */
  msr(name: string): MaybeValue | undefined {
    if (!Object.hasOwn(MSR, name.toUpperCase())) return undefined;
    return this.msrAt(MSR[name.toUpperCase() as MsrName]);
  }

  /** An MSR by its index. */
  msrAt(index: number): MaybeValue {
    const value = this.core.msr(index);
    if (value === null) return { type: U64, problem: `no MSR ${msrName(index) ?? hex(index)}` };
    return { type: U64, place: { kind: 'msr', index }, bytes: bytesOf(value, 8), bits: null };
  }

  /** A type by its C spelling; undefined when the program has none of that name. */
  type(name: string): CType | undefined {
    const own = this.core.source?.program.ask(({ types }) => types.named(name)) ?? undefined;
    return own ?? SCALARS[name] ?? (name === 's64' ? S64 : undefined);
  }

  /** Memory as a value of a type. */
  memory(address: bigint, type: CType): MaybeValue {
    return memoryValue(this.core, u64(address), type);
  }

  /** A shared structure; its address is in the control block. */
  shared(name: SharedName): MaybeValue {
    const type = recordOf(SHARED_STRUCTURES[name]);
    const { ccbAddress } = this.core;
    if (ccbAddress === null) return { type, problem: 'this core runs no payload' };
    if (name === 'ccb') return this.memory(ccbAddress, type);
    const pointer = this.core.read(u64(ccbAddress + BigInt(ADDRESS_FIELD[name])), 8);
    const address = pointer === null ? 0n : unsignedOf(pointer);
    if (address === 0n) return { type, problem: `the CCB names no ${name} yet` };
    return this.memory(address, type);
  }

  /** Every name that named() knows, for "did you mean". */
  get names(): readonly string[] {
    const source = this.core.source;
    const variables = this.frame === null ? [] : variablesOf(this.core, this.frame);
    const globals = source === null ? [] : globalsOf(this.core, source);
    const enumerators = source?.program.ask(({ types }) => [...types.enumerators.keys()]) ?? [];
    const symbols = source?.program.image.symbols ?? [];
    return [
      ...variables.map(({ name }) => name),
      ...Object.keys(SHARED_STRUCTURES),
      'vmcs',
      'msr',
      ...globals.map(({ name }) => name),
      ...symbols.map(({ name }) => name),
      ...enumerators,
      ...KNOWN_CONSTANTS.keys(),
    ];
  }

  /** Names after `$`. */
  get registerNames(): readonly string[] {
    return [...REGISTER_SPELLINGS, ...this.core.sessionValues.keys()];
  }

  #variable(name: string): MaybeValue | undefined {
    const { frame } = this;
    return frame === null ? undefined : variableNamed(this.core, frame, name);
  }

  #outer(name: string): MaybeValue | undefined {
    if (isSharedName(name)) return this.shared(name);
    const { source } = this.core;
    if (source !== null) {
      const global = globalNamed(this.core, source, name);
      if (global !== undefined) return global;
      const value = source.program.ask(({ types }) => types.enumerators.get(name)) ?? undefined;
      if (value !== undefined) return numberValue(value, S64);
    }
    const constant = KNOWN_CONSTANTS.get(name);
    if (constant !== undefined) return numberValue(constant, S64);
    const address = source?.addressOf(name) ?? null;
    return address === null ? undefined : numberValue(address, U64);
  }

  /** General registers and RIP are the frame's own; all others are the core's. */
  #registerOfFrame(name: string): bigint | null {
    const number = (DWARF_REGISTERS as readonly string[]).indexOf(name);
    if (this.frame !== null && number >= 0) return this.frame.registers.get(number) ?? null;
    const part = registerNamed(name);
    return part === null ? null : this.core.register(part.register);
  }
}
