/**
 * The beginning of a file of any kind: a regular one, a pipe, a device.
 *
 * Source: fifo(7): an open for reading that does not block finds no writer, or waits for one that has not written yet.
 * Invariant: never more than the bytes that were asked for are read; a FIFO that nobody writes to is an error, not a wait.
 */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';

/** A shell that makes a FIFO starts its writer about then. */
const WRITER_MS = 1000;
const PAUSE_MS = 5;

/** At most so many bytes of a file. @throws Error of the system, or for a FIFO without a writer. */
export function readFileUpTo(file: string, most: number): Uint8Array {
  const descriptor = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const isFifo = fstatSync(descriptor).isFIFO();
    const buffer = Buffer.alloc(most);
    let length = 0;
    for (let waitedMs = 0; length < most;) {
      const count = readSome(descriptor, buffer, length);
      if (count === 0 && !(isFifo && length === 0)) break;
      length += count ?? 0;
      if (count !== null && count > 0) continue;
      // Nothing yet: a writer that is there may take its time, and one that is not has to come soon.
      if (count === 0 && (waitedMs += PAUSE_MS) > WRITER_MS)
        throw new Error('it is a FIFO, and nobody writes to it');
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PAUSE_MS);
    }
    return new Uint8Array(buffer.subarray(0, length));
  } finally {
    closeSync(descriptor);
  }
}

/** Bytes read, 0 at the end, null when there are none yet. */
function readSome(descriptor: number, buffer: Buffer, length: number): number | null {
  try {
    return readSync(descriptor, buffer, length, buffer.length - length, null);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return null;
    throw error;
  }
}
