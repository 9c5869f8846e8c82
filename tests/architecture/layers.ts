/**
 * Which folder may import which.
 *
 * Source: DESIGN ("Layout", "Arrows point one way"). A folder imports itself and folders of lower rows; folders of one
 * row do not import each other.
 */
import { posix } from 'node:path';
import { importsOf, violation } from './source-file.js';
import type { SourceFile, Violation } from './source-file.js';

// prettier-ignore
const ROWS: readonly (readonly string[])[] = [
  ['abi'],
  ['emulator/memory'],
  ['loader'],
  ['emulator/cpu', 'emulator/clock'],
  ['emulator/vmx'],
  ['emulator/host', 'emulator/guest', 'emulator/spec'],
  ['emulator/machine'],
  ['emulator/stage'],
  ['emulator/debug', 'emulator/gdb', 'emulator/dap', 'emulator/fuzz', 'emulator/explore', 'emulator/report',
   'emulator/conform', 'emulator/bench', 'emulator/verify'],
  ['emulator/cli'],
];

/** Lower rows that a folder reaches only through another: the host knows a CPU by vmx's ports alone. */
const FORBIDDEN: Readonly<Record<string, readonly string[]>> = {
  'emulator/host': ['emulator/cpu'],
};

/** What a folder may import of its own row: the other faces of a debugging session, and what measures it. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  'emulator/gdb': ['emulator/debug'],
  'emulator/dap': ['emulator/debug'],
  'emulator/bench': ['emulator/debug', 'emulator/explore', 'emulator/fuzz'],
};

const FOLDERS = ROWS.flat();
const rowOf = (folder: string): number => ROWS.findIndex((row) => row.includes(folder));
const folderOf = (path: string): string | undefined =>
  FOLDERS.find((folder) => path.startsWith(`${folder}/`));

/** Imports of `file` that go against an arrow, and a file in no folder of the layout. */
export function arrowViolations(file: SourceFile): Violation[] {
  const from = folderOf(file.path);
  if (from === undefined) return [violation(file, file.tree, 'is in no folder of the layout')];
  return importsOf(file)
    .filter(({ specifier }) => specifier.startsWith('.'))
    .flatMap(({ specifier, node }) => {
      const target = posix.join(posix.dirname(file.path), specifier);
      const to = folderOf(target);
      if (to === undefined) return [violation(file, node, `imports ${target}, outside the layout`)];
      const isAllowed = ALLOWED[from]?.includes(to) ?? false;
      const isDown = to === from || rowOf(to) < rowOf(from) || isAllowed;
      const isForbidden = FORBIDDEN[from]?.includes(to) ?? false;
      return isDown && !isForbidden ? [] : [violation(file, node, `${from} imports ${to}`)];
    });
}
