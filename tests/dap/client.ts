/** A client of the protocol: the real command on a pipe, or any other stream pair. */
import { spawn, type ChildProcess } from 'node:child_process';

/** A message as it came. */
export interface Message {
  readonly seq: number;
  readonly type: 'response' | 'event';
  readonly event?: string;
  readonly command?: string;
  readonly request_seq?: number;
  readonly success?: boolean;
  readonly message?: string;
  // The tests say which body they expect.
  readonly body?: unknown;
}

/** Any body of an answer, looked into by a test. */
export type Body = Record<string, never>;

const root = new URL('../..', import.meta.url).pathname;

export class DapClient {
  readonly messages: Message[] = [];
  readonly #child: ChildProcess;
  readonly #waiting: (() => void)[] = [];
  /** Settles with the status of the command. */
  readonly ended: Promise<number | null>;
  #seq = 0;
  #seen = 0;
  #rest = Buffer.alloc(0);
  errors = '';
  /** The thread of the last stop. */
  stoppedThread = 1;

  constructor() {
    this.#child = spawn(process.execPath, ['bin/caretaker-emu', 'dap'], { cwd: root });
    this.#child.stdout!.on('data', (bytes: Buffer) => {
      this.#take(bytes);
    });
    this.#child.stderr!.on('data', (bytes: Buffer) => (this.errors += bytes.toString()));
    this.ended = new Promise((resolve) => {
      this.#child.on('exit', (status) => {
        resolve(status);
        this.#wake();
      });
    });
  }

  /** Sends raw bytes. */
  write(text: string): void {
    this.#child.stdin!.write(text);
  }

  /** Sends a request; its number. */
  send(command: string, args: unknown = {}): number {
    const seq = ++this.#seq;
    const json = JSON.stringify({ seq, type: 'request', command, arguments: args });
    this.write(`Content-Length: ${Buffer.byteLength(json)}\r\n\r\n${json}`);
    return seq;
  }

  /** Sends a request and waits for its answer. */
  async request(command: string, args: unknown = {}): Promise<Message> {
    const seq = this.send(command, args);
    return this.until((one) => one.type === 'response' && one.request_seq === seq);
  }

  /** The body of an answer that must succeed. */
  async body<T = Body>(command: string, args: unknown = {}): Promise<T> {
    const { success, message, body } = await this.request(command, args);
    if (success !== true) throw new Error(`${command}: ${message ?? ''}`);
    return body as T;
  }

  /** The next event of a kind that was not waited for before. */
  async event<T = Body>(name: string): Promise<T> {
    const found = await this.until((one, at) => {
      const isNew = at >= this.#seen && one.event === name;
      if (isNew) this.#seen = at + 1;
      return isNew;
    });
    const thread = (found.body as { threadId?: number } | undefined)?.threadId;
    if (name === 'stopped') this.stoppedThread = thread ?? this.stoppedThread;
    return found.body as T;
  }

  /** The first message that fits. */
  async until(fits: (message: Message, at: number) => boolean): Promise<Message> {
    for (;;) {
      const found = this.messages.find(fits);
      if (found !== undefined) return found;
      if (this.#child.exitCode !== null) {
        throw new Error(`the command ended: ${this.errors}`);
      }
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  /** Closes the command's input. */
  close(): void {
    this.#child.stdin!.end();
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }

  #take(bytes: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, bytes]);
    for (;;) {
      const header = /^Content-Length: (\d+)\r\n\r\n/.exec(this.#rest.toString('latin1'));
      if (header === null) break;
      const length = Number(header[1]);
      const start = header[0].length;
      if (this.#rest.length < start + length) break;
      const text = this.#rest.subarray(start, start + length).toString();
      this.messages.push(JSON.parse(text) as Message);
      this.#rest = this.#rest.subarray(start + length);
    }
    this.#wake();
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}
