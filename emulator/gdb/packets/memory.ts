/**
 * Memory: `m`, `M`, `x`, `X`, and `qSearch:memory`.
 *
 * Source: GDB manual, "Remote Protocol", "Packets" and "General Query Packets".
 * Invariant: a read that begins at a readable byte answers with what could be read, perhaps less than was asked.
 */
import { bytesOfHex, bytesOfText, hexOf, parseAddress, parseCount, textOfBytes } from '../bytes.js';
import { MAX_PACKET, escaped } from '../framing.js';
import { BAD_ADDRESS, MALFORMED, OK, type GdbSession, type Reply } from '../session.js';
import type { AddressKind } from '../target.js';

/** More than this is not searched in one go. */
const MAX_SEARCH = 1 << 26;
const SEARCH_CHUNK = 1 << 16;

function kindOf({ isPhysical }: GdbSession): AddressKind {
  return isPhysical ? 'physical' : 'linear';
}

interface Range {
  readonly address: bigint;
  readonly sizeBytes: number;
}

function rangeOf(text: string): Range | null {
  const [first, second, ...rest] = text.split(',');
  const address = parseAddress(first);
  const sizeBytes = parseCount(second);
  if (address === null || sizeBytes === null || rest.length > 0) return null;
  return { address, sizeBytes };
}

function read(session: GdbSession, text: string, mostBytes: number): Uint8Array | string {
  const range = rangeOf(text);
  if (range === null) return MALFORMED;
  const { address } = range;
  const sizeBytes = Math.min(range.sizeBytes, mostBytes);
  const bytes = session.target.readMemory(session.thread, kindOf(session), address, sizeBytes);
  return bytes.length === 0 && sizeBytes > 0 ? BAD_ADDRESS : bytes;
}

/** `m address,length`: in digits. */
export function readDigits(session: GdbSession, text: string): Reply {
  const bytes = read(session, text, MAX_PACKET / 2);
  return typeof bytes === 'string' ? bytes : hexOf(bytes);
}

/** `x address,length`: as they are. */
export function readBinary(session: GdbSession, text: string): Reply {
  const bytes = read(session, text, MAX_PACKET / 2 - 1);
  return typeof bytes === 'string' ? bytes : `b${escaped(textOfBytes(bytes))}`;
}

function write(session: GdbSession, range: Range | null, bytes: Uint8Array | null): Reply {
  if (range === null || bytes?.length !== range.sizeBytes) return MALFORMED;
  if (bytes.length === 0) return OK;
  const { address } = range;
  return session.target.writeMemory(session.thread, kindOf(session), address, bytes)
    ? OK
    : BAD_ADDRESS;
}

function parts(text: string): readonly [range: Range | null, data: string] {
  const colon = text.indexOf(':');
  return colon < 0 ? [null, ''] : [rangeOf(text.slice(0, colon)), text.slice(colon + 1)];
}

/** `M address,length:digits`. */
export function writeDigits(session: GdbSession, text: string): Reply {
  const [range, digits] = parts(text);
  return write(session, range, bytesOfHex(digits));
}

/** `X address,length:bytes`; with no bytes GDB asks whether the packet is known. */
export function writeBinary(session: GdbSession, text: string): Reply {
  const [range, data] = parts(text);
  return write(session, range, bytesOfText(data));
}

/** `qSearch:memory:address;length;bytes`. */
export function searchMemory(session: GdbSession, text: string): Reply {
  const [, first, second, pattern] = /^([^;]*);([^;]*);(.*)$/s.exec(text) ?? [];
  const address = parseAddress(first);
  const sizeBytes = parseCount(second);
  if (address === null || sizeBytes === null || pattern === undefined || pattern === '') {
    return MALFORMED;
  }
  const found = find(session, address, Math.min(sizeBytes, MAX_SEARCH), pattern);
  return found === null ? '0' : `1,${found.toString(16)}`;
}

function find(
  session: GdbSession,
  base: bigint,
  sizeBytes: number,
  pattern: string,
): bigint | null {
  const kind = kindOf(session);
  // Chunks overlap, so that what lies across two is found.
  for (let at = 0; at < sizeBytes; at += SEARCH_CHUNK) {
    const wanted = Math.min(SEARCH_CHUNK + pattern.length - 1, sizeBytes - at);
    const bytes = session.target.readMemory(session.thread, kind, base + BigInt(at), wanted);
    const index = textOfBytes(bytes).indexOf(pattern);
    if (index >= 0) return base + BigInt(at + index);
    if (bytes.length < wanted) return null;
  }
  return null;
}
