/**
 * Messages to a thread that blocks for them: a face's input, on its way from the main thread to the session's.
 *
 * Source: Node.js, worker_threads (`receiveMessageOnPort`); ECMAScript, "Atomics.wait".
 * Invariant: messages arrive once each and in order; a message that is posted wakes a receiver that waits.
 */
import { MessageChannel, receiveMessageOnPort, type MessagePort } from 'node:worker_threads';

/** What a receiver is made of in its thread; transfer `port` with it. */
export interface MailboxEnd {
  readonly port: MessagePort;
  /** Counts messages. */
  readonly posted: Int32Array;
}

/** The end that posts. */
export class MailboxSender<Message> {
  /** For the receiver's thread. */
  readonly receiver: MailboxEnd;
  readonly #port: MessagePort;

  constructor() {
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    // It alone must not keep the process.
    port1.unref();
    this.receiver = { port: port2, posted: new Int32Array(new SharedArrayBuffer(4)) };
  }

  post(message: Message): void {
    this.#port.postMessage(message);
    Atomics.add(this.receiver.posted, 0, 1);
    Atomics.notify(this.receiver.posted, 0);
  }

  close(): void {
    this.#port.close();
  }
}

/** The end that waits. */
export class MailboxReceiver<Message> {
  readonly #end: MailboxEnd;

  constructor(end: MailboxEnd) {
    this.#end = end;
  }

  /** The next message; waits for it with the thread. */
  receive(): Message {
    for (;;) {
      const seen = Atomics.load(this.#end.posted, 0);
      const message = this.poll();
      if (message !== null) return message;
      Atomics.wait(this.#end.posted, 0, seen);
    }
  }

  /** The next message if there is one. */
  poll(): Message | null {
    const received = receiveMessageOnPort(this.#end.port) as { message: Message } | undefined;
    return received?.message ?? null;
  }
}
