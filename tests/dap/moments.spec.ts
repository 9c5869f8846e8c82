/** Requests that reach an adapter at any moment of a run, and between any two steps of those that send them. */
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { dapController, INTERRUPT, RUNNING, type Channel } from '../../emulator/dap/controller.js';
import type { DapRequest, FromSession, ToSession } from '../../emulator/dap/messages.js';
import { DebugSession, debugRun } from '../../emulator/debug/session.js';
import { SourceLevel } from '../../emulator/debug/source/source-level.js';
import { referencePayload } from '../support/reference-payload.js';
import { SHORT } from '../debug/scripted.js';

/** Stops of a run; schedules that are tried, FC_MOMENTS of them in a campaign. */
const STOPS = 4;
const SCHEDULES = Number(process.env['FC_MOMENTS'] ?? '40');
/** Only so that a test which hangs ends. */
const GUARD_MS = 60_000 + SCHEDULES * 1000;

let level: SourceLevel;
beforeAll(async () => {
  const root = new URL('../..', import.meta.url).pathname;
  level = await SourceLevel.create(DebugSession.imageOf(referencePayload()), {
    payloadFile: null,
    root,
  });
});

/** When the three steps of the thread with the streams happen: a request is posted, RUNNING is read, INTERRUPT is set. */
interface Schedule {
  readonly post: number;
  readonly look: number;
  readonly stop: number;
}

/** The other thread and the client behind it, on one stack with the session: each of their steps has its moment. */
class OtherThread implements Channel {
  readonly words = new Int32Array(new SharedArrayBuffer(8));
  readonly stops: string[] = [];
  readonly answered: string[] = [];
  moment = 0;
  readonly #queue: ToSession[] = [];
  readonly #due: { readonly at: number; readonly act: () => void }[] = [];
  #seq = 0;

  constructor(command: string, args: object, { post, look, stop }: Schedule) {
    let isRunning = false;
    this.#due.push(
      {
        at: post,
        act: () => {
          this.#queue.push({ kind: 'request', request: this.#request(command, args) });
        },
      },
      {
        at: look,
        act: () => {
          isRunning = Atomics.load(this.words, RUNNING) === 1;
        },
      },
      {
        at: stop,
        act: () => {
          if (isRunning || command === 'pause') Atomics.store(this.words, INTERRUPT, 1);
        },
      },
    );
    this.#say('configurationDone', {});
  }

  tick(): void {
    this.moment++;
    while (this.#due.length > 0 && this.#due[0]!.at <= this.moment) this.#due.shift()!.act();
  }

  receive(): ToSession {
    this.tick();
    while (this.#queue.length === 0 && this.#due.length > 0) this.#due.shift()!.act();
    const next = this.#queue.shift();
    if (next === undefined) throw new Error('the session waits, and nobody will speak');
    return next;
  }

  poll(): ToSession | null {
    this.tick();
    return this.#queue.shift() ?? null;
  }

  post(message: FromSession): void {
    this.tick();
    if (message.kind === 'answer') {
      expect(message.answer.isDone).toBe(true);
      this.answered.push(message.request.command);
    }
    if (message.kind !== 'event' || message.event.event !== 'stopped') return;
    const { reason, description } = message.event.body as { reason: string; description: string };
    this.stops.push(reason === 'pause' ? reason : description);
    if (this.#isDone()) this.#say('disconnect', {});
    else this.#say('continue', { threadId: 1 });
  }

  #isDone(): boolean {
    return this.stops.filter((stop) => stop !== 'pause').length > STOPS;
  }

  /** Of a client that speaks only when the machine stands; so nobody has to be interrupted for it. */
  #say(command: string, args: object): void {
    this.#queue.push({ kind: 'request', request: this.#request(command, args) });
  }

  #request(command: string, args: object): DapRequest {
    return { seq: ++this.#seq, command, arguments: args as Record<string, unknown> };
  }
}

function run(command: string, args: object, schedule: Schedule): OtherThread {
  const other = new OtherThread(command, args, schedule);
  const { words } = other;
  const serve = dapController({ channel: other, level, stopOnEntry: true, words });
  debugRun({ scenario: SHORT, payload: referencePayload(), interrupt: words }, (session, stop) => {
    if (stop.cause.kind === 'start') {
      const condition = {
        text: 'a moment',
        problem: null,
        holds: () => {
          other.tick();
          return false;
        },
      };
      const address = session.image.symbol('caretaker_vmexit')!;
      session.breakpoints.add({ kind: 'code', address }, { condition });
      session.breakpoints.add({
        kind: 'code',
        address: session.image.symbol('caretaker_dispatch')!,
      });
    }
    return serve(session, stop);
  });
  return other;
}

describe('a request that comes at any moment', () => {
  const never = { post: Infinity, look: Infinity, stop: Infinity };

  it.each([
    ['threads', {}],
    ['setFunctionBreakpoints', { breakpoints: [] }],
    ['setDataBreakpoints', { breakpoints: [] }],
    ['pause', { threadId: 1 }],
  ] as const)(
    '%s is answered once and takes no stop away',
    (command, args) => {
      const undisturbed = run(command, args, never);
      const step = fc.nat({ max: 3 });
      fc.assert(
        fc.property(fc.integer({ min: 1, max: undisturbed.moment }), step, step, (post, a, b) => {
          const other = run(command, args, { post, look: post + a, stop: post + a + b });
          expect(other.stops.filter((stop) => stop !== 'pause')).toEqual(undisturbed.stops);
          const pauses = other.stops.length - undisturbed.stops.length;
          expect(pauses).toBeLessThanOrEqual(command === 'pause' ? 1 : 0);
          expect(other.answered.filter((name) => name === command)).toHaveLength(1);
        }),
        { numRuns: Math.ceil(SCHEDULES / 4) },
      );
    },
    GUARD_MS,
  );
});
