/** `replay` of what the debugger's `record` wrote. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { COMMANDS } from '../../emulator/cli/commands.js';
import { runWith, type Outcome } from './buffers.js';

const run = (...words: string[]): Promise<Outcome> => runWith(COMMANDS, ...words);

const folder = mkdtempSync(join(tmpdir(), 'replay-recording-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('replay of a recording', () => {
  it('makes its changes again, and tells of what they broke', async () => {
    const file = join(folder, 'recording.json');
    const commands = join(folder, 'commands');
    writeFileSync(commands, `context off\nset $rip = 0xdeadbeef\nrecord ${file}\n`);
    const recorded = await run('debug', '--scenario', 'attach-lifecycle', '--commands', commands);
    expect(recorded.status).toBe(0);
    const { status, stdout } = await run('replay', file, '--json');
    expect(status).toBe(1);
    const { scenario, findings } = JSON.parse(stdout) as {
      scenario: string;
      findings: { invariant: string; message: string }[];
    };
    expect(scenario).toBe('attach-lifecycle');
    expect(findings[0]).toMatchObject({ invariant: 'isolation' });
    expect(findings[0]!.message).toContain('0xdeadbeef');
  });
});
