/**
 * The thread of an interactive session: it blocks for lines, while the main thread owns the terminal.
 *
 * Not modelled: errors of ours; they end the thread, and the main thread hears of it.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { HarnessBug, HarnessError } from '../../../abi/errors.js';
import { MailboxReceiver } from '../../debug/mailbox.js';
import { askingController } from '../../debug/repl/asking.js';
import { DebugSession } from '../../debug/session.js';
import { SourceLevel } from '../../debug/source/source-level.js';
import { packageRoot } from '../../machine/package-root.js';
import { terminalOf } from '../output/terminal.js';
import { canvasOf } from './canvas.js';
import { DISK } from './files.js';
import type { FromSession, Typed, WorkerData } from './messages.js';

const port = parentPort;
if (port === null) throw new HarnessBug('an interactive session runs in a thread of its own');
const post = (message: FromSession): void => {
  port.postMessage(message);
};

async function run(): Promise<void> {
  // SAFETY: interactive.ts starts this thread with exactly this.
  const { scenario, payload, file, mailbox, interrupt, columns } = workerData as WorkerData;
  const lines = new MailboxReceiver<Typed>(mailbox);
  let width = columns;
  const options = { payloadFile: file, root: packageRoot() };
  const level = await SourceLevel.create(DebugSession.imageOf(payload), options);
  const stream = { isTTY: true, write: () => true };
  const controller = askingController(
    (completions) => {
      post({ kind: 'ask', completions });
      const typed = lines.receive();
      width = typed.columns;
      return typed.line;
    },
    {
      level,
      canvas: () => canvasOf(terminalOf({ ...stream, columns: width }, stream, process.env)),
      print: (line) => {
        post({ kind: 'print', line });
      },
      files: DISK,
    },
  );
  new DebugSession({ scenario, payload, interrupt }, controller).run();
}

try {
  await run();
} catch (error) {
  if (!(error instanceof HarnessError)) throw error;
  const { code, message } = error as HarnessError;
  post({ kind: 'failed', code, message });
}
post({ kind: 'ended' });
