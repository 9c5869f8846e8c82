/**
 * The REPL on a terminal: readline here, the session in a thread of its own, so that Ctrl-C reaches a run that goes on.
 *
 * Source: Node.js, "Readline"; gdb for what Ctrl-C and Ctrl-D mean.
 * Invariant: Ctrl-C stops the run and not the program, and none that comes too late stops the next run; lines typed while
 * the machine runs wait their turn.
 */
import { createInterface, type Interface } from 'node:readline';
import { Worker } from 'node:worker_threads';
import { HarnessError } from '../../../abi/errors.js';
import { MailboxSender } from '../../debug/mailbox.js';
import { complete, type Completions } from '../../debug/repl/asking.js';
import { EXIT, type ExitStatus } from '../exit-status.js';
import type { Terminal } from '../output/terminal.js';
import { historyFile, readHistory, writeHistory } from './history.js';
import type { Debuggee, FromSession, Typed, WorkerData } from './messages.js';

const PROMPT = '(caretaker) ';

/** What ended a session that could not begin or go on. */
class SessionFailed extends HarnessError {}

/** Asks a person until they are done. @throws HarnessError what the session's first steps threw. */
export async function runInteractively(
  debuggee: Debuggee,
  terminal: Terminal,
): Promise<ExitStatus> {
  const mailbox = new MailboxSender<Typed>();
  const interrupt = new Int32Array(new SharedArrayBuffer(4));
  const data: WorkerData = {
    ...debuggee,
    mailbox: mailbox.receiver,
    interrupt,
    columns: process.stdout.columns,
  };
  const worker = new Worker(new URL('./repl-worker.js', import.meta.url), {
    workerData: data,
    transferList: [mailbox.receiver.port],
  });
  const console = new Console(mailbox, interrupt, terminal);
  try {
    await new Promise<void>((resolve, reject) => {
      worker.on('error', reject);
      worker.on('message', (message: FromSession) => {
        switch (message.kind) {
          case 'print':
            terminal.print(message.line);
            return;
          case 'ask':
            console.ask(message.completions);
            return;
          case 'failed':
            reject(new SessionFailed(message.code, message.message));
            return;
          case 'ended':
            resolve();
            return;
        }
      });
    });
    return EXIT.OK;
  } finally {
    console.close();
    mailbox.close();
    await worker.terminate();
  }
}

/** The person's side. */
class Console {
  readonly #mailbox: MailboxSender<Typed>;
  readonly #interrupt: Int32Array;
  readonly #readline: Interface;
  readonly #waiting: string[] = [];
  readonly #file = historyFile(process.env);
  #completions: Completions = {};
  #isAsked = false;
  #isClosed = false;
  #history: readonly string[] = [];

  constructor(mailbox: MailboxSender<Typed>, interrupt: Int32Array, terminal: Terminal) {
    this.#mailbox = mailbox;
    this.#interrupt = interrupt;
    this.#history = readHistory(this.#file);
    this.#readline = createInterface({
      input: process.stdin,
      output: process.stdout,
      prompt: PROMPT,
      history: [...this.#history],
      historySize: 1000,
      removeHistoryDuplicates: true,
      completer: (line: string) => complete(this.#completions, line),
    });
    this.#readline.on('history', (lines: string[]) => {
      this.#history = [...lines];
    });
    this.#readline.on('line', (line) => {
      this.#waiting.push(line);
      this.#answer();
    });
    this.#readline.on('SIGINT', () => {
      if (this.#isAsked) {
        terminal.print('^C');
        this.#readline.write(null, { ctrl: true, name: 'u' });
        this.#readline.prompt();
      } else {
        Atomics.store(interrupt, 0, 1);
      }
    });
    this.#readline.on('close', () => {
      this.#isClosed = true;
      Atomics.store(interrupt, 0, 1);
      this.#answer();
    });
  }

  /** The session waits for a line. */
  ask(completions: Completions): void {
    this.#completions = completions;
    this.#isAsked = true;
    // The session stands and waits: a wish that it has not taken is for a run that is over.
    Atomics.store(this.#interrupt, 0, 0);
    if (this.#waiting.length === 0 && !this.#isClosed) this.#readline.prompt();
    this.#answer();
  }

  close(): void {
    writeHistory(this.#file, this.#history);
    this.#readline.close();
  }

  #answer(): void {
    if (!this.#isAsked) return;
    const line = this.#waiting.shift() ?? null;
    if (line === null && !this.#isClosed) return;
    this.#isAsked = false;
    this.#mailbox.post({ line, columns: process.stdout.columns });
  }
}
