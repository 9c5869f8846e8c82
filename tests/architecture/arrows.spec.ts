/** The arrows of the layout and the homes of libraries and words, on the sources and on texts that break each rule. */
import ts from 'typescript';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { libraryViolations, narrowingViolations, wordViolations } from './homes.js';
import { arrowViolations } from './layers.js';
import { ROOT, parse, sourceFiles } from './source-file.js';

const files = sourceFiles(['abi', 'loader', 'emulator']);

describe('the sources', () => {
  it('import only downwards', () => {
    expect(files.length).toBeGreaterThan(0);
    expect(files.flatMap(arrowViolations)).toEqual([]);
  });

  it('keep each library behind one importer', () => {
    expect(files.flatMap(libraryViolations)).toEqual([]);
  });

  it('keep console, argv, time, randomness, wrapping and the addon in their homes', () => {
    expect(files.flatMap(wordViolations)).toEqual([]);
  });

  it('narrow a bigint in abi/uint.ts only', () => {
    const program = ts.createProgram(
      files.map(({ path }) => join(ROOT, path)),
      { ...compilerOptions(), noEmit: true },
    );
    const typed = files.map(({ path }) => ({
      path,
      tree: program.getSourceFile(join(ROOT, path))!,
    }));
    expect(typed.flatMap((file) => narrowingViolations(program, file))).toEqual([]);
  });
});

describe('an arrow the wrong way is seen', () => {
  it.each([
    ['abi/ccb.ts', `import { x } from '../emulator/vmx/vmcs.js';`, 'abi imports emulator/vmx'],
    ['abi/ccb.ts', `import { x } from '../loader/elf.js';`, 'abi imports loader'],
    [
      'loader/elf.ts',
      `import type { X } from '../emulator/cpu/port.js';`,
      'loader imports emulator/cpu',
    ],
    [
      'emulator/cpu/x.ts',
      `export * from '../clock/time.js';`,
      'emulator/cpu imports emulator/clock',
    ],
    [
      'emulator/vmx/x.ts',
      `await import('../machine/machine.js');`,
      'emulator/vmx imports emulator/machine',
    ],
    [
      'emulator/host/kvm.ts',
      `import { x } from '../cpu/engine.js';`,
      'emulator/host imports emulator/cpu',
    ],
    [
      'emulator/host/kvm.ts',
      `type X = import('../cpu/engine.js').X;`,
      'emulator/host imports emulator/cpu',
    ],
    [
      'emulator/fuzz/a.ts',
      `import { x } from '../debug/repl.js';`,
      'emulator/fuzz imports emulator/debug',
    ],
    [
      'emulator/gdb/a.ts',
      `import { x } from '../cli/errors.js';`,
      'emulator/gdb imports emulator/cli',
    ],
    [
      'emulator/gdb/a/b.ts',
      `import { x } from '../../cli/errors.js';`,
      'emulator/gdb imports emulator/cli',
    ],
    [
      'emulator/vmx/x.ts',
      `import { x } from '../../tests/x.js';`,
      'imports tests/x.js, outside the layout',
    ],
    ['emulator/stray.ts', `export const x = 1;`, 'is in no folder of the layout'],
  ])('%s: %s', (path, text, what) => {
    expect(arrowViolations(parse(path, text))).toEqual([`${path}:1: ${what}`]);
  });

  it.each([
    ['emulator/host/kvm.ts', `import { x } from '../clock/virtual-clock.js';`],
    [
      'emulator/host/kvm.ts',
      `import { x } from '../vmx/ports.js'; import { y } from './files.js';`,
    ],
    [
      'emulator/cli/main.ts',
      `import { x } from '../machine/machine.js'; import fs from 'node:fs';`,
    ],
    ['loader/plan.ts', `import { x } from '../emulator/memory/physical-memory.js';`],
  ])('and one the right way is not: %s: %s', (path, text) => {
    expect(arrowViolations(parse(path, text))).toEqual([]);
  });
});

describe('a word outside its home is seen', () => {
  it.each([
    ['emulator/vmx/x.ts', `console.log(1);`],
    ['emulator/machine/x.ts', `const a = process.argv[2];`],
    ['emulator/fuzz/x.ts', `const now = Date.now();`],
    ['emulator/fuzz/x.ts', `const now = new Date();`],
    ['emulator/guest/x.ts', `const dice = Math.random();`],
    ['emulator/gdb/x.ts', `setTimeout(() => 0, 1);`],
    ['emulator/vmx/x.ts', `const low = BigInt.asUintN(32, x);`],
    ['emulator/vmx/x.ts', 'const text = `0x${x.toString(16)}`;'],
    ['emulator/machine/x.ts', `const load = createRequire(import.meta.url);`],
  ])('%s: %s', (path, text) => {
    expect(wordViolations(parse(path, text))).toHaveLength(1);
  });

  it.each([
    ['emulator/cli/x.ts', `console.log(process.argv, Date.now());`],
    ['abi/uint.ts', 'const text = `0x${BigInt.asUintN(64, x).toString(16)}`;'],
    ['emulator/cpu/native-engine.ts', `const load = createRequire(import.meta.url);`],
    ['emulator/vmx/x.ts', `const text = 'console.log(Date.now())'; // Math.random()`],
  ])('and one at home is not: %s: %s', (path, text) => {
    expect(wordViolations(parse(path, text))).toEqual([]);
  });

  it.each([
    ['loader/other.ts', `import { parse } from 'elfy';`, 1],
    ['loader/elf.ts', `import { parse } from 'elfy';`, 0],
    ['emulator/debug/repl.ts', `const m = await import('capstone-wasm');`, 1],
    ['emulator/cpu/disassembler.ts', `const m = await import('capstone-wasm');`, 0],
  ])('so is a library: %s: %s', (path, text, count) => {
    expect(libraryViolations(parse(path, text))).toHaveLength(count);
  });

  it.each([
    ['Number(1n)', 1],
    ['Number(word)', 1],
    ['Number(either)', 1],
    ['Number("1")', 0],
    ['Number(index)', 0],
  ])('so is a narrowed bigint: %s', (expression, count) => {
    const text = `declare const word: bigint; declare const either: bigint | string; declare const index: number;
      export const x = ${expression};`;
    expect(narrowingViolations(...programOf('emulator/vmx/fixture.ts', text))).toHaveLength(count);
  });
});

function compilerOptions(): ts.CompilerOptions {
  const file = join(ROOT, 'tsconfig.json');
  const { config } = ts.readConfigFile(file, (path) => ts.sys.readFile(path)) as {
    config: unknown;
  };
  return { ...ts.parseJsonConfigFileContent(config, ts.sys, ROOT).options, incremental: false };
}

/** A program of one text that is no file. */
function programOf(path: string, text: string): [ts.Program, ReturnType<typeof parse>] {
  const options: ts.CompilerOptions = {
    lib: ['lib.es2022.d.ts'],
    types: [],
    target: ts.ScriptTarget.ES2022,
  };
  const host = ts.createCompilerHost(options);
  const original = host.getSourceFile.bind(host);
  host.getSourceFile = (name, ...rest) =>
    name === path ? parse(path, text).tree : original(name, ...rest);
  const program = ts.createProgram([path], options, host);
  return [program, { path, tree: program.getSourceFile(path)! }];
}
