/**
 * The variables of a frame as values: from registers, memory at the frame, fixed addresses and constants.
 *
 * Source: DWARF 5, "Location Descriptions"; loader/dwarf/{variables,location}.ts.
 * Invariant: a part that the compiler kept nowhere makes the whole "optimised out"; nothing is guessed.
 */
import { hex, u64 } from '../../../../abi/uint.js';
import type { CType } from '../../../../loader/dwarf/c-types.js';
import type { Location } from '../../../../loader/dwarf/location.js';
import type { Variable } from '../../../../loader/dwarf/variables.js';
import { registerOfDwarf } from '../backtrace.js';
import type { Frame } from '../backtrace.js';
import type { CoreView } from '../core-view.js';
import type { SourceMap } from '../source-map.js';
import { bytesOf, isThere } from './value.js';
import type { MaybeValue, Place } from './value.js';

/** A variable or parameter in scope. */
export interface LocatedVariable {
  readonly name: string;
  readonly isParameter: boolean;
  /** The function that declares it, which may be inlined; empty for a global. */
  readonly scope: string;
  readonly value: MaybeValue;
}

const NONE: Place = { kind: 'none' };
/** What a face says of a variable without a location. */
export const OPTIMISED_OUT = 'optimised out';

/** The variables of a frame, innermost scope first; in each scope in the order of the source. */
export function variablesOf(core: CoreView, frame: Frame): readonly LocatedVariable[] {
  return inScope(core, frame, () => true);
}

/** The variable of a name in a frame, of an inner scope before an outer one, and of those the first that has a value. */
export function variableNamed(core: CoreView, frame: Frame, name: string): MaybeValue | undefined {
  const found = inScope(core, frame, (variable) => variable.name === name);
  return (found.find(({ value }) => isThere(value)) ?? found[0])?.value;
}

/** The variables at fixed addresses of an instance. */
export function globalsOf(core: CoreView, source: SourceMap): readonly LocatedVariable[] {
  return globalVariables(source).map((variable) => located(core, null, source, variable));
}

/** The variable of a name at a fixed address of an instance. */
export function globalNamed(
  core: CoreView,
  source: SourceMap,
  name: string,
): MaybeValue | undefined {
  const found = globalVariables(source).find((variable) => variable.name === name);
  return found === undefined ? undefined : located(core, null, source, found).value;
}

function globalVariables({ program }: SourceMap): readonly Variable[] {
  return program.ask(({ variables }) => variables.globals()) ?? [];
}

function inScope(
  core: CoreView,
  frame: Frame,
  isWanted: (variable: Variable) => boolean,
): readonly LocatedVariable[] {
  const source = core.sourceOf(frame.lookup);
  if (source === null) return [];
  const linked = source.linked(frame.lookup);
  const found = (source.program.ask(({ variables }) => variables.at(linked)) ?? []).filter(
    isWanted,
  );
  const scopes = [...new Set(found.map(({ scope }) => scope))].reverse();
  return scopes.flatMap((scope) =>
    found
      .filter((variable) => variable.scope === scope)
      .map((variable) => located(core, frame, source, variable)),
  );
}

function located(
  core: CoreView,
  frame: Frame | null,
  source: SourceMap,
  variable: Variable,
): LocatedVariable {
  const { name, isParameter, scope, location, typeEntry } = variable;
  const type = source.program.ask(({ types }) => types.of(typeEntry)) ?? {
    kind: 'void',
    spelling: variable.type,
    sizeBytes: 0,
  };
  return { name, isParameter, scope, value: valueAt(core, frame, source, location, type) };
}

/** The value of a type at a location. */
function valueAt(
  core: CoreView,
  frame: Frame | null,
  source: SourceMap,
  location: Location,
  type: CType,
): MaybeValue {
  const { sizeBytes } = type;
  const missing = (problem: string): MaybeValue => ({ type, problem });
  const memory = (address: bigint): MaybeValue => memoryValue(core, address, type);
  switch (location.kind) {
    case 'register': {
      const value = frame?.registers.get(location.register);
      const register = registerOfDwarf(location.register);
      if (value === undefined) return missing(`${register ?? 'its register'} was not saved`);
      const isInnermost = frame?.found === 'registers' && register !== null;
      const place: Place = isInnermost ? { kind: 'register', register, bitOffset: 0 } : NONE;
      // A structure of up to 16 bytes lies in two registers, which only pieces can say.
      if (sizeBytes > 8) return missing('in more than one register');
      return { type, place, bytes: bytesOf(value, sizeBytes), bits: null };
    }
    case 'memory': {
      const base = frame?.registers.get(location.register);
      return base === undefined
        ? missing(`${registerOfDwarf(location.register) ?? 'its register'} was not saved`)
        : memory(u64(base + location.offset));
    }
    case 'cfa': {
      const cfa = frame?.cfa ?? null;
      return cfa === null ? missing('its frame is not known') : memory(u64(cfa + location.offset));
    }
    case 'address':
      return memory(source.placed(location.address));
    case 'constant':
      return { type, place: NONE, bytes: bytesOf(location.value, sizeBytes), bits: null };
    case 'bytes':
      return { type, place: NONE, bytes: location.bytes.slice(0, sizeBytes), bits: null };
    case 'pieces':
      return joined(core, frame, source, location, type);
    case 'frame':
      return missing('its frame is not known');
    case 'other':
      return missing('computed in a way that is not modelled');
    case 'optimisedOut':
      return missing(OPTIMISED_OUT);
  }
}

/** A value in memory, or why it cannot be read. */
export function memoryValue(core: CoreView, address: bigint, type: CType): MaybeValue {
  const bytes = core.read(address, type.sizeBytes);
  if (bytes === null) return { type, problem: `no memory at ${hex(address)}` };
  return { type, place: { kind: 'memory', address }, bytes, bits: null };
}

function joined(
  core: CoreView,
  frame: Frame | null,
  source: SourceMap,
  { pieces }: Extract<Location, { kind: 'pieces' }>,
  type: CType,
): MaybeValue {
  const bytes = new Uint8Array(type.sizeBytes);
  let at = 0;
  for (const { location, sizeBytes } of pieces) {
    const part: CType = { kind: 'other', spelling: type.spelling, sizeBytes };
    const value = valueAt(core, frame, source, location, part);
    if (!('bytes' in value)) return { type, problem: value.problem };
    bytes.set(value.bytes.subarray(0, Math.max(0, bytes.length - at)), at);
    at += sizeBytes;
  }
  return { type, place: NONE, bytes, bits: null };
}
