/**
 * The socket, or any other stream: clients come one at a time to the session's thread; who comes meanwhile waits in line.
 *
 * Invariant: the bytes of a client are posted before the word that stops the session is set; a client that goes away
 * stops what it had set going.
 */
import { createServer, type AddressInfo, type Server } from 'node:net';
import { Duplex } from 'node:stream';
import { Worker } from 'node:worker_threads';
import { MailboxSender } from '../debug/mailbox.js';
import type { Scenario } from '../machine/scenario/schema.js';
import { FrameReader } from './framing.js';
import type { FromSession, GdbWorkerData, SessionFailure, ToSession } from './messages.js';

/** What is served, and where. */
export interface GdbServerOptions {
  readonly scenario: Scenario;
  readonly payload: Uint8Array;
  /** The payload's file, as a client may open it. */
  readonly path: string;
  /** The folder that has the sources of the reference payload. */
  readonly root: string;
  readonly at: ServerPlace;
}

/** An address to listen at, with a port of 0 for any that is free; or the one client that there will be. */
export type ServerPlace = { readonly host: string; readonly port: number } | Duplex;

/** A session that clients can connect to. */
export interface GdbServer {
  /** Where it listens, null when it has its client already. */
  readonly address: { readonly host: string; readonly port: number } | null;
  /** Settles when the session has ended; with what ended it, null when it was asked to. */
  readonly ended: Promise<SessionFailure | null>;
  /** Ends the session. */
  close(): void;
}

/**
 * Takes the machine to its first stop, and only then listens: gdb gives a stub two seconds for its first answer.
 *
 * Resolves to the failure when the machine has no first stop.
 * @throws the system's error when the address cannot be listened at.
 */
export async function startGdbServer(
  options: GdbServerOptions,
): Promise<GdbServer | SessionFailure> {
  const line = new Line();
  const { isReady, ended } = startSession(options, line);
  const first = await Promise.race([isReady, ended]);
  if (first !== 'ready') {
    return first ?? { code: 'NOTHING_RUNS', message: 'the scenario runs no payload', details: {} };
  }
  const close = (): void => {
    line.post({ kind: 'closed' });
  };
  const { at } = options;
  if (at instanceof Duplex) {
    line.join(at);
    at.on('close', close);
    return { address: null, ended, close };
  }
  const server = createServer({ noDelay: true }, (socket) => {
    line.join(socket);
  });
  void ended.then(() => {
    line.close();
    server.close();
  });
  try {
    const { address: host, port } = await listening(server, at);
    return { address: { host, port }, ended, close };
  } catch (error) {
    close();
    throw error;
  }
}

function listening(
  server: Server,
  { host, port }: Exclude<ServerPlace, Duplex>,
): Promise<AddressInfo> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port, exclusive: true }, () => {
      server.off('error', reject);
      // SAFETY: a TCP server that listens has an address of this form.
      resolve(server.address() as AddressInfo);
    });
  });
}

/** The session's thread, which talks to whoever is first in line. */
function startSession(
  { scenario, payload, path, root }: GdbServerOptions,
  line: Line,
): { readonly isReady: Promise<'ready'>; readonly ended: Promise<SessionFailure | null> } {
  const { receiver } = line.mailbox;
  const data: GdbWorkerData = {
    scenario,
    payload,
    path,
    root,
    interrupt: line.interrupt,
    mailbox: receiver,
  };
  const worker = new Worker(new URL('./gdb-worker.js', import.meta.url), {
    workerData: data,
    transferList: [receiver.port],
  });
  let ready: (value: 'ready') => void;
  const isReady = new Promise<'ready'>((resolve) => {
    ready = resolve;
  });
  const ended = new Promise<SessionFailure | null>((resolve, reject) => {
    worker.on('error', reject);
    worker.on('message', (message: FromSession) => {
      switch (message.kind) {
        case 'ready':
          ready('ready');
          return;
        case 'ended':
          resolve(message.failure);
          return;
        case 'send':
          line.send(message.client, message.bytes);
          return;
        case 'hang-up':
          line.hangUp(message.client);
      }
    });
  });
  return { isReady, ended };
}

/** Clients in the order in which they came; the session talks to the first. */
class Line {
  readonly mailbox = new MailboxSender<ToSession>();
  /** Set to 1 to stop the session. */
  readonly interrupt = new Int32Array(new SharedArrayBuffer(4));
  readonly #sockets: Duplex[] = [];
  #client = 0;

  post(message: ToSession): void {
    this.mailbox.post(message);
    if (message.kind === 'closed') this.#stop();
  }

  join(socket: Duplex): void {
    this.#sockets.push(socket);
    // A connection that breaks is a client that goes.
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      this.#leave(socket);
    });
    if (this.#sockets.length === 1) this.#serve(socket);
  }

  send(client: number, bytes: Uint8Array): void {
    if (client === this.#client) this.#sockets[0]?.write(bytes);
  }

  hangUp(client: number): void {
    if (client === this.#client) this.#sockets[0]?.end();
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.mailbox.close();
  }

  #serve(socket: Duplex): void {
    const frames = new FrameReader();
    this.mailbox.post({ kind: 'connected', client: ++this.#client });
    // Until now nobody has read from it.
    socket.on('data', (bytes: Uint8Array) => {
      this.mailbox.post({ kind: 'bytes', bytes: new Uint8Array(bytes) });
      frames.push(bytes);
      for (let frame = frames.next(); frame !== null; frame = frames.next()) {
        if (frame.kind === 'interrupt') this.#stop();
      }
    });
  }

  #leave(socket: Duplex): void {
    const place = this.#sockets.indexOf(socket);
    if (place < 0) return;
    this.#sockets.splice(place, 1);
    if (place > 0) return;
    this.mailbox.post({ kind: 'gone' });
    this.#stop();
    const next = this.#sockets[0];
    if (next !== undefined) this.#serve(next);
  }

  #stop(): void {
    Atomics.store(this.interrupt, 0, 1);
  }
}
