/**
 * `abi check` of everything but layouts: what the loader says of the file, what init builds, what the code does.
 *
 * Invariant: a file that cannot be judged has a finding that says so.
 */
import type { CodeRules } from '../../abi/compat/profiles.js';
import { finding } from '../../abi/compat/rules.js';
import type { Finding } from '../../abi/compat/rules.js';
import { DwarfError } from '../../loader/dwarf/errors.js';
import { parseElf } from '../../loader/elf.js';
import { LoaderError } from '../../loader/errors.js';
import type { CaretakerImage } from '../../loader/image.js';
import { CCB_RULE } from '../host/kvm/ccb-rule.js';
import { buildTables } from './built-tables.js';
import { codeOfFile, codeOfImage } from './code-image.js';
import type { CodeImage } from './code-image.js';
import { checkCode } from './code-rules.js';
import type { StackUse } from './code-rules.js';
import { refusalFinding } from './image-findings.js';
import { noteFindings } from './note-rules.js';

/** What was found, and what was looked at. */
export interface PayloadVerdict {
  readonly findings: readonly Finding[];
  /** Why the loader refuses the file; null when it accepts it. */
  readonly refusal: LoaderError | null;
  readonly stack: readonly StackUse[];
  readonly functions: number;
  /** Gates of the IDT that init built, and that lead into .text. */
  readonly gates: number;
}

/** Holds a file's image and code against the rules of a profile. */
export function checkPayload(file: Uint8Array, rules: CodeRules): PayloadVerdict {
  if (!rules.isPayload) return checkPlain(file, rules);
  const image = imageOrRefusal(file);
  if (image instanceof LoaderError) {
    return { findings: [refusalFinding(image)], refusal: image, stack: [], functions: 0, gates: 0 };
  }
  const code = codeOfImage(image);
  const tables = buildTables(file, code);
  const { findings, stack, functions } = checkCode(code, rules, tables.gates);
  const notes = rules.ibt ? noteFindings(image.notes) : [];
  return {
    findings: [...tables.findings, ...notes, ...findings],
    refusal: null,
    stack,
    functions,
    gates: tables.gates.length,
  };
}

/** Code that is no payload of the RFC's: functions alone, whoever calls them. */
function checkPlain(file: Uint8Array, rules: CodeRules): PayloadVerdict {
  const code = codeOrNone(file);
  if (code === undefined || code.text.length === 0) {
    const missing = finding('code-missing', '', '', 'linked code in .text', 'none');
    return { findings: [missing], refusal: null, stack: [], functions: 0, gates: 0 };
  }
  const { findings, stack, functions } = checkCode(code, rules, []);
  return { findings, refusal: null, stack, functions, gates: 0 };
}

function imageOrRefusal(file: Uint8Array): CaretakerImage | LoaderError {
  try {
    return parseElf(file, CCB_RULE);
  } catch (error) {
    if (error instanceof LoaderError) return error;
    throw error;
  }
}

/** A file that is no ELF at all has a finding of its own, where its layouts are read. */
function codeOrNone(file: Uint8Array): CodeImage | undefined {
  try {
    return codeOfFile(file);
  } catch (error) {
    if (error instanceof DwarfError) return undefined;
    throw error;
  }
}
