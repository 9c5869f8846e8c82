/**
 * The payload's file beside its instances: link-time addresses to addresses of a vCPU's instance and back.
 *
 * Source: CONTRACT ("Instance": one copy a vCPU).
 * Invariant: an address outside every instance has no link-time address.
 */
import { u64 } from '../../abi/uint.js';
import { parseElf } from '../../loader/elf.js';
import type { CaretakerImage } from '../../loader/image.js';
import { symbolise, symbolNamed, type SymbolisedAddress } from '../../loader/symbols.js';
import { CCB_RULE } from '../host/kvm/ccb-rule.js';
import type { Lane } from '../machine/lane.js';

export class PayloadImage {
  readonly file: Uint8Array;
  readonly image: CaretakerImage;

  /** @throws LoaderError when the file is no payload. */
  constructor(file: Uint8Array) {
    this.file = file;
    this.image = parseElf(file, CCB_RULE);
  }

  /** What is added to a link-time address in a vCPU's instance. */
  bias(lane: Lane): bigint {
    return u64(lane.vcpu.ccb - this.image.ccb.address);
  }

  /** Where a link-time address lies for a vCPU. */
  placed(lane: Lane, address: bigint): bigint {
    return u64(address + this.bias(lane));
  }

  /** The link-time address of an address in a vCPU's instance, or null. */
  linked(lane: Lane, address: bigint): bigint | null {
    if (lane.vcpu.ccb === 0n) return null;
    const at = u64(address - this.bias(lane));
    return at >= this.image.pages.start && at < this.image.pages.end ? at : null;
  }

  /** The link-time address of a symbol, or undefined. */
  symbol(name: string): bigint | undefined {
    return symbolNamed(this.image, name)?.address;
  }

  /** `dispatch+0x1c` for an address in a vCPU's instance, or null. */
  nameOf(lane: Lane, address: bigint): SymbolisedAddress | null {
    const at = this.linked(lane, address);
    return (at === null ? undefined : symbolise(this.image, at)) ?? null;
  }
}
