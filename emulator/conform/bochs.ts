/**
 * Runs Bochs, an independent machine with real VMX, on a ROM image and returns what it printed.
 *
 * Source: Bochs' own documentation of its configuration file and of the port 0xe9 and 0x8900 devices; prctl(2),
 * PR_SET_PDEATHSIG.
 * Invariant: no process outlives this one, however it ends; two runs of the same image print the same bytes.
 * Not modelled: disks, firmware, a screen: the image is all that runs.
 */
import { spawnSync, type SpawnSyncReturns } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hasBegun } from './answers.js';
import { ConformError } from './errors.js';
import { MEMORY_BYTES } from './layout.js';

/** Names under which distributions install it. */
const PROGRAMS = ['bochs-bin', 'bochs'] as const;
const TIMEOUT_MS = 600_000;
const HELP_TIMEOUT_MS = 60_000;
const MODEL = 'tigerlake';
/** util-linux's way to have the kernel kill a program when the one that started it is gone. */
const WITH_PARENT = ['setpriv', '--pdeathsig', 'KILL'] as const;
/** More than a traced payload prints, and less than a string may hold. */
const MOST_OUTPUT = 400_000_000;
const LIMITED = ['prlimit', `--fsize=${MOST_OUTPUT}`] as const;

/**
 * The program's name, undefined where it is not installed.
 *
 * @throws ConformError BOCHS_BROKEN where one is and does not say what it is.
 */
export function findBochs(): string | undefined {
  let broken: ConformError | undefined;
  for (const name of PROGRAMS) {
    const tried = spawnSync(name, ['--help'], { encoding: 'latin1', timeout: HELP_TIMEOUT_MS });
    if ((tried.error as NodeJS.ErrnoException | undefined)?.code === 'ENOENT') continue;
    const said = `${tried.stdout}${tried.stderr}`;
    if (/Bochs/.test(said)) return name;
    broken ??= brokenBochs(`${name} --help`, tried, said);
  }
  if (broken !== undefined) throw broken;
  return undefined;
}

type Ended = Pick<SpawnSyncReturns<unknown>, 'status' | 'signal' | 'error'>;

/** A Bochs that is there and does not do what it must, with its last words. */
function brokenBochs(what: string, { status, signal, error }: Ended, said: string): ConformError {
  const lines = said.split('\n').filter((line) => line.trim() !== '');
  const last = lines.filter((line) => /PANIC/.test(line)).at(-1) ?? lines.at(-1)?.trim();
  const how = error?.message ?? (signal === null ? `status ${status}` : `signal ${signal}`);
  const words = last === undefined ? 'said nothing' : `said: ${last}`;
  const message = `bochs is installed and does not work, so nothing was compared: ${what} ended with ${how} and ${words}`;
  return new ConformError('BOCHS_BROKEN', message, { what, how, said: last ?? null });
}

let found: string | undefined;
/** What goes before a program that must not outlive this one nor print without end: as much of it as there is here. */
let leash: readonly string[] | undefined;

function leashed(): readonly string[] {
  return (leash ??= [WITH_PARENT, LIMITED].flatMap(([program, ...options]) =>
    spawnSync(program, [...options, 'true']).status === 0 ? [program, ...options] : [],
  ));
}

/** The program's name. @throws ConformError BOCHS_MISSING, which says what cannot be compared without it; BOCHS_BROKEN. */
export function requireBochs(): string {
  found ??= findBochs();
  if (found !== undefined) return found;
  const message =
    'bochs is not installed, so nothing was compared: not the checks of VM entry, not the VM exits, not the payload as ' +
    'the exit handler, not the instructions, not the local APIC. `apt install bochs bochs-term` installs it on Debian and ' +
    'Ubuntu';
  throw new ConformError('BOCHS_MISSING', message);
}

/** What a run left: the bytes of port 0xe9 and the log, which names each failed check of VM entry in words. */
export interface BochsRun {
  readonly output: string;
  readonly log: string;
  /** It was ended by force, for it took too long or printed too much; the output is what came until then. */
  readonly timedOut: boolean;
}

/** How an image is booted. */
export interface BochsOptions {
  readonly timeoutMs?: number;
  /** Commands of the internal debugger; without any it is told to go on. */
  readonly commands?: string;
  readonly processors?: number;
}

/** Boots an image. @throws ConformError BOCHS_MISSING; BOCHS_BROKEN when it ends before the monitor says anything. */
export function runBochs(
  image: Uint8Array,
  { timeoutMs = TIMEOUT_MS, commands = 'c\n', processors = 1 }: BochsOptions = {},
): BochsRun {
  const program = requireBochs();
  const folder = mkdtempSync(join(tmpdir(), 'conform-'));
  const file = (name: string): string => join(folder, name);
  try {
    writeFileSync(file('rom'), image);
    writeFileSync(file('bochsrc'), configuration(file('rom'), file('log'), processors));
    writeFileSync(file('commands'), commands);
    const options = ['-q', '-unlock', '-f', file('bochsrc'), '-rc', file('commands')];
    const words = [...leashed(), 'env', 'TERM=dumb', program, ...options];
    // It writes byte by byte: a file takes that for a tenth of what a pipe costs on both of its ends.
    const [output, errors] = [openSync(file('output'), 'w'), openSync(file('errors'), 'w')];
    const run = spawnSync(words[0]!, words.slice(1), {
      stdio: ['ignore', output, errors],
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
    });
    closeSync(output);
    closeSync(errors);
    const isLate = (run.error as { code?: string } | undefined)?.code === 'ETIMEDOUT';
    if (run.error !== undefined && !isLate) throw run.error;
    const timedOut = isLate || run.signal === 'SIGXFSZ';
    const text = (name: string): string =>
      existsSync(file(name)) ? readFileSync(file(name), 'latin1') : '';
    const [said, log] = [text('output'), text('log')];
    if (!timedOut && !hasBegun(said)) {
      throw brokenBochs(program, run, `${said}\n${text('errors')}\n${log}`);
    }
    return { output: said, log, timedOut };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function configuration(rom: string, log: string, processors: number): string {
  return `${[
    'config_interface: textconfig',
    'display_library: term',
    `megs: ${MEMORY_BYTES / 1024 / 1024}`,
    `cpu: model=${MODEL}, count=${processors}, ips=100000000, reset_on_triple_fault=0, ignore_bad_msrs=0`,
    `romimage: file="${rom}"`,
    'vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest',
    'clock: sync=none, time0=1700000000',
    'port_e9_hack: enabled=1',
    'panic: action=fatal',
    'error: action=report',
    'info: action=report',
    'debug: action=ignore',
    `log: "${log}"`,
    'speaker: enabled=0',
  ].join('\n')}\n`;
}
