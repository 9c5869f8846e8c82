/**
 * From text to tree: C's expressions without calls, assignments and commas.
 *
 * Source: C11, "Expressions" (precedence and association).
 * Invariant: parse() reads the whole text or throws with the column of the first word that does not fit; nesting is
 * bounded, so that no text exhausts the stack.
 */
import { refuseAt } from '../errors.js';
import { tokenise } from './tokens.js';
import type { Token } from './tokens.js';
import { BINARY_LEVELS } from './tree.js';
import type { BinaryOperator, Tree, TypeName, UnaryOperator } from './tree.js';

const UNARY: readonly string[] = ['-', '+', '!', '~', '*', '&'] satisfies UnaryOperator[];
const MAX_DEPTH = 100;
const KEYWORDS: readonly string[] = ['struct', 'union', 'enum'];

/** Whether a word begins a type; the parser knows C's, the caller those of the program. */
export type IsType = (name: string) => boolean;

/** Reads an expression. @throws SourceError EXPRESSION_SYNTAX. */
export function parseExpression(text: string, isType: IsType = () => false): Tree {
  return new Parser(text, isType).whole();
}

class Parser {
  readonly #text: string;
  readonly #tokens: readonly Token[];
  readonly #isType: IsType;
  #at = 0;
  #depth = 0;

  constructor(text: string, isType: IsType) {
    this.#text = text;
    this.#tokens = tokenise(text);
    this.#isType = isType;
  }

  whole(): Tree {
    const tree = this.#choice();
    const { kind } = this.#next;
    if (kind !== 'end') this.#refuse(this.#unexpected('an operator'));
    return tree;
  }

  get #next(): Token {
    return this.#tokens[this.#at]!;
  }

  #is(...operators: readonly string[]): boolean {
    const token = this.#next;
    return token.kind === 'operator' && operators.includes(token.text);
  }

  #expect(operator: string): void {
    if (!this.#is(operator)) this.#refuse(this.#unexpected(`"${operator}"`));
    this.#at++;
  }

  #unexpected(wanted: string): string {
    const token = this.#next;
    if (token.kind === 'end') return `${wanted} is missing at the end`;
    if (token.kind === 'operator' && token.text === '=') {
      return '"=" assigns; a comparison is "=="';
    }
    if (token.kind === 'operator' && token.text === '(') {
      return 'functions are not called from here';
    }
    return `${wanted} is missing here`;
  }

  #refuse(message: string): never {
    refuseAt('EXPRESSION_SYNTAX', message, this.#text, this.#next.column);
  }

  #choice(): Tree {
    if (++this.#depth > MAX_DEPTH) this.#refuse('nested too deep');
    const condition = this.#binary(0);
    let tree = condition;
    if (this.#is('?')) {
      const { column } = this.#next;
      this.#at++;
      const yes = this.#choice();
      this.#expect(':');
      tree = { kind: 'choice', condition, yes, no: this.#choice(), column };
    }
    this.#depth--;
    return tree;
  }

  #binary(level: number): Tree {
    const operators: readonly string[] | undefined = BINARY_LEVELS[level];
    if (operators === undefined) return this.#unary();
    let left = this.#binary(level + 1);
    while (this.#is(...operators)) {
      const { column, text } = this.#next as { column: number; text: BinaryOperator };
      this.#at++;
      left = { kind: 'binary', operator: text, left, right: this.#binary(level + 1), column };
    }
    return left;
  }

  #unary(): Tree {
    if (++this.#depth > MAX_DEPTH) this.#refuse('nested too deep');
    const tree = this.#unaryInside();
    this.#depth--;
    return tree;
  }

  #unaryInside(): Tree {
    const { column } = this.#next;
    if (this.#is(...UNARY)) {
      const { text } = this.#next as { text: UnaryOperator };
      this.#at++;
      return { kind: 'unary', operator: text, operand: this.#unary(), column };
    }
    if (this.#isWord('sizeof')) {
      this.#at++;
      const type = this.#bracketedType();
      return { kind: 'size', of: type ?? this.#unary(), column };
    }
    const type = this.#bracketedType();
    if (type !== undefined) return { kind: 'cast', type, of: this.#unary(), column };
    return this.#postfix();
  }

  #isWord(word: string): boolean {
    const token = this.#next;
    return token.kind === 'name' && token.text === word;
  }

  /** `(struct caretaker_ccb *)`, or nothing when what is in the brackets is no type. */
  #bracketedType(): TypeName | undefined {
    const first = this.#tokens[this.#at + 1];
    if (!this.#is('(') || first?.kind !== 'name') return undefined;
    const words: string[] = [];
    let at = this.#at + 1;
    for (; this.#tokens[at]!.kind === 'name'; at++) {
      words.push((this.#tokens[at] as { text: string }).text);
    }
    const name = words.filter((word) => word !== 'const' && word !== 'volatile').join(' ');
    if (!KEYWORDS.includes(words[0]!) && !this.#isType(name)) return undefined;
    let pointers = 0;
    const isOperator = (text: string): boolean => {
      const token = this.#tokens[at]!;
      return token.kind === 'operator' && token.text === text;
    };
    for (; isOperator('*'); at++) pointers++;
    if (!isOperator(')')) return undefined;
    this.#at = at + 1;
    return { name, pointers };
  }

  #postfix(): Tree {
    let tree = this.#primary();
    for (;;) {
      const { column } = this.#next;
      if (this.#is('.', '->')) {
        const isArrow = this.#is('->');
        this.#at++;
        const token = this.#next;
        if (token.kind !== 'name') this.#refuse('a field name is missing here');
        this.#at++;
        tree = { kind: 'member', of: tree, name: token.text, isArrow, column: token.column };
      } else if (this.#is('[')) {
        this.#at++;
        const index = this.#choice();
        this.#expect(']');
        tree = { kind: 'index', of: tree, index, column };
      } else return tree;
    }
  }

  #primary(): Tree {
    const token = this.#next;
    const { column } = token;
    if (this.#is('(')) {
      this.#at++;
      const tree = this.#choice();
      this.#expect(')');
      return tree;
    }
    if (token.kind === 'end' || token.kind === 'operator') {
      this.#refuse(this.#unexpected('a value'));
    }
    this.#at++;
    if (token.kind === 'number') return { kind: 'number', value: token.value, column };
    if (token.kind === 'register') return { kind: 'register', name: token.text, column };
    if (KEYWORDS.includes(token.text) && this.#next.kind === 'name') {
      this.#refuse(`"${token.text}" begins a type, which stands in brackets before a value`);
    }
    return { kind: 'name', name: token.text, column };
  }
}
