/**
 * `gdbserver`: a GDB remote stub in front of a debugging session, until it is ended.
 *
 * Source: CLI ("gdbserver"). The machine stands at HOST_RIP of the first exit when the first client comes.
 */
import { existsSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { Duplex } from 'node:stream';
import { PayloadImage } from '../../debug/payload-image.js';
import { PayloadProgram } from '../../debug/source/payload-program.js';
import { startGdbServer, type GdbServer } from '../../gdb/server.js';
import type { SessionFailure } from '../../gdb/messages.js';
import { packageRoot } from '../../machine/package-root.js';
import { loadScenario } from '../../machine/scenario/load.js';
import { defineCommand } from '../command.js';
import { CliUsageError, RefusedFileError, systemReason } from '../errors.js';
import { EXIT } from '../exit-status.js';
import { parseListenAddress, shownAddress, type ListenAddress } from '../listen-address.js';
import { jsonText } from '../output/json.js';
import { PAYLOAD_ARGUMENT, naming, readPayloadFile, referencePayload } from '../payload-file.js';

/** The port that gdb's users know from QEMU. */
const DEFAULT_ADDRESS = '127.0.0.1:1234';
/** `--listen stdio`: gdb has started this and talks to it through a pipe. */
const STDIO = 'stdio';
/** What stands for every address of the machine is not one to connect to. */
const ANY_ADDRESS: Readonly<Record<string, string>> = { '0.0.0.0': '127.0.0.1', '::': '::1' };

/** The command. */
export const command = defineCommand({
  usage: '[payload]',
  positionals: { payload: PAYLOAD_ARGUMENT },
  options: {
    listen: {
      type: 'string',
      default: DEFAULT_ADDRESS,
      describe: 'HOST:PORT, where port 0 takes one that is free; or stdio',
    },
    scenario: {
      type: 'string',
      default: 'live-update',
      describe: 'A built-in scenario (see `scenarios`) or a YAML file',
    },
  },
  examples: [
    ['caretaker-emu gdbserver', 'and type the line that it prints'],
    ['caretaker-emu gdbserver my.elf --listen 127.0.0.1:0', 'yours, on a port that is free'],
    ['caretaker-emu gdbserver --scenario device-not-paused', 'another course of events'],
    ["gdb -ex 'target remote | caretaker-emu gdbserver --listen stdio'", 'started by gdb'],
  ],
  run: async (args, terminal) => {
    const file = args.payload ?? referencePayload();
    const at = args.listen === STDIO ? standardStreams() : parseListenAddress(args.listen);
    const payload = readPayloadFile(file);
    const image = naming(file, () => new PayloadImage(payload).image);
    const loaded = loadScenario(args.scenario);
    const scenario = args.seed === undefined ? loaded : { ...loaded, seed: args.seed };
    const path = resolve(file);
    const server = await started({ scenario, payload, path, root: packageRoot(), at }, args.listen);
    if (!('ended' in server)) throw refused(file, server);
    if (server.address !== null) {
      const files = new PayloadProgram(image).ask(({ lines }) => lines.files) ?? [];
      const words = gdbWords(file, sourceFolder(path, files), server.address);
      if (args.json) terminal.print(jsonText({ listening: server.address, gdb: words }));
      else {
        terminal.print(`listening on ${shownAddress(server.address)}`);
        terminal.print(words.map(shellWord).join(' '));
      }
    }
    const failure = await server.ended;
    if (failure !== null) throw refused(file, failure);
    return EXIT.OK;
  },
});

function standardStreams(): Duplex {
  return Duplex.from({ readable: process.stdin, writable: process.stdout });
}

async function started(
  options: Parameters<typeof startGdbServer>[0],
  listen: string,
): Promise<GdbServer | SessionFailure> {
  try {
    return await startGdbServer(options);
  } catch (cause) {
    if (!(cause instanceof Error && 'syscall' in cause)) throw cause;
    const message = `--listen ${listen}: cannot be listened at: ${systemReason(cause)}`;
    throw new CliUsageError('BAD_VALUE', message, { name: 'listen' }, { cause });
  }
}

/** What the session's thread says of a payload or a scenario that it could not run. */
function refused(file: string, { code, message, details }: SessionFailure): RefusedFileError {
  const cause = typeof details['code'] === 'string' ? details['code'] : code;
  return new RefusedFileError(cause, message, { ...details, file });
}

/** Where the sources lie that the debug information names by relative paths; null when that needs no telling. */
function sourceFolder(path: string, files: readonly string[]): string | null {
  const sources = files.filter((name) => !name.startsWith('/'));
  const folders = [dirname(path), dirname(dirname(path)), process.cwd()];
  const isThere = (folder: string): boolean =>
    sources.some((name) => existsSync(join(folder, name)));
  return sources.length === 0 ? null : (folders.find(isThere) ?? null);
}

/** The line to type into a shell, word by word. */
function gdbWords(file: string, folder: string | null, { host, port }: ListenAddress): string[] {
  const reachable = { host: ANY_ADDRESS[host] ?? host, port };
  const sources = folder === null ? [] : ['-d', fromHere(folder)];
  return ['gdb', ...sources, '-ex', `target remote ${shownAddress(reachable)}`, file];
}

function fromHere(folder: string): string {
  const path = relative(process.cwd(), folder);
  return path === '' ? '.' : path.startsWith('..') ? folder : path;
}

function shellWord(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
