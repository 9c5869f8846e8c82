/**
 * What a GDB stub needs of the machine behind it. Everything answers at once; time moves only between a request that
 * the stub hands out and the stop that it is told of.
 *
 * Invariant: nothing a client sends makes these throw; what cannot be done is null, false or an empty result.
 */

/** The name of a type that GDB knows, or that target-description.ts defines. */
export type RegisterType =
  | 'int'
  | 'int64'
  | 'uint16'
  | 'uint32'
  | 'uint64'
  | 'code_ptr'
  | 'data_ptr'
  | 'i387_ext'
  | 'vec128'
  | 'i386_eflags'
  | 'i386_mxcsr'
  | 'cr0_flags'
  | 'cr4_flags'
  | 'efer_flags';

/** A register as GDB sees it; its number is its place in the list. */
export interface GdbRegister {
  readonly name: string;
  readonly bits: number;
  readonly type: RegisterType;
  /** The feature of the target description that it belongs to. */
  readonly feature: string;
  /** For `info registers GROUP`. */
  readonly group: string | null;
  /** Whether it comes with `g`; the others are asked for one by one. */
  readonly isGeneral: boolean;
  /** Whether every stop reply has it. */
  readonly isExpedited: boolean;
}

/** A thread: a pCPU that carries a vCPU. Ids begin at 1. */
export interface GdbThread {
  readonly id: number;
  readonly name: string;
  /** What it does: guest, caretaker, spinning, parked, ... */
  readonly state: string;
  readonly core: number;
}

/** Which addresses a memory access means. */
export type AddressKind = 'linear' | 'physical';

/** What Z0 to Z4 set. */
export interface GdbPoint {
  readonly kind: 'software' | 'hardware' | 'write' | 'read' | 'access';
  readonly address: bigint;
  /** Bytes watched; for a breakpoint the kind that GDB gave. */
  readonly sizeBytes: number;
}

/** A file that the client may read over the wire. */
export interface GdbFile {
  readonly path: string;
  readonly bytes: Uint8Array;
}

/** What the client asks the machine to do next. */
export type GdbRequest =
  | { readonly kind: 'step'; readonly thread: number; readonly isBackwards: boolean }
  | { readonly kind: 'continue'; readonly thread: number; readonly isBackwards: boolean }
  /** Steps while RIP stays in [begin, end). */
  | {
      readonly kind: 'range';
      readonly thread: number;
      readonly begin: bigint;
      readonly end: bigint;
    }
  /** A `monitor` command that moves: what it is the target keeps. */
  | { readonly kind: 'command' }
  /** Back to the first stop; the client hears of it only where it waits for it. */
  | { readonly kind: 'restart'; readonly isAnnounced: boolean };

/** Why the machine stopped. */
export type GdbStopCause =
  | {
      readonly kind:
        'step' | 'software' | 'hardware' | 'interrupt' | 'history-begin' | 'history-end';
    }
  | { readonly kind: 'write' | 'read' | 'access'; readonly address: bigint }
  /** Something that the machine reports, as a signal. */
  | { readonly kind: 'signal'; readonly signal: number };

/** A stop. */
export interface GdbStop {
  readonly thread: number;
  readonly cause: GdbStopCause;
  /** Shown to the user before the stop; empty for nothing. */
  readonly message: string;
}

/** What came of a `monitor` command. */
export interface GdbCommandResult {
  readonly output: string;
  /** Whether the machine must move before the command is done. */
  readonly moves: boolean;
}

/** The machine. */
export interface GdbTarget {
  readonly registers: readonly GdbRegister[];
  readonly executable: GdbFile;
  threads(): readonly GdbThread[];
  /** Of the present stop. */
  stop(): GdbStop;
  /** Addresses of the first segment of each copy of the image, the present thread's first. */
  images(): readonly bigint[];
  /** Bytes in target order, null for what is not available. */
  readRegister(thread: number, register: number): Uint8Array | null;
  writeRegister(thread: number, register: number, bytes: Uint8Array): boolean;
  /** As many of the bytes as can be read from the address on. */
  readMemory(thread: number, kind: AddressKind, address: bigint, sizeBytes: number): Uint8Array;
  writeMemory(thread: number, kind: AddressKind, address: bigint, bytes: Uint8Array): boolean;
  /** Physical memory, for the memory map. */
  memoryRanges(): readonly { readonly base: bigint; readonly sizeBytes: number }[];
  setPoint(point: GdbPoint): boolean;
  clearPoint(point: GdbPoint): boolean;
  /** Does a line of the debugger's own, looking at a thread. */
  runCommand(thread: number, line: string): GdbCommandResult;
}
