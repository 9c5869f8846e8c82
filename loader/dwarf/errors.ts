/**
 * Why debug information is refused: one code a rule, and the rule's sentence beside it.
 *
 * Source: the DWARF 4 and DWARF 5 standards for what a field may hold.
 * Invariant: reading debug information ends in a value or in a DwarfError with section and offset; never in a hang.
 */
import { HarnessError } from '../../abi/errors.js';

// prettier-ignore
export const DWARF_RULES = {
  NOT_ELF: 'a file with debug information is a little-endian 64-bit ELF file',
  BAD_SECTION: 'the bytes of a debug section lie inside the file',
  BAD_COMPRESSION: 'a compressed section is zlib data of the size that its header gives',
  NO_DEBUG_INFO: 'the file has debug information: .debug_info and .debug_abbrev',
  TRUNCATED: 'what is read lies inside its section',
  NUMBER_TOO_LARGE: 'a number used as address, offset or count fits in 53 bits',
  BAD_UNIT: 'a unit lies inside its section, and its header is one of DWARF 4 or 5',
  UNSUPPORTED_VERSION: 'a unit, line table or list table has a version from 2 to 5',
  BAD_ABBREVIATION: 'an entry names an abbreviation of its unit',
  BAD_FORM: 'an attribute has a form of DWARF 5 or of GNU, and one that its meaning allows',
  BAD_REFERENCE: 'a reference leads to an entry of a unit in the file',
  BAD_STRING: 'a string ends inside its section',
  BAD_LIST: 'a range or location list has entries of DWARF 4 or 5',
  BAD_LINE_PROGRAM: 'a line program has a header that its opcodes agree with',
  BAD_EXPRESSION: 'a location expression has operations of DWARF 5 or of GNU',
  BAD_FRAME: 'a frame description names a common information entry and has known instructions',
  TYPE_CYCLE: 'a type contains itself through pointers only, and is nested less than 64 deep',
  TOO_MUCH_WORK: 'debug information takes work in proportion to its size',
} as const;

/** Names a rule of DWARF_RULES. */
export type DwarfErrorCode = keyof typeof DWARF_RULES;

/** Debug information that breaks a rule; `details` has `section` and `offset`. */
export class DwarfError extends HarnessError<DwarfErrorCode> {}

/** @throws DwarfError always, with the rule that `code` stands for. */
export function refuseDwarf(
  code: DwarfErrorCode,
  message: string,
  details: Readonly<Record<string, unknown>> = {},
  cause?: unknown,
): never {
  const rule = DWARF_RULES[code];
  throw new DwarfError(code, `${message} (rule: ${rule})`, { rule, ...details }, { cause });
}
