/**
 * Runs call frame instructions up to an address.
 *
 * Source: DWARF 5, "Call Frame Instructions".
 */
import type { Budget } from './budget.js';
import type { Cursor } from './cursor.js';
import { refuseDwarf } from './errors.js';

/** What the descriptions of many functions share. */
export interface CommonInformation {
  readonly codeAlign: number;
  readonly dataAlign: number;
  readonly returnRegister: number;
  /** How .eh_frame writes its pointers. */
  readonly encoding: number;
  readonly hasData: boolean;
  /** The code was not called: an event interrupted what it returns to, at any instruction. */
  readonly isSignal: boolean;
  readonly program: readonly [number, number];
}

/** Where the caller's value of a register is. */
export type RegisterRule =
  | { readonly kind: 'same' }
  | { readonly kind: 'undefined' }
  /** In memory at the canonical frame address and an offset. */
  | { readonly kind: 'saved'; readonly offset: number }
  /** The canonical frame address and an offset itself. */
  | { readonly kind: 'value'; readonly offset: number }
  | { readonly kind: 'register'; readonly register: number }
  | { readonly kind: 'expression'; readonly bytes: Uint8Array; readonly isValue: boolean };

/** The canonical frame address. */
export type CfaRule =
  | { readonly kind: 'register'; readonly register: number; readonly offset: number }
  | { readonly kind: 'expression'; readonly bytes: Uint8Array };

/** The rules that hold at one address; a register without a rule keeps its value. */
export interface FrameRow {
  readonly cfa: CfaRule;
  readonly rules: ReadonlyMap<number, RegisterRule>;
  readonly returnRegister: number;
  readonly isSignal: boolean;
}

// prettier-ignore
const CFA = {
  nop: 0, set_loc: 1, advance_loc1: 2, advance_loc2: 3, advance_loc4: 4, offset_extended: 5, restore_extended: 6,
  undefined: 7, same_value: 8, register: 9, remember_state: 10, restore_state: 11, def_cfa: 12, def_cfa_register: 13,
  def_cfa_offset: 14, def_cfa_expression: 15, expression: 16, offset_extended_sf: 17, def_cfa_sf: 18,
  def_cfa_offset_sf: 19, val_offset: 20, val_offset_sf: 21, val_expression: 22, GNU_args_size: 0x2e,
} as const;
const MAX_REMEMBERED = 256;

interface State {
  cfa: CfaRule;
  rules: Map<number, RegisterRule>;
}

/** The row at `wanted` of a function that begins at `start`. @throws DwarfError BAD_FRAME. */
export function runFrameProgram(
  common: CommonInformation,
  initial: Cursor,
  own: Cursor,
  start: number,
  wanted: number,
  budget: Budget,
): FrameRow {
  let state: State = { cfa: { kind: 'register', register: 7, offset: 0 }, rules: new Map() };
  const remembered: State[] = [];
  let restored: ReadonlyMap<number, RegisterRule> = new Map();
  let address = start;
  /** Whether the row asked for is complete. */
  const step = (cursor: Cursor): boolean => {
    const advance = (count: number): boolean => {
      address += count * common.codeAlign;
      return address > wanted;
    };
    const set = (register: number, rule: RegisterRule): false => {
      state.rules.set(register, rule);
      return false;
    };
    const restore = (register: number): false => {
      const rule = restored.get(register);
      if (rule === undefined) state.rules.delete(register);
      else state.rules.set(register, rule);
      return false;
    };
    const cfa = (rule: CfaRule): false => {
      state.cfa = rule;
      return false;
    };
    const cfaRegister = (): number => (state.cfa.kind === 'register' ? state.cfa.register : 0);
    const saved = (scaled: number): RegisterRule => ({
      kind: 'saved',
      offset: scaled * common.dataAlign,
    });
    const value = (scaled: number): RegisterRule => ({
      kind: 'value',
      offset: scaled * common.dataAlign,
    });
    const block = (): Uint8Array => cursor.block(cursor.index()).slice();
    const at = cursor.offset;
    const opcode = cursor.u8();
    const low = opcode & 0x3f;
    if (opcode >> 6 === 1) return advance(low);
    if (opcode >> 6 === 2) return set(low, saved(cursor.index()));
    if (opcode >> 6 === 3) return restore(low);
    // prettier-ignore
    switch (opcode) {
      case CFA.nop: return false;
      case CFA.set_loc: address = cursor.index64(); return address > wanted;
      case CFA.advance_loc1: return advance(cursor.u8());
      case CFA.advance_loc2: return advance(cursor.u16());
      case CFA.advance_loc4: return advance(cursor.u32());
      case CFA.offset_extended: return set(cursor.index(), saved(cursor.index()));
      case CFA.offset_extended_sf: return set(cursor.index(), saved(cursor.signedIndex()));
      case CFA.restore_extended: return restore(cursor.index());
      case CFA.undefined: return set(cursor.index(), { kind: 'undefined' });
      case CFA.same_value: return set(cursor.index(), { kind: 'same' });
      case CFA.register: return set(cursor.index(), { kind: 'register', register: cursor.index() });
      case CFA.def_cfa: return cfa({ kind: 'register', register: cursor.index(), offset: cursor.index() });
      case CFA.def_cfa_sf:
        return cfa({ kind: 'register', register: cursor.index(), offset: cursor.signedIndex() * common.dataAlign });
      case CFA.def_cfa_register:
        return cfa({ kind: 'register', register: cursor.index(), offset: state.cfa.kind === 'register' ? state.cfa.offset : 0 });
      case CFA.def_cfa_offset: return cfa({ kind: 'register', register: cfaRegister(), offset: cursor.index() });
      case CFA.def_cfa_offset_sf:
        return cfa({ kind: 'register', register: cfaRegister(), offset: cursor.signedIndex() * common.dataAlign });
      case CFA.def_cfa_expression: return cfa({ kind: 'expression', bytes: block() });
      case CFA.expression: return set(cursor.index(), { kind: 'expression', bytes: block(), isValue: false });
      case CFA.val_expression: return set(cursor.index(), { kind: 'expression', bytes: block(), isValue: true });
      case CFA.val_offset: return set(cursor.index(), value(cursor.index()));
      case CFA.val_offset_sf: return set(cursor.index(), value(cursor.signedIndex()));
      case CFA.GNU_args_size: cursor.skipLeb(); return false;
      case CFA.remember_state:
        if (remembered.push({ cfa: state.cfa, rules: new Map(state.rules) }) <= MAX_REMEMBERED) return false;
        break;
      case CFA.restore_state: {
        const last = remembered.pop();
        if (last === undefined) break;
        state = last;
        return false;
      }
    }
    return refuseDwarf('BAD_FRAME', `instruction ${opcode}`, {
      section: cursor.section,
      offset: at,
    });
  };
  const run = (cursor: Cursor): void => {
    while (!cursor.isAtEnd) {
      budget.spend(1 + state.rules.size);
      if (step(cursor)) return;
    }
  };
  run(initial);
  restored = new Map(state.rules);
  run(own);
  const { returnRegister, isSignal } = common;
  return { cfa: state.cfa, rules: state.rules, returnRegister, isSignal };
}
