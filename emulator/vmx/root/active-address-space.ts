/**
 * Which page tables are active on a pCPU, so that a CR3 which VM exit or the host model loaded takes effect at the next run.
 *
 * Invariant: after sync() the address space is the one of REG.CR3; equal values cost two comparisons.
 */
import { high32, low32 } from '../../../abi/uint.js';
import { REG, type RegisterFile } from '../../cpu/registers.js';
import type { AccessRefusal, AddressSpacePort, CheckedAccess } from './linear-memory.js';

export class ActiveAddressSpace implements AddressSpacePort {
  readonly #port: AddressSpacePort;
  readonly #registers: RegisterFile;
  #low = -1;
  #high = -1;

  constructor(port: AddressSpacePort, registers: RegisterFile) {
    this.#port = port;
    this.#registers = registers;
  }

  /** Activates REG.CR3 unless it is active; a text says why it cannot be. */
  sync(): string | null {
    const { words, values } = this.#registers;
    const isActive = words[REG.CR3 * 2] === this.#low && words[REG.CR3 * 2 + 1] === this.#high;
    return isActive ? null : this.activate(values[REG.CR3]!);
  }

  activate(cr3: bigint): string | null {
    const refusal = this.#port.activate(cr3);
    if (refusal !== null) return refusal;
    this.#low = low32(cr3);
    this.#high = high32(cr3);
    return null;
  }

  /** Makes the next sync() activate again, after a snapshot was restored or tables were written from outside. */
  forget(): void {
    this.#low = -1;
  }

  check(linear: bigint, sizeBytes: number, access: CheckedAccess): AccessRefusal | null {
    return this.#port.check(linear, sizeBytes, access);
  }

  invalidate(linear: bigint | null): void {
    this.#port.invalidate(linear);
  }
}
