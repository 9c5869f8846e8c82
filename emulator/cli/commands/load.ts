/**
 * `load`: parses, validates and plans payload files without running them; several in one process.
 *
 * Source: CLI ("load"). A file that is refused or cannot be read is a result here, not an error: the files
 * after it are judged too, and the exit status is the worst.
 * Addresses are the file's own; the plan is made at a place where any instance could lie.
 */
import { hex } from '../../../abi/uint.js';
import { parseElf } from '../../../loader/elf.js';
import { LoaderError } from '../../../loader/errors.js';
import type { CaretakerImage } from '../../../loader/image.js';
import { buildId } from '../../../loader/notes.js';
import { place, spanPages } from '../../../loader/place.js';
import { symbolise } from '../../../loader/symbols.js';
import { CCB_RULE } from '../../host/kvm/ccb-rule.js';
import { defineCommand } from '../command.js';
import { CliUsageError, shownName } from '../errors.js';
import { EXIT } from '../exit-status.js';
import { jsonText } from '../output/json.js';
import { columnsOf } from '../output/table.js';
import type { Terminal } from '../output/terminal.js';
import { PAYLOAD_ARGUMENT, readPayloadFile, referencePayload } from '../payload-file.js';

/** Where a relocatable image is planned: above the first page, which is its guard. */
const PLACE = 0x10_0000n;

/** Why there is no image: the content breaks a rule, or there is none to read. */
type Refusal = LoaderError | CliUsageError;

/** One file judged: its image, or why there is none. */
interface Verdict {
  readonly file: string;
  readonly outcome: CaretakerImage | Refusal;
  readonly milliseconds: number;
}

/** The command. */
export const command = defineCommand({
  usage: '[payload..]',
  positionals: { payload: { ...PAYLOAD_ARGUMENT, array: true } },
  options: {},
  examples: [
    ['caretaker-emu load', 'the reference payload: segments, entry, time'],
    ['caretaker-emu load a.elf b.elf --json', 'an array with a verdict a file'],
  ],
  run: ({ payload = [], json }, terminal) => {
    const files = payload.length > 0 ? payload : [referencePayload()];
    const verdicts = files.map(judge);
    if (json) {
      const documents = verdicts.map(documentOf);
      terminal.print(jsonText(documents.length === 1 ? documents[0] : documents));
    } else {
      for (const verdict of verdicts) terminal.print(textOf(verdict, terminal));
    }
    if (verdicts.some(({ outcome }) => outcome instanceof CliUsageError)) return EXIT.USAGE;
    return verdicts.some(({ outcome }) => isRefusal(outcome)) ? EXIT.FINDING : EXIT.OK;
  },
});

function isRefusal(outcome: Verdict['outcome']): outcome is Refusal {
  return outcome instanceof LoaderError || outcome instanceof CliUsageError;
}

function judge(file: string): Verdict {
  const bytes = bytesOrRefusal(file);
  const start = performance.now();
  const outcome = bytes instanceof CliUsageError ? bytes : imageOrRefusal(bytes);
  return { file, outcome, milliseconds: Math.round((performance.now() - start) * 1000) / 1000 };
}

function bytesOrRefusal(file: string): Uint8Array | CliUsageError {
  try {
    return readPayloadFile(file);
  } catch (error) {
    if (error instanceof CliUsageError) return error;
    throw error;
  }
}

function imageOrRefusal(bytes: Uint8Array): CaretakerImage | LoaderError {
  try {
    const image = parseElf(bytes, CCB_RULE);
    place(image, image.type === 'ET_EXEC' ? image.pages.start : PLACE);
    return image;
  } catch (error) {
    if (error instanceof LoaderError) return error;
    throw error;
  }
}

function documentOf({ file, outcome, milliseconds }: Verdict): unknown {
  if (isRefusal(outcome)) {
    const { code, message, details } = outcome;
    const error = { code, message, file, offset: details.offset ?? null };
    return { file, accepted: false, code, message, segments: [], entry: null, milliseconds, error };
  }
  return {
    ...{ file, accepted: true, code: null, message: null },
    segments: outcome.segments.map(({ name, address, sizeBytes, permissions }) => {
      return { name, address, size: sizeBytes, permissions };
    }),
    entry: outcome.entry,
    milliseconds,
    type: outcome.type,
    ccb: outcome.ccb,
    pages: spanPages(outcome),
    relocations: outcome.relocations.length,
    symbols: outcome.symbols.length,
    buildId: buildId(outcome) ?? null,
  };
}

function textOf({ file, outcome, milliseconds }: Verdict, terminal: Terminal): string {
  if (outcome instanceof CliUsageError) {
    // The message begins with the file.
    return `${terminal.style('red', 'unreadable')}: ${outcome.message}`;
  }
  if (outcome instanceof LoaderError) {
    const { offset } = outcome.details;
    const where = offset === undefined ? '' : ` at file offset ${hex(offset)}`;
    return `${shownName(file)}: ${terminal.style('red', 'refused')}, ${outcome.code}${where}: ${outcome.message}`;
  }
  const entry = symbolise(outcome, outcome.entry);
  const name = entry === undefined ? '' : ` <${entry.name}>`;
  const rows = outcome.segments.map((segment) => [
    `  ${hex(segment.address, 8)}`,
    hex(segment.sizeBytes),
    segment.permissions,
    segment.name,
  ]);
  const counts = [
    `${outcome.relocations.length} relocations`,
    `${outcome.symbols.length} symbols`,
    `${spanPages(outcome)} pages with guards`,
  ];
  return [
    `${shownName(file)}: ${terminal.style('green', 'accepted')} in ${milliseconds.toFixed(1)} ms`,
    `  ${outcome.type}, entry ${hex(outcome.entry)}${name}, ${counts.join(', ')}`,
    columnsOf(rows, terminal.columns, [1]),
  ].join('\n');
}
