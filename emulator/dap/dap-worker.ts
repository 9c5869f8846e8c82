/**
 * The thread of a session that a client looks at: it blocks for requests, while the main thread serves the streams.
 *
 * Not modelled: errors of ours; they end the thread, and the main thread hears of it.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { HarnessBug, HarnessError } from '../../abi/errors.js';
import { MailboxReceiver } from '../debug/mailbox.js';
import { PayloadImage } from '../debug/payload-image.js';
import { debugRun } from '../debug/session.js';
import { SourceLevel } from '../debug/source/source-level.js';
import { dapController } from './controller.js';
import type { DapWorkerData, FromSession, ToSession } from './messages.js';

async function run(post: (message: FromSession) => void): Promise<string | null> {
  // SAFETY: the server starts this thread with exactly this.
  const data = workerData as DapWorkerData;
  const { scenario, payload, payloadFile, root, stopOnEntry, words, mailbox } = data;
  try {
    const { image } = new PayloadImage(payload);
    const level = await SourceLevel.create(image, { payloadFile, root });
    const receiver = new MailboxReceiver<ToSession>(mailbox);
    const channel = {
      receive: () => receiver.receive(),
      poll: () => receiver.poll(),
      post,
    };
    debugRun(
      { scenario, payload, interrupt: words },
      dapController({ channel, level, stopOnEntry, words }),
    );
    return null;
  } catch (error) {
    if (!(error instanceof HarnessError)) throw error;
    return error.message;
  }
}

const port = parentPort;
if (port === null) throw new HarnessBug('a session for a client runs in a thread of its own');
const post = (message: FromSession): void => {
  port.postMessage(message);
};
post({ kind: 'ended', failure: await run(post) });
