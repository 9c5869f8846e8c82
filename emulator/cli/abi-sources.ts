/**
 * Findings in code with the source line that the instruction comes from.
 *
 * Invariant: a path that is given exists below the working directory; otherwise it is the debug information's own.
 */
import { existsSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import type { Finding } from '../../abi/compat/rules.js';
import { DebugInfo } from '../../loader/dwarf/debug-info.js';
import { DwarfError } from '../../loader/dwarf/errors.js';
import { Lines } from '../../loader/dwarf/lines.js';
import { readDebugSections } from '../../loader/dwarf/sections.js';

/** Puts lines to findings that have an address; without line tables they stay as they are. */
export function withSources(
  file: string,
  bytes: Uint8Array,
  findings: readonly Finding[],
): Finding[] {
  if (!findings.some(({ address }) => address !== undefined)) return [...findings];
  const lines = linesOf(bytes);
  return findings.map((one) => {
    const row = one.address === undefined ? undefined : lines?.at(BigInt(one.address));
    if (row === undefined || row.line === 0) return one;
    return { ...one, source: { file: shownPath(file, row.file), line: row.line } };
  });
}

function linesOf(bytes: Uint8Array): Lines | undefined {
  try {
    return new Lines(new DebugInfo(readDebugSections(bytes)));
  } catch (error) {
    if (error instanceof DwarfError) return undefined;
    throw error;
  }
}

/** Payloads are built so that paths do not name the machine: they are relative to the sources, near the binary. */
function shownPath(binary: string, path: string): string {
  const near = dirname(binary);
  const found = [path, join(near, path), join(near, '..', path)].find((one) => existsSync(one));
  const shown = relative(process.cwd(), found ?? path);
  return found === undefined || shown.startsWith('..') ? path.replace(/^\.\//, '') : shown;
}
