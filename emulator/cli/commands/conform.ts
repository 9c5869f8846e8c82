/**
 * `conform`: a payload, the VMX models and the engine against a second machine with real VMX.
 *
 * Source: CLI ("conform"). A difference that no row of the known ones explains is a finding, and so is a row that explains
 * none.
 */
import { HarnessError } from '../../../abi/errors.js';
import { parseElf } from '../../../loader/elf.js';
import { conformance, totalOf, type ConformanceReport } from '../../conform/conformance.js';
import { SecondMachine } from '../../conform/second-machine.js';
import { CCB_RULE } from '../../host/kvm/ccb-rule.js';
import { defineCommand } from '../command.js';
import { RefusedFileError } from '../errors.js';
import { EXIT } from '../exit-status.js';
import { jsonText } from '../output/json.js';
import { columnsOf } from '../output/table.js';
import type { Terminal } from '../output/terminal.js';
import { wrapped } from '../output/wrapped.js';
import { naming, PAYLOAD_ARGUMENT, readPayloadFile, referencePayload } from '../payload-file.js';

/** How many differences are printed in full. */
const PRINTED = 10;
const VALUE_WIDTH = 60;

/** The command. */
export const command = defineCommand({
  usage: '[payload]',
  positionals: { payload: PAYLOAD_ARGUMENT },
  options: {
    machine: {
      type: 'string',
      choices: ['bochs'],
      default: 'bochs',
      describe: 'The second machine',
    },
    long: { type: 'number', describe: 'Go on with random cases for so many seconds' },
  },
  examples: [
    ['caretaker-emu conform', 'the reference payload, and the models it runs on, on Bochs too'],
    ['caretaker-emu conform my.elf', 'the same with yours as the exit handler'],
    ['caretaker-emu conform --long 600 --seed 7', 'ten minutes more of random ones'],
  ],
  run: ({ payload = referencePayload(), json, seed, long = 0 }, terminal) => {
    const file = readPayloadFile(payload);
    naming(payload, () => parseElf(file, CCB_RULE));
    // The time begins when the first of the longer part is asked for, however slow the machine was until then.
    let end: number | undefined;
    const report = ofPayload(payload, () =>
      conformance(new SecondMachine(), file, {
        seed: seed ?? 1,
        onProgress: (text) => terminal.progress(`${text} ...`),
        goesOn: () => Date.now() < (end ??= Date.now() + long * 1000),
      }),
    );
    terminal.progress('');
    terminal.print(json ? jsonText(report) : textOf(report, terminal));
    return report.result === 'pass' ? EXIT.OK : EXIT.FINDING;
  },
});

/** What speaks against the payload, and not against the second machine or its installation. */
const OF_PAYLOAD: ReadonlySet<string> = new Set(['PAYLOAD_ENDLESS', 'PAYLOAD_REFUSED']);

function ofPayload<T>(file: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    const isItsOwn = error instanceof HarnessError && OF_PAYLOAD.has(String(error.code));
    throw isItsOwn ? RefusedFileError.of(file, error as HarnessError) : error;
  }
}

function textOf(report: ConformanceReport, terminal: Terminal): string {
  const { payload, exits, rows, variants, instructions, vmxInstructions, localApic, aborts } =
    report;
  const { differences } = report;
  const peers = totalOf(report.peers);
  const row = (name: string, tried: number, agree: number, known: number, rest: string) => [
    `  ${name}`,
    `${tried} tried`,
    `${agree} agree`,
    `${known} known`,
    rest,
  ];
  const table = columnsOf(
    [
      [
        '  the payload itself',
        `${payload.exits} exits`,
        `${payload.instructions} instructions, ${payload.writes} writes`,
        `${payload.agree} of ${payload.values} values agree`,
      ],
      row(
        'checks of VM entry',
        rows.tried,
        rows.agree,
        rows.known,
        `${rows.notOffered} not offered`,
      ),
      row('mixtures of checks', variants.tried, variants.agree, variants.known, ''),
      row('VM exits', exits.tried, exits.agree, exits.known, `${exits.values} values compared`),
      row(
        'VMX instructions',
        vmxInstructions.tried,
        vmxInstructions.agree,
        vmxInstructions.known,
        '',
      ),
      row('lists of MSRs at exits', aborts.tried, aborts.agree, aborts.known, ''),
      row('local APIC', localApic.tried, localApic.agree, localApic.known, ''),
      row('instruction sequences', instructions.tried, instructions.agree, instructions.known, ''),
      [
        '  cases of the peers',
        `${peers.rows} listed`,
        `${peers.held} held`,
        `${peers.known} known`,
        `${peers.notOffered} not offered`,
        `${peers.attempts} VM entries`,
      ],
    ],
    terminal.columns,
  );
  const found = differences.filter(({ known }) => known === null);
  const ids = [...new Set(differences.flatMap(({ known }) => known ?? []))];
  const { unusedKnown } = report;
  const complaints = [
    ...(found.length > 0 ? [`${found.length} differences that nothing explains`] : []),
    ...(unusedKnown.length > 0 ? [`${unusedKnown.length} known differences that are not met`] : []),
  ];
  const verdict =
    complaints.length === 0
      ? terminal.style('green', 'the two machines agree')
      : terminal.style('red', complaints.join(', '));
  const lines = (text: string): string => wrapped(text, terminal.columns, '  ', 2);
  return [
    `${report.machine}: ${verdict}`,
    table,
    ...payload.leftOut.map((what) => lines(`the payload was not compared on ${what}`)),
    lines(`known differences: ${ids.join(', ')}`),
    ...(unusedKnown.length > 0
      ? [lines(`known differences that are not met any more: ${unusedKnown.join(', ')}`)]
      : []),
    ...found.slice(0, PRINTED).map(({ kind, title, what, model, second }) => {
      return lines(`${kind} "${title}": ${what}: here ${short(model)}, there ${short(second)}`);
    }),
    ...payload.context.map((line) => `  ${line}`.trimEnd()),
    ...(found.length > PRINTED ? [`  and ${found.length - PRINTED} more: --json has all`] : []),
  ].join('\n');
}

function short(value: string): string {
  return value.length <= VALUE_WIDTH ? value : `${value.slice(0, VALUE_WIDTH)}...`;
}
