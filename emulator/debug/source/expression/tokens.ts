/**
 * The words of an expression.
 *
 * Source: C11, "Lexical elements", as far as an expression over a stopped machine needs them; `$name` as in gdb.
 * Invariant: tokens end with one `end`, and each knows its column.
 */
import { U64_MAX } from '../../../../abi/uint.js';
import { refuseAt } from '../errors.js';

/** One word, with the column where it begins. */
export type Token =
  | { readonly kind: 'number'; readonly value: bigint; readonly column: number }
  | { readonly kind: 'name'; readonly text: string; readonly column: number }
  | { readonly kind: 'register'; readonly text: string; readonly column: number }
  | { readonly kind: 'operator'; readonly text: string; readonly column: number }
  | { readonly kind: 'end'; readonly text: ''; readonly column: number };

// prettier-ignore
const OPERATORS = [
  '->', '<<', '>>', '<=', '>=', '==', '!=', '&&', '||',
  '(', ')', '[', ']', '.', '+', '-', '*', '/', '%', '&', '|', '^', '~', '!', '<', '>', '?', ':', '=', ',', '::',
] as const;

const WORD = /[A-Za-z_][A-Za-z0-9_]*/y;
const NUMBER = /0[xX][0-9a-fA-F_]+|0[bB][01_]+|[0-9][0-9_]*/y;
const REGISTER = /\$[A-Za-z_][A-Za-z0-9_]*/y;
const CHARACTER = /'(\\?[^'])'/y;
const ESCAPES: Readonly<Record<string, number>> = { n: 10, t: 9, r: 13, '0': 0, '\\': 92 };

/** Cuts a text into tokens. @throws SourceError EXPRESSION_SYNTAX. */
export function tokenise(text: string): readonly Token[] {
  const tokens: Token[] = [];
  let column = 0;
  const match = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = column;
    return pattern.exec(text)?.[0];
  };
  while (column < text.length) {
    if (/\s/.test(text[column]!)) {
      column++;
      continue;
    }
    const register = match(REGISTER);
    const word = match(WORD);
    const number = match(NUMBER);
    const character = match(CHARACTER);
    const found = register ?? word ?? number ?? character;
    if (register !== undefined) tokens.push({ kind: 'register', text: register.slice(1), column });
    else if (word !== undefined) tokens.push({ kind: 'name', text: word, column });
    else if (number !== undefined) {
      tokens.push({ kind: 'number', value: valueOf(number, text, column), column });
    } else if (character !== undefined) {
      const inside = character.slice(1, -1);
      const code = inside.length > 1 ? ESCAPES[inside[1]!] : undefined;
      const value = BigInt(code ?? inside.charCodeAt(inside.length - 1));
      tokens.push({ kind: 'number', value, column });
    }
    if (found !== undefined) {
      column += found.length;
      continue;
    }
    const operator = OPERATORS.find((one) => text.startsWith(one, column));
    if (operator === undefined) {
      refuseAt('EXPRESSION_SYNTAX', `"${text[column]!}" begins nothing`, text, column);
    }
    tokens.push({ kind: 'operator', text: operator, column });
    column += operator.length;
  }
  tokens.push({ kind: 'end', text: '', column: text.length });
  return tokens;
}

function valueOf(number: string, text: string, column: number): bigint {
  const after = text[column + number.length] ?? '';
  const digits = number.replaceAll('_', '');
  if (/[A-Za-z_]/.test(after) || /^0[xXbB]$/.test(digits)) {
    const what = `"${text.slice(column).match(/^\w+/)?.[0] ?? number}" is no number`;
    refuseAt('EXPRESSION_SYNTAX', what, text, column);
  }
  const value = BigInt(digits);
  if (value > U64_MAX) {
    refuseAt('EXPRESSION_VALUE', `${number} does not fit in 64 bits`, text, column);
  }
  return value;
}
