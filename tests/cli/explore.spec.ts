/** `explore`, and `replay` of what it prints: the documents, the texts, and what is refused. */
import { describe, expect, it } from 'vitest';
import { COMMANDS } from '../../emulator/cli/commands.js';
import type { ExplorationReport } from '../../emulator/explore/report.js';
import type { RunReport } from '../../emulator/report/run-report.js';
import { runWith, type Outcome } from './buffers.js';

const run = (...words: string[]): Promise<Outcome> => runWith(COMMANDS, ...words);

describe('explore', () => {
  it('tells what CLI promises', async () => {
    const words = ['--reason', 'exit_reason_rdtsc,invd', '--event', 'flip,intr', '--json'];
    const { status, stdout, stderr } = await run('explore', ...words);
    const report = JSON.parse(stdout) as ExplorationReport;
    expect({ status, stderr, findings: report.findings }).toEqual({
      status: 0,
      stderr: '',
      findings: [],
    });
    const row = report.matrix['RDTSC']!;
    expect(Object.keys(row).sort()).toEqual(['flip', 'intr']);
    const sum = Object.values(report.matrix).flatMap((events) => Object.values(events));
    expect(report.points).toBe(sum.reduce((all, points) => all + points, 0));
    expect(report.runs).toBeLessThan(report.points);
  });

  it('shows a column an event, and tells what the contract forbids apart', async () => {
    const { status, stdout } = await run('explore', '--reason', 'VMCALL', '--event', 'detach,init');
    expect(status).toBe(0);
    expect(stdout).toMatch(/^reason +init +detach$/m);
    expect(stdout).toMatch(/^outside the contract: \d+ points in \d+ runs, \d+ findings?$/m);
    expect(stdout).toMatch(/^no-routing-while-detached attached:VMCALL:detach@\d+$/m);
    expect(stdout).toMatch(/; no findings; 20 of 20 invariants held\n$/);
  });

  it.each([
    ['a reason', ['--reason', 'HTL'], /did you mean "HLT"/],
    ['an event', ['--event', 'flpi'], /did you mean "flip"/],
    ['a depth', ['--depth', '3'], /depth/],
  ])('refuses %s that there is not', async (_what, words, says) => {
    const { status, stderr } = await run('explore', ...words);
    expect(status).toBe(2);
    expect(stderr).toMatch(says);
  });
});

describe('replay of a schedule', () => {
  it('says what happens and what became of it', async () => {
    const { status, stdout } = await run('replay', 'detached:VMCALL:nmi@57,flip@81');
    expect(status).toBe(0);
    expect(stdout.trimEnd().split('\n')).toEqual([
      'begins: detached',
      'the guest exits: VMCALL',
      'after 57 instructions: an NMI',
      expect.stringMatching(/^after 81 instructions: KVM comes back/),
      '',
      'pass: every invariant held',
    ]);
  });

  it('is a run with --json', async () => {
    const { status, stdout } = await run('replay', 'attached:VMCALL:detach@0', '--json');
    const report = JSON.parse(stdout) as RunReport;
    expect(status).toBe(1);
    expect(report.result).toBe('fail');
    expect(report.findings.map(({ invariant }) => invariant)).toContain('no-lost-exit');
  });

  it('refuses one that is none, and says what is near', async () => {
    const { status, stderr } = await run('replay', 'detached:VMCAL:nmi@57');
    expect(status).toBe(2);
    expect(stderr).toMatch(/reason "VMCAL" is not known; did you mean "VMCALL"/);
  });
});
