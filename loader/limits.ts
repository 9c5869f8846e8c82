/**
 * What the loader is willing to read; it looks at these before anything that a count in the file could make expensive.
 *
 * Source: a payload is tens of KiB of code; each limit leaves two orders of magnitude of room.
 */
// prettier-ignore
export const LIMITS = {
  fileBytes:         4 * 1024 * 1024,
  imageBytes:       16 * 1024 * 1024,
  programHeaders:   64,
  sections:        256,
  sectionNameChars: 64,
  symbols:       65536,
  symbolNameBytes: 512,
  relocations:   65536,
  /** Identity-mapped: a payload's addresses are in the lower canonical half. */
  addressEnd:    1n << 47n,
} as const;
