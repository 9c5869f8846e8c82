/** A finding as one sentence, and the line of a file that it is about. */
import { RULES } from '../../../../abi/compat/rules.js';
import type { Finding } from '../../../../abi/compat/rules.js';
import { headerLine } from './header-lines.js';
import type { HeaderLine } from './header-lines.js';

/** What was expected and found, and why that matters. */
export function sentenceOf({ rule, struct, field, expected, actual }: Finding): string {
  const what = [struct, field].filter((part) => part !== '').join('.');
  const where = what === '' ? '' : `${what}: `;
  return `${where}expected ${expected}, found ${actual} (${RULES[rule].explanation})`;
}

/** The source line of code, or the header's line of a structure, field or enumerator. */
export function lineOf({ source, struct, field }: Finding): HeaderLine {
  return source ?? headerLine(struct, field);
}
