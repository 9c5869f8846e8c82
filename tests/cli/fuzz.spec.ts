/** `fuzz` and `replay`: the documents, the files between them, and what is refused. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { COMMANDS } from '../../emulator/cli/commands.js';
import type { CampaignReport } from '../../emulator/fuzz/report.js';
import type { RunReport } from '../../emulator/report/run-report.js';
import { MutantTree } from '../mutants/mutant-tree.js';
import { runWith, type Outcome } from './buffers.js';

const folder = mkdtempSync(join(tmpdir(), 'caretaker-fuzz-'));
const at = (name: string): string => join(folder, name);
const run = (...words: string[]): Promise<Outcome> => runWith(COMMANDS, ...words);
const mutant = at('mutant.elf');
let tree: MutantTree;

beforeAll(() => {
  tree = new MutantTree();
  writeFileSync(mutant, tree.build('r12-clobbered'));
});
afterAll(() => {
  tree.remove();
  rmSync(folder, { recursive: true });
});

describe('fuzz', () => {
  it('tells what CLI promises of a clean payload, and keeps its corpus and its lines', async () => {
    const words = ['--corpus', at('corpus'), '--lcov', at('lines.info'), '--json'];
    const { status, stdout, stderr } = await run('fuzz', '--runs', '400', ...words);
    const report = JSON.parse(stdout) as CampaignReport;
    expect({ status, stderr, findings: report.findings }).toEqual({
      status: 0,
      stderr: '',
      findings: [],
    });
    expect(report.execs).toBe(400);
    const { runs, fastpath, routed, blocked } = report.reasons['CPUID']!;
    expect(runs).toBe(fastpath + routed + blocked);
    expect(report.coverage.lines.executed).toBeGreaterThan(200);
    expect(readdirSync(at('corpus'))).toHaveLength(report.corpus);
    const lcov = readFileSync(at('lines.info'), 'utf8');
    expect(lcov.match(/^DA:\d+,1$/gm)).toHaveLength(report.coverage.lines.executed);
    expect(lcov).toMatch(/SF:.*dispatch\.c/);
  });

  it('writes a finding that replay shows again, and says in both what should have been', async () => {
    const words = ['--runs', '300', '--solutions', at('solutions')];
    const told = await run('fuzz', mutant, ...words);
    expect(told.status).toBe(1);
    expect(told.stdout).toMatch(/should be: after a handled exit every guest register holds/);
    const [file] = readdirSync(at('solutions'));
    const again = await run('replay', join(at('solutions'), file!), '--json');
    const report = JSON.parse(again.stdout) as RunReport;
    expect(again).toMatchObject({ status: 1, stderr: '' });
    expect(report.findings.map(({ invariant }) => invariant)).toContain('guest-registers');
    const mended = await run('replay', join(at('solutions'), file!), '--payload', at('none.elf'));
    expect(mended.status).toBe(2);
  });

  it.each(['--corpus', '--solutions', '--lcov'])(
    'says before it runs anything that %s cannot be written',
    async (option) => {
      const under = join(mutant, 'x');
      const { status, stderr } = await run('fuzz', '--runs', '1000000000', option, under);
      expect(status).toBe(2);
      expect(stderr).toContain(`${option} ${under}: cannot be written`);
    },
  );

  it('replays any bytes of a corpus against the reference payload', async () => {
    writeFileSync(
      at('bytes'),
      Uint8Array.from({ length: 90 }, (_, index) => (index * 37) & 0xff),
    );
    const { status, stdout } = await run('replay', at('bytes'));
    expect(status).toBe(0);
    expect(stdout).toMatch(/^begins: /);
    expect(stdout).toMatch(/pass: every invariant held/);
  });

  it.each([
    ['not JSON', '{', /begins as JSON and is none/],
    ['another kind', '{"version":1,"kind":"x"}', /kind: /],
    ['no version', '{"kind":"fuzz-input"}', /version: /],
    [
      'an input that is no hexadecimal',
      JSON.stringify({
        version: 1,
        kind: 'fuzz-input',
        payload: { file: 'x', sha256: 'a'.repeat(64) },
        seed: 1,
        input: '0',
      }),
      /input: must be an even number of hexadecimal digits/,
    ],
  ])('replay refuses a file with %s, by field and rule', async (_what, text, says) => {
    writeFileSync(at('bad.json'), text);
    const { status, stderr } = await run('replay', at('bad.json'));
    expect(status).toBe(2);
    expect(stderr).toMatch(says);
    expect(stderr).toContain('bad.json');
  });
});
