/**
 * What has one home: libraries with a single importer, and words that only one place may say.
 *
 * Source: DESIGN ("Layout", "Deterministic time"); STYLE ("Numbers", "Errors").
 */
import ts from 'typescript';
import { importsOf, nodesOf, violation } from './source-file.js';
import type { SourceFile, Violation } from './source-file.js';

/** A rule about who may; `home` is a path or the beginning of one, or several with commas. */
interface Home {
  readonly what: string;
  readonly home: string;
}

const isAtHome = ({ path }: SourceFile, home: string): boolean =>
  home.split(', ').some((beginning) => path.startsWith(beginning));

// prettier-ignore
const LIBRARIES: Readonly<Record<string, string>> = {
  'capstone-wasm': 'emulator/cpu/disassembler.ts',
  'elfy':          'loader/elf.ts',
  'yargs':         'emulator/cli/',
  'cli-table3':    'emulator/cli/',
  '@vscode/debugadapter': 'emulator/dap/server.ts',
};

const CLI = 'emulator/cli/';
const UINT = 'abi/uint.ts';
const ADDON = 'emulator/cpu/native';

// prettier-ignore
const WORDS: Readonly<Record<string, Home>> = {
  'console':              { what: 'console', home: CLI },
  'process.argv':         { what: 'argv', home: CLI },
  'process.exit':         { what: 'the exit status', home: CLI },
  'process.exitCode':     { what: 'the exit status', home: CLI },
  'process.stdout':       { what: 'output', home: CLI },
  'process.stderr':       { what: 'output', home: CLI },
  'process.env':          { what: 'the environment', home: `${CLI}, ${ADDON}` },
  'Date.now':             { what: 'wall-clock time', home: CLI },
  'new Date':             { what: 'wall-clock time', home: CLI },
  'performance.now':      { what: 'wall-clock time', home: CLI },
  'process.hrtime':       { what: 'wall-clock time', home: CLI },
  'Math.random':          { what: 'randomness', home: CLI },
  'setTimeout':           { what: 'a timer', home: CLI },
  'setInterval':          { what: 'a timer', home: CLI },
  'BigInt.asUintN':       { what: 'wrapping to 64 bits', home: UINT },
  'BigInt.asIntN':        { what: 'wrapping to 64 bits', home: UINT },
};

const ADDON_WORDS = ['process.dlopen', 'createRequire'];

/** Imports of a library outside its home. */
export function libraryViolations(file: SourceFile): Violation[] {
  return importsOf(file).flatMap(({ specifier, node }) => {
    const home = LIBRARIES[specifier];
    return home === undefined || isAtHome(file, home)
      ? []
      : [violation(file, node, `${specifier} has one home: ${home}`)];
  });
}

/** Words said outside their home, and the addon loaded outside emulator/cpu/native*. */
export function wordViolations(file: SourceFile): Violation[] {
  const found: Violation[] = [];
  for (const node of nodesOf(file.tree)) {
    const word = wordOf(node);
    if (word !== undefined) {
      const rule = Object.hasOwn(WORDS, word) ? WORDS[word] : undefined;
      if (rule !== undefined && !isAtHome(file, rule.home)) {
        found.push(violation(file, node, `${word}: ${rule.what} belongs to ${rule.home}`));
      }
      if (ADDON_WORDS.includes(word) && !isAtHome(file, ADDON)) {
        found.push(violation(file, node, `${word}: only ${ADDON}* loads the addon`));
      }
    }
    if (ts.isTemplateExpression(node) && /0x$/i.test(node.head.text) && file.path !== UINT) {
      found.push(violation(file, node, 'hex text is made by hex() of abi/uint.ts'));
    }
  }
  return found;
}

function wordOf(node: ts.Node): string | undefined {
  if (ts.isPropertyAccessExpression(node) && ts.isIdentifier(node.expression)) {
    const word = `${node.expression.text}.${node.name.text}`;
    return node.expression.text === 'console' ? 'console' : word;
  }
  if (ts.isNewExpression(node) && ts.isIdentifier(node.expression)) {
    return `new ${node.expression.text}`;
  }
  if (ts.isCallExpression(node) && ts.isIdentifier(node.expression)) return node.expression.text;
  return undefined;
}

/** Calls of Number() whose argument is a bigint by its type, outside abi/uint.ts; `program` has the types. */
export function narrowingViolations(program: ts.Program, file: SourceFile): Violation[] {
  if (file.path === UINT) return [];
  const checker = program.getTypeChecker();
  const found: Violation[] = [];
  for (const node of nodesOf(file.tree)) {
    if (!ts.isCallExpression(node) || !ts.isIdentifier(node.expression)) continue;
    const argument = node.arguments[0];
    if (node.expression.text !== 'Number' || argument === undefined) continue;
    const type = checker.getTypeAtLocation(argument);
    const parts = type.isUnion() ? type.types : [type];
    if (parts.some((part) => (part.flags & ts.TypeFlags.BigIntLike) !== 0)) {
      found.push(
        violation(file, node, 'Number(bigint): toIndex(), u32() or low32() of abi/uint.ts'),
      );
    }
  }
  return found;
}
