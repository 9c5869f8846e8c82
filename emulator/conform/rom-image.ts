/**
 * The second machine's ROM: a program in front of the monitor and the boot page.
 *
 * Source: rom/ and its build.mk; a PC's firmware ends at 4 GiB, where the machine starts 16 bytes below.
 * Invariant: the size is a multiple of 64 KiB; the last 8 bytes hold the program's address.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../machine/package-root.js';
import { ConformError } from './errors.js';
import type { MonitorProgram } from './program.js';

const ALIGNMENT = 0x1_0000;
const END = 0x1_0000_0000;
/** What the emulated chip set maps. */
const LARGEST = 2 * 1024 * 1024;
/** Bytes of a program that surely fit. */
export const PROGRAM_LIMIT = LARGEST - 2 * ALIGNMENT;

/** Builds the monitor where it is out of date and returns its 64 KiB. @throws ConformError ROM_BUILD_FAILED. */
export function buildMonitor(
  folder = join(packageRoot(), 'emulator', 'conform', 'rom'),
): Uint8Array {
  try {
    execFileSync('make', ['-s', '-C', folder, '-f', 'build.mk'], { stdio: 'pipe' });
  } catch (cause) {
    const { stderr, code } = cause as { stderr?: Buffer; code?: string };
    const text = code === 'ENOENT' ? 'make is not installed' : (stderr?.toString().trim() ?? '');
    const message = `the monitor of the second machine could not be built: ${text}`;
    throw new ConformError('ROM_BUILD_FAILED', message, { folder }, { cause });
  }
  return new Uint8Array(readFileSync(join(folder, 'build', 'tail.bin')));
}

/** The ROM that executes a program. @throws ConformError ROM_BUILD_FAILED when the program is too long. */
export function romImage(program: MonitorProgram, monitor: Uint8Array): Uint8Array {
  const bytes = program.bytes();
  const size = Math.ceil((bytes.length + monitor.length) / ALIGNMENT) * ALIGNMENT;
  if (size > LARGEST) {
    throw new ConformError('ROM_BUILD_FAILED', `a program of ${bytes.length} bytes is too long`);
  }
  const image = new Uint8Array(size).fill(0xff);
  image.set(bytes, 0);
  image.set(monitor, size - monitor.length);
  new DataView(image.buffer).setUint32(size - 8, END - size, true);
  return image;
}
