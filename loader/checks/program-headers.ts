/**
 * Program headers as the file has them, and the checks that look at one header alone.
 *
 * Source: System V ABI, "Program Header"; x86-64 psABI, "Program Loading".
 * Invariant: what leaves here has file offsets inside the file and memory ranges below 2^47, so later sums are safe.
 */
import { hex, toIndex } from '../../abi/uint.js';
import { ELF, PF, PT } from '../elf-constants.js';
import { refuse } from '../errors.js';
import type { LoaderErrorCode } from '../errors.js';
import type { FileBytes } from '../file-bytes.js';
import type { Permissions } from '../image.js';
import { LIMITS } from '../limits.js';
import type { Header } from './header.js';

/** A program header inside its bounds; `at` is the file offset of the header itself. */
export interface ProgramHeader {
  readonly at: number;
  /** What a message calls it: `segment 2`. */
  readonly label: string;
  readonly type: number;
  readonly flags: number;
  readonly offset: number;
  readonly address: bigint;
  readonly end: bigint;
  readonly fileSizeBytes: number;
  readonly sizeBytes: number;
}

/** A PT_LOAD with a size that has passed every check of its own. */
export interface LoadHeader extends ProgramHeader {
  readonly permissions: Permissions;
}

const REFUSED: ReadonlyMap<number, LoaderErrorCode> = new Map([
  [PT.INTERP, 'SEGMENT_INTERP'],
  [PT.TLS, 'SEGMENT_TLS'],
]);

/** Types that say where something is; they load nothing. */
const DESCRIPTIVE: ReadonlySet<number> = new Set([
  PT.DYNAMIC,
  PT.NOTE,
  PT.PHDR,
  PT.GNU_EH_FRAME,
  PT.GNU_RELRO,
  PT.GNU_PROPERTY,
]);

// prettier-ignore
const FIELD = { type: 0, flags: 4, offset: 8, address: 16, fileSize: 32, size: 40, alignment: 48 } as const;

/** Reads and checks each program header; PT_NULL and empty PT_LOADs are left out. @throws LoaderError */
export function readProgramHeaders(file: FileBytes, header: Header): readonly ProgramHeader[] {
  const headers: ProgramHeader[] = [];
  for (let index = 0; index < header.programCount; index++) {
    const at = header.programOffset + index * ELF.PHDR_BYTES;
    const read = readProgramHeader(file, at, `segment ${index}`);
    if (read !== undefined) headers.push(read);
  }
  return headers;
}

function readProgramHeader(file: FileBytes, at: number, label: string): ProgramHeader | undefined {
  const type = file.u32(at + FIELD.type);
  const flags = file.u32(at + FIELD.flags);
  const refused = REFUSED.get(type);
  if (refused !== undefined) refuse(refused, `${label} has type ${hex(type)}`, { offset: at });
  if (type === PT.NULL) return undefined;
  if (type === PT.GNU_STACK) {
    if ((flags & PF.X) !== 0) {
      refuse('STACK_EXECUTABLE', `${label} asks for an executable stack`, {
        offset: at + FIELD.flags,
        actual: hex(flags),
      });
    }
    return { at, label, type, flags, ...EMPTY };
  }
  if (type !== PT.LOAD && !DESCRIPTIVE.has(type)) {
    refuse('SEGMENT_TYPE_REFUSED', `${label} has type ${hex(type)}`, {
      offset: at,
      actual: hex(type),
    });
  }
  const bounds = checkBounds(file, at, label);
  if (bounds.sizeBytes === 0) return undefined;
  return { at, label, type, flags, ...bounds };
}

const EMPTY = { offset: 0, address: 0n, end: 0n, fileSizeBytes: 0, sizeBytes: 0 } as const;

function checkBounds(file: FileBytes, at: number, label: string) {
  const offset = file.u64(at + FIELD.offset);
  const address = file.u64(at + FIELD.address);
  const fileSize = file.u64(at + FIELD.fileSize);
  const size = file.u64(at + FIELD.size);
  if (fileSize > size) {
    refuse(
      'SEGMENT_FILE_SIZE_ABOVE_MEMORY_SIZE',
      `${label} has more bytes in the file than in memory`,
      {
        offset: at + FIELD.fileSize,
        expected: `at most ${hex(size)}`,
        actual: hex(fileSize),
      },
    );
  }
  // Nothing of an empty segment is loaded, so its offset and address mean nothing (ld emits them for an empty .rodata).
  if (size === 0n) return EMPTY;
  if (!file.contains(offset, fileSize)) {
    refuse(
      'SEGMENT_OUTSIDE_FILE',
      `${label} has ${hex(fileSize)} bytes at ${hex(offset)} of the file`,
      {
        offset: at + FIELD.offset,
        expected: `at most ${hex(file.length)}`,
        actual: hex(offset),
      },
    );
  }
  if (address + size > LIMITS.addressEnd) {
    refuse('SEGMENT_ADDRESS_TOO_HIGH', `${label} has ${hex(size)} bytes at ${hex(address)}`, {
      offset: at + FIELD.address,
      expected: `at most ${hex(LIMITS.addressEnd)}`,
      actual: hex(address),
    });
  }
  return {
    offset: toIndex(offset),
    address,
    end: address + size,
    fileSizeBytes: toIndex(fileSize),
    sizeBytes: toIndex(size),
  };
}

/** The checks of a PT_LOAD: flags, alignment, congruence. @throws LoaderError */
export function checkLoad(file: FileBytes, header: ProgramHeader): LoadHeader {
  const { at, label, flags } = header;
  const flagsAt = { offset: at + FIELD.flags, actual: hex(flags) };
  if ((flags & (PF.W | PF.X)) === (PF.W | PF.X)) {
    refuse('SEGMENT_W_AND_X', `${label}: flags are writable and executable`, flagsAt);
  }
  if ((flags & PF.R) === 0 || flags > (PF.R | PF.W | PF.X)) {
    refuse('SEGMENT_BAD_FLAGS', `${label}: flags are ${hex(flags)}`, flagsAt);
  }
  const alignment = file.u64(at + FIELD.alignment);
  if (alignment !== 4096n) {
    refuse('SEGMENT_BAD_ALIGNMENT', `${label}: p_align is ${hex(alignment)}`, {
      offset: at + FIELD.alignment,
      expected: hex(4096),
      actual: hex(alignment),
    });
  }
  if ((header.address - BigInt(header.offset)) % 4096n !== 0n) {
    refuse(
      'SEGMENT_MISALIGNED',
      `${label}: ${hex(header.address)} at file offset ${hex(header.offset)}`,
      {
        offset: at + FIELD.address,
        expected: hex(BigInt(header.offset) % 4096n),
        actual: hex(header.address % 4096n),
      },
    );
  }
  return { ...header, permissions: permissionsOf(flags) };
}

function permissionsOf(flags: number): Permissions {
  if ((flags & PF.W) !== 0) return 'RW';
  return (flags & PF.X) !== 0 ? 'RX' : 'R';
}
