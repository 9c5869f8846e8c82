/**
 * Addresses in words: which instance of the payload an address lies in, and the symbol there.
 *
 * Source: CONTRACT ("Instance": one copy a vCPU); loader/symbols.ts.
 * Invariant: an address outside every instance has no name.
 */
import { hex, u64 } from '../../abi/uint.js';
import { parseElf } from '../../loader/elf.js';
import { symbolise } from '../../loader/symbols.js';
import { CCB_RULE } from '../host/kvm/ccb-rule.js';
import type { Lane } from '../machine/lane.js';

/** `dispatch+0x1c (vCPU 1)`, or null where no instance is. */
export type PayloadSymbols = (address: bigint) => string | null;

/** The names in all instances; `payload` was accepted by the loader before. */
export function payloadSymbols(payload: Uint8Array, lanes: readonly Lane[]): PayloadSymbols {
  let image: ReturnType<typeof parseElf> | undefined;
  return (address) => {
    image ??= parseElf(payload, CCB_RULE);
    const linked = image.ccb.address;
    for (const { id, vcpu } of lanes) {
      if (vcpu.ccb === 0n) continue;
      const at = u64(address - vcpu.ccb + linked);
      if (at < image.pages.start || at >= image.pages.end) continue;
      const symbol = symbolise(image, at);
      if (symbol !== undefined) return `${symbol.name}+${hex(symbol.offset)} (vCPU ${id})`;
    }
    return null;
  };
}
