/** One TypeScript source as the architecture rules see it: parsed by the compiler's own parser, never run. */
import { readFileSync, readdirSync } from 'node:fs';
import { join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

/** The root of the repository. */
export const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** A source and its path from the root, with forward slashes. */
export interface SourceFile {
  readonly path: string;
  readonly tree: ts.SourceFile;
}

/** Something that breaks a rule: `path:line: what`. */
export type Violation = string;

/** Parses a text as if it stood at `path`. */
export function parse(path: string, text: string): SourceFile {
  return { path, tree: ts.createSourceFile(path, text, ts.ScriptTarget.ES2022, true) };
}

/** Every .ts file below `folders`, tracked or not. */
export function sourceFiles(folders: readonly string[]): SourceFile[] {
  return folders.flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
      .map((entry) => join(entry.parentPath, entry.name))
      .map((file) => parse(relative(ROOT, file).split(sep).join('/'), readFileSync(file, 'utf8'))),
  );
}

/** The violation at a node. */
export function violation({ path, tree }: SourceFile, node: ts.Node, what: string): Violation {
  return `${path}:${tree.getLineAndCharacterOfPosition(node.getStart(tree)).line + 1}: ${what}`;
}

/** Every node of the tree, in order. */
export function* nodesOf(node: ts.Node): Generator<ts.Node> {
  yield node;
  for (const child of node.getChildren()) yield* nodesOf(child);
}

/** An import, export-from or import(), static or dynamic, of values or of types. */
export interface Import {
  readonly specifier: string;
  readonly node: ts.Node;
}

/** All imports of a file. */
export function importsOf(file: SourceFile): Import[] {
  const imports: Import[] = [];
  for (const node of nodesOf(file.tree)) {
    const specifier = specifierOf(node);
    if (specifier !== undefined && ts.isStringLiteralLike(specifier)) {
      imports.push({ specifier: specifier.text, node });
    }
  }
  return imports;
}

function specifierOf(node: ts.Node): ts.Node | undefined {
  if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) return node.moduleSpecifier;
  if (ts.isImportTypeNode(node)) {
    return ts.isLiteralTypeNode(node.argument) ? node.argument.literal : undefined;
  }
  if (!ts.isCallExpression(node)) return undefined;
  const isImport =
    node.expression.kind === ts.SyntaxKind.ImportKeyword ||
    (ts.isIdentifier(node.expression) && node.expression.text === 'require');
  return isImport ? node.arguments[0] : undefined;
}
