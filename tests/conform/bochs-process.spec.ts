/** The second machine as a process: it ends with the program that started it. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { describe, expect, it, vi } from 'vitest';
import { packageRoot } from '../../emulator/machine/package-root.js';
import { BOCHS, HAS_BOCHS } from './bochs-here.js';

const HAS_SETPRIV = spawnSync('setpriv', ['--pdeathsig', 'KILL', 'true']).status === 0;
const PATIENCE = { timeout: 60_000, interval: 20 };

/** The processes that a process has started. */
function childrenOf(pid: number): number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
  return text === '' ? [] : text.split(' ').map(Number);
}

/** A process that has ended and is waited for by nobody has an empty command line. */
function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1');
  } catch {
    return '';
  }
}

function conform(): ChildProcess & { pid: number } {
  const child = spawn(process.execPath, ['bin/caretaker-emu', 'conform'], {
    cwd: packageRoot(),
    stdio: 'ignore',
  });
  return child as ChildProcess & { pid: number };
}

describe.skipIf(!HAS_BOCHS || !HAS_SETPRIV)(`a run ${BOCHS}`, () => {
  it('leaves no Bochs behind when it is killed', async () => {
    const child = conform();
    const isBochs = (pid: number): boolean => commandLine(pid).includes('bochsrc');
    const bochs = await vi.waitUntil(() => childrenOf(child.pid).find(isBochs), PATIENCE);
    child.kill('SIGKILL');
    await once(child, 'exit');
    await vi.waitFor(() => {
      expect(commandLine(bochs)).toBe('');
    }, PATIENCE);
  });
});
