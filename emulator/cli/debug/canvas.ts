/** A terminal as the debugger's views draw on it. */
import type { Canvas, Mark } from '../../debug/source/views/paint.js';
import type { Style, Terminal } from '../output/terminal.js';

const STYLES: Readonly<Record<Mark, Style>> = {
  title: 'bold',
  changed: 'red',
  current: 'green',
  symbol: 'cyan',
  number: 'yellow',
  comment: 'dim',
  faint: 'dim',
  bad: 'red',
};

/** Its width, and the house's styles where it shows them. */
export function canvasOf(terminal: Terminal): Canvas {
  return {
    columns: terminal.columns,
    cutAt: terminal.isTerminal ? terminal.columns : Infinity,
    isUnicode: terminal.isUnicode,
    paint: (mark, text) => terminal.style(STYLES[mark], text),
  };
}
