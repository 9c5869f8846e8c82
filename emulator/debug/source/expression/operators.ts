/**
 * What operators between two numbers come to.
 *
 * Source: C11, "Multiplicative operators" to "Bitwise inclusive OR operator"; SDM, "SAL/SAR/SHL/SHR" for counts past 63.
 * Invariant: the numbers are within 64 bits, both signed or both not.
 */
import type { BinaryOperator } from './tree.js';

/** A result; a truth is 0 or 1 whatever its operands were. */
export interface Outcome {
  readonly value: bigint;
  readonly isTruth: boolean;
}

const truth = (is: boolean): Outcome => ({ value: is ? 1n : 0n, isTruth: true });
const number = (value: bigint): Outcome => ({ value, isTruth: false });

/** The result, or why there is none. */
export function applyBinary(
  operator: Exclude<BinaryOperator, '&&' | '||'>,
  a: bigint,
  b: bigint,
): Outcome | string {
  // prettier-ignore
  switch (operator) {
    case '|': return number(a | b);
    case '^': return number(a ^ b);
    case '&': return number(a & b);
    case '==': return truth(a === b);
    case '!=': return truth(a !== b);
    case '<': return truth(a < b);
    case '<=': return truth(a <= b);
    case '>': return truth(a > b);
    case '>=': return truth(a >= b);
    case '+': return number(a + b);
    case '-': return number(a - b);
    case '*': return number(a * b);
    case '/': return b === 0n ? 'division by 0' : number(a / b);
    case '%': return b === 0n ? 'division by 0' : number(a % b);
    case '<<': return shiftCount(b) ?? number(a << b);
    case '>>': return shiftCount(b) ?? number(a >> b);
  }
}

function shiftCount(count: bigint): string | null {
  return count < 0n || count > 63n ? `a shift by ${count.toString()} bits` : null;
}
