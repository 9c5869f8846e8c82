/**
 * A file that `replay` takes: a finding of a campaign, or the bare bytes of an input.
 *
 * Source: CLI ("replay").
 * Invariant: a file that says it is a finding and breaks a rule is refused with the field and the rule; one that says
 * nothing is an input, because any bytes are one.
 */
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { HarnessError } from '../../abi/errors.js';
import { CliUsageError, shownName, systemReason } from './errors.js';

export type ReplayFileErrorCode = 'REPLAY_FILE_INVALID';
/** `details` has the field and the rule. */
export class ReplayFileError extends HarnessError<ReplayFileErrorCode> {}

const LONGEST_FILE = 1 << 20;

const document = z.object({
  version: z.literal(1),
  kind: z.literal('fuzz-input'),
  payload: z.object({ file: z.string(), sha256: z.string().regex(/^[0-9a-f]{64}$/) }),
  seed: z.int().min(0).max(0xffff_ffff),
  input: z.string().regex(/^([0-9a-f]{2})+$/, 'must be an even number of hexadecimal digits'),
});

/** What to replay, and what it was found with where the file says so. */
export interface Replayable {
  readonly bytes: Uint8Array;
  readonly seed: number | null;
  readonly payload: { readonly file: string; readonly sha256: string } | null;
}

/** A file as text. @throws CliUsageError FILE_UNREADABLE. */
export function readReplayText(file: string): string {
  return Buffer.from(read(file)).toString('utf8');
}

/** Reads a file. @throws CliUsageError FILE_UNREADABLE; ReplayFileError. */
export function readReplayFile(file: string): Replayable {
  const content = read(file);
  if (content[0] !== '{'.charCodeAt(0)) return { bytes: content, seed: null, payload: null };
  const parsed = document.safeParse(json(content, file));
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const field = issue?.path.join('.') ?? '';
    throw new ReplayFileError(
      'REPLAY_FILE_INVALID',
      `${shownName(file)}: ${field === '' ? 'the document' : field}: ${issue?.message ?? 'is not right'}`,
      { file, field },
    );
  }
  const { input, seed, payload } = parsed.data;
  return { bytes: Uint8Array.from(Buffer.from(input, 'hex')), seed, payload };
}

function read(file: string): Uint8Array {
  try {
    return readFileSync(file).subarray(0, LONGEST_FILE);
  } catch (cause) {
    const message = `${shownName(file)}: cannot be read: ${systemReason(cause)}`;
    throw new CliUsageError('FILE_UNREADABLE', message, { file }, { cause });
  }
}

function json(content: Uint8Array, file: string): unknown {
  try {
    return JSON.parse(Buffer.from(content).toString('utf8'));
  } catch (cause) {
    const message = `${shownName(file)}: begins as JSON and is none: ${systemReason(cause)}`;
    throw new ReplayFileError('REPLAY_FILE_INVALID', message, { file }, { cause });
  }
}
