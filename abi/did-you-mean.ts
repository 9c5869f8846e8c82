/**
 * The nearest known name to a mistyped one, for every "did you mean" that a user reads.
 *
 * Source: the restricted Damerau-Levenshtein distance: insert, delete, replace, swap of neighbours.
 */

/** How many single-character edits lie between two words; a swap of neighbours is one edit. */
export function editDistance(from: string, to: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: to.length + 1 }, (_, column) => column);
  for (let row = 1; row <= from.length; row++) {
    const current = [row];
    for (let column = 1; column <= to.length; column++) {
      const replaced = last[column - 1]! + (from[row - 1] === to[column - 1] ? 0 : 1);
      let best = Math.min(replaced, last[column]! + 1, current[column - 1]! + 1);
      if (from[row - 1] === to[column - 2] && from[row - 2] === to[column - 1]) {
        best = Math.min(best, beforeLast[column - 2]! + 1);
      }
      current.push(best);
    }
    beforeLast = last;
    last = current;
  }
  return last[to.length]!;
}

/** The nearest of `known` to `word`, or undefined when none is near: at most a third of its letters, at least one. */
export function nearestName(word: string, known: Iterable<string>): string | undefined {
  let nearest: string | undefined;
  let distance = Math.max(1, Math.floor(word.length / 3)) + 1;
  for (const name of known) {
    const candidate = editDistance(word.toLowerCase(), name.toLowerCase());
    if (candidate < distance) [nearest, distance] = [name, candidate];
  }
  return nearest;
}

/** The end of a message about an unknown `word`: `; did you mean "run"?`, or nothing. */
export function didYouMean(word: string, known: Iterable<string>): string {
  const nearest = nearestName(word, known);
  return nearest === undefined ? '' : `; did you mean "${nearest}"?`;
}
