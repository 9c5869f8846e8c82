/**
 * From an error to an exit status and to the words or the JSON document that a user gets.
 *
 * Source: CLI ("Exit status"): 0 fine, 1 a finding, 2 bad usage or unreadable input, 3 our own bug.
 * Invariant: an error that nobody planned for is a bug of ours, never a finding of the payload's.
 */
import { didYouMean } from '../../abi/did-you-mean.js';
import { HarnessError } from '../../abi/errors.js';
import { LoaderError } from '../../loader/errors.js';
import { CliUsageError, RefusedFileError } from './errors.js';

/** The exit statuses, by meaning. */
export const EXIT = { OK: 0, FINDING: 1, USAGE: 2, BUG: 3 } as const;

/** One of the four exit statuses. */
export type ExitStatus = (typeof EXIT)[keyof typeof EXIT];

/** What a user is told of an error, in words or with --json. */
export interface Refusal {
  readonly status: ExitStatus;
  readonly code: string;
  readonly message: string;
  readonly file: string | null;
  readonly offset: number | bigint | null;
  /** Ends a message about usage: which --help to read. */
  readonly hint: string | null;
}

interface SystemError extends Error {
  readonly code: string;
  readonly path?: string;
}

function isSystemError(error: unknown): error is SystemError {
  return error instanceof Error && 'syscall' in error && 'code' in error;
}

/** Reads an error as a refusal. */
export function refusalOf(error: unknown): Refusal {
  if (error instanceof HarnessError) return refusalOfHarness(error as HarnessError);
  if (isSystemError(error)) {
    const { code, message, path } = error;
    const offset = null;
    return { status: EXIT.USAGE, code, message, file: path ?? null, offset, hint: null };
  }
  const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return { status: EXIT.BUG, code: 'BUG', message, file: null, offset: null, hint: null };
}

function refusalOfHarness(error: HarnessError): Refusal {
  const { file, offset, command, name, known } = error.details;
  const suggestion =
    typeof name === 'string' && Array.isArray(known) ? didYouMean(name, known.map(String)) : '';
  const isUsage = error instanceof CliUsageError;
  const isRefused = error instanceof RefusedFileError || error instanceof LoaderError;
  return {
    status: isRefused ? EXIT.FINDING : EXIT.USAGE,
    code: error.code,
    message: error.message + suggestion,
    file: typeof file === 'string' ? file : null,
    offset: typeof offset === 'number' || typeof offset === 'bigint' ? offset : null,
    hint: isUsage && typeof command === 'string' ? `try: ${command} --help` : null,
  };
}
