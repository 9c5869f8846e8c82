/** A campaign on several threads, as a process: its account is the sum of theirs, and Ctrl-C loses nothing. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CampaignReport } from '../../emulator/fuzz/report.js';
import { MutantTree } from '../mutants/mutant-tree.js';

const bin = fileURLToPath(new URL('../../bin/caretaker-emu', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'caretaker-workers-'));
const mutant = join(folder, 'mutant.elf');
let tree: MutantTree;

beforeAll(() => {
  tree = new MutantTree();
  writeFileSync(mutant, tree.build('r12-clobbered'));
});
afterAll(() => {
  tree.remove();
  rmSync(folder, { recursive: true });
});

function fuzz(
  words: readonly string[],
  node: readonly string[] = [],
): { status: number | null; report: CampaignReport } {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [...node, bin, 'fuzz', '--json', ...words],
    { encoding: 'utf8' },
  );
  expect(stderr).toBe('');
  return { status, report: JSON.parse(stdout) as CampaignReport };
}

describe('fuzz on two threads', () => {
  it('runs as many inputs as were asked for, and keeps each new one once', () => {
    const corpus = join(folder, 'corpus');
    const words = ['--workers', '2', '--runs', '901', '--corpus', corpus];
    const { status, report } = fuzz(words);
    expect({ status, findings: report.findings, execs: report.execs }).toEqual({
      status: 0,
      findings: [],
      execs: 901,
    });
    const runs = Object.values(report.reasons).reduce((sum, row) => sum + row.runs, 0);
    expect(report.exits).toBe(runs);
    expect(readdirSync(corpus)).toHaveLength(report.corpus);
    expect(report.invariants.map(({ held }) => held)).not.toContain(false);
    // What both threads began with is in the sum twice: their coverage is that of one.
    const alone = fuzz(['--runs', '450']).report.coverage;
    expect(report.coverage.edges).toBeGreaterThanOrEqual(alone.edges);
    expect(report.coverage.lines.total).toBe(alone.lines.total);
  });

  it('tells a finding of both once', () => {
    const { status, report } = fuzz([mutant, '--workers', '2', '--runs', '600']);
    expect(status).toBe(1);
    const places = report.findings.map(
      ({ invariant, address }) => `${invariant}@${String(address)}`,
    );
    expect(places).toContainEqual(expect.stringMatching(/^guest-registers@/));
    expect(new Set(places).size).toBe(places.length);
  });
});

describe('Ctrl-C', () => {
  /** Presses it as soon as somebody listens. */
  const pressing = `data:text/javascript,${encodeURIComponent(
    `import { isMainThread } from 'node:worker_threads';
     const timer = setInterval(() => {
       if (!isMainThread) clearInterval(timer);
       if (process.listenerCount('SIGINT') === 0) return;
       clearInterval(timer);
       process.emit('SIGINT');
     }, 1);`,
  )}`;

  it.each(['1', '2'])('ends %s of them with the corpus saved and the account told', (workers) => {
    const corpus = join(folder, `interrupted-${workers}`);
    const words = ['--workers', workers, '--runs', '1000000000', '--corpus', corpus];
    const { status, report } = fuzz(words, ['--import', pressing]);
    expect(status).toBe(0);
    expect(report.execs).toBeGreaterThan(0);
    expect(report.execs).toBeLessThan(1_000_000_000);
    expect(readdirSync(corpus)).toHaveLength(report.corpus);
    expect(report.corpus).toBeGreaterThan(0);
  });
});
