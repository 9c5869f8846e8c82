/** Payload arguments that name a file, no file, or something that never ends. */
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { HarnessError } from '../../abi/errors.js';
import { naming, readPayloadFile } from '../../emulator/cli/payload-file.js';
import { LIMITS } from '../../loader/limits.js';

const folder = mkdtempSync(join(tmpdir(), 'caretaker-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('readPayloadFile', () => {
  it('gives the bytes of the file', () => {
    const file = join(folder, 'small');
    writeFileSync(file, 'abc');
    expect([...readPayloadFile(file)]).toEqual([0x61, 0x62, 0x63]);
  });

  it('stops one byte past the limit, so that the loader sees that there is more', () => {
    expect(readPayloadFile('/dev/zero')).toHaveLength(LIMITS.fileBytes + 1);
  });

  it.each([
    ['a file that is not there', join(folder, 'gone')],
    ['a folder', folder],
  ])('refuses %s, and names it', (_title, file) => {
    const error = (() => {
      try {
        readPayloadFile(file);
      } catch (thrown) {
        return thrown;
      }
      return undefined;
    })();
    expect(error).toMatchObject({ code: 'FILE_UNREADABLE', details: { file } });
    expect((error as Error).message.startsWith(`${file}: cannot be read: E`)).toBe(true);
  });
});

describe('a FIFO', () => {
  const make = (name: string): string => {
    const file = join(folder, name);
    execFileSync('mkfifo', [file]);
    return file;
  };

  it('gives what its writer writes, however late that begins', () => {
    const file = make('written');
    const writer = spawn('sh', [
      '-c',
      'sleep 0.2; exec 3> "$1"; sleep 0.2; printf abc >&3',
      '',
      file,
    ]);
    expect([...readPayloadFile(file)]).toEqual([0x61, 0x62, 0x63]);
    writer.unref();
  });

  it('is refused when nobody writes to it', () => {
    const file = make('forgotten');
    expect(() => readPayloadFile(file)).toThrow(`${file}: cannot be read: it is a FIFO`);
  });
});

describe('naming', () => {
  it('puts the file to a refusal and keeps its code and evidence', () => {
    const refusal = new HarnessError('CCB_MISSING', 'no section is named .ccb', { offset: 7 });
    expect(() =>
      naming('a.elf', () => {
        throw refusal;
      }),
    ).toThrow(
      expect.objectContaining({
        code: 'CCB_MISSING',
        details: { file: 'a.elf', offset: 7 },
        cause: refusal,
      }),
    );
  });

  it('lets a bug through as it is', () => {
    const bug = new TypeError('x is not a function');
    expect(() =>
      naming('a.elf', () => {
        throw bug;
      }),
    ).toThrow(bug);
  });
});
