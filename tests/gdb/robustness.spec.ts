/** The stub under bytes that no client would send, and under the bytes of a real one in other pieces. */
import fc from 'fast-check';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { hexOfString } from '../../emulator/gdb/bytes.js';
import { packetOf } from '../../emulator/gdb/framing.js';
import { Drive, bodiesOf } from './drive.js';

/** What gdb 13.1 sent in a session with breakpoints, watchpoints, steps both ways, writes and monitor commands. */
const RECORDED = JSON.parse(
  readFileSync(new URL('recorded-session.json', import.meta.url), 'utf8'),
) as string[];

const RUNS = 1000;
const PACKETS_A_RUN = 100;

describe('a recorded session', () => {
  it('has every kind of packet that matters', () => {
    for (const kind of [
      'qXfer',
      'vFile',
      'Z0',
      'Z1',
      'Z2',
      'vCont;s',
      'vCont;c',
      'bs',
      'bc',
      'g',
    ]) {
      expect(RECORDED.some((body) => body.startsWith(kind))).toBe(true);
    }
  });

  it('gets the same answers wherever each packet is split', () => {
    const whole = new Drive();
    const answers = RECORDED.map((body) => whole.send(packetOf(body)));
    expect(answers.every((answer) => answer !== '')).toBe(true);
    const longest = Math.max(...RECORDED.map((body) => packetOf(body).length));
    for (let at = 1; at < longest; at++) {
      const drive = new Drive();
      RECORDED.forEach((body, i) => {
        const bytes = packetOf(body);
        const answer = drive.send(bytes.subarray(0, at)) + drive.send(bytes.subarray(at));
        if (answer !== answers[i]) expect(`${body} at ${String(at)}: ${answer}`).toBe(answers[i]);
      });
    }
  });

  it('gets the same answers byte by byte', () => {
    const whole = new Drive();
    const single = new Drive();
    for (const body of RECORDED) {
      let answer = '';
      for (const byte of packetOf(body)) answer += single.send(Uint8Array.of(byte));
      expect(answer).toBe(whole.send(packetOf(body)));
    }
  });
});

/** Beginnings of packets, so that what follows reaches their handlers. */
// prettier-ignore
const BEGINNINGS = [
  '?', '!', 'c', 'C', 's', 'S', 'g', 'G', 'p', 'P', 'm', 'M', 'x', 'X', 'H', 'T', 'Z', 'z', 'D', 'k', 'R', 'bc', 'bs',
  'vCont', 'vCont;', 'vCont;r', 'vFile:open:', 'vFile:pread:', 'vFile:', 'vKill', 'vRun', 'qSupported', 'qXfer:',
  'qXfer:features:read:target.xml:', 'qXfer:threads:read::', 'qOffsets', 'qRcmd,', 'qThreadExtraInfo,', 'QNonStop:',
  'qSearch:memory:', 'Qqemu.PhyMemMode:', 'QStartNoAckMode', 'q', 'Q', 'v', '',
] as const;
const TEXT = '0123456789abcdefABCDEFpx-+,;:=.*?$#}{\x00\x03\xff'.split('');

const body = fc
  .tuple(
    fc.constantFrom(...BEGINNINGS, ...RECORDED),
    fc.array(fc.constantFrom(...TEXT), { maxLength: 24 }),
    fc.nat({ max: 30 }),
  )
  .map(([beginning, rest, cut]) => beginning.slice(0, 30 - cut + 2) + rest.join(''));

describe('any byte sequence is answered or dropped', () => {
  it(`${String(RUNS * PACKETS_A_RUN)} packets of random content`, () => {
    const packets = fc.array(body, { minLength: PACKETS_A_RUN, maxLength: PACKETS_A_RUN });
    let count = 0;
    fc.assert(
      fc.property(packets, (bodies) => {
        const drive = new Drive();
        for (const one of bodies) {
          count++;
          // As a client would frame it; what it has of `$`, `#` and `}` makes it something else.
          const isPacket = !/[$#}]/.test(one);
          const replies = bodiesOf(drive.send(packetOf(one)));
          if (isPacket && !/^[kR]/.test(one)) expect(replies.length, one).toBeGreaterThan(0);
        }
        drive.stub.connected();
        expect(drive.ask('qC')).toEqual(['QC1']);
      }),
      { numRuns: RUNS },
    );
    expect(count).toBeGreaterThanOrEqual(RUNS * PACKETS_A_RUN);
  });

  it('100,000 strings of random bytes', () => {
    const mostly = fc.constantFrom(...Array.from('$#}+-\x03m?', (one) => one.charCodeAt(0)));
    const bytes = fc.array(fc.oneof(mostly, fc.integer({ min: 0, max: 255 })), { maxLength: 30 });
    fc.assert(
      fc.property(fc.array(bytes, { minLength: 100, maxLength: 100 }), (strings) => {
        const drive = new Drive();
        for (const one of strings) bodiesOf(drive.send(Uint8Array.from(one)));
        drive.stub.connected();
        expect(drive.ask(`qRcmd,${hexOfString('nothing')}`)).toEqual(['OK']);
      }),
      { numRuns: 1000 },
    );
  });
});
