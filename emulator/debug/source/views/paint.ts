/**
 * Styles and widths of the views' text.
 *
 * Invariant: without a painter the text is the same, letter for letter; widths are counted without styles.
 */

/** What the views mark. */
export type Mark =
  'title' | 'changed' | 'current' | 'symbol' | 'number' | 'comment' | 'faint' | 'bad';

/** Puts a text in the style of a mark. */
export type Paint = (mark: Mark, text: string) => string;

/** No styles. */
export const plain: Paint = (_mark, text) => text;

/** How a view is drawn. */
export interface Canvas {
  /** The width that the layout is for. */
  readonly columns: number;
  /** Where lines are cut; Infinity where nobody's terminal would break them. */
  readonly cutAt: number;
  readonly paint: Paint;
  /** Whether arrows and rules may be other than ASCII. */
  readonly isUnicode: boolean;
}

/** A plain canvas for 80 columns that cuts nothing. */
export const PLAIN_CANVAS: Canvas = {
  columns: 80,
  cutAt: Infinity,
  paint: plain,
  isUnicode: false,
};

const ESCAPE = '\u001b';
const ESCAPES = new RegExp(`${ESCAPE}\\[[0-9;]*m`, 'g');
const PARTS = new RegExp(`${ESCAPE}\\[[0-9;]*m|.`, 'gsu');

/** Columns that a text takes. */
export function widthOf(text: string): number {
  return text.replace(ESCAPES, '').length;
}

/** A text cut to `columns`, the last one a mark that something is missing. */
export function clipped(text: string, columns: number): string {
  if (widthOf(text) <= columns) return text;
  let width = 0;
  let kept = '';
  let hasStyle = false;
  for (const [part] of text.matchAll(PARTS)) {
    if (part.startsWith(ESCAPE)) {
      kept += part;
      hasStyle = true;
    } else if (width < columns - 1) {
      kept += part;
      width++;
    } else break;
  }
  return `${kept}${hasStyle ? `${ESCAPE}[0m` : ''}>`;
}

/** A text behind a head, broken at blanks to fit into `columns`; further lines begin below the text. */
export function hanging(head: string, text: string, columns: number): readonly string[] {
  const indent = ' '.repeat(widthOf(head));
  const lines: string[] = [];
  let line = head;
  for (const word of text.split(' ')) {
    const isFirst = line === head || line === indent;
    const next = isFirst ? `${line}${word}` : `${line} ${word}`;
    if (isFirst || widthOf(next) <= columns) line = next;
    else {
      lines.push(line);
      line = `${indent}${word}`;
    }
  }
  return [...lines, line];
}

/** A text filled with blanks to `columns`. */
export function padded(text: string, columns: number): string {
  return text + ' '.repeat(Math.max(0, columns - widthOf(text)));
}

/** A heading over the whole width: `-- registers ------`. */
export function rule(title: string, { columns, cutAt, paint, isUnicode }: Canvas): string {
  const dash = isUnicode ? '\u2500' : '-';
  const head = `${dash}${dash} ${title} `;
  return paint('title', clipped(head + dash.repeat(Math.max(0, columns - head.length)), cutAt));
}

/** Two blocks of lines beside each other, the left one `left` columns wide. */
export function beside(
  one: readonly string[],
  other: readonly string[],
  left: number,
): readonly string[] {
  const count = Math.max(one.length, other.length);
  return Array.from({ length: count }, (_, index) =>
    `${padded(clipped(one[index] ?? '', left), left)}  ${other[index] ?? ''}`.trimEnd(),
  );
}
