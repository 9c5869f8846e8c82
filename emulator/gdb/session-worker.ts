/**
 * The thread of a session that GDB looks at: it blocks for its client, while the main thread serves the socket.
 *
 * Not modelled: errors of ours; they end the thread, and the main thread hears of it.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { HarnessBug, HarnessError } from '../../abi/errors.js';
import { MailboxReceiver } from '../debug/mailbox.js';
import { debugRun } from '../debug/session.js';
import { gdbController, type Channel, type ChannelEvent } from './controller.js';
import type { FromSession, GdbWorkerData, SessionFailure, ToSession } from './messages.js';
import { runMonitorCommand } from './monitor.js';

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

function run(post: (message: FromSession) => void): SessionFailure | null {
  // SAFETY: the server starts this thread with exactly this.
  const { scenario, payload, path, interrupt, mailbox } = workerData as GdbWorkerData;
  const controller = gdbController({
    channel: new MailboxChannel(new MailboxReceiver<ToSession>(mailbox), post),
    path,
    interrupt,
    runCommand: runMonitorCommand,
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
post({ kind: 'ended', failure: run(post) });
