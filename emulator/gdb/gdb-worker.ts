/**
 * The thread of a session that GDB looks at: it blocks for its client, while the main thread serves the socket.
 *
 * Not modelled: errors of ours; they end the thread, and the main thread hears of it.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { HarnessBug, HarnessError } from '../../abi/errors.js';
import { MailboxReceiver } from '../debug/mailbox.js';
import { PayloadImage } from '../debug/payload-image.js';
import { ReplError } from '../debug/repl/command.js';
import type { ReplFiles } from '../debug/repl/repl.js';
import { debugRun } from '../debug/session.js';
import { SourceLevel } from '../debug/source/source-level.js';
import { gdbController, type Channel, type ChannelEvent } from './controller.js';
import type { FromSession, GdbWorkerData, SessionFailure, ToSession } from './messages.js';
import { Monitor } from './monitor.js';

class MailboxChannel implements Channel {
  readonly #mailbox: MailboxReceiver<ToSession>;
  readonly #post: (message: FromSession) => void;
  #client = 0;

  constructor(mailbox: MailboxReceiver<ToSession>, post: (message: FromSession) => void) {
    this.#mailbox = mailbox;
    this.#post = post;
  }

  receive(): ChannelEvent {
    return this.#noted(this.#mailbox.receive());
  }

  poll(): ChannelEvent | null {
    const message = this.#mailbox.poll();
    return message === null ? null : this.#noted(message);
  }

  send(bytes: Uint8Array): void {
    this.#post({ kind: 'send', client: this.#client, bytes });
  }

  hangUp(): void {
    this.#post({ kind: 'hang-up', client: this.#client });
  }

  #noted(message: ToSession): ChannelEvent {
    if (message.kind === 'connected') this.#client = message.client;
    return message;
  }
}

function failureOf(error: HarnessError): SessionFailure {
  const { code, message, details } = error;
  return { code, message, details };
}

/** The files that commands of `monitor` name, on this machine. */
const DISK: ReplFiles = {
  read: (path) => named(path, () => readFileSync(path, 'utf8')),
  write: (path, text) => {
    named(path, () => {
      writeFileSync(path, text);
    });
  },
};

function named<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new ReplError('FILE', `${path}: ${why}`, {}, { cause });
  }
}

async function run(post: (message: FromSession) => void): Promise<SessionFailure | null> {
  // SAFETY: the server starts this thread with exactly this.
  const { scenario, payload, path, root, interrupt, mailbox } = workerData as GdbWorkerData;
  const { image } = new PayloadImage(payload);
  const level = await SourceLevel.create(image, { payloadFile: path, root });
  const controller = gdbController({
    channel: new MailboxChannel(new MailboxReceiver<ToSession>(mailbox), post),
    path,
    interrupt,
    commands: new Monitor(level, DISK),
    onReady: () => {
      post({ kind: 'ready' });
    },
  });
  try {
    debugRun({ scenario, payload, interrupt }, controller);
    return null;
  } catch (error) {
    if (!(error instanceof HarnessError)) throw error;
    return failureOf(error as HarnessError);
  }
}

const port = parentPort;
if (port === null) throw new HarnessBug('a session for GDB runs in a thread of its own');
const post = (message: FromSession): void => {
  port.postMessage(message);
};
post({ kind: 'ended', failure: await run(post) });
