/** The characters that a timeline is drawn with: blocks and lines where the locale is UTF-8, ASCII elsewhere. */

/** One set; `alone` and `withKvm` go from few exits to many. */
export interface Glyphs {
  readonly alone: readonly string[];
  readonly withKvm: readonly string[];
  readonly quiet: string;
  readonly blocked: string;
  readonly waiting: string;
  readonly event: string;
  readonly border: string;
  readonly ruler: {
    readonly line: string;
    readonly tick: string;
    readonly first: string;
    readonly last: string;
    readonly border: string;
  };
}

const UNICODE: Glyphs = {
  alone: ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'],
  withKvm: ['░', '▒', '▓'],
  quiet: '·',
  blocked: 'X',
  waiting: '━',
  event: '▼',
  border: '│',
  ruler: { line: '─', tick: '┬', first: '├', last: '┤', border: '┼' },
};

const ASCII: Glyphs = {
  alone: [',', ':', ';', '='],
  withKvm: ['o', '%', '@'],
  quiet: '.',
  blocked: 'X',
  waiting: '~',
  event: 'v',
  border: '|',
  ruler: { line: '-', tick: "'", first: '|', last: '|', border: '+' },
};

/** The set for a terminal. */
export const glyphsOf = ({ isUnicode }: { readonly isUnicode: boolean }): Glyphs =>
  isUnicode ? UNICODE : ASCII;
