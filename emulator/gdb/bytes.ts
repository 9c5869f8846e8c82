/**
 * Bytes, hexadecimal digits and packet text: a packet's text has one character (0 to 255) for each byte.
 *
 * Source: GDB manual, "Remote Protocol", "Overview" (numbers are hexadecimal, data is two digits a byte).
 * Invariant: text that is no number is null, never 0.
 */

const DIGITS = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));
const NUMBER = /^[0-9a-f]{1,16}$/i;
const BYTES = /^(?:[0-9a-f]{2})*$/i;
const CHUNK = 0x2000;

/** Two digits a byte. */
export function hexOf(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += DIGITS[byte]!;
  return text;
}

/** The bytes that pairs of digits stand for, null when it is something else. */
export function bytesOfHex(text: string): Uint8Array | null {
  if (!BYTES.test(text)) return null;
  const bytes = new Uint8Array(text.length / 2);
  for (let i = 0; i < bytes.length; i++)
    bytes[i] = Number.parseInt(text.slice(2 * i, 2 * i + 2), 16);
  return bytes;
}

/** A number of at most 16 digits, null when it is something else. */
export function parseAddress(text: string | undefined): bigint | null {
  return text !== undefined && NUMBER.test(text) ? BigInt('0x'.concat(text)) : null;
}

/** A number small enough to count with, null when it is something else or larger. */
export function parseCount(text: string | undefined): number | null {
  if (text === undefined || !NUMBER.test(text)) return null;
  const value = Number.parseInt(text, 16);
  return Number.isSafeInteger(value) ? value : null;
}

/** One byte for each character, of which only the low eight bits count. */
export function bytesOfText(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

/** One character for each byte. */
export function textOfBytes(bytes: Uint8Array): string {
  let text = '';
  for (let at = 0; at < bytes.length; at += CHUNK) {
    text += String.fromCharCode(...bytes.subarray(at, at + CHUNK));
  }
  return text;
}

const utf8 = new TextEncoder();
const fromUtf8 = new TextDecoder();

/** Text for people, in UTF-8 and two digits a byte. */
export function hexOfString(text: string): string {
  return hexOf(utf8.encode(text));
}

/** What people wrote, from UTF-8 in two digits a byte; null when it is something else. */
export function stringOfHex(text: string): string | null {
  const bytes = bytesOfHex(text);
  return bytes === null ? null : fromUtf8.decode(bytes);
}

/** UTF-8 as packet text. */
export function textOfString(text: string): string {
  return textOfBytes(utf8.encode(text));
}
