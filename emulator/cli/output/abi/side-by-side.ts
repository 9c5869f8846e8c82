/**
 * Two layouts of one structure side by side, the differing lines marked, as wide as the terminal and no wider.
 *
 * Invariant: what is left out is said to be left out; a name that does not fit ends in `>`.
 */
import type { FieldShape, StructShape } from '../../../../abi/compat/shape.js';

const CONTEXT = 2;
const MARKS = 4;
const BETWEEN = 3;
const WIDEST = 60;

/** The lines of the picture; none when nothing differs. */
export function sideBySide(
  before: StructShape,
  now: StructShape,
  sides: readonly [string, string],
  columns: number,
): string[] {
  const width = Math.min(WIDEST, Math.floor((columns - MARKS - BETWEEN) / 2));
  const rows = pairsOf(before, now).map(([left, right]) => {
    const isSame = left === right;
    return { mark: isSame ? '    ' : '  ! ', left: left ?? '', right: right ?? '', isSame };
  });
  const isNear = (at: number): boolean =>
    rows.slice(Math.max(0, at - CONTEXT), at + CONTEXT + 1).some(({ isSame }) => !isSame);
  const lines: string[] = [];
  rows.forEach(({ mark, left, right }, at) => {
    if (isNear(at)) {
      lines.push(`${mark}${fit(left, width).padEnd(width)} | ${fit(right, width)}`.trimEnd());
    } else if (lines.length > 0 && lines.at(-1) !== ELISION) lines.push(ELISION);
  });
  if (lines.at(-1) === ELISION) lines.pop();
  if (lines.length === 0) return [];
  const title = `    ${fit(`struct ${before.name}: ${sides[0]}`, width).padEnd(width)} | ${sides[1]}`;
  return [title, ...lines];
}

const ELISION = '    ...';

function fit(text: string, width: number): string {
  return text.length <= width ? text : `${text.slice(0, width - 1)}>`;
}

/** Lines that belong together: fields of one offset, and sizes. */
function pairsOf(
  before: StructShape,
  now: StructShape,
): (readonly [string | undefined, string | undefined])[] {
  const offsets = new Set([...before.fields, ...now.fields].map(startOf));
  const size = ({ size: bytes, align }: StructShape): string =>
    `${bytes} bytes${align === null ? '' : `, aligned to ${align}`}`;
  const pairs = [...offsets]
    .sort((a, b) => a - b)
    .flatMap((start) => {
      const [left, right] = [before, now].map((side) =>
        side.fields.filter((field) => startOf(field) === start).map(lineOf),
      );
      return alignedLines(left!, right!);
    });
  return [...pairs, [size(before), size(now)]];
}

/** Equal lines beside each other, then the rest in order. */
function alignedLines(
  left: readonly string[],
  right: readonly string[],
): (readonly [string | undefined, string | undefined])[] {
  const both = left.filter((line) => right.includes(line));
  const [onlyLeft, onlyRight] = [left, right].map((side) =>
    side.filter((line) => !both.includes(line)),
  );
  const length = Math.max(onlyLeft!.length, onlyRight!.length);
  const rest = Array.from({ length }, (_, n) => [onlyLeft![n], onlyRight![n]] as const);
  return [...both.map((line) => [line, line] as const), ...rest];
}

function startOf({ offset, bitOffset }: FieldShape): number {
  return offset * 8 + (bitOffset ?? 0);
}

function lineOf({ name, offset, canonical, bitOffset, bitSize }: FieldShape): string {
  const bits = bitSize === null ? '' : `:${bitSize}`;
  const bit = bitOffset === null || bitOffset === 0 ? '' : `.${bitOffset}`;
  return `${`${offset}${bit}`.padStart(5)} ${canonical} ${name}${bits}`;
}
