/**
 * Places in the payload as people write them: `dispatch.c:103`, `103`, `function`, `symbol+0x1c`, `*EXPRESSION`, `0x...`.
 *
 * Source: gdb, "Specifying a Location".
 * Invariant: symbolic places are link-time addresses, which hold for every instance; an error names what is near.
 */
import { didYouMean } from '../../../abi/did-you-mean.js';
import { hex, u64 } from '../../../abi/uint.js';
import { symbolNamed } from '../../../loader/symbols.js';
import { SourceError } from './errors.js';
import { evaluateNumber } from './expression/evaluate.js';
import { ExpressionScope } from './expression/scope.js';
import type { Frame } from './backtrace.js';
import type { CoreView } from './core-view.js';
import type { PayloadProgram } from './payload-program.js';

/** A place that was found. */
export type Location =
  /** The same code in every instance; several addresses when the compiler made several copies of a line. */
  | { readonly kind: 'linked'; readonly addresses: readonly bigint[]; readonly text: string }
  /** One address of the machine. */
  | { readonly kind: 'absolute'; readonly address: bigint; readonly text: string };

const FILE_LINE = /^(.+):(\d+)$/;
const SYMBOL = /^([A-Za-z_.$][\w.$@]*)\s*(?:([+-])\s*(0[xX][0-9a-fA-F]+|\d+))?$/;

/** Finds a place. @throws SourceError LOCATION, or one of the expression's. */
export function parseLocation(text: string, core: CoreView, frame: Frame | null = null): Location {
  const wanted = text.trim();
  if (wanted === '')
    refuse('a location is missing: FILE:LINE, FUNCTION, SYMBOL+OFFSET or *ADDRESS');
  const scope = new ExpressionScope(core, frame);
  if (wanted.startsWith('*')) {
    return absolute(evaluateNumber(wanted.slice(1), scope));
  }
  if (/^(0[xX]|\$)/.test(wanted)) return absolute(evaluateNumber(wanted, scope));
  const program = core.source?.program;
  if (program === undefined) refuse(`no payload is loaded on this core to find "${wanted}" in`);
  if (/^\d+$/.test(wanted)) return lineOfCurrentFile(program, core, frame, wanted);
  const fileLine = FILE_LINE.exec(wanted);
  if (fileLine !== null) return lineOf(program, fileLine[1]!, Number.parseInt(fileLine[2]!, 10));
  const symbol = SYMBOL.exec(wanted);
  if (symbol === null) refuse(`"${wanted}" is no location: FILE:LINE, FUNCTION or *ADDRESS`);
  return symbolic(program, symbol[1]!, offsetOf(symbol[2], symbol[3]), wanted);
}

/** The addresses of a place in one instance, by its slide. */
export function addressesIn(location: Location, slide: bigint): readonly bigint[] {
  return location.kind === 'absolute'
    ? [location.address]
    : location.addresses.map((address) => u64(address + slide));
}

function absolute(value: bigint): Location {
  const address = u64(value);
  return { kind: 'absolute', address, text: hex(address) };
}

function offsetOf(sign: string | undefined, digits: string | undefined): bigint {
  if (digits === undefined) return 0n;
  return sign === '-' ? -BigInt(digits) : BigInt(digits);
}

function lineOfCurrentFile(
  program: PayloadProgram,
  core: CoreView,
  frame: Frame | null,
  line: string,
): Location {
  const at = frame?.lookup ?? core.register('RIP');
  const file = core.sourceOf(at)?.lineAt(at)?.file;
  if (file === undefined) {
    refuse(`line ${line} of which file? ${hex(at)} has no source; write FILE:${line}`);
  }
  return lineOf(program, file, Number.parseInt(line, 10));
}

function lineOf(program: PayloadProgram, file: string, line: number): Location {
  if (program.debug === null)
    refuse(`no source lines: ${program.problem ?? 'no debug information'}`);
  const { lines } = program.debug;
  const isNamed = (path: string): boolean => path === file || path.endsWith(`/${file}`);
  const files = lines.files;
  if (!files.some(isNamed)) {
    const names = files.map((path) => path.replace(/^.*\//, ''));
    refuse(`no code comes from a file "${file}"${didYouMean(file, names)}`);
  }
  const code = program.ask((debug) => debug.lines.codeOf(file, line) ?? null);
  if (code === null) {
    const last = program.ask((debug) => debug.lines.lastLineOf(file)) ?? 0;
    refuse(`${file} has no code at or after line ${line}; its last line with code is ${last}`);
  }
  const path = files.find(isNamed) ?? file;
  const text = `${path.replace(/^.*\//, '')}:${code.line}`;
  return { kind: 'linked', addresses: code.addresses, text };
}

function symbolic(program: PayloadProgram, name: string, offset: bigint, text: string): Location {
  const symbol = symbolNamed(program.image, name);
  const starts =
    symbol !== undefined
      ? [symbol.address]
      : (program.ask(({ functions }) => functions.startsOf(name)) ?? []);
  if (starts.length === 0) {
    const functions = program.ask((debug) => debug.functions.all.map((one) => one.name)) ?? [];
    const known = [...program.image.symbols.map((one) => one.name), ...functions];
    refuse(`no function or symbol "${name}"${didYouMean(name, known)}`);
  }
  const addresses = starts.map((address) => u64(address + offset));
  const { start, end } = program.image.pages;
  const outside = addresses.find((address) => address < start || address >= end);
  if (outside !== undefined) refuse(`${text} is outside the payload`);
  return { kind: 'linked', addresses, text };
}

function refuse(message: string): never {
  throw new SourceError('LOCATION', message);
}
