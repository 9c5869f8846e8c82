/** Stops of a session that has more to say than one reply holds. */
import { describe, expect, it } from 'vitest';
import { debugRun, type DebugSession } from '../../emulator/debug/session.js';
import { textOfBytes } from '../../emulator/gdb/bytes.js';
import { gdbController, type ChannelEvent } from '../../emulator/gdb/controller.js';
import { packetOf } from '../../emulator/gdb/framing.js';
import { referencePayload } from '../support/reference-payload.js';
import { SHORT } from '../debug/scripted.js';
import { bodiesOf } from './drive.js';

/** What a client is told that says each packet when the one before has its reply; RIP comes with each stop. */
function told(packetsOf: (session: DebugSession) => readonly string[]): string[] {
  const events: ChannelEvent[] = [{ kind: 'connected' }];
  const replies: string[] = [];
  const interrupt = new Int32Array(new SharedArrayBuffer(4));
  const serve = gdbController({
    channel: {
      receive: () => events.shift() ?? { kind: 'closed' },
      poll: () => null,
      send: (bytes) => replies.push(...bodiesOf(textOfBytes(bytes))),
      hangUp: () => undefined,
    },
    path: 'caretaker.elf',
    interrupt,
    commands: { run: () => ({ output: '', resume: null }), arrived: () => '' },
    onReady: () => undefined,
  });
  debugRun({ scenario: SHORT, payload: referencePayload(), interrupt }, (session, stop) => {
    if (stop.cause.kind === 'start') {
      for (const body of packetsOf(session)) {
        events.push({ kind: 'bytes', bytes: packetOf(body) });
      }
    }
    return serve(session, stop);
  });
  return replies
    .filter((reply) => !/^O[0-9a-f]/.test(reply))
    .map((reply) => reply.replace(/^T05thread:\w+;/, ''));
}

/** KVM's flag of each vCPU, which the host turns at once for all. */
const flags = ({ machine }: DebugSession): string[] =>
  machine.lanes.map(({ vcpu }) => (vcpu.ccb + 4096n).toString(16));
const reasonsOf = (replies: readonly string[]): string[] =>
  replies.map((reply) => reply.replace(/;.*/, ''));
/** Where the machine stands, as each reply tells it. */
const placesOf = (replies: readonly string[]): string[] =>
  replies.map((reply) => reply.replace(/^[^;]*;/, ''));

describe('watchpoints that are hit at one boundary', () => {
  it('are told one after the other, forwards and backwards', () => {
    let names: readonly string[] = [];
    const replies = told((session) => {
      names = flags(session);
      const moves = ['c', 'c', 'c', 'c', 'bc', 'bc', 'bc', 'bc'];
      return [...names.map((flag) => `Z2,${flag},4`), ...moves];
    });
    const [one, other] = names.map((name) => `watch:${name}`);
    const moves = replies.slice(2);
    // Each is preserved by itself, and both are retrieved at once.
    expect(reasonsOf(moves)).toEqual([one, other, one, other, one, other, other, one]);
    const [, second, third, fourth, fifth, sixth] = placesOf(moves);
    expect(third).not.toBe(second);
    expect(fourth).toBe(third);
    expect(fifth).not.toBe(fourth);
    expect(sixth).toBe(fifth);
  });

  it('are not told when they are taken away before', () => {
    const replies = told((session) => {
      const [one, other] = flags(session);
      return [`Z2,${one!},4`, 'c', `Z2,${other!},4`, 'c', 'c', `z2,${other!},4`, 'c'];
    });
    expect(reasonsOf(replies).at(-1)).toBe('replaylog:end');
  });

  it('are not told when the machine goes the other way', () => {
    const replies = told((session) => {
      const [one, other] = flags(session);
      return [`Z2,${one!},4`, `Z2,${other!},4`, 'c', 'c', 'c', 'bs', 's'];
    });
    const [forwards, back, again] = replies.slice(-3);
    expect(reasonsOf([back!])[0]).not.toMatch(/^watch/);
    expect(again).toBe(forwards);
  });
});

describe('a watchpoint and a breakpoint at one boundary', () => {
  it('are told by what changed forwards, and backwards by the breakpoint first', () => {
    let flag = '';
    const [, first] = told((session) => {
      [flag = ''] = flags(session);
      return [`Z2,${flag},4`, 'c'];
    });
    const [, rip = ''] = /;10:(\w{16});/.exec(first!) ?? [];
    const address = Buffer.from(rip, 'hex').readBigUInt64LE().toString(16);
    const both = told(() => [`Z2,${flag},4`, `Z0,${address},1`, 'c', 's', 'bc', 'bc']);
    const watch = `watch:${flag}`;
    expect(reasonsOf(both.slice(2))).toEqual([watch, expect.anything(), 'swbreak:', watch]);
  });
});
