/**
 * A figure of the README: something to do, how to count it, and its median over interleaved rounds.
 *
 * Invariant: every round measures every figure once, so that a slow minute of the machine hits all of them alike.
 * The clock is handed in: this folder has none of its own.
 */

/** Milliseconds that only go forward. */
export type Clock = () => number;

/** One thing to measure. */
export interface Figure {
  readonly name: string;
  readonly unit: string;
  /** Does the work once and says what it came to, in `unit`. */
  measure(clock: Clock): number;
}

/** A measured figure, as `bench --json` prints it. */
export interface Measurement {
  readonly value: number;
  readonly unit: string;
  readonly min: number;
  readonly max: number;
}

/** The middle of the values; of an even number of them the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle]!;
  return sorted.length % 2 === 1 ? upper : (sorted[middle - 1]! + upper) / 2;
}

/** Measures all figures `rounds` times, interleaved, after one round that only warms up. */
export function measureAll(
  figures: readonly Figure[],
  rounds: number,
  clock: Clock,
  onRound: (round: number) => void = () => undefined,
): Readonly<Record<string, Measurement>> {
  const values = new Map(figures.map(({ name }) => [name, [] as number[]]));
  for (let round = 0; round <= rounds; round++) {
    onRound(round);
    for (const figure of figures) {
      const value = figure.measure(clock);
      if (round > 0) values.get(figure.name)!.push(value);
    }
  }
  return Object.fromEntries(
    figures.map(({ name, unit }) => {
      const all = values.get(name)!;
      return [name, { value: median(all), unit, min: Math.min(...all), max: Math.max(...all) }];
    }),
  );
}
