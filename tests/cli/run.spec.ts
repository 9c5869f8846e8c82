/** `run` and `scenarios` on the reference payload, with a scenario that takes a moment. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { COMMANDS } from '../../emulator/cli/commands.js';
import { referencePayload } from '../../emulator/cli/payload-file.js';
import type { RunReport } from '../../emulator/report/run-report.js';
import type { TraceEvent } from '../../emulator/report/trace-file.js';
import { INVARIANT_IDS } from '../../emulator/vmx/stop-reason.js';
import { runWith } from './buffers.js';
import type { Outcome } from './buffers.js';

const folder = mkdtempSync(join(tmpdir(), 'caretaker-'));
const scenario = join(folder, 'moment.yaml');
const at = (name: string): string => join(folder, name);
const run = (...words: string[]): Promise<Outcome> => runWith(COMMANDS, ...words);
const moment = (...words: string[]): Promise<Outcome> =>
  run('run', '--scenario', scenario, ...words);

beforeAll(() => {
  const steps = [
    '- run: { exits: 60 }',
    '- pause-devices: true',
    '- preserve: {}',
    '- gap: { seconds: 0.01 }',
  ];
  const head = ['name: moment', 'description: a moment', 'vcpus: 2', 'seed: 5', 'steps:'];
  writeFileSync(scenario, [...head, ...steps.map((step) => `  ${step}`), ''].join('\n'));
});
afterAll(() => rmSync(folder, { recursive: true }));

describe('run --json', () => {
  it('has what CLI promises, and nothing else on stdout', async () => {
    const { status, stdout, stderr } = await moment('--json');
    const report = JSON.parse(stdout) as RunReport;
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(report).toMatchObject({ result: 'pass', scenario: 'moment', seed: 5, stopped: null });
    expect(report.invariants.map(({ id }) => id)).toEqual([...INVARIANT_IDS]);
    expect(report.vcpus.map(({ id }) => id)).toEqual([0, 1]);
    expect(report.gap!.tscEnd).toBeGreaterThanOrEqual(report.gap!.tscStart);
    expect(report.timeline.length).toBeGreaterThan(0);
  });

  it('counts each exit once, and the payload counted the same', async () => {
    const { vcpus } = JSON.parse((await moment('--json')).stdout) as RunReport;
    for (const { exits, telemetry } of vcpus) {
      expect(exits.total).toBe(exits.fastpath + exits.routed + exits.blocked);
      const rows = Object.values(telemetry.reasons);
      for (const outcome of ['fastpath', 'routed', 'blocked'] as const) {
        expect(rows.reduce((sum, row) => sum + row[outcome], 0)).toBe(exits[outcome]);
      }
    }
  });

  it('is the same document twice, and another with another seed', async () => {
    const [first, second, other] = [
      await moment('--json'),
      await moment('--json'),
      await moment('--json', '--seed', '6'),
    ];
    expect(second.stdout).toBe(first.stdout);
    expect(other.stdout).not.toBe(first.stdout);
  });

  it('keeps the timeline as short as it is told', async () => {
    const { timeline } = JSON.parse(
      (await moment('--json', '--timeline', '3')).stdout,
    ) as RunReport;
    expect(timeline).toHaveLength(3);
  });
});

describe('run', () => {
  it('says what runs first and the verdict last, and names every invariant', async () => {
    const { stdout } = await moment();
    const lines = stdout.trimEnd().split('\n');
    expect(lines[0]).toMatch(/^moment {2}2 vCPUs, seed 5, payload [0-9a-f]{12}$/);
    expect(lines.at(-1)).toMatch(/^PASS {2}moment: /);
    for (const id of INVARIANT_IDS) expect(stdout).toContain(`\n${id} `);
  });

  it('shows as many events as it is told, and says how many are left out', async () => {
    const { stdout } = await moment('--timeline', '2');
    expect(stdout).toMatch(/\n\d+ less telling events? left out; --timeline \d+ shows all\n/);
  });

  it('--trace writes a line that says what the run depends on, and a slice an exit', async () => {
    const { stdout } = await moment('--json', '--trace', at('trace.json'));
    const text = readFileSync(at('trace.json'), 'utf8');
    const report = JSON.parse(stdout) as RunReport;
    const origin = `"payloadSha256":"${report.payload.sha256}","scenario":"moment","seed":5`;
    expect(text.split('\n', 1)[0]).toContain(origin);
    const trace = JSON.parse(text) as TraceEvent[];
    const exits = trace.filter(({ cat }) => cat === 'exit');
    expect(exits).toHaveLength(report.vcpus.reduce((sum, vcpu) => sum + vcpu.exits.total, 0));
  });

  it.each([
    [
      '1 with the code of the rule for a payload that is refused',
      ['package.json'],
      1,
      'ELF_BAD_MAGIC',
    ],
    ['2 for a payload that is not there', ['gone.elf'], 2, 'FILE_UNREADABLE'],
    ['2 for a scenario that nobody knows', ['--scenario', 'live-updaet'], 2, 'SCENARIO_UNKNOWN'],
    [
      '2 for a scenario file that breaks the schema',
      ['--scenario', at('bad.yaml')],
      2,
      'SCENARIO_SCHEMA',
    ],
    [
      '2 for a trace that cannot be written',
      ['--scenario', scenario, '--trace', folder],
      2,
      'FILE_UNWRITABLE',
    ],
  ])('exits with %s', async (_title, words, status, code) => {
    writeFileSync(at('bad.yaml'), 'name: x\n');
    const outcome = await run('run', ...words, '--json');
    expect(outcome.status).toBe(status);
    expect(JSON.parse(outcome.stdout)).toMatchObject({ error: { code } });
  });

  it.each([
    ['a folder', folder, 'EISDIR: illegal operation on a directory'],
    ['stdout', '-', 'stdout has the result'],
    ['a file in no folder', at('none/trace.json'), 'ENOENT: no such file or directory'],
  ])('says before the run that a trace cannot be written to %s', async (_title, file, reason) => {
    const { status, stdout, stderr } = await run('run', 'package.json', '--trace', file);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toBe(`caretaker-emu: --trace ${file}: cannot be written: ${reason}\n`);
  });

  it.each([
    ['a payload', ['run', ''], '"": cannot be read: ENOENT'],
    ['a scenario', ['run', '--scenario', ''], 'no scenario is named ""'],
    ['a figure', ['bench', ''], 'no figure is named ""'],
  ])('quotes an empty name of %s', async (_title, words, message) => {
    const { status, stderr } = await run(...words);
    expect(status).toBe(2);
    expect(stderr).toContain(message);
  });

  it.each(['run', 'bench'])(
    '%s names a payload that is refused, with exit status 1',
    async (name) => {
      const words = name === 'bench' ? ['--payload', 'package.json'] : ['package.json'];
      const { status, stdout } = await run(name, ...words, '--json');
      expect(status).toBe(1);
      expect(JSON.parse(stdout)).toMatchObject({
        error: { code: 'ELF_BAD_MAGIC', file: 'package.json' },
      });
    },
  );

  it('exits with 1 and still reports when the host refuses a step', async () => {
    writeFileSync(
      at('early.yaml'),
      'name: early\ndescription: d\nvcpus: 1\nsteps:\n  - run: { exits: 5 }\n  - preserve: {}\n',
    );
    const { status, stdout } = await run(
      'run',
      referencePayload(),
      '--scenario',
      at('early.yaml'),
      '--json',
    );
    expect(status).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({ result: 'fail', stopped: { code: 'HOST_REFUSED' } });
  });

  it('exits with 2 and names file, step and rule when a step cannot be taken in this order', async () => {
    const file = at('order.yaml');
    writeFileSync(file, 'name: order\ndescription: d\nvcpus: 1\nsteps:\n  - finish: true\n');
    const { status, stderr } = await run('run', referencePayload(), '--scenario', file);
    expect(status).toBe(2);
    expect(stderr).toContain('order.yaml: steps.0.finish: there is no session to finish');
  });
});

describe('scenarios', () => {
  it('lists live-update first, with a line for each', async () => {
    const { stdout } = await run('scenarios', '--json');
    const list = JSON.parse(stdout) as { name: string; description: string }[];
    expect(list[0]!.name).toBe('live-update');
    expect(list.every(({ description }) => description.length > 0)).toBe(true);
    const lines = (await run('scenarios')).stdout.trimEnd().split('\n');
    expect(lines.map((line) => line.split(' ')[0])).toEqual(list.map(({ name }) => name));
    expect(lines.filter((line) => line.length > 80)).toEqual([]);
  });
});
