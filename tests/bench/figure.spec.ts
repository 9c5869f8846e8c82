/** How figures are measured, with a clock that a test owns, and that each known one measures something. */
import { describe, expect, it } from 'vitest';
import { measureAll, median } from '../../emulator/bench/figure.js';
import { figuresOf } from '../../emulator/bench/figures.js';
import { readPayloadFile, referencePayload } from '../../emulator/cli/payload-file.js';

describe('median', () => {
  it.each([
    [[3, 1, 2], 2],
    [[4, 1, 3, 2], 2.5],
    [[10, 9], 9.5],
    [[7], 7],
  ])('of %j is %d', (values, wanted) => {
    expect(median(values)).toBe(wanted);
  });
});

describe('measureAll', () => {
  it('interleaves the figures, leaves the first round out and keeps the spread', () => {
    const order: string[] = [];
    const figure = (name: string, values: number[]) => ({
      name,
      unit: 'x',
      measure: () => {
        order.push(name);
        return values.shift()!;
      },
    });
    const measured = measureAll(
      [figure('a', [99, 3, 1, 2]), figure('b', [0, 5, 5, 8])],
      3,
      () => 0,
    );
    expect(order.join('')).toBe('abababab');
    expect(measured).toEqual({
      a: { value: 2, unit: 'x', min: 1, max: 3 },
      b: { value: 5, unit: 'x', min: 5, max: 8 },
    });
  });
});

/** The C harness has a clock of its own, and counts need none. */
const OTHERWISE = new Set([
  'machine.cExitsPerSecond',
  'machine.ratioToC',
  'machine.accessesPerExit',
  'machine.checksPerExit',
  'fuzz.ratioToC',
]);

describe('figuresOf', () => {
  // A whole exploration is long, and is all that its figure does.
  const figures = figuresOf(readPayloadFile(referencePayload())).filter(
    ({ name }) => name !== 'explore.seconds',
  );
  const isTimedHere = ({ name }: { name: string }): boolean => !OTHERWISE.has(name);

  it.each(figures.filter(isTimedHere))('$name measures with the clock it is given', (figure) => {
    let ms = 0;
    const value = figure.measure(() => (ms += 500));
    expect(value).toBeGreaterThan(0);
    expect(ms).toBe(1000);
  });

  it.each(figures.filter((figure) => !isTimedHere(figure)))(
    '$name is more than nothing',
    (figure) => {
      expect(figure.measure(() => performance.now())).toBeGreaterThan(0);
    },
  );
});
