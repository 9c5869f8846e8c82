/** The measurement log: what the kernel writes, a verifier replays; what is left out or changed, it sees. */
import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { Ima, replayLog } from '../../../emulator/host/integrity/ima.js';
import { readPolicy } from '../../../emulator/host/integrity/ima-policy.js';

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

const MEASURE = 'measure func=CARETAKER_CHECK';
const APPRAISE = 'appraise func=CARETAKER_CHECK appraise_type=imasig|modsig';

describe('a policy', () => {
  it.each([
    [MEASURE, { measure: true, appraise: false }],
    [`# both\n${MEASURE}\n${APPRAISE} # by the signature`, { measure: true, appraise: true }],
    ['', { measure: false, appraise: false }],
    [`dont_${MEASURE}\n${MEASURE}`, { measure: false, appraise: false }],
    [`${MEASURE}\ndont_${MEASURE}`, { measure: true, appraise: false }],
    [`dont_appraise func=CARETAKER_CHECK\n${APPRAISE}`, { measure: false, appraise: false }],
  ])('%j: the first rule for an action decides', (text, expected) => {
    expect(readPolicy(text)).toEqual(expected);
  });

  it.each([
    ['measure func=MODULE_CHECK', 1],
    ['# why\n\nappraise func=CARETAKER_CHECK', 3],
    [`${APPRAISE}\n${APPRAISE} uid=0`, 2],
    [`${MEASURE}\n${MEASURE} pcr=11`, 2],
    [`${MEASURE}\ntrust func=CARETAKER_CHECK`, 2],
    ['\0', 1],
  ])('%j is refused with its line', (text, line) => {
    expect(() => readPolicy(text)).toThrow(
      expect.objectContaining({
        code: 'IMA_POLICY_RULE',
        details: expect.objectContaining({ line }) as unknown,
      }) as Error,
    );
  });
});
