/**
 * Gives every property test the seed FC_SEED; without it, outside CI, fast-check draws one and prints it on failure.
 *
 * Invariant: under CI there is no run without a seed, so that a red run can be repeated.
 */
import fc from 'fast-check';

const text = process.env['FC_SEED'];
if (text === undefined || text === '') {
  if (process.env['CI'] !== undefined) throw new Error('CI runs need FC_SEED; `make test` sets it');
} else {
  const seed = Number(text);
  if (!Number.isSafeInteger(seed)) throw new Error(`FC_SEED=${text}: an integer is wanted`);
  fc.configureGlobal({ seed });
}
