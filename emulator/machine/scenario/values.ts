/**
 * The kinds of values in a scenario file: counts, seconds, addresses, names that a page shows.
 *
 * Invariant: YAML is read with integers as bigint so that addresses stay exact; counts become numbers here.
 */
import { z } from 'zod';
import { ERRNO, type ErrnoName } from '../../../abi/luo.js';

export const MAX_VCPUS = 64;
const MAX_SECONDS = 3600;
export const MAX_PAGES = 4096;
export const SHORTEST_PERIOD_SECONDS = 1e-6;

const WHOLE = 'a whole number is wanted';

export const count = (max: number) =>
  z
    .union([z.bigint(), z.number().int()], WHOLE)
    .transform((value) => Number.parseInt(value.toString(), 10))
    .pipe(z.number().min(0).max(max));
export const seconds = z
  .union([z.bigint(), z.number()], 'a number of seconds is wanted')
  .transform((value) => Number.parseFloat(value.toString()))
  .pipe(z.number().min(0).max(MAX_SECONDS));
export const signed = (most: number) =>
  z
    .union([z.bigint(), z.number()], 'a number is wanted')
    .transform((value) => Number.parseFloat(value.toString()))
    .pipe(z.number().min(-most).max(most));
export const u64 = z
  .union([z.bigint(), z.number().int()], WHOLE)
  .transform((value) => BigInt(value))
  .pipe(z.bigint().min(0n).max(0xffff_ffff_ffff_ffffn));

/** The name of an errno that the host is to answer with. */
export const errno = z.enum(
  Object.keys(ERRNO) as [ErrnoName, ...ErrnoName[]],
  'the name of an errno is wanted, as EBUSY',
);
/** Text that a page shows: a terminal must not be told anything by it. */
export const shownText = (most: number) =>
  z
    .string()
    .transform((text) => text.replaceAll(/\s+/g, ' ').trim())
    .pipe(
      z
        .string()
        .min(1)
        .max(most)
        .regex(/^[^\p{Cc}\p{Cf}]*$/u, 'printable characters are wanted'),
    );

/** What is not there is told so, where the field has no words of its own. */
export const missing = ({ input }: { readonly input?: unknown }): string | undefined =>
  input === undefined ? 'it is missing' : undefined;
