/**
 * `dap`: a debug adapter on stdin and stdout, for VS Code and other clients of the protocol.
 *
 * Source: CLI ("dap"). What is debugged is said by the client's launch configuration.
 * Invariant: stdout carries the protocol and nothing else.
 */
import { isAbsolute, resolve } from 'node:path';
import { optionalText, whole } from '../../dap/arguments.js';
import type { Arguments } from '../../dap/arguments.js';
import { serveDap } from '../../dap/server.js';
import type { Launch } from '../../dap/server.js';
import { PayloadImage } from '../../debug/payload-image.js';
import { packageRoot } from '../../machine/package-root.js';
import { loadScenario } from '../../machine/scenario/load.js';
import { defineCommand } from '../command.js';
import { EXIT } from '../exit-status.js';
import { naming, readPayloadFile, referencePayload } from '../payload-file.js';

/** The command. */
export const command = defineCommand({
  usage: '',
  positionals: {},
  options: {},
  examples: [['caretaker-emu dap', 'is started by VS Code, see the README']],
  run: async (args) => {
    await serveDap(process.stdin, process.stdout, (configuration) =>
      readLaunch(configuration, args.seed),
    );
    // The client may leave its end of the pipe open.
    process.stdin.destroy();
    return EXIT.OK;
  },
});

/** What a launch configuration asks for. @throws HarnessError that names what is wrong. */
function readLaunch(configuration: Arguments, otherSeed: number | undefined): Launch {
  const folder = optionalText(configuration, 'cwd') ?? process.cwd();
  const named = optionalText(configuration, 'payload') ?? optionalText(configuration, 'program');
  const payloadFile = resolve(folder, named ?? resolve(referencePayload()));
  const payload = readPayloadFile(payloadFile);
  naming(payloadFile, () => new PayloadImage(payload));
  const wanted = optionalText(configuration, 'scenario') ?? 'live-update';
  const isFile = /\.ya?ml$/.test(wanted) && !isAbsolute(wanted);
  const loaded = loadScenario(isFile ? resolve(folder, wanted) : wanted);
  const seed = configuration['seed'] === undefined ? otherSeed : whole(configuration, 'seed');
  const scenario = seed === undefined ? loaded : { ...loaded, seed };
  const stopOnEntry = configuration['stopOnEntry'] === true;
  return { scenario, payload, payloadFile, root: packageRoot(), stopOnEntry };
}
