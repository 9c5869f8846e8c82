/**
 * LUO's records as bytes, and the names in its device tree.
 *
 * Source: Linux include/linux/kho/abi/luo.h, include/linux/kho/abi/block.h. This interface is a contract.
 * ABI: session {char name[64], u64 files, u64 count}; file {char compatible[48], u64 data, u64 token};
 * FLB {char name[48], u64 data, u64 count}; packed, native endian, in chains of blocks.
 * Invariant: a change of a record is a new compatible string. Sessions in blocks are v3; v2 was one array.
 */
import { LIVEUPDATE_SESSION_NAME_LENGTH } from '../../../abi/luo.js';

export const LUO_SUBTREE = 'LUO';
export const LUO_COMPATIBLE = 'luo-v1';
export const LUO_LIVEUPDATE_NUMBER = 'liveupdate-number';
export const LUO_SESSION_NODE = 'luo-session';
export const LUO_SESSION_COMPATIBLE = 'luo-session-v3';
export const LUO_SESSION_HEADER = 'luo-session-header';
export const LUO_FLB_NODE = 'luo-flb';
export const LUO_FLB_COMPATIBLE = 'luo-flb-v1';
export const LUO_FLB_HEADER = 'luo-flb-header';

const COMPATIBLE_BYTES = 48;

/** Bytes of each record. */
export const SESSION_SER_BYTES = LIVEUPDATE_SESSION_NAME_LENGTH + 16;
export const FILE_SER_BYTES = COMPATIBLE_BYTES + 16;
export const FLB_SER_BYTES = COMPATIBLE_BYTES + 16;

/** A preserved session: its name and its files' first block. */
export interface SessionSer {
  readonly name: string;
  readonly files: bigint;
  readonly count: bigint;
}

/** A preserved file. */
export interface FileSer {
  readonly compatible: string;
  readonly data: bigint;
  readonly token: bigint;
}

/** Preserved file-lifecycle-bound data; `count` is how many files depend on it. */
export interface FlbSer {
  readonly name: string;
  readonly data: bigint;
  readonly count: bigint;
}

/** The record of a session. */
export function encodeSession(ser: SessionSer): Uint8Array {
  return encode(ser.name, LIVEUPDATE_SESSION_NAME_LENGTH, ser.files, ser.count);
}

/** Reads a session's record. */
export function decodeSession(bytes: Uint8Array): SessionSer {
  const [name, files, count] = decode(bytes, LIVEUPDATE_SESSION_NAME_LENGTH);
  return { name, files, count };
}

/** The record of a file. */
export function encodeFile(ser: FileSer): Uint8Array {
  return encode(ser.compatible, COMPATIBLE_BYTES, ser.data, ser.token);
}

/** Reads a file's record. */
export function decodeFile(bytes: Uint8Array): FileSer {
  const [compatible, data, token] = decode(bytes, COMPATIBLE_BYTES);
  return { compatible, data, token };
}

/** The record of file-lifecycle-bound data. */
export function encodeFlb(ser: FlbSer): Uint8Array {
  return encode(ser.name, COMPATIBLE_BYTES, ser.data, ser.count);
}

/** Reads the record of file-lifecycle-bound data. */
export function decodeFlb(bytes: Uint8Array): FlbSer {
  const [name, data, count] = decode(bytes, COMPATIBLE_BYTES);
  return { name, data, count };
}

/** Whether a string and its NUL fit the field of a record. */
export function fitsCompatible(text: string): boolean {
  return new TextEncoder().encode(text).length < COMPATIBLE_BYTES;
}

/** A field with a C string, cut to leave room for its NUL. */
export function encodeName(name: string, sizeBytes: number): Uint8Array {
  const field = new Uint8Array(sizeBytes);
  field.set(new TextEncoder().encode(name).subarray(0, sizeBytes - 1));
  return field;
}

/** The C string of a field, up to its NUL or to the end. */
export function decodeName(field: Uint8Array): string {
  const end = field.indexOf(0);
  return new TextDecoder().decode(end < 0 ? field : field.subarray(0, end));
}

function encode(name: string, nameBytes: number, first: bigint, second: bigint): Uint8Array {
  const bytes = new Uint8Array(nameBytes + 16);
  bytes.set(encodeName(name, nameBytes));
  const view = new DataView(bytes.buffer);
  view.setBigUint64(nameBytes, first, true);
  view.setBigUint64(nameBytes + 8, second, true);
  return bytes;
}

function decode(bytes: Uint8Array, nameBytes: number): readonly [string, bigint, bigint] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return [
    decodeName(bytes.subarray(0, nameBytes)),
    view.getBigUint64(nameBytes, true),
    view.getBigUint64(nameBytes + 8, true),
  ];
}
