/** The distance behind every "did you mean". */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { didYouMean, editDistance, nearestName } from '../../abi/did-you-mean.js';

describe('editDistance', () => {
  it.each([
    ['', '', 0],
    ['', 'run', 3],
    ['run', 'run', 0],
    ['rn', 'run', 1],
    ['ruun', 'run', 1],
    ['ran', 'run', 1],
    ['rnu', 'run', 1],
    ['exlpoer', 'explore', 2],
    ['load', 'bench', 5],
  ])('from "%s" to "%s" is %i', (from, to, distance) => {
    expect(editDistance(from, to)).toBe(distance);
  });

  it('is the same both ways, and 0 only between equal words', () => {
    const word = fc.string({ maxLength: 8 });
    fc.assert(
      fc.property(word, word, (a, b) => {
        expect(editDistance(a, b)).toBe(editDistance(b, a));
        expect(editDistance(a, b) === 0).toBe(a === b);
      }),
    );
  });
});

describe('nearestName', () => {
  const names = ['run', 'explore', 'live-update'];

  it.each([
    ['rnu', 'run'],
    ['RUN', 'run'],
    ['exploer', 'explore'],
    ['live-updaet', 'live-update'],
    ['walk', undefined],
    ['x', undefined],
  ])('of "%s" is %s', (word, nearest) => {
    expect(nearestName(word, names)).toBe(nearest);
  });

  it('becomes the end of a message, or nothing', () => {
    expect(didYouMean('rnu', names)).toBe('; did you mean "run"?');
    expect(didYouMean('walk', names)).toBe('');
  });
});
