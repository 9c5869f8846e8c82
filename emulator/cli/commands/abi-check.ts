/** `abi check`: a payload against the contract of a profile. */
import { checkAbi } from '../../../abi/compat/check.js';
import { PROFILES } from '../../../abi/compat/profiles.js';
import type { Profile, ProfileName } from '../../../abi/compat/profiles.js';
import { parseElf } from '../../../loader/elf.js';
import { CCB_RULE } from '../../host/kvm/ccb-rule.js';
import { abiOf, readBinary } from '../abi-file.js';
import { defineCommand } from '../command.js';
import { FORMATS, report } from '../output/abi/report.js';
import { PAYLOAD_ARGUMENT, naming, referencePayload } from '../payload-file.js';

const NAMES = Object.keys(PROFILES) as ProfileName[];

/** The command. */
export const command = defineCommand({
  usage: '[payload]',
  positionals: { payload: PAYLOAD_ARGUMENT },
  options: {
    profile: {
      choices: NAMES,
      default: 'rfc',
      describe: 'Generation of the contract',
    },
    format: {
      choices: FORMATS,
      default: 'text',
      describe: 'Of the report',
    },
  },
  examples: [
    ['caretaker-emu abi check', 'the reference payload against the contract'],
    ['caretaker-emu abi check a.elf --format sarif', 'for a code scanner'],
    ['caretaker-emu abi check a.elf --profile run-states', 'against a later generation'],
  ],
  run: ({ payload = referencePayload(), profile, format, json }, terminal) => {
    const bytes = readBinary(payload);
    // .ccb, its entry points, relocations and notes are the loader's to judge.
    if (profile === 'rfc') naming(payload, () => parseElf(bytes, CCB_RULE));
    const binary = abiOf(bytes);
    const contract: Profile = PROFILES[profile];
    const isRead = 'structs' in binary;
    return report(
      {
        title: `${payload} against ${profile}`,
        findings: isRead ? checkAbi(binary, profile) : [binary],
        before: contract.structs,
        now: isRead ? binary.structs : [],
        sides: ['contract', 'binary'],
      },
      json ? 'json' : format,
      terminal,
    );
  },
});
