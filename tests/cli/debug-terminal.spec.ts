/** `debug` on a terminal, as a person has it: prompt, completion, and history across runs. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isHere } from '../loader/dwarf/tools.js';

const root = new URL('../..', import.meta.url).pathname;
const PROGRAM = join(root, 'bin', 'caretaker-emu');
const HAS_SCRIPT = isHere('script');
const TERMINAL = HAS_SCRIPT ? 'a terminal' : 'a terminal (skipped: script is not installed)';
const PROMPT = '(caretaker) ';

let state: string;
beforeAll(() => {
  state = mkdtempSync(join(tmpdir(), 'caretaker-state-'));
});
afterAll(() => {
  rmSync(state, { recursive: true });
});

/** Keys, each typed once the screen shows what it waits for; everything that was shown after the first prompt. */
async function type(
  ...keys: readonly (readonly [keys: string, until: string])[]
): Promise<{ shown: string; status: number | null }> {
  const command = `${process.execPath} ${PROGRAM} debug --scenario idle-guest`;
  const environment = { ...process.env, XDG_STATE_HOME: state, TERM: 'xterm', NO_COLOR: '1' };
  // util-linux's script gives the command a terminal of its own.
  const child = spawn('script', ['-qefc', command, '/dev/null'], { env: environment });
  let shown = '';
  let from = 0;
  let at = -1;
  const look = (data: Buffer): void => {
    shown += data.toString();
    const wanted = at < 0 ? PROMPT : keys[at]![1];
    const found = shown.indexOf(wanted, from);
    if (found < 0) return;
    from = found + wanted.length;
    at++;
    const next = keys[at];
    if (next !== undefined) child.stdin.write(next[0]);
  };
  child.stdout.on('data', look);
  const status = await new Promise<number | null>((resolve) => child.on('close', resolve));
  return { shown: shown.slice(shown.indexOf(PROMPT)), status };
}

describe.skipIf(!HAS_SCRIPT)(TERMINAL, () => {
  it('has a prompt, completes names, and ends with quit', async () => {
    const { shown, status } = await type(
      ['whe\t', 'where'],
      ['\r', 'entry.S'],
      ['print 6 * 7\r', `42\r\n`],
      ['quit\r', 'nothing follows'],
    );
    expect(shown).toMatch(/1:0 vCPU \d/);
    expect(status).toBe(0);
  });

  it('has the lines of the run before', async () => {
    const { shown } = await type(['\x1b[A\x1b[A\r', '42\r\n'], ['quit\r', 'nothing follows']);
    expect(shown).toContain('print 6 * 7');
  });
});
