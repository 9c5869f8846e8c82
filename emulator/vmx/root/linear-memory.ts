/**
 * Memory as the models access it for the processor: by linear address, checked against the active address space.
 *
 * Source: SDM, "Access Rights", "Canonical Addressing"; DESIGN ("Isolation by mapping").
 * Invariant: no byte moves before open() or openImplicit() has allowed it, and every one of them is reported.
 * Not modelled: a mapping that is not identity; activate() refuses it, so a linear address is the physical one here.
 */
import { VECTOR } from '../../../abi/interruption.js';
import { hex, isCanonical, u64 } from '../../../abi/uint.js';
import type { PhysicalBytes } from '../../memory/physical-memory.js';
import { GENERAL_PROTECTION, fault, pageFault, type Failure } from './outcome.js';

/** What an access wants to do. */
export type AccessKind = 'fetch' | 'read' | 'write';

/** What the page walk is asked for: an ordinary access, or one of a supervisor shadow stack. */
export type CheckedAccess = AccessKind | 'shadow-stack-read' | 'shadow-stack-write';

/** The structure that the processor reaches for by itself. */
export type ImplicitStructure = 'idt' | 'gdt' | 'tss' | 'stack' | 'ssp-table' | 'shadow-stack';

/** Why the active address space does not allow an access. */
export type AccessRefusal =
  /** The page tables refuse; the error code is that of #PF. */
  | { readonly kind: 'page-fault'; readonly errorCode: number; readonly address: bigint }
  /** The page tables allow it, but the pCPU is not given this memory: an isolation finding. */
  | { readonly kind: 'outside'; readonly address: bigint };

/** The active address space of a pCPU, made by whoever walks its page tables. */
export interface AddressSpacePort {
  /** Makes the tables at CR3 the active ones; a text says why they cannot be modelled. */
  activate(cr3: bigint): string | null;
  /** Null when a supervisor access to all of `[linear, linear + sizeBytes)` is allowed; the range is canonical. */
  check(linear: bigint, sizeBytes: number, access: CheckedAccess): AccessRefusal | null;
  /** Forgets cached translations: of one linear address, or of all for null. */
  invalidate(linear: bigint | null): void;
}

/** What the memory reports, for the isolation invariant and for watched bytes. */
export interface LinearMemoryEvents {
  /** An operand that a modelled instruction reads or writes. */
  onAccess(access: AccessKind, address: bigint, sizeBytes: number): void;
  /** An access that no instruction names: descriptor tables, TSS, exception frames. */
  onImplicitAccess(
    structure: ImplicitStructure,
    access: AccessKind,
    address: bigint,
    sizeBytes: number,
  ): void;
}

export class LinearMemory {
  readonly bytes: PhysicalBytes;
  readonly #space: AddressSpacePort;
  readonly #events: LinearMemoryEvents;
  readonly #rip: () => bigint;

  constructor(
    bytes: PhysicalBytes,
    space: AddressSpacePort,
    events: LinearMemoryEvents,
    rip: () => bigint,
  ) {
    this.bytes = bytes;
    this.#space = space;
    this.#events = events;
    this.#rip = rip;
  }

  /** Asks for an operand; `isStack` makes a non-canonical address #SS(0). */
  open(address: bigint, sizeBytes: number, access: AccessKind, isStack = false): Failure | null {
    const failure = this.explain(address, sizeBytes, access, isStack);
    if (failure === null) this.#events.onAccess(access, address, sizeBytes);
    return failure;
  }

  /** Asks for what the processor accesses by itself. */
  openImplicit(
    structure: ImplicitStructure,
    address: bigint,
    sizeBytes: number,
    access: 'read' | 'write',
  ): Failure | null {
    const failure = this.explain(address, sizeBytes, access, structure === 'stack');
    if (failure === null) this.#events.onImplicitAccess(structure, access, address, sizeBytes);
    return failure;
  }

  /** Asks for a place on a supervisor shadow stack: a page that only such accesses write, and that they alone may read. */
  openShadowStack(address: bigint, sizeBytes: number, access: 'read' | 'write'): Failure | null {
    const failure = this.explainShadowStack(address, sizeBytes, access);
    if (failure === null) {
      this.#events.onImplicitAccess('shadow-stack', access, address, sizeBytes);
    }
    return failure;
  }

  /** What is wrong with an access of a shadow stack, without making it. */
  explainShadowStack(address: bigint, sizeBytes: number, access: 'read' | 'write'): Failure | null {
    return this.explain(address, sizeBytes, `shadow-stack-${access}`);
  }

  /**
   * What is wrong with an access, without making it; also how an engine's memory stop becomes an exception. A size of 0 is
   * one that the engine could not tell.
   */
  explain(
    address: bigint,
    sizeBytes: number,
    access: CheckedAccess,
    isStack = false,
  ): Failure | null {
    const bytes = Math.max(sizeBytes, 1);
    const last = u64(address + u64(bytes - 1));
    if (!isCanonical(address) || !isCanonical(last) || last < address) {
      return isStack ? fault(VECTOR.SS, 0) : GENERAL_PROTECTION;
    }
    const refusal = this.#space.check(address, bytes, access);
    if (refusal?.kind === 'page-fault') return pageFault(refusal.errorCode, refusal.address);
    if (refusal !== null) return this.outside(refusal.address, sizeBytes, access);
    return last < BigInt(this.bytes.sizeBytes) ? null : this.outside(address, sizeBytes, access);
  }

  /** The stop for memory that the page tables map and that this pCPU must not touch. */
  outside(address: bigint, sizeBytes: number, access: CheckedAccess): Failure {
    const rip = this.#rip();
    const finding = {
      invariant: 'isolation',
      message: `${access} of ${sizeBytes} bytes at ${hex(address)} is outside what this pCPU may touch`,
      address: rip,
      details: { access, address: hex(address), sizeBytes },
    } as const;
    return { kind: 'stop', reason: { kind: 'finding', address: rip, finding } };
  }
}
