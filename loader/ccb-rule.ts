/**
 * What the loader must know of the control block, handed to it: the layout itself is the contract's and not the
 * loader's, so one loader serves every version and profile.
 *
 * Source: CONTRACT ("CCB", "Entry points"). Offsets are bytes from the start of .ccb.
 */

/** A little-endian constant that the image must hold at link time. */
export interface CcbConstant {
  readonly offset: number;
  readonly sizeBytes: 4 | 8;
  readonly value: bigint;
}

/** A 64-bit pointer into .text that the image holds, relocated. */
export interface CcbEntryPoint {
  readonly name: string;
  readonly offset: number;
  /** Whether the file's e_entry must be the same address. */
  readonly isFileEntry: boolean;
}

/** The rule that a .ccb section is held against. */
export interface CcbRule {
  readonly sectionSize: number;
  readonly alignment: number;
  readonly magic: CcbConstant;
  readonly version: CcbConstant;
  readonly size: CcbConstant;
  readonly entryPoints: readonly CcbEntryPoint[];
}
