/** The small language in which the README says what a command prints. */
import { describe, expect, it } from 'vitest';
import { consoleBlocks, outputMatches } from './console-blocks.js';

describe('consoleBlocks', () => {
  it('reads commands, their output and what is said of the block', () => {
    const text = 'a\n```console verify status=1\n$ one\nout\n\n$ two\n```\n```sh\n$ no\n```\n';
    expect(consoleBlocks(text)).toEqual([
      {
        isRun: true,
        comparison: 'loose',
        status: 1,
        commands: [
          { line: 3, command: 'one', output: ['out', ''] },
          { line: 6, command: 'two', output: [] },
        ],
      },
    ]);
  });

  it('reads a block that is only shown', () => {
    expect(consoleBlocks('```console not-run\n$ make test\n```')).toMatchObject([{ isRun: false }]);
  });

  it.each([
    ['a word that means nothing', '```console verfy\n$ x\n```'],
    ['output before a command', '```console\nx\n```'],
    ['a block that never ends', '```console\n$ x\n'],
  ])('refuses %s', (_title, text) => {
    expect(() => consoleBlocks(text)).toThrow();
  });
});

describe('outputMatches', () => {
  it.each([
    ['equal lines', 'a\nb', 'a\nb', true],
    ['a line more', 'a', 'a\nb', false],
    ['a line less', 'a\nb', 'a', false],
    ['nothing and nothing', '', '', true],
    ['any lines', 'a\n...\nd', 'a\nb\nc\nd', true],
    ['no lines', 'a\n...\nd', 'a\nd', true],
    ['lines at the end', 'a\n...', 'a\nb', true],
    ['any lines but the wrong last', 'a\n...\nd', 'a\nb', false],
    ['another number', '5 exits', '1,234.5 exits', true],
    ['another number of invariants', 'of 19 invariants', 'of 18 invariants', false],
    ['another number of findings', '5 exits, 0 findings', '6 exits, 1 findings', false],
    ['another seed', 'seed 1, payload 0123456789ab', 'seed 2, payload 0123456789ab', false],
    ['another length of the gap', 'gap of 30.000 s', 'gap of 30.500 s', false],
    ['another time beside it', '0 5 30.834 s', '0 5 30.824 s', true],
    ['no number', '5 exits', 'many exits', false],
    ['another hex number', 'rip 0x1f', 'rip 0x1000', true],
    ['no hex number', 'rip 0x1f', 'rip 1000', false],
    ['a number that needs its padding', '  5 exits', '12345 exits', true],
    ['any text', 'a{*}z', 'a(b)z', true],
    ['another run of spaces', 'a  b', 'a     b', true],
    ['no space', 'a b', 'ab', false],
    ['characters of regular expressions as they are', 'a.b(c)', 'axb(c)', false],
  ])('of %s', (_title, shown, printed, verdict) => {
    const lines = (text: string): string[] => (text === '' ? [] : text.split('\n'));
    expect(outputMatches(lines(shown), lines(printed))).toBe(verdict);
  });

  it.each([
    ['the same number', '5 exits', '5 exits', true],
    ['another number', '5 exits', '6 exits', false],
    ['another hex number', '0x1', '0x2', false],
    ['any text', 'a {*}', 'a 6', true],
  ])('when exact, of %s', (_title, shown, printed, verdict) => {
    expect(outputMatches([shown], [printed], true)).toBe(verdict);
  });
});
