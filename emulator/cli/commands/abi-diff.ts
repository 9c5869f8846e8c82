/** `abi diff`: may NEW replace OLD across a live update. */
import { diffAbi } from '../../../abi/compat/diff.js';
import { abiOf, readBinary } from '../abi-file.js';
import { defineCommand } from '../command.js';
import { FORMATS, report } from '../output/abi/report.js';

/** The command. */
export const command = defineCommand({
  usage: '<old> <new>',
  positionals: {
    old: { type: 'string', demandOption: true, describe: 'The payload that runs now' },
    new: { type: 'string', demandOption: true, describe: 'The payload that is to take over' },
  },
  options: {
    format: {
      choices: FORMATS,
      default: 'text',
      describe: 'Of the report',
    },
  },
  examples: [
    ['caretaker-emu abi diff running.elf next.elf', 'whether next may take over'],
    [
      'caretaker-emu abi diff running.elf next.elf --format github',
      'as annotations of the headers',
    ],
  ],
  run: ({ old, new: next, format, json }, terminal) => {
    const [before, now] = [old, next].map((file) => abiOf(readBinary(file)));
    const shapes = [before!, now!].filter((side) => 'structs' in side);
    const failures = [before!, now!].filter((side) => 'rule' in side);
    const [first, second] = shapes;
    const isRead = first !== undefined && second !== undefined;
    return report(
      {
        title: `${next} after ${old}`,
        findings: isRead ? diffAbi(first, second) : failures,
        before: first?.structs ?? [],
        now: second?.structs ?? [],
        sides: ['OLD', 'NEW'],
        looked: [],
        evidence: {},
      },
      json ? 'json' : format,
      terminal,
    );
  },
});
