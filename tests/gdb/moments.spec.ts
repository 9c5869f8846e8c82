/** What a client says at any moment of a run, and between any two steps of the thread that passes it on. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { debugRun } from '../../emulator/debug/session.js';
import { textOfBytes } from '../../emulator/gdb/bytes.js';
import { gdbController, type Channel, type ChannelEvent } from '../../emulator/gdb/controller.js';
import { packetOf } from '../../emulator/gdb/framing.js';
import { referencePayload } from '../support/reference-payload.js';
import { SHORT } from '../debug/scripted.js';
import { bodiesOf, raw } from './drive.js';

/** Stops of a run; schedules that are tried, FC_MOMENTS of them in a campaign. */
const STOPS = 4;
const SCHEDULES = Number(process.env['FC_MOMENTS'] ?? '40');
/** Only so that a test which hangs ends. */
const GUARD_MS = 60_000 + SCHEDULES * 1000;

const bytes = (body: string): ChannelEvent => ({ kind: 'bytes', bytes: packetOf(body) });

/** When the steps of the thread with the socket happen: the event is posted, then the word is set, and what comes after. */
interface Schedule {
  readonly post: number;
  readonly stop: number;
}

/** The other thread and its client, on one stack with the session: each of their steps has its moment. */
class OtherThread implements Channel {
  readonly interrupt = new Int32Array(new SharedArrayBuffer(4));
  /** What each client was told, one after the other. */
  readonly told: string[][] = [[]];
  moment = 0;
  readonly #queue: ChannelEvent[];
  readonly #due: { readonly at: number; readonly act: () => void }[];
  readonly #next: (told: readonly string[]) => string | null;
  /** The first client has gone, whether or not the session knows. */
  #isGone = false;

  /** `next` is what the first client says to what it was told; null when it says no more. */
  constructor(
    first: readonly string[],
    next: (told: readonly string[]) => string | null,
    late: ChannelEvent,
    after: readonly ChannelEvent[],
    { post, stop }: Schedule,
  ) {
    this.#queue = [{ kind: 'connected' }, ...first.map(bytes)];
    this.#next = next;
    this.#due = [
      {
        at: post,
        act: () => {
          this.#queue.push(late);
          this.#isGone = late.kind === 'gone';
        },
      },
      {
        at: stop,
        act: () => {
          Atomics.store(this.interrupt, 0, 1);
          this.#queue.push(...after);
        },
      },
    ];
  }

  tick(): void {
    this.moment++;
    while (this.#due.length > 0 && this.#due[0]!.at <= this.moment) this.#due.shift()!.act();
  }

  receive(): ChannelEvent {
    this.tick();
    while (this.#queue.length === 0 && this.#due.length > 0) this.#due.shift()!.act();
    return this.#taken(this.#queue.shift() ?? { kind: 'closed' });
  }

  poll(): ChannelEvent | null {
    this.tick();
    const next = this.#queue.shift();
    return next === undefined ? null : this.#taken(next);
  }

  send(sent: Uint8Array): void {
    this.tick();
    const told = this.told.at(-1)!;
    for (const body of bodiesOf(textOfBytes(sent))) {
      told.push(body);
      if (this.#isGone || !body.startsWith('T')) continue;
      const next = this.#next(told);
      if (next !== null) this.#queue.push(bytes(next));
    }
  }

  hangUp(): void {
    this.tick();
  }

  #taken(event: ChannelEvent): ChannelEvent {
    if (event.kind === 'gone') this.told.push([]);
    return event;
  }
}

/** Runs a session under another thread that has a moment at each exit as well. */
function serve(other: OtherThread): void {
  const serving = gdbController({
    channel: other,
    path: 'caretaker.elf',
    interrupt: other.interrupt,
    commands: { run: () => ({ output: '', resume: null }), arrived: () => '' },
    onReady: () => undefined,
  });
  const { interrupt } = other;
  debugRun({ scenario: SHORT, payload: referencePayload(), interrupt }, (session, stop) => {
    if (stop.cause.kind === 'start') {
      const holds = (): boolean => {
        other.tick();
        return false;
      };
      const address = session.image.symbol('caretaker_vmexit')!;
      session.breakpoints.add(
        { kind: 'code', address },
        { condition: { text: '', problem: null, holds } },
      );
    }
    return serving(session, stop);
  });
}

/** Where a packet of breakpoints stops: the first instance's dispatcher. */
const DISPATCH = ((): string => {
  let found = '';
  debugRun({ scenario: SHORT, payload: referencePayload() }, ({ image, lane }) => {
    found = image.placed(lane, image.symbol('caretaker_dispatch')!).toString(16);
    return { kind: 'quit' };
  });
  return found;
})();

const stopsOf = (told: readonly string[]): string[] => told.filter((body) => body[0] === 'T');
const isInterrupt = (stop: string): boolean => stop.startsWith('T02');
const never: Schedule = { post: Infinity, stop: Infinity };
const schedule = (moments: number): fc.Arbitrary<Schedule> =>
  fc
    .tuple(fc.integer({ min: 1, max: moments }), fc.nat({ max: 3 }))
    .map(([post, later]) => ({ post, stop: post + later }));

describe('Ctrl-C at any moment', () => {
  it.each([
    ['c', 'c'],
    ['bc', 'bc'],
  ])(
    'of %s stops at most once more, and takes no stop away',
    (_, move) => {
      const isBack = move === 'bc';
      /** Forwards to a few stops, and there again or back. */
      const next = (told: readonly string[]): string | null => {
        const hits = stopsOf(told).filter((stop) => !isInterrupt(stop)).length;
        if (hits > 2 * STOPS) return 'D';
        return hits > STOPS && isBack ? 'bc' : 'c';
      };
      const run = (when: Schedule): OtherThread => {
        const late = { kind: 'bytes', bytes: raw('\x03') } as const;
        const other = new OtherThread([`Z0,${DISPATCH},1`, 'c'], next, late, [], when);
        serve(other);
        return other;
      };
      const undisturbed = run(never);
      const expected = stopsOf(undisturbed.told[0]!);
      expect(expected).toHaveLength(2 * STOPS + 1);
      fc.assert(
        fc.property(schedule(undisturbed.moment), (when) => {
          const stops = stopsOf(run(when).told[0]!);
          expect(stops.filter((stop) => !isInterrupt(stop))).toEqual(expected);
          expect(stops.length - expected.length).toBeLessThanOrEqual(1);
        }),
        { numRuns: Math.ceil(SCHEDULES / 4) },
      );
    },
    GUARD_MS,
  );
});

describe('a client that goes at any moment', () => {
  const next = (told: readonly string[]): string | null => {
    const count = stopsOf(told).length;
    if (count > STOPS) return null;
    return count === STOPS ? 'bc' : 'c';
  };
  /** What comes of the client that is there next. */
  const run = (said: string, when: Schedule): { moments: number; told: readonly string[] } => {
    const after = [{ kind: 'connected' } as const, bytes(said)];
    const first = [`Z0,${DISPATCH},1`, 'c'];
    const other = new OtherThread(first, next, { kind: 'gone' }, after, when);
    serve(other);
    return { moments: other.moment, told: other.told.at(-1)! };
  };

  it.each([
    ['?', /^T0[25]thread/],
    // Nothing of the one before stops it.
    ['c', /^T05thread:\w+;replaylog:end;/],
    ['bc', /^T05thread:\w+;replaylog:begin;/],
  ])(
    'leaves the machine to the next one, which says %s',
    (said, answer) => {
      const { moments } = run(said, never);
      fc.assert(
        fc.property(schedule(moments), (when) => {
          const { told } = run(said, when);
          const stops = stopsOf(told);
          expect(stops).toHaveLength(1);
          expect(stops[0]).toMatch(answer);
        }),
        { numRuns: Math.ceil(SCHEDULES / 4) },
      );
    },
    GUARD_MS,
  );
});
