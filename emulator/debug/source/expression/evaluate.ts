/**
 * The value of an expression at a stop.
 *
 * Source: C11, "Expressions", with one difference: numbers have 64 bits, and are unsigned when one of two is a 64-bit
 * unsigned one.
 * Invariant: evaluating changes nothing; every refusal points to its column.
 */
import { didYouMean } from '../../../../abi/did-you-mean.js';
import { hex, s64, toIndex, u64 } from '../../../../abi/uint.js';
import { VMCS_FIELDS } from '../../../../abi/vmcs-fields.js';
import { MSR } from '../../../../abi/msrs.js';
import { memberNamed } from '../../../../loader/dwarf/c-types.js';
import type { CPointer, CRecord, CType } from '../../../../loader/dwarf/c-types.js';
import { refuseAt } from '../errors.js';
import type { SourceErrorCode } from '../errors.js';
import { elementOf, memberOf, targetOf } from '../values/member.js';
import { isScalar, isSigned, isThere, numberValue, S64, scalarOf, U64 } from '../values/value.js';
import type { MaybeValue, Value } from '../values/value.js';
import { applyBinary } from './operators.js';
import { parseExpression } from './parse.js';
import type { ExpressionScope } from './scope.js';
import type { Tree, TypeName } from './tree.js';

/** The value of a text. @throws SourceError with the column of what is wrong. */
export function evaluate(text: string, scope: ExpressionScope): Value {
  return new Evaluation(text, scope).value(parsed(text, scope));
}

/** The number that a text comes to. @throws SourceError. */
export function evaluateNumber(text: string, scope: ExpressionScope): bigint {
  return numberOf(text, parsed(text, scope), scope);
}

/** The number that a text comes to which was read before. @throws SourceError. */
export function numberOf(text: string, tree: Tree, scope: ExpressionScope): bigint {
  return new Evaluation(text, scope).number(tree);
}

/** Reads a text once; its words are looked up at each evaluation. @throws SourceError EXPRESSION_SYNTAX. */
export function parsed(text: string, scope: ExpressionScope): Tree {
  return parseExpression(text, (name) => scope.type(name) !== undefined);
}

class Evaluation {
  readonly #text: string;
  readonly #scope: ExpressionScope;

  constructor(text: string, scope: ExpressionScope) {
    this.#text = text;
    this.#scope = scope;
  }

  /** A value that is there. */
  value(tree: Tree): Value {
    const value = this.#maybe(tree);
    if (isThere(value)) return value;
    const name = tree.kind === 'name' ? `${tree.name}: ` : '';
    return this.#refuse('EXPRESSION_VALUE', `${name}${value.problem}`, tree);
  }

  /** A number: below 0 when its type has a sign and it is. */
  number(tree: Tree): bigint {
    return scalarOf(this.#scalar(tree));
  }

  #refuse(code: SourceErrorCode, message: string, { column }: { readonly column: number }): never {
    refuseAt(code, message, this.#text, column);
  }

  #scalar(tree: Tree): Value {
    const value = decayed(this.value(tree));
    if (isScalar(value.type)) return value;
    const { spelling } = value.type;
    return this.#refuse('EXPRESSION_TYPE', `a value of type ${spelling} is no number`, tree);
  }

  #isTrue(tree: Tree): boolean {
    return this.number(tree) !== 0n;
  }

  #maybe(tree: Tree): MaybeValue {
    switch (tree.kind) {
      case 'number':
        return numberValue(tree.value, tree.value >> 63n === 1n ? U64 : S64);
      case 'name':
        return this.#named(tree);
      case 'register':
        return (
          this.#scope.register(tree.name) ??
          this.#refuse(
            'EXPRESSION_NAME',
            `no register $${tree.name}${didYouMean(tree.name, this.#scope.registerNames)}`,
            tree,
          )
        );
      case 'member':
        return this.#member(tree);
      case 'index':
        return this.#element(tree);
      case 'unary':
        return this.#unary(tree);
      case 'binary':
        return this.#binary(tree);
      case 'choice':
        return this.#maybe(this.#isTrue(tree.condition) ? tree.yes : tree.no);
      case 'cast':
        return this.#cast(tree);
      case 'size':
        return numberValue(
          BigInt(
            'pointers' in tree.of
              ? this.#typeOf(tree.of, tree.column).sizeBytes
              : this.value(tree.of).type.sizeBytes,
          ),
          U64,
        );
    }
  }

  #named(tree: Extract<Tree, { kind: 'name' }>): MaybeValue {
    const found = this.#scope.named(tree.name);
    if (found !== undefined) return found;
    if (tree.name === 'vmcs' || tree.name === 'msr') {
      const example = tree.name === 'vmcs' ? 'vmcs.GUEST_RIP' : 'msr.IA32_EFER';
      this.#refuse('EXPRESSION_TYPE', `${tree.name} wants a name after it: ${example}`, tree);
    }
    const hint = didYouMean(tree.name, this.#scope.names);
    return this.#refuse('EXPRESSION_NAME', `no name "${tree.name}" here${hint}`, tree);
  }

  #member(tree: Extract<Tree, { kind: 'member' }>): MaybeValue {
    const special = this.#specialMember(tree);
    if (special !== undefined) return special;
    const whole = this.value(tree.of);
    // `.` on a pointer is a slip that nobody minds in a debugger.
    const record = whole.type.kind === 'pointer' ? targetOf(this.#scope.core, whole) : whole;
    if (!isThere(record)) this.#refuse('EXPRESSION_VALUE', record.problem, tree.of);
    if (record.type.kind !== 'record') {
      const what = `${whole.type.spelling} has no fields`;
      return this.#refuse('EXPRESSION_TYPE', what, tree);
    }
    const member = memberNamed(record.type, tree.name);
    if (member !== undefined) return memberOf(record, member);
    const hint = didYouMean(tree.name, fieldNames(record.type));
    const what = `${record.type.spelling} has no field "${tree.name}"${hint}`;
    return this.#refuse('EXPRESSION_NAME', what, tree);
  }

  /** `vmcs.FIELD` and `msr.NAME`, unless a variable has taken the name. */
  #specialMember(tree: Extract<Tree, { kind: 'member' }>): MaybeValue | undefined {
    const { of, name } = tree;
    if (of.kind !== 'name' || (of.name !== 'vmcs' && of.name !== 'msr')) return undefined;
    if (this.#scope.named(of.name) !== undefined) return undefined;
    const isVmcs = of.name === 'vmcs';
    const found = isVmcs ? this.#scope.vmcs(name) : this.#scope.msr(name);
    if (found !== undefined) return found;
    const known = isVmcs ? VMCS_FIELDS.map((field) => field.name) : Object.keys(MSR);
    const what = `no ${isVmcs ? 'VMCS field' : 'MSR'} "${name}"${didYouMean(name, known)}`;
    return this.#refuse('EXPRESSION_NAME', what, tree);
  }

  #element(tree: Extract<Tree, { kind: 'index' }>): MaybeValue {
    if (tree.of.kind === 'name' && tree.of.name === 'msr') {
      const index = this.number(tree.index);
      const isIndex = index >= 0n && index < 1n << 32n;
      if (isIndex) return this.#scope.msrAt(toIndex(index));
      return this.#refuse('EXPRESSION_VALUE', `${hex(u64(index))} is no MSR index`, tree.index);
    }
    const array = this.value(tree.of);
    const index = this.number(tree.index);
    if (array.type.kind === 'pointer') return targetOf(this.#scope.core, array, index);
    if (array.type.kind !== 'array') {
      const what = `${array.type.spelling} has no elements`;
      return this.#refuse('EXPRESSION_TYPE', what, tree);
    }
    const { count } = array.type;
    if (index < 0n || (count !== undefined && index >= BigInt(count))) {
      const what = `index ${index.toString()} is outside ${array.type.spelling}`;
      return this.#refuse('EXPRESSION_VALUE', what, tree.index);
    }
    return elementOf(array, array.type.element(), toIndex(index));
  }

  #unary(tree: Extract<Tree, { kind: 'unary' }>): MaybeValue {
    const { operator, operand } = tree;
    switch (operator) {
      case '&':
        return this.#addressOf(operand, tree);
      case '*':
        return this.#dereferenced(operand, tree);
      case '!':
        return numberValue(this.#isTrue(operand) ? 0n : 1n);
      case '+':
        return this.#computed(this.number(operand), this.#scalar(operand).type);
      case '-':
        return this.#computed(-this.number(operand), this.#scalar(operand).type);
      case '~':
        return this.#computed(~this.number(operand), this.#scalar(operand).type);
    }
  }

  /** Numbers are of 64 bits; only those of 64 unsigned bits stay unsigned. */
  #computed(value: bigint, type: CType): Value {
    return numberValue(value, isWide(type) ? U64 : S64);
  }

  #addressOf(operand: Tree, tree: Tree): Value {
    const { type, place, bits } = this.value(operand);
    if (place.kind !== 'memory' || bits !== null) {
      const where = place.kind === 'register' ? 'is in a register' : 'is not in memory';
      this.#refuse('EXPRESSION_TYPE', `this value ${where} and has no address`, tree);
    }
    return numberValue(place.address, pointerTo(type));
  }

  #dereferenced(operand: Tree, tree: Tree): MaybeValue {
    const pointer = this.#scalar(operand);
    if (pointer.type.kind !== 'pointer') {
      return this.#scope.memory(scalarOf(pointer), U64);
    }
    const target = pointer.type.target();
    if (target.kind === 'void' || target.kind === 'function') {
      const what = `what a ${pointer.type.spelling} points to has no size; cast it first`;
      return this.#refuse('EXPRESSION_TYPE', what, tree);
    }
    return targetOf(this.#scope.core, pointer);
  }

  #binary(tree: Extract<Tree, { kind: 'binary' }>): Value {
    const { operator, left, right } = tree;
    if (operator === '&&') {
      return numberValue(this.#isTrue(left) && this.#isTrue(right) ? 1n : 0n);
    }
    if (operator === '||') {
      return numberValue(this.#isTrue(left) || this.#isTrue(right) ? 1n : 0n);
    }
    const one = this.#scalar(left);
    const other = this.#scalar(right);
    const moved = movedPointer(operator, one, other);
    if (moved !== null) return moved;
    const unsigned = isWide(one.type) || isWide(other.type);
    const [a, b] = [scalarOf(one), scalarOf(other)].map((value) =>
      unsigned ? u64(value) : s64(u64(value)),
    ) as [bigint, bigint];
    const found = applyBinary(operator, a, b);
    if (typeof found === 'string') return this.#refuse('EXPRESSION_VALUE', found, tree);
    return numberValue(found.value, found.isTruth || !unsigned ? S64 : U64);
  }

  #cast(tree: Extract<Tree, { kind: 'cast' }>): MaybeValue {
    const type = this.#typeOf(tree.type, tree.column);
    const value = decayed(this.value(tree.of));
    if (isScalar(type) && isScalar(value.type)) return numberValue(scalarOf(value), type);
    if (!isScalar(type) && value.type.sizeBytes === type.sizeBytes) return { ...value, type };
    const what = `a ${value.type.spelling} cannot become a ${type.spelling}`;
    return this.#refuse('EXPRESSION_TYPE', what, tree);
  }

  #typeOf({ name, pointers }: TypeName, column: number): CType {
    let type = this.#scope.type(name);
    if (type === undefined) {
      const known = this.#scope.core.source?.program.ask(({ types }) => types.names) ?? [];
      const what = `no type "${name}"${didYouMean(name, known)}`;
      return this.#refuse('EXPRESSION_NAME', what, { column });
    }
    for (let level = 0; level < pointers; level++) type = pointerTo(type);
    return type;
  }
}

function isWide(type: CType): boolean {
  return type.sizeBytes === 8 && !isSigned(type);
}

function pointerTo(type: CType): CPointer {
  const star = type.spelling.endsWith('*') ? '*' : ' *';
  return { kind: 'pointer', spelling: type.spelling + star, sizeBytes: 8, target: () => type };
}

/** An array as C passes it: as a pointer to its first element. */
function decayed(value: Value): Value {
  const { type, place } = value;
  if (type.kind !== 'array' || place.kind !== 'memory') return value;
  return numberValue(place.address, pointerTo(type.element()));
}

/** A pointer moved by elements, as C does it. */
function movedPointer(operator: string, pointer: Value, by: Value): Value | null {
  const { type } = pointer;
  if (type.kind !== 'pointer' || by.type.kind === 'pointer') return null;
  if (operator !== '+' && operator !== '-') return null;
  const step = BigInt(Math.max(type.target().sizeBytes, 1)) * scalarOf(by);
  const address = scalarOf(pointer) + (operator === '+' ? step : -step);
  return numberValue(u64(address), type);
}

function fieldNames(record: CRecord): string[] {
  return record
    .members()
    .flatMap(({ name, type }) =>
      name !== null ? [name] : type.kind === 'record' ? fieldNames(type) : [],
    );
}
