/**
 * Packets in a stream of bytes: `$body#checksum`, acknowledgements, and the interrupt byte between packets.
 *
 * Source: GDB manual, "Remote Protocol", sections "Overview", "Packet Acknowledgment" and "Interrupts".
 * Invariant: what push() and next() say depends on the bytes alone, not on how they were split; the memory held is
 * bounded by MAX_PACKET.
 * Not modelled: run-length encoding, which the protocol does not allow towards a stub.
 */
import { bytesOfText, textOfBytes } from './bytes.js';

/** Largest body that is accepted, and that qSupported states. */
export const MAX_PACKET = 0x8000;

/** What a stream of bytes has in it. */
export type Frame =
  | { readonly kind: 'packet'; readonly body: string; readonly isIntact: boolean }
  /** Longer than MAX_PACKET: its body was not kept. */
  | { readonly kind: 'oversized' }
  | { readonly kind: 'ack' }
  | { readonly kind: 'nak' }
  | { readonly kind: 'interrupt' };

const DOLLAR = 0x24;
const HASH = 0x23;
const ESCAPE = 0x7d;
const PLUS = 0x2b;
const MINUS = 0x2d;
const ETX = 0x03;
const ESCAPE_FLIP = 0x20;
const MUST_ESCAPE = /[#$}*]/g;

/** Takes a stream apart, one byte after the other. */
export class FrameReader {
  #state: 'between' | 'body' | 'escaped' | 'checksum-high' | 'checksum-low' = 'between';
  #body: number[] = [];
  #isOversized = false;
  #sum = 0;
  #high = 0;
  #queue: Uint8Array[] = [];
  #at = 0;

  /** Adds bytes behind those that next() has not looked at. */
  push(bytes: Uint8Array): void {
    if (bytes.length > 0) this.#queue.push(bytes);
  }

  /** The next frame, null until more bytes come. Bytes that belong to none are dropped. */
  next(): Frame | null {
    for (;;) {
      const bytes = this.#queue[0];
      if (bytes === undefined) return null;
      while (this.#at < bytes.length) {
        const frame = this.#take(bytes[this.#at++]!);
        if (frame !== null) return frame;
      }
      this.#queue.shift();
      this.#at = 0;
    }
  }

  #take(byte: number): Frame | null {
    // Within a packet a bare `$` is never data: the packet before it lost its end.
    if (byte === DOLLAR && this.#state !== 'escaped') {
      this.#begin();
      return null;
    }
    switch (this.#state) {
      case 'between':
        return betweenPackets(byte);
      case 'body':
        this.#inBody(byte);
        return null;
      case 'escaped':
        this.#sum += byte;
        this.#keep(byte ^ ESCAPE_FLIP);
        this.#state = 'body';
        return null;
      case 'checksum-high':
        this.#high = digitOf(byte);
        this.#state = 'checksum-low';
        return null;
      case 'checksum-low':
        this.#state = 'between';
        return this.#end(this.#high * 16 + digitOf(byte));
    }
  }

  #begin(): void {
    this.#state = 'body';
    this.#body = [];
    this.#isOversized = false;
    this.#sum = 0;
  }

  #inBody(byte: number): void {
    if (byte === HASH) {
      this.#state = 'checksum-high';
      return;
    }
    this.#sum += byte;
    if (byte === ESCAPE) this.#state = 'escaped';
    else this.#keep(byte);
  }

  #keep(byte: number): void {
    if (this.#body.length < MAX_PACKET) this.#body.push(byte);
    else this.#isOversized = true;
  }

  #end(checksum: number): Frame {
    const body = textOfBytes(Uint8Array.from(this.#body));
    this.#body = [];
    if (this.#isOversized) return { kind: 'oversized' };
    return { kind: 'packet', body, isIntact: checksum === (this.#sum & 0xff) };
  }
}

function betweenPackets(byte: number): Frame | null {
  switch (byte) {
    case PLUS:
      return { kind: 'ack' };
    case MINUS:
      return { kind: 'nak' };
    case ETX:
      return { kind: 'interrupt' };
    default:
      return null;
  }
}

/** NaN for what is no digit, so that the checksum does not match. */
function digitOf(byte: number): number {
  return Number.parseInt(String.fromCharCode(byte), 16);
}

/** Data as it may stand in a body. */
export function escaped(text: string): string {
  return text.replace(
    MUST_ESCAPE,
    (one) => `}${String.fromCharCode(one.charCodeAt(0) ^ ESCAPE_FLIP)}`,
  );
}

/** A packet with a body that is escaped already. */
export function packetOf(body: string): Uint8Array {
  let sum = 0;
  for (let i = 0; i < body.length; i++) sum += body.charCodeAt(i);
  return bytesOfText(`$${body}#${(sum & 0xff).toString(16).padStart(2, '0')}`);
}
