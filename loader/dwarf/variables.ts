/**
 * The variables and parameters that are in scope at an address, with their types and where they are.
 *
 * Source: DWARF 5, "Data Object Entries", "Lexical Block Entries", DW_AT_frame_base.
 */
import { s64, toIndex, u64 } from '../../abi/uint.js';
import { DW_AT, DW_TAG } from './constants.js';
import type { DebugInfo } from './debug-info.js';
import type { Entry } from './entry.js';
import type { Functions } from './functions.js';
import { expressionAt } from './location-lists.js';
import { readLocation } from './location.js';
import type { Location } from './location.js';
import { Types } from './types.js';

/** One variable or parameter. */
export interface Variable {
  readonly name: string;
  readonly isParameter: boolean;
  /** The function that declares it; empty for a global. */
  readonly scope: string;
  readonly type: string;
  readonly canonical: string;
  readonly sizeBytes: number;
  readonly location: Location;
  /** The entry of its type, for c-types.ts. */
  readonly typeEntry: Entry | undefined;
}

const T = DW_TAG;
const VARIABLES: ReadonlySet<number> = new Set([T.variable]);
const NAMED: ReadonlySet<number> = new Set([T.variable, T.formal_parameter]);

/** The variables of one file. */
export class Variables {
  readonly #info: DebugInfo;
  readonly #types: Types;
  readonly #functions: Functions;
  readonly #at = new Map<bigint, readonly Variable[]>();
  #globals: readonly Variable[] | undefined;
  #names: ReadonlySet<string> | undefined;

  constructor(info: DebugInfo, functions: Functions) {
    this.#info = info;
    this.#types = new Types(info);
    this.#functions = functions;
  }

  /** Those in scope at an address, innermost scope last; the location is the one that holds there. */
  at(address: bigint): readonly Variable[] {
    let found = this.#at.get(address);
    if (found === undefined) {
      found = this.#readAt(address);
      this.#at.set(address, found);
    }
    return found;
  }

  /** Variables at fixed addresses, of all units. */
  globals(): readonly Variable[] {
    this.#globals ??= this.#readGlobals();
    return this.#globals;
  }

  /** The names of all variables and parameters, whatever their scope. */
  get names(): ReadonlySet<string> {
    this.#names ??= new Set(
      this.#info.units.flatMap((unit) =>
        [...this.#info.entries(unit, NAMED)].flatMap((entry) => this.#info.nameOf(entry) ?? []),
      ),
    );
    return this.#names;
  }

  #readAt(address: bigint): readonly Variable[] {
    const scopes = this.#functions.scopesAt(address);
    const [outermost] = scopes;
    if (outermost === undefined) return [];
    const wanted = toIndex(address);
    const frameBase = this.#locate(outermost, DW_AT.frame_base, wanted);
    let name = '';
    return scopes.flatMap((scope) => {
      if (scope.tag !== T.lexical_block) name = this.#info.nameOf(scope) ?? '??';
      return [...scope.children()]
        .filter(({ tag }) => tag === T.variable || tag === T.formal_parameter)
        .flatMap((entry) => this.#describe(entry, name, wanted, frameBase));
    });
  }

  #readGlobals(): readonly Variable[] {
    this.#info.budget.renew();
    return this.#info.units.flatMap((unit) =>
      [...this.#info.entries(unit, VARIABLES)]
        .filter((entry) => entry.has(DW_AT.location))
        .flatMap((entry) => this.#describe(entry, '', 0, { kind: 'optimisedOut' }))
        .filter(({ location }) => location.kind === 'address'),
    );
  }

  #describe(entry: Entry, scope: string, address: number, frameBase: Location): Variable[] {
    this.#info.budget.spend(1);
    const name = this.#info.nameOf(entry);
    if (name === undefined) return [];
    const typeEntry = this.#types.typeOf(entry);
    const { spelling, canonical, size } = this.#types.factsOf(typeEntry);
    return [
      {
        name,
        isParameter: entry.tag === T.formal_parameter,
        scope,
        type: spelling,
        canonical,
        sizeBytes: size,
        location: based(
          this.#constantOf(entry) ?? this.#locate(entry, DW_AT.location, address),
          frameBase,
        ),
        typeEntry,
      },
    ];
  }

  #constantOf(entry: Entry): Location | undefined {
    const value = this.#info.inherited(entry, DW_AT.const_value)?.value;
    if (value?.kind === 'constant') return { kind: 'constant', value: u64(value.value) };
    return value?.kind === 'block' ? { kind: 'bytes', bytes: value.value.slice() } : undefined;
  }

  #locate(entry: Entry, attribute: number, address: number): Location {
    const found = this.#info.inherited(entry, attribute);
    const { unit } = found?.from ?? entry;
    const expression = found && expressionAt(this.#info, unit, found.value, address);
    if (expression === undefined) return { kind: 'optimisedOut' };
    return readLocation(this.#info, unit, expression);
  }
}

/** A location relative to the frame in terms of what the frame base is. */
function based(location: Location, frameBase: Location): Location {
  if (location.kind !== 'frame') return location;
  const offset = s64(location.offset);
  if (frameBase.kind === 'cfa') return { kind: 'cfa', offset: frameBase.offset + offset };
  if (frameBase.kind === 'register')
    return { kind: 'memory', register: frameBase.register, offset };
  if (frameBase.kind === 'memory') return { ...frameBase, offset: frameBase.offset + offset };
  return location;
}
