/** A sentence broken into lines of a width. Invariant: a word longer than the width stays whole. */

/** `indent` before the first line, and `hang` more spaces before the others. */
export function wrapped(text: string, columns: number, indent: string, hang = 0): string {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    const before = indent + (lines.length === 0 ? '' : ' '.repeat(hang));
    const next = line === '' ? `${before}${word}` : `${line} ${word}`;
    if (next.length <= columns || line === '') line = next;
    else {
      lines.push(line);
      line = `${indent}${' '.repeat(hang)}${word}`;
    }
  }
  return [...lines, line].join('\n');
}
