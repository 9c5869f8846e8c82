/**
 * An expression as a tree; each node knows the column that an error about it points to.
 *
 * Invariant: plain data.
 */
import { unreachable } from '../../../../abi/errors.js';

/** The operators between two values, by how tightly they bind: the later, the tighter. */
// prettier-ignore
export const BINARY_LEVELS = [
  ['||'], ['&&'], ['|'], ['^'], ['&'], ['==', '!='], ['<', '<=', '>', '>='], ['<<', '>>'], ['+', '-'], ['*', '/', '%'],
] as const;

export type BinaryOperator = (typeof BINARY_LEVELS)[number][number];
export type UnaryOperator = '-' | '+' | '!' | '~' | '*' | '&';

/** A type as it is written in a cast: its words, and how many stars follow. */
export interface TypeName {
  readonly name: string;
  readonly pointers: number;
}

export type Tree =
  | { readonly kind: 'number'; readonly value: bigint; readonly column: number }
  | { readonly kind: 'name'; readonly name: string; readonly column: number }
  | { readonly kind: 'register'; readonly name: string; readonly column: number }
  | {
      readonly kind: 'member';
      readonly of: Tree;
      readonly name: string;
      readonly isArrow: boolean;
      readonly column: number;
    }
  | { readonly kind: 'index'; readonly of: Tree; readonly index: Tree; readonly column: number }
  | {
      readonly kind: 'unary';
      readonly operator: UnaryOperator;
      readonly operand: Tree;
      readonly column: number;
    }
  | {
      readonly kind: 'binary';
      readonly operator: BinaryOperator;
      readonly left: Tree;
      readonly right: Tree;
      readonly column: number;
    }
  | {
      readonly kind: 'choice';
      readonly condition: Tree;
      readonly yes: Tree;
      readonly no: Tree;
      readonly column: number;
    }
  | { readonly kind: 'cast'; readonly type: TypeName; readonly of: Tree; readonly column: number }
  | { readonly kind: 'size'; readonly of: TypeName | Tree; readonly column: number };

/** The nodes of a tree, a node before those below it. */
export function* nodesOf(tree: Tree): Generator<Tree> {
  yield tree;
  switch (tree.kind) {
    case 'number':
    case 'name':
    case 'register':
      return;
    case 'member':
    case 'cast':
      yield* nodesOf(tree.of);
      return;
    case 'size':
      if (!('pointers' in tree.of)) yield* nodesOf(tree.of);
      return;
    case 'index':
      yield* nodesOf(tree.of);
      yield* nodesOf(tree.index);
      return;
    case 'unary':
      yield* nodesOf(tree.operand);
      return;
    case 'binary':
      yield* nodesOf(tree.left);
      yield* nodesOf(tree.right);
      return;
    case 'choice':
      yield* nodesOf(tree.condition);
      yield* nodesOf(tree.yes);
      yield* nodesOf(tree.no);
      return;
    default:
      unreachable(tree);
  }
}
