/** `abi diff`: may NEW replace OLD across a live update. */
import { diffAbi } from '../../../abi/compat/diff.js';
import type { AbiShape } from '../../../abi/compat/shape.js';
import { abiOfFile, readBinary } from '../abi-file.js';
import { defineCommand } from '../command.js';
import { FORMATS, report } from '../output/abi/report.js';

/** The command. */
export const command = defineCommand({
  usage: '<old> <new>',
  positionals: {
    old: {
      type: 'string',
      demandOption: true,
      describe: 'The payload that runs now, or its layout lock',
    },
    new: {
      type: 'string',
      demandOption: true,
      describe: 'The payload that is to take over, or its lock',
    },
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
    ['caretaker-emu abi diff old.lock.json new.lock.json', 'with the records that cross kexec'],
    [
      'caretaker-emu abi diff running.elf next.elf --format github',
      'as annotations of the headers',
    ],
  ],
  run: ({ old, new: next, format, json }, terminal) => {
    const [before, now] = [old, next].map((file) => abiOfFile(file, readBinary(file)));
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
        looked: isRead ? [lookedAt(first, second)] : [],
        evidence: {},
      },
      json ? 'json' : format,
      terminal,
    );
  },
});

/** How much the two sides have in common, for people. */
function lookedAt(before: AbiShape, now: AbiShape): string {
  const names = new Set(now.structs.map(({ name }) => name));
  const both = before.structs.filter(({ name }) => names.has(name));
  const constants = [...before.constants.keys()].filter((name) => now.constants.has(name));
  const versions = [...before.versions].map(([name, { version }]) => {
    const next = now.versions.get(name)?.version;
    return next === undefined ? '' : `, ${name} version ${version} to ${next}`;
  });
  return `${both.length} structures and ${constants.length} enumerators on both sides${versions.join('')}`;
}
