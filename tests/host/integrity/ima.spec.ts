/** The measurement log: what the kernel writes, a verifier replays; what is left out or changed, it sees. */
import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { Ima, readPolicy, replayLog } from '../../../emulator/host/integrity/ima.js';

const PAYLOAD = new TextEncoder().encode('payload');
const OTHER = new TextEncoder().encode('another');

function logged(): Ima {
  const ima = new Ima();
  ima.measure('/usr/lib/caretaker/a.elf', PAYLOAD);
  ima.measure('/usr/lib/caretaker/b.elf', OTHER);
  return ima;
}

describe('the measurement log', () => {
  it('has the file hash and path of each payload behind the boot aggregate, in template ima-ng', () => {
    const lines = logged().text.trimEnd().split('\n');
    expect(lines).toHaveLength(3);
    expect(lines[0]).toMatch(/^10 [0-9a-f]{64} ima-ng sha256:[0-9a-f]{64} boot_aggregate$/);
    const hash = createHash('sha256').update(PAYLOAD).digest('hex');
    expect(lines[1]).toMatch(
      new RegExp(`^10 [0-9a-f]{64} ima-ng sha256:${hash} /usr/lib/caretaker/a\\.elf$`),
    );
  });

  it('has template hashes over length-prefixed fields, computed here by hand', () => {
    const [, line = ''] = logged().text.split('\n');
    const digest = createHash('sha256').update(PAYLOAD).digest();
    const path = Buffer.from('/usr/lib/caretaker/a.elf\0');
    const data = Buffer.concat([
      Buffer.from([8 + 32, 0, 0, 0]),
      Buffer.from('sha256:\0'),
      digest,
      Buffer.from([path.length, 0, 0, 0]),
      path,
    ]);
    expect(line.split(' ')[1]).toBe(createHash('sha256').update(data).digest('hex'));
  });

  it('replays to PCR 10', () => {
    const ima = logged();
    expect(replayLog(ima.text)).toMatchObject({ ok: true, pcr: ima.pcr });
  });

  // prettier-ignore
  it.each<[string, (lines: string[]) => string[]]>([
    ['with an entry left out', (lines) => lines.filter((_, n) => n !== 1)],
    ['in another order', ([a, b, c]) => [a!, c!, b!]],
    ['with an entry twice', (lines) => [...lines, lines[1]!]],
  ])('%s replays to another value', (_what, edit) => {
    const ima = logged();
    const replay = replayLog(edit(ima.text.trimEnd().split('\n')).join('\n'));
    expect(replay).toMatchObject({ ok: true });
    expect(replay.ok && replay.pcr).not.toBe(ima.pcr);
  });

  // prettier-ignore
  it.each<[string, (text: string) => string]>([
    ['with another path', (text) => text.replace('a.elf', 'c.elf')],
    ['with another file hash', (text) => text.replace(/sha256:\w/, 'sha256:f').replace(/sha256:f(\w{62})\w/, 'sha256:f$10')],
    ['of another register', (text) => text.replace(/^10/, '11')],
    ['that is no log', () => 'nothing\n'],
  ])('%s is not believed', (_what, edit) => {
    expect(replayLog(edit(logged().text))).toMatchObject({ ok: false });
  });
});

describe('a policy', () => {
  it.each([
    ['measure func=CARETAKER_CHECK', { measure: true, appraise: false }],
    [
      '# both\nmeasure func=CARETAKER_CHECK\nappraise func=CARETAKER_CHECK appraise_type=imasig|modsig',
      { measure: true, appraise: true },
    ],
    ['', { measure: false, appraise: false }],
    ['measure func=MODULE_CHECK', null],
    ['appraise func=CARETAKER_CHECK', null],
    ['trust func=CARETAKER_CHECK', null],
  ])('%j', (text, expected) => {
    expect(readPolicy(text)).toEqual(expected);
  });
});
