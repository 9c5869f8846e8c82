import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bytesOfText } from '../../emulator/gdb/bytes.js';
import { FrameReader, MAX_PACKET, escaped, packetOf } from '../../emulator/gdb/framing.js';
import type { Frame } from '../../emulator/gdb/framing.js';

function framesOf(...chunks: readonly Uint8Array[]): Frame[] {
  const reader = new FrameReader();
  const frames: Frame[] = [];
  for (const chunk of chunks) {
    reader.push(chunk);
    for (let frame = reader.next(); frame !== null; frame = reader.next()) frames.push(frame);
  }
  return frames;
}

const read = (text: string): Frame[] => framesOf(bytesOfText(text));
const packet = (body: string, isIntact = true): Frame => ({ kind: 'packet', body, isIntact });

describe('a stream of bytes has in it', () => {
  it.each<[what: string, text: string, frames: Frame[]]>([
    ['a packet with its checksum', '$?#3f', [packet('?')]],
    ['an empty packet', '$#00', [packet('')]],
    ['a checksum in capital digits', '$o#6F', [packet('o')]],
    ['a packet whose checksum is another one', '$?#40', [packet('?', false)]],
    ['a checksum that is no number', '$?#xy', [packet('?', false)]],
    ['a byte escaped with }', '$}\x03#80', [packet('#')]],
    ['an escaped packet end that is data', '$a}\x03b#43', [packet('a#b')]],
    ['an escaped dollar', '$}$#a1', [packet('\x04')]],
    ['acknowledgements', '+-', [{ kind: 'ack' }, { kind: 'nak' }]],
    ['the interrupt byte between packets', '\x03', [{ kind: 'interrupt' }]],
    ['the interrupt byte as data in a packet', '$\x03#03', [packet('\x03')]],
    ['rubbish between packets, which is dropped', 'abc#\x00\xff$?#3f', [packet('?')]],
    ['a packet that lost its end before the next', '$m12$?#3f', [packet('?')]],
    ['a packet that lost its checksum before the next', '$m#$?#3f', [packet('?')]],
    ['half a packet', '$m1000,4', []],
  ])('%s', (_, text, frames) => {
    expect(read(text)).toEqual(frames);
  });

  it('a packet of the largest size, and none larger', () => {
    const largest = 'x'.repeat(MAX_PACKET);
    expect(framesOf(packetOf(largest))).toEqual([packet(largest)]);
    expect(framesOf(packetOf(`${largest}x`), bytesOfText('$?#3f'))).toEqual([
      { kind: 'oversized' },
      packet('?'),
    ]);
  });
});

it('frames do not depend on where the stream is split', () => {
  const interesting = fc.constantFrom(...bytesOfText('$#}+-\x03a0'));
  const bytes = fc.uint8Array({ maxLength: 40 });
  const stream = fc
    .array(fc.oneof(interesting, fc.integer({ min: 0, max: 255 })), { maxLength: 60 })
    .map((list) => Uint8Array.from(list));
  fc.assert(
    fc.property(stream, bytes, (one, cuts) => {
      const chunks: Uint8Array[] = [];
      let at = 0;
      for (const cut of cuts) {
        const end = at + (cut % 5);
        chunks.push(one.subarray(at, end));
        at = Math.min(end, one.length);
      }
      chunks.push(one.subarray(at));
      expect(framesOf(...chunks)).toEqual(framesOf(one));
    }),
    { numRuns: 2000 },
  );
});

it('any data comes through a packet unchanged', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (data) => {
      const text = String.fromCharCode(...data);
      expect(framesOf(packetOf(escaped(text)))).toEqual([packet(text)]);
    }),
  );
});
