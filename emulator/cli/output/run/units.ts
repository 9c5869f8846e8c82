/** Virtual time and counts as people read them. */

/** A count with thousands separated: 12,345. */
export function grouped(count: number): string {
  return String(count).replaceAll(/\B(?=(\d{3})+$)/g, ',');
}

/** Ticks as milliseconds with microseconds behind the point: 1,234.567. */
export function milliseconds(ticks: number, tscFrequencyHz: number): string {
  const [whole = '0', fraction = '000'] = ((ticks * 1000) / tscFrequencyHz).toFixed(3).split('.');
  return `${grouped(Number(whole))}.${fraction}`;
}

/** Ticks as seconds with milliseconds behind the point: 30.810. */
export function seconds(ticks: number, tscFrequencyHz: number): string {
  return (ticks / tscFrequencyHz).toFixed(3);
}

/** A duration in its best unit, for a legend: 0.67 s, 68 ms, 420 us. */
export function duration(ticks: number, tscFrequencyHz: number): string {
  const inSeconds = ticks / tscFrequencyHz;
  if (inSeconds >= 1) return `${inSeconds.toFixed(1)} s`;
  if (inSeconds >= 0.1) return `${inSeconds.toFixed(2)} s`;
  if (inSeconds >= 0.001) return `${twoDigits(inSeconds * 1e3)} ms`;
  return `${twoDigits(inSeconds * 1e6)} us`;
}

const twoDigits = (value: number): string =>
  value >= 99.5 ? value.toFixed(0) : value.toPrecision(2);

/** One noun, or several. */
export const plural = (count: number, noun: string): string =>
  `${grouped(count)} ${noun}${count === 1 ? '' : 's'}`;
