/**
 * Runs a line program: from opcodes to rows of address, file, line and column.
 *
 * Source: DWARF 5, "The Line Number Program" (the state machine and its opcodes).
 * Invariant: a row costs at least a byte of the program, so that the program bounds the rows.
 * Not modelled: more than one operation in an instruction (VLIW).
 */
import type { Budget } from './budget.js';
import { refuseDwarf } from './errors.js';
import type { LineHeader } from './line-header.js';

/** One row of a line table; `file` is a number of its header. */
export interface LineRow {
  readonly address: number;
  readonly file: number;
  readonly line: number;
  readonly column: number;
  readonly isStatement: boolean;
}

/** Rows with ascending addresses, and the address after the last one's code. */
export interface LineSequence {
  readonly rows: readonly LineRow[];
  readonly end: number;
}

// prettier-ignore
const DW_LNS = {
  copy: 1, advance_pc: 2, advance_line: 3, set_file: 4, set_column: 5, negate_stmt: 6, set_basic_block: 7,
  const_add_pc: 8, fixed_advance_pc: 9, set_prologue_end: 10, set_epilogue_begin: 11, set_isa: 12,
} as const;
const DW_LNE = { end_sequence: 1, set_address: 2 } as const;

/** All sequences of a program. @throws DwarfError. */
export function runLineProgram(header: LineHeader, budget: Budget): LineSequence[] {
  const { program, opcodeBase, lineBase, lineRange, minimumLength, operandCounts } = header;
  const sequences: LineSequence[] = [];
  const fresh = (): { -readonly [Key in keyof LineRow]: LineRow[Key] } => {
    return { address: 0, file: 1, line: 1, column: 0, isStatement: header.defaultIsStatement };
  };
  let state = fresh();
  let rows: LineRow[] = [];
  const emit = (): void => void rows.push({ ...state });
  const advance = (operation: number): void =>
    void (state.address += minimumLength * Math.floor(operation / lineRange));
  while (!program.isAtEnd) {
    budget.spend(1);
    const at = program.offset;
    const opcode = program.u8();
    if (opcode >= opcodeBase) {
      advance(opcode - opcodeBase);
      state.line += lineBase + ((opcode - opcodeBase) % lineRange);
      emit();
      continue;
    }
    if (opcode === 0) {
      const length = program.index();
      const next = program.offset + length;
      const extended = length === 0 ? 0 : program.u8();
      if (extended === DW_LNE.end_sequence) {
        if (rows.length > 0) sequences.push({ rows, end: state.address });
        [rows, state] = [[], fresh()];
      } else if (extended === DW_LNE.set_address) state.address = program.unsigned(length - 1);
      if (program.offset > next) {
        const where = { section: program.section, offset: at };
        refuseDwarf('BAD_LINE_PROGRAM', 'an extended opcode longer than its length', where);
      }
      program.skip(next - program.offset);
      continue;
    }
    // prettier-ignore
    switch (opcode) {
      case DW_LNS.copy: emit(); break;
      case DW_LNS.advance_pc: state.address += minimumLength * program.index(); break;
      case DW_LNS.advance_line: state.line += program.signedIndex(); break;
      case DW_LNS.set_file: state.file = program.index(); break;
      case DW_LNS.set_column: state.column = program.index(); break;
      case DW_LNS.negate_stmt: state.isStatement = !state.isStatement; break;
      case DW_LNS.const_add_pc: advance(255 - opcodeBase); break;
      case DW_LNS.fixed_advance_pc: state.address += program.u16(); break;
      default: for (let n = operandCounts[opcode]!; n > 0; n--) program.skipLeb();
    }
    if (!Number.isSafeInteger(state.address) || !Number.isSafeInteger(state.line)) {
      refuseDwarf('NUMBER_TOO_LARGE', 'a line program counts above 2^53', {
        section: program.section,
        offset: at,
      });
    }
  }
  return sequences;
}
