/** What commands write: colour only on a terminal, columns that fit, JSON without rounded numbers. */
import { describe, expect, it } from 'vitest';
import { jsonText } from '../../emulator/cli/output/json.js';
import { columnsOf } from '../../emulator/cli/output/table.js';
import { terminalOf } from '../../emulator/cli/output/terminal.js';

interface FakeStream {
  isTTY: boolean;
  columns: number;
  text: string;
  write(text: string): void;
}

function fakeStream(isTTY: boolean): FakeStream {
  return {
    isTTY,
    columns: 120,
    text: '',
    write(text) {
      this.text += text;
    },
  };
}

describe('terminal', () => {
  it.each([
    ['shows colour on a terminal', true, {}, true],
    ['shows none when piped', false, {}, false],
    ['shows none with NO_COLOR', true, { NO_COLOR: '1' }, false],
    ['shows colour with an empty NO_COLOR', true, { NO_COLOR: '' }, true],
    ['shows none on a dumb terminal', true, { TERM: 'dumb' }, false],
  ])('%s', (_title, isTTY, environment, hasColour) => {
    const terminal = terminalOf(fakeStream(isTTY), fakeStream(isTTY), environment);
    expect(terminal.style('red', 'x').includes('\u001b')).toBe(hasColour);
  });

  it('is as wide as the terminal, or 80 columns when piped', () => {
    expect(terminalOf(fakeStream(true), fakeStream(true), {}).columns).toBe(120);
    expect(terminalOf(fakeStream(false), fakeStream(true), {}).columns).toBe(80);
  });

  it('shows progress on a terminal only, and on stderr', () => {
    const [stdout, stderr, pipe] = [fakeStream(true), fakeStream(true), fakeStream(false)];
    terminalOf(stdout, stderr, {}).progress('half');
    terminalOf(stdout, pipe, {}).progress('half');
    expect([stdout.text, stderr.text, pipe.text]).toEqual(['', '\r\u001b[Khalf', '']);
  });
});

describe('jsonText', () => {
  it('writes a bigint as a hex string and a number as it is', () => {
    expect(JSON.parse(jsonText({ a: 0xffff_8000_0010_0059n, n: [3, 0n] }))).toEqual({
      a: '0xffff800000100059',
      n: [3, '0x0'],
    });
  });
});

describe('columnsOf', () => {
  it('aligns columns two spaces apart and numbers to the right', () => {
    const rows = [
      ['HLT', '12', 'halt'],
      ['CPUID', '9000', 'identify'],
    ];
    expect(columnsOf(rows, 80, [1])).toBe('HLT      12  halt\nCPUID  9000  identify');
  });

  it('wraps the last column to the width and leaves no trailing space', () => {
    const lines = columnsOf([['a', 'one two three four five six seven']], 24).split('\n');
    expect(lines).toEqual(['a  one two three four', '   five six seven']);
  });

  it('counts a styled cell as wide as it looks', () => {
    const rows = [
      ['\u001b[31mred\u001b[39m', 'x'],
      ['plain', 'y'],
    ];
    expect(columnsOf(rows, 80)).toBe('\u001b[31mred\u001b[39m    x\nplain  y');
  });

  it('of no rows is empty', () => {
    expect(columnsOf([], 80)).toBe('');
  });
});
