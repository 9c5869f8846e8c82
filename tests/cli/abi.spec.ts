/** `abi dump`, `abi check` and `abi diff` on the reference payload and on pairs that gcc compiles. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { COMMANDS } from '../../emulator/cli/commands.js';
import { referencePayload } from '../support/reference-payload.js';
import { runWith } from './buffers.js';

const folder = mkdtempSync(join(tmpdir(), 'caretaker-abi-'));
afterAll(() => rmSync(folder, { recursive: true }));
const payload = join(folder, 'payload.elf');
beforeAll(() => writeFileSync(payload, referencePayload()));

const json = async (...words: string[]): Promise<{ status: number; document: unknown }> => {
  const { status, stdout } = await runWith(COMMANDS, 'abi', ...words, '--json');
  return { status, document: JSON.parse(stdout) };
};

const include = new URL('../../abi/include', import.meta.url).pathname;

/** An object with the contract's control block, its header edited. */
function object(name: string, edit: (header: string) => string = (header) => header): string {
  const strip = (text: string): string => text.replace(/^CARETAKER_ABI_\w+\(.*\);$/gm, '');
  const header = strip(edit(readFileSync(join(include, 'caretaker/ccb.h'), 'utf8')));
  const source = join(folder, `${name}.c`);
  writeFileSync(
    source,
    `${header}\nstruct caretaker_ccb ccb;\nenum caretaker_attach_state state;\n`,
  );
  const file = join(folder, `${name}.o`);
  execFileSync('gcc', ['-g', `-I${include}`, '-c', source, '-o', file]);
  return file;
}

describe('abi dump', () => {
  it('has the structures of the payload with their fields', async () => {
    const { status, document } = await json('dump', payload);
    expect(status).toBe(0);
    expect((document as { structs: unknown[] }).structs).toContainEqual(
      expect.objectContaining({
        name: 'caretaker_header',
        size: 16,
        align: 8,
        fields: expect.arrayContaining([
          expect.objectContaining({
            name: 'version',
            offset: 8,
            size: 4,
            type: 'u32',
            bitOffset: null,
            bitSize: null,
          }),
        ]) as unknown,
      }),
    );
  });

  it('refuses a file without debug information, with its name', async () => {
    const file = join(folder, 'stripped.elf');
    execFileSync('strip', ['--strip-debug', payload, '-o', file]);
    expect(await json('dump', file)).toMatchObject({
      status: 1,
      document: { error: { code: 'NO_DEBUG_INFO', file } },
    });
  });
});

describe('abi check', () => {
  it('finds the reference payload compatible', async () => {
    expect(await json('check', payload)).toMatchObject({
      status: 0,
      document: { compatible: true, findings: [], checked: { gates: 256, structs: 12 } },
    });
  });

  it('points at the source line of code that breaks a rule', async () => {
    const { stdout } = await runWith(
      COMMANDS,
      ...['abi', 'check', payload, '--profile', 'run-states', '--format', 'github'],
    );
    expect(stdout).toMatch(/^::error file=(.*\/)?entry\.S,line=\d+,title=exit-undeclared::/m);
  });

  it('never passes a binary without debug information', async () => {
    const file = join(folder, 'bare.elf');
    execFileSync('strip', ['--strip-debug', payload, '-o', file]);
    expect(await json('check', file)).toMatchObject({
      status: 1,
      document: {
        compatible: false,
        findings: [{ rule: 'debug-info-missing', severity: 'error' }],
      },
    });
  });

  it('judges by the profile that is named', async () => {
    expect(await json('check', payload, '--profile', 'run-states')).toMatchObject({
      status: 1,
      document: {
        findings: [
          { rule: 'struct-missing' },
          { rule: 'struct-missing' },
          { rule: 'exit-undeclared' },
        ],
      },
    });
    expect((await runWith(COMMANDS, 'abi', 'check', payload, '--profile', 'nonsense')).status).toBe(
      2,
    );
  });
});

describe('abi diff', () => {
  it('finds nothing between a payload and itself', async () => {
    expect(await json('diff', payload, payload)).toEqual({
      status: 0,
      document: { compatible: true, findings: [] },
    });
  });

  it.each([
    ['a moved field', 'u64 epoch', 'u32 gap; u32 gap2; u64 epoch', 'field-moved'],
    ['a sign', 'u32 vector;', 's32 vector;', 'field-signedness'],
    ['another number', 'KVM_ATTACHED = 1', 'KVM_ATTACHED = 2', 'constant-value'],
  ])('refuses %s', async (_what, before, after, rule) => {
    const changed = object('changed', (header) => header.replace(before, after));
    const { status, document } = await json('diff', object('original'), changed);
    expect(status).toBe(1);
    expect(
      (document as { findings: { rule: string }[] }).findings.map((one) => one.rule),
    ).toContain(rule);
  });

  it('allows a field in reserved space', async () => {
    const appended = object('appended', (header) =>
      header.replace('u64 reserved_features;', 'u64 more_features;'),
    );
    const { status, document } = await json('diff', object('before'), appended);
    expect({ status, document }).toMatchObject({
      status: 0,
      document: { compatible: true, findings: [{ rule: 'field-appended' }] },
    });
  });

  it('shows both layouts side by side, with the differing line marked', async () => {
    const changed = object('sign', (header) => header.replace('u32 vector;', 's32 vector;'));
    const { stdout } = await runWith(COMMANDS, 'abi', 'diff', object('old'), changed);
    expect(stdout).toMatch(/incompatible/);
    expect(stdout).toMatch(/^ +! +136 u32 vector +\| +136 s32 vector$/m);
    expect(stdout).not.toMatch(/^ +! +error_code/m);
  });

  it('points annotations, SARIF and JUnit at the line of the header', async () => {
    const files = [
      object('one'),
      object('two', (header) => header.replace('u32 vector;', 's32 vector;')),
    ];
    const header = readFileSync(join(include, 'caretaker/ccb.h'), 'utf8').split('\n');
    const line = header.findIndex((text) => /u32 vector;/.test(text)) + 1;
    const text = async (format: string): Promise<string> =>
      (await runWith(COMMANDS, 'abi', 'diff', ...files, '--format', format)).stdout;
    expect(await text('github')).toContain(
      `::error file=abi/include/caretaker/ccb.h,line=${line},title=field-signedness::`,
    );
    const sarif = JSON.parse(await text('sarif')) as {
      version: string;
      runs: { results: unknown[] }[];
    };
    expect(sarif.version).toBe('2.1.0');
    expect(sarif.runs[0]!.results).toMatchObject([
      {
        ruleId: 'field-signedness',
        level: 'error',
        locations: [{ physicalLocation: { region: { startLine: line } } }],
      },
    ]);
    expect(await text('junit')).toMatch(
      /<testcase classname="abi" name="field-signedness">\n +<failure message="1 finding">/,
    );
  });

  it('names a file that is not there', async () => {
    const { status, stderr } = await runWith(
      COMMANDS,
      'abi',
      'diff',
      payload,
      join(folder, 'none.elf'),
    );
    expect(status).toBe(2);
    expect(stderr).toContain('none.elf');
  });
});
