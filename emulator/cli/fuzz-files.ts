/**
 * The folders of a campaign: a corpus of plain binary files that other fuzzers can share, and findings with what replays
 * them.
 *
 * Source: CLI ("fuzz", "replay").
 * Invariant: an input's file is named by the hash of its bytes, so that writing it again changes nothing.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { decode, encode } from '../fuzz/codec.js';
import type { FuzzInput } from '../stage/input.js';
import type { FindingReport } from '../fuzz/finding-report.js';
import { CliUsageError, shownName, systemReason } from './errors.js';
import { jsonText } from './output/json.js';
import { openFolder, writing } from './outputs.js';

/** An input is never longer; what is behind it in a file is not read. */
const LONGEST_INPUT = 4096;

/** Every file of a folder as an input, in the order of names; a folder that does not exist yet is made. */
export function readCorpus(folder: string): readonly FuzzInput[] {
  openFolder('--corpus', folder);
  try {
    return readdirSync(folder, { withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map(({ name }) => name)
      .toSorted()
      .map((name) => decode(readFileSync(join(folder, name)).subarray(0, LONGEST_INPUT)));
  } catch (cause) {
    const message = `--corpus ${shownName(folder)}: cannot be read: ${systemReason(cause)}`;
    throw new CliUsageError('FILE_UNREADABLE', message, { file: folder }, { cause });
  }
}

/** Writes inputs under their hashes. */
export function writeCorpus(folder: string, inputs: readonly FuzzInput[]): void {
  writing('--corpus', folder, () => {
    for (const input of inputs) {
      const bytes = encode(input);
      writeFileSync(
        join(folder, createHash('sha256').update(bytes).digest('hex').slice(0, 16)),
        bytes,
      );
    }
  });
}

/** Writes each finding as ID.json, which `replay` takes; the findings with their files. */
export function writeSolutions(
  folder: string,
  findings: readonly FindingReport[],
  payload: Uint8Array,
  settings: { readonly seed: number; readonly payloadFile: string },
): readonly FindingReport[] {
  return writing('--solutions', folder, () => {
    const sha256 = createHash('sha256').update(payload).digest('hex');
    return findings.map((finding) => {
      const file = join(folder, `${finding.id}.json`);
      const document = {
        version: 1,
        kind: 'fuzz-input',
        payload: { file: settings.payloadFile, sha256 },
        seed: settings.seed,
        ...finding,
        file: undefined,
      };
      writeFileSync(file, `${jsonText(document)}\n`);
      return { ...finding, file };
    });
  });
}
