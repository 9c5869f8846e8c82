/** The stub over a real session under packets that change everything: registers, memory, points, time, the host. */
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { COMMANDS } from '../../emulator/debug/repl/commands/index.js';
import { DebugSession, debugRun } from '../../emulator/debug/session.js';
import { SourceLevel } from '../../emulator/debug/source/source-level.js';
import { hexOfString, textOfBytes } from '../../emulator/gdb/bytes.js';
import { gdbController, type ChannelEvent } from '../../emulator/gdb/controller.js';
import { packetOf } from '../../emulator/gdb/framing.js';
import { Monitor } from '../../emulator/gdb/monitor.js';
import { GDB_REGISTERS } from '../../emulator/gdb/registers.js';
import { referencePayload } from '../support/reference-payload.js';
import { SHORT } from '../debug/scripted.js';
import { bodiesOf } from './drive.js';

/** Packets of the suite; FC_PACKETS asks for a campaign. */
const PACKETS_A_SESSION = 150;
const SESSIONS = Math.ceil(Number(process.env['FC_PACKETS'] ?? '450') / PACKETS_A_SESSION);
/** Only so that a test which hangs ends. */
const GUARD_MS = 120_000 + SESSIONS * 20_000;

const EVENTS: readonly ChannelEvent[] = [{ kind: 'gone' }, { kind: 'connected' }];

let level: SourceLevel;
beforeAll(async () => {
  const root = new URL('../..', import.meta.url).pathname;
  level = await SourceLevel.create(DebugSession.imageOf(referencePayload()), {
    payloadFile: null,
    root,
  });
});

const hexNumber = (max: bigint): fc.Arbitrary<string> =>
  fc.bigInt({ min: 0n, max }).map((value) => value.toString(16));
const address = fc.oneof(
  // Where the first instance, its control block and its stacks lie, then anywhere.
  fc.integer({ min: 0x16_0000, max: 0x1b_0000 }).map((value) => value.toString(16)),
  hexNumber(0x200_0000n),
  hexNumber((1n << 64n) - 1n),
);
const byte = fc.integer({ min: 0, max: 255 }).map((one) => one.toString(16).padStart(2, '0'));
const register = fc.nat({ max: GDB_REGISTERS.length - 1 });
const value = fc.oneof(
  fc.constantFrom('0000000000000000', 'ffffffffffffffff', '0000160000000000', '0000000000000080'),
  fc.array(byte, { minLength: 8, maxLength: 8 }).map((bytes) => bytes.join('')),
);

const VALUES = [
  '0',
  '1',
  '0x41',
  '$rip',
  'ccb.attach_state',
  '5:20',
  'attached',
  'CPUID',
  'GUEST_RIP',
  'detached',
  'preserve',
  'exit',
  'vmwrite',
  'nmi',
  'caretaker_dispatch',
  '$rsp + 8',
  '*0',
  'telemetry',
  'all',
];
const line = fc
  .tuple(
    fc.constantFrom(...COMMANDS.map(({ name }) => name).filter((name) => name !== 'record')),
    fc.array(fc.constantFrom(...VALUES), { maxLength: 3 }),
  )
  .map(([name, words]) => [name, ...words].join(' '));

const packet = fc.oneof(
  fc.constantFrom(
    '?',
    'g',
    'qfThreadInfo',
    'qOffsets',
    'T2',
    'Hg1',
    'Hg2',
    'Hc2',
    'qXfer:libraries:read::0,1000',
  ),
  fc.constantFrom('s', 'bs', 'vCont;s:1', 'vCont;s:2', 'vCont;s;c:2', 'vCont;r160000,170000:1'),
  fc.constantFrom('c', 'bc', 'vCont;c', 'k', 'R00', 'D'),
  fc.tuple(register, value).map(([number, digits]) => {
    const size = Math.ceil(GDB_REGISTERS[number]!.bits / 8);
    return `P${number.toString(16)}=${digits.padEnd(2 * size, '0').slice(0, 2 * size)}`;
  }),
  fc.tuple(address, byte).map(([where, one]) => `M${where},1:${one}`),
  fc
    .tuple(address, fc.integer({ min: 0, max: 4096 }))
    .map(([where, size]) => `m${where},${size.toString(16)}`),
  fc
    .tuple(
      fc.constantFrom('Z', 'z'),
      fc.integer({ min: 0, max: 4 }),
      address,
      fc.constantFrom(1, 2, 4, 8),
    )
    .map(([what, type, where, size]) => `${what}${String(type)},${where},${String(size)}`),
  line.map((text) => `qRcmd,${hexOfString(text)}`),
);

/** Sends packets and events one after the other to a new session; what it replied. */
function serve(packets: readonly string[]): string[] {
  const replies: string[] = [];
  const events: ChannelEvent[] = [{ kind: 'connected' }];
  for (const one of packets) {
    events.push({ kind: 'bytes', bytes: packetOf(one) });
    // A client that was sent away, or said goodbye, comes again.
    if (/^[kD]/.test(one)) events.push(...EVENTS);
  }
  events.push(...EVENTS, { kind: 'bytes', bytes: packetOf('qC') }, { kind: 'closed' });
  const interrupt = new Int32Array(new SharedArrayBuffer(4));
  const controller = gdbController({
    channel: {
      receive: () => events.shift() ?? { kind: 'closed' },
      poll: () => null,
      send: (bytes) => replies.push(...bodiesOf(textOfBytes(bytes))),
      hangUp: () => undefined,
    },
    path: 'caretaker.elf',
    interrupt,
    commands: new Monitor(level, { read: () => '', write: () => undefined }),
    onReady: () => undefined,
  });
  debugRun({ scenario: SHORT, payload: referencePayload(), interrupt }, controller);
  expect(events).toEqual([]);
  return replies;
}

describe('a session under packets that change everything', () => {
  it(
    `lives through ${String(SESSIONS * PACKETS_A_SESSION)} of them`,
    () => {
      const packets = fc.array(packet, {
        minLength: PACKETS_A_SESSION,
        maxLength: PACKETS_A_SESSION,
      });
      fc.assert(
        fc.property(packets, (bodies) => {
          expect(serve(bodies).length).toBeGreaterThan(PACKETS_A_SESSION / 2);
        }),
        { numRuns: SESSIONS, endOnFailure: true },
      );
    },
    GUARD_MS,
  );

  it('does not end when its client says quit: the next one finds it where it was', () => {
    const quit = serve([`qRcmd,${hexOfString('quit')}`, '?']);
    expect(quit.some((reply) => /^O[0-9a-f]+$/.test(reply))).toBe(true);
    expect(quit.filter((reply) => reply !== 'OK' && !reply.startsWith('O'))).toEqual(serve(['?']));
  });
});
