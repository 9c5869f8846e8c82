/** `run` on hosts that take signed payloads alone: by IMA's policy and by lockdown, with signatures that openssl makes. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { COMMANDS } from '../../emulator/cli/commands.js';
import { HAS_OPENSSL, WHY, makeIdentity, sign } from '../host/integrity/signing.js';
import { referencePayload } from '../support/reference-payload.js';
import { runWith } from './buffers.js';

const folder = mkdtempSync(join(tmpdir(), 'caretaker-integrity-'));
afterAll(() => rmSync(folder, { recursive: true }));

const put = (name: string, content: string | Uint8Array): string => {
  const file = join(folder, name);
  writeFileSync(file, content);
  return file;
};
const unsigned = put('payload.elf', referencePayload());
const appraise = put('policy', 'appraise func=CARETAKER_CHECK appraise_type=modsig\n');
const scenario = put(
  'short.yaml',
  'name: short\ndescription: some exits\nvcpus: 1\nsteps: [{ run: { exits: 5 } }]\n',
);
const run = (...words: string[]) => runWith(COMMANDS, 'run', '--scenario', scenario, ...words);

describe.skipIf(!HAS_OPENSSL)(`a host that takes signed payloads alone${WHY}`, () => {
  const [known, other] = ['known', 'other'].map((name) => makeIdentity(name, ['rsa:2048']));
  const keyring = ['--keyring', known!.certificate];
  const good = put('good.elf', sign(referencePayload(), known!));
  const strange = put('strange.elf', sign(referencePayload(), other!));

  it.each([
    ['by the IMA policy', ['--ima-policy', appraise], 'EACCES'],
    ['under lockdown', ['--lockdown'], 'EPERM'],
  ])('%s refuses the unsigned and those of unknown keys', async (_what, words, errno) => {
    expect((await run(good, ...words, ...keyring)).status).toBe(0);
    for (const file of [unsigned, strange]) {
      const { status, stderr } = await run(file, ...words, ...keyring);
      expect(status).toBe(1);
      expect(stderr).toContain(file);
      expect(stderr).toContain(errno);
    }
  });
});
