/** A client and a machine around the stub, without a socket. */
import { bytesOfText, textOfBytes } from '../../emulator/gdb/bytes.js';
import { packetOf } from '../../emulator/gdb/framing.js';
import { GdbStub } from '../../emulator/gdb/stub.js';
import { ToyTarget } from './toy-target.js';

export class Drive {
  readonly target = new ToyTarget();
  readonly stub = new GdbStub(this.target);
  /** How often the stub has sent its client away. */
  hangUps = 0;

  constructor() {
    this.stub.connected();
  }

  /** Sends bytes as they are and lets the machine do what comes of them; what the client gets back. */
  send(bytes: Uint8Array): string {
    let text = '';
    let output = this.stub.receive(bytes);
    for (;;) {
      text += textOfBytes(output.bytes);
      if (output.hangsUp) {
        this.hangUps++;
        this.stub.connected();
      }
      if (output.request === null) return text;
      this.target.perform(output.request);
      output = this.stub.stopped();
    }
  }

  /** Sends one packet and takes the reply apart: bodies of the packets that came back, acknowledgements left out. */
  ask(body: string): string[] {
    return bodiesOf(this.send(packetOf(body)));
  }

  /** As ask(), for a packet that has one reply. */
  askOne(body: string): string {
    const replies = this.ask(body);
    if (replies.length !== 1) throw new Error(`${body}: ${String(replies.length)} replies`);
    return replies[0]!;
  }
}

/** The bodies in what a stub sent; anything but acknowledgements between packets is an error. */
export function bodiesOf(text: string): string[] {
  const bodies: string[] = [];
  let rest = text;
  while (rest !== '') {
    const [whole, body, checksum] = /^[+-]*(?:\$([^#$]*)#([0-9a-f]{2}))?/s.exec(rest)!;
    if (whole === '') throw new Error(`no packet: ${JSON.stringify(rest.slice(0, 40))}`);
    rest = rest.slice(whole.length);
    if (body === undefined) continue;
    if (textOfBytes(packetOf(body)).slice(-2) !== checksum) throw new Error(`checksum of ${body}`);
    bodies.push(body);
  }
  return bodies;
}

/** The bytes of text that stands for itself. */
export const raw = (text: string): Uint8Array => bytesOfText(text);
