/** `abi check`: a payload against the contract of a profile: layouts, constants, the image, the code. */
import { checkAbi } from '../../../abi/compat/check.js';
import { PROFILES } from '../../../abi/compat/profiles.js';
import type { Profile, ProfileName } from '../../../abi/compat/profiles.js';
import type { AbiShape } from '../../../abi/compat/shape.js';
import type { LoaderError } from '../../../loader/errors.js';
import { checkPayload } from '../../verify/check-payload.js';
import type { PayloadVerdict } from '../../verify/check-payload.js';
import { abiOfFile, readBinary } from '../abi-file.js';
import { withSources } from '../abi-sources.js';
import { defineCommand } from '../command.js';
import { shownName } from '../errors.js';
import { FORMATS, report } from '../output/abi/report.js';
import { PAYLOAD_ARGUMENT, referencePayload } from '../payload-file.js';

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
    const contract: Profile = PROFILES[profile];
    const binary = abiOfFile(payload, bytes);
    const shape = 'structs' in binary ? binary : undefined;
    const layouts = 'structs' in binary ? checkAbi(binary, profile) : [binary];
    const verdict = checkPayload(bytes, contract.code);
    return report(
      {
        title: `${shownName(payload)} against ${profile}`,
        findings: [...layouts, ...withSources(payload, bytes, verdict.findings)],
        before: contract.structs,
        now: shape?.structs ?? [],
        sides: ['contract', 'binary'],
        looked: lookedAt(shape, contract, verdict),
        evidence: {
          checked: countsOf(shape, contract, verdict),
          ...(verdict.refusal === null ? {} : { error: refusalOf(payload, verdict.refusal) }),
        },
      },
      json ? 'json' : format,
      terminal,
    );
  },
});

function countsOf(shape: AbiShape | undefined, contract: Profile, verdict: PayloadVerdict) {
  const described = new Set(shape?.structs.map(({ name }) => name));
  const structs = contract.structs.filter(({ name }) => described.has(name));
  return {
    structs: structs.length,
    fields: structs.reduce((sum, { fields }) => sum + fields.length, 0),
    constants: [...contract.constants.keys()].filter((name) => shape?.constants.has(name) === true)
      .length,
    gates: verdict.gates,
    functions: verdict.functions,
    stack: Object.fromEntries(verdict.stack.map(({ entry, bytes }) => [entry, bytes])),
    stackLimit: contract.code.stackBytes,
  };
}

function lookedAt(
  shape: AbiShape | undefined,
  contract: Profile,
  verdict: PayloadVerdict,
): readonly string[] {
  const { structs, fields, constants, gates, functions, stackLimit } = countsOf(
    shape,
    contract,
    verdict,
  );
  const deepest = Math.max(0, ...verdict.stack.map(({ bytes }) => bytes));
  const layouts = `${structs} of ${contract.structs.length} structures with ${fields} fields, ${constants} enumerators`;
  const code = `${functions} functions, ${gates} gates, stack at most ${deepest} of ${stackLimit} bytes`;
  return functions === 0 ? [`${layouts}; no code`] : [`${layouts}; ${code}`];
}

function refusalOf(file: string, { code, message, details }: LoaderError): unknown {
  return { code, message, file, offset: details['offset'] ?? null };
}
