/** The set-up scripts of make, on machines made of stubs: a PATH with nothing in it but what a row puts there. */
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

const tools = fileURLToPath(new URL('../../tools', import.meta.url));
let path: string;
let log: string;

beforeEach(() => {
  path = mkdtempSync(join(tmpdir(), 'caretaker-'));
  log = join(path, 'log');
});
afterEach(() => rmSync(path, { recursive: true }));

/** Puts a command on the PATH. */
function stub(name: string, body = ''): void {
  writeFileSync(join(path, name), `#!/bin/sh\n${body}\n`);
  chmodSync(join(path, name), 0o755);
}

function run(script: string): {
  status: number | null;
  stderr: string;
  stdout: string;
  calls: string[];
} {
  const { status, stderr, stdout } = spawnSync(join(tools, script), {
    env: { PATH: path },
    encoding: 'utf8',
  });
  const calls = existsSync(log) ? readFileSync(log, 'utf8').trimEnd().split('\n') : [];
  return { status, stderr, stdout, calls };
}

describe('check-node.sh', () => {
  it.each([
    ['v20.19.0', 0],
    ['v20.20.2', 0],
    ['v22.1.0', 0],
    ['v20.18.9', 1],
    ['v18.20.4', 1],
  ])('of node %s is %i', (version, status) => {
    stub('node', `echo ${version}`);
    stub('npm');
    expect(run('check-node.sh').status).toBe(status);
  });

  it.each([
    ['node is missing', []],
    ['npm is missing', ['node']],
  ])('says what to do when %s', (_title, present) => {
    for (const name of present) stub(name, 'echo v22.0.0');
    const { status, stderr } = run('check-node.sh');
    expect(status).toBe(1);
    expect(stderr).toMatch(/is not installed[\s\S]*Install Node 20\.19 or newer/);
  });
});

describe('system-packages.sh', () => {
  const essentials = ['gcc', 'g++', 'make', 'python3'];

  /** Debian, where `missing` are not installed and apt-get knows all packages but `unknown`. */
  function debian(missing: readonly string[], unknown: readonly string[], user: number): void {
    stub(
      'dpkg-query',
      `case "$3" in ${[...missing, '-'].join('|')}) exit 1;; esac; printf installed`,
    );
    const refused = unknown.map((name) => `*" ${name} "*) exit 100;;`).join(' ');
    stub('apt-get', `echo "apt-get $*" >> ${log}; case " $* " in ${refused} esac`);
    stub('sudo', `echo sudo >> ${log}; "$@"`);
    stub('env', 'shift; "$@"');
    stub('id', `echo ${user}`);
    for (const name of essentials) stub(name);
  }

  it('does nothing when nothing is missing', () => {
    debian([], [], 0);
    expect(run('system-packages.sh')).toEqual({ status: 0, stderr: '', stdout: '', calls: [] });
  });

  it('installs what is missing and nothing else', () => {
    debian(['gdb', 'dwarves'], [], 0);
    const { status, calls, stderr } = run('system-packages.sh');
    expect(status).toBe(0);
    expect(calls.at(-1)).toMatch(/^apt-get install .* gdb dwarves$/);
    expect(stderr).toContain('installing: gdb dwarves');
  });

  it('says that it uses sudo before it does', () => {
    debian(['gdb'], [], 1000);
    const { calls, stderr } = run('system-packages.sh');
    expect(stderr).toContain('using sudo to install: gdb');
    expect(calls.filter((call) => call === 'sudo')).toHaveLength(2);
  });

  it('installs the others when one package does not exist', () => {
    debian(['bochs-term', 'gdb'], ['bochs-term'], 0);
    const { status, calls, stderr } = run('system-packages.sh');
    expect(status).toBe(0);
    expect(calls).toContainEqual(expect.stringMatching(/-recommends gdb$/));
    expect(stderr).toContain('bochs-term could not be installed');
  });

  it('names the packages and goes on when it may not install them', () => {
    debian(['gdb'], [], 1000);
    rmSync(join(path, 'sudo'));
    const { status, calls, stderr } = run('system-packages.sh');
    expect({ status, calls }).toEqual({ status: 0, calls: [] });
    expect(stderr).toContain('apt-get install gdb');
  });

  it('names the packages and goes on where there is no apt', () => {
    for (const name of essentials) stub(name);
    const { status, stderr } = run('system-packages.sh');
    expect(status).toBe(0);
    expect(stderr).toContain('libunicorn-dev');
  });

  it.each(essentials)('stops without %s', (name) => {
    for (const other of essentials.filter((essential) => essential !== name)) stub(other);
    const { status, stderr } = run('system-packages.sh');
    expect(status).toBe(1);
    expect(stderr).toContain(`cannot go on without ${name}`);
  });
});
