/** `load` on files that are accepted, refused and not there. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { COMMANDS } from '../../emulator/cli/commands.js';
import { referencePayload } from '../../emulator/cli/payload-file.js';
import { CCB_RULE } from '../../emulator/host/kvm/ccb-rule.js';
import { assemble, minimalPayload } from '../support/elf-builder.js';
import type { ElfFile } from '../support/elf-builder.js';
import { runWith } from './buffers.js';

const folder = mkdtempSync(join(tmpdir(), 'caretaker-load-'));
afterAll(() => rmSync(folder, { recursive: true }));

function file(name: string, change: (elf: ElfFile) => void = () => undefined): string {
  const path = join(folder, name);
  const elf = assemble(minimalPayload(CCB_RULE));
  change(elf);
  writeFileSync(path, elf.bytes);
  return path;
}

const good = file('good.elf');
const bad = file('bad.elf', (elf) => elf.phdr(2, 'flags', 7));
const json = async (...words: string[]): Promise<{ status: number; document: unknown }> => {
  const { status, stdout } = await runWith(COMMANDS, 'load', ...words, '--json');
  return { status, document: JSON.parse(stdout) };
};

describe('load', () => {
  it('gives an accepted file with its segments, entry and time', async () => {
    expect(await json(good)).toMatchObject({
      status: 0,
      document: {
        file: good,
        accepted: true,
        code: null,
        entry: '0x1010',
        segments: [
          { address: '0x0', permissions: 'R' },
          { name: '.text', address: '0x1000', size: 64, permissions: 'RX' },
          { name: '.dynamic .data .ccb .bss', address: '0x2000', permissions: 'RW' },
        ],
        milliseconds: expect.any(Number) as number,
      },
    });
  });

  it('gives a refused file with code, message and offset, and exit status 1', async () => {
    const { status, document } = await json(bad);
    const message = expect.stringContaining('segment 2') as string;
    expect(status).toBe(1);
    expect(document).toMatchObject({
      ...{ file: bad, accepted: false, code: 'SEGMENT_W_AND_X', entry: null, message },
      error: { code: 'SEGMENT_W_AND_X', message, file: bad, offset: 64 + 2 * 56 + 4 },
    });
  });

  it('gives an array for several files, one verdict each, and goes on after a refusal', async () => {
    const { status, document } = await json(bad, good, bad);
    expect(status).toBe(1);
    expect((document as { accepted: boolean }[]).map(({ accepted }) => accepted)).toEqual([
      false,
      true,
      false,
    ]);
  });

  it('says in words which file breaks which rule, and where', async () => {
    const { status, stdout } = await runWith(COMMANDS, 'load', bad);
    expect(status).toBe(1);
    for (const part of [bad, 'SEGMENT_W_AND_X', 'file offset 0xb4', 'rule: no segment is']) {
      expect(stdout).toContain(part);
    }
  });

  it('says in words what an accepted file is', async () => {
    const { status, stdout } = await runWith(COMMANDS, 'load', good);
    expect(status).toBe(0);
    for (const part of [
      'accepted',
      'ET_DYN',
      'entry 0x1010 <caretaker_vmexit>',
      '0x00001000',
      'RX',
    ]) {
      expect(stdout).toContain(part);
    }
  });

  const gone = join(folder, 'gone.elf');

  it('ends with exit status 2 when a file is not there, and judges the others', async () => {
    const { status, document } = await json(gone, bad, good);
    expect(status).toBe(2);
    expect(document).toMatchObject([
      { file: gone, accepted: false, error: { code: 'FILE_UNREADABLE', file: gone } },
      { file: bad, accepted: false, error: { code: 'SEGMENT_W_AND_X' } },
      { file: good, accepted: true },
    ]);
  });

  it('says in words which file cannot be read, in a row of its own', async () => {
    const { status, stdout } = await runWith(COMMANDS, 'load', gone, good);
    expect(status).toBe(2);
    const reason = 'cannot be read: ENOENT: no such file or directory';
    expect(stdout.split('\n')[0]).toBe(`unreadable: ${gone}: ${reason}`);
    expect(stdout).toContain(`${good}: accepted`);
  });

  const isBuilt = existsSync(referencePayload());

  it.skipIf(!isBuilt)(`accepts the reference payload${isBuilt ? '' : ' (not built)'}`, async () => {
    expect(await json()).toMatchObject({ status: 0, document: { accepted: true, type: 'ET_DYN' } });
  });
});
