/** `bench`: the figures of the README, each a median of several rounds with its spread. */
import { didYouMean } from '../../../abi/did-you-mean.js';
import { parseElf } from '../../../loader/elf.js';
import { measureAll } from '../../bench/figure.js';
import type { Figure } from '../../bench/figure.js';
import { CCB_RULE } from '../../host/kvm/ccb-rule.js';
import { defineCommand } from '../command.js';
import { CliUsageError } from '../errors.js';
import { EXIT } from '../exit-status.js';
import { jsonText } from '../output/json.js';
import { columnsOf } from '../output/table.js';
import { naming, readPayloadFile, referencePayload } from '../payload-file.js';

/** The command. */
export const command = defineCommand({
  usage: '[name..]',
  positionals: {
    name: { type: 'string', array: true, describe: 'Figures, or the beginning of their names' },
  },
  options: {
    rounds: {
      type: 'number',
      minimum: 1,
      default: 5,
      describe: 'How often each figure is measured',
    },
    payload: { type: 'string', describe: 'The payload to measure with (default: the reference)' },
  },
  examples: [
    ['caretaker-emu bench', 'all figures'],
    ['caretaker-emu bench machine load.filesPerSecond', 'some of them'],
  ],
  run: async ({ name: names = [], rounds, payload, json }, terminal) => {
    // Here and not above: --help needs none of it.
    const { figuresOf } = await import('../../bench/figures.js');
    const file = payload ?? referencePayload();
    const bytes = readPayloadFile(file);
    naming(file, () => parseElf(bytes, CCB_RULE));
    const all = figuresOf(bytes);
    const chosen = chosenOf(all, names);
    const measured = measureAll(
      chosen,
      rounds,
      () => performance.now(),
      (round) => terminal.progress(`round ${round} of ${rounds} ...`),
    );
    terminal.progress('');
    if (json) {
      terminal.print(jsonText(measured));
      return EXIT.OK;
    }
    const rows = Object.entries(measured).map(([name, { value, unit, min, max }]) => {
      return [name, short(value), unit, `${short(min)} to ${short(max)}`];
    });
    terminal.print(columnsOf(rows, terminal.columns, [1]));
    return EXIT.OK;
  },
});

/** @throws CliUsageError for a name that begins no figure's. */
function chosenOf(all: readonly Figure[], names: readonly string[]): readonly Figure[] {
  if (names.length === 0) return all;
  const known = all.map((figure) => figure.name);
  const families = known.map((figure) => figure.split('.')[0]!);
  for (const name of names) {
    if (name !== '' && known.some((figure) => figure.startsWith(name))) continue;
    const message = `no figure is named "${name}"${didYouMean(name, [...known, ...families])}`;
    throw new CliUsageError('BAD_VALUE', message, { command: 'caretaker-emu bench' });
  }
  return all.filter((figure) => names.some((name) => figure.name.startsWith(name)));
}

/** Three significant digits, thousands apart. */
function short(value: number): string {
  return Number(value.toPrecision(3)).toLocaleString('en');
}
