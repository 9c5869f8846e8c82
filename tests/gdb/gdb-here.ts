/** The real gdb against the real command: a server for a file of tests, and scripts in batch mode. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { isHere } from '../loader/dwarf/tools.js';

const root = new URL('../..', import.meta.url).pathname;
const PROGRAM = join(root, 'bin', 'caretaker-emu');
/** The file that users give to gdb. */
export const PAYLOAD = join(root, 'caretaker-payload', 'build', 'caretaker.elf');
const SOURCES = join(root, 'caretaker-payload');
/** Only so that a test which hangs ends. */
const GUARD_MS = 120_000;

export const HAS_GDB = isHere('gdb');
export const GDB = HAS_GDB ? 'gdb' : 'gdb (skipped: gdb is not installed)';

/** A running `gdbserver`. */
export interface RunningServer {
  readonly address: string;
  readonly port: number;
  readonly process: ChildProcess;
  /** What it has printed. */
  readonly output: () => string;
  stop(): Promise<void>;
}

/** Starts a server on a free port and waits until it says where. */
export async function startServer(...args: readonly string[]): Promise<RunningServer> {
  const child = spawn(process.execPath, [PROGRAM, 'gdbserver', '--listen', '127.0.0.1:0', ...args]);
  let text = '';
  const ended = new Promise<void>((resolve) => child.on('close', () => resolve()));
  const address = await new Promise<string>((resolve, reject) => {
    const look = (data: Buffer): void => {
      text += data.toString();
      const [, found] = /listening on (\S+)\n.*\n/.exec(text) ?? [];
      if (found !== undefined) resolve(found);
    };
    child.stdout.on('data', look);
    child.stderr.on('data', look);
    child.on('close', () => reject(new Error(`the server ended: ${text}`)));
  });
  const stop = async (): Promise<void> => {
    child.kill();
    await ended;
  };
  const port = Number(address.split(':').at(-1));
  return { address, port, process: child, output: () => text, stop };
}

/** Words of a gdb that runs commands one after the other and goes. */
export function gdbArguments(server: RunningServer, commands: readonly string[]): string[] {
  const settings = ['set pagination off', 'set width 0', 'set confirm off'];
  const lines = [...settings, `target remote ${server.address}`, ...commands];
  return ['-nx', '-q', '-batch', '-d', SOURCES, ...lines.flatMap((line) => ['-ex', line]), PAYLOAD];
}

/** Runs commands in gdb; all that it prints. */
export function gdb(server: RunningServer, ...commands: readonly string[]): string {
  const { stdout, stderr } = spawnSync('gdb', gdbArguments(server, commands), {
    encoding: 'utf8',
    timeout: GUARD_MS,
  });
  return stdout + stderr;
}
