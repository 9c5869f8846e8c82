/**
 * The two streams of a command: results on stdout, everything said in passing on stderr.
 *
 * Invariant: no colour and no progress where the stream is not a terminal or NO_COLOR is set.
 */
import { styleText } from 'node:util';

/** The styles that the commands use. */
export type Style = 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan';

/** What a command writes to; tests give it buffers. */
export interface Terminal {
  /** Columns of stdout, 80 when it is not a terminal. */
  readonly columns: number;
  /** Whether stdout is one, and not a pipe or a file. */
  readonly isTerminal: boolean;
  /** Whether the locale's characters are UTF-8; without it only ASCII is drawn. */
  readonly isUnicode: boolean;
  /** A result: one or more lines to stdout. */
  print(text: string): void;
  /** A remark: one or more lines to stderr. */
  note(text: string): void;
  /** Replaces the last progress line on a terminal's stderr; silent elsewhere. The empty text clears it. */
  progress(text: string): void;
  /** The text in a style, where stdout shows styles. */
  style(style: Style, text: string): string;
}

/** The locale of characters: the first of the three variables that is set and not empty. */
function localeOf(environment: Readonly<Record<string, string | undefined>>): string {
  const names = ['LC_ALL', 'LC_CTYPE', 'LANG'];
  return names.map((name) => environment[name] ?? '').find((value) => value !== '') ?? '';
}

interface Stream {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

/** The terminal of a process: its streams and the part of its environment that matters. */
export function terminalOf(
  stdout: Stream,
  stderr: Stream,
  environment: Readonly<Record<string, string | undefined>>,
): Terminal {
  const hasColour =
    stdout.isTTY === true &&
    (environment['NO_COLOR'] ?? '') === '' &&
    environment['TERM'] !== 'dumb';
  return {
    columns: stdout.isTTY === true ? (stdout.columns ?? 80) : 80,
    isTerminal: stdout.isTTY === true,
    isUnicode: /utf-?8/i.test(localeOf(environment)),
    print: (text) => void stdout.write(`${text}\n`),
    note: (text) => void stderr.write(`${text}\n`),
    progress: (text) => {
      if (stderr.isTTY === true) stderr.write(`\r\u001b[K${text}`);
    },
    style: (style, text) => (hasColour ? styleText(style, text, { validateStream: false }) : text),
  };
}
