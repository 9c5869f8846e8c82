/**
 * A kernel's image in physical memory: text with real bytes at every entry, and the symbols that name them.
 *
 * Source: Linux arch/x86/kernel/vmlinux.lds.S for the shape; the RFC, "KVM-Caretaker ABI", for routing pointers.
 * Invariant: no two kernels have a symbol at the same address: bases differ, and so do the offsets of two versions.
 * Each entry is ENDBR64; UD2 and all other text is UD2, so that a stray fetch stops at once.
 * Not modelled: code. What a kernel does is the host model's; nothing executes its text.
 */
import { HarnessBug } from '../../abi/errors.js';
import { toIndex, u64 } from '../../abi/uint.js';
import { PAGE_SIZE, type PhysicalMemory } from '../memory/physical-memory.js';
import { framesOf, type FrameRange } from './frames.js';

const ENDBR64_UD2 = Uint8Array.of(0xf3, 0x0f, 0x1e, 0xfa, 0x0f, 0x0b);
const UD2 = 0x0b0f;
const TEXT_BYTES = 0x1_0000;
const SYMBOL_BYTES = 0x200;

/** The pages of text with symbols in them: nothing runs in the rest, and page tables need not map it. */
export const KERNEL_ENTRY_BYTES = 0x2000;

/** What an image takes of memory: text, then a page of read-only data. */
export const KERNEL_IMAGE_BYTES = TEXT_BYTES + PAGE_SIZE;

/** The text symbols every kernel has. `kvm_vmexit` is where a Caretaker routes an exit to. */
export const KERNEL_SYMBOLS = [
  'startup_64',
  'asm_exc_nmi',
  'asm_exc_machine_check',
  'vmx_vmexit',
  'kvm_vmexit',
  'cpuhp_ap_report_dead',
  'secondary_startup_64',
] as const;

/** The name of a text symbol. */
export type KernelSymbol = (typeof KERNEL_SYMBOLS)[number];

/** A text address by name. */
export interface SymbolAddress {
  readonly name: KernelSymbol;
  readonly offset: number;
}

export class KernelImage {
  /** Counts up with every kernel booted; the banner and the layout of text follow from it. */
  readonly version: number;
  readonly frames: FrameRange;
  readonly base: bigint;
  readonly #offsets: ReadonlyMap<KernelSymbol, number>;

  /** Writes the image at `base`, a page multiple. */
  constructor(memory: PhysicalMemory, base: number, version: number) {
    this.version = version;
    this.frames = framesOf(base, KERNEL_IMAGE_BYTES);
    this.base = u64(base);
    this.#offsets = new Map(
      KERNEL_SYMBOLS.map((name, index) => [name, offsetOf(index, version)] as const),
    );
    new Uint16Array(memory.buffer, base, TEXT_BYTES / 2).fill(UD2);
    for (const offset of this.#offsets.values()) memory.bytes.set(ENDBR64_UD2, base + offset);
    memory.bytes.fill(0, base + TEXT_BYTES, base + KERNEL_IMAGE_BYTES);
    memory.write(this.base + u64(TEXT_BYTES), new TextEncoder().encode(this.banner));
  }

  /** The text that begins the read-only data. */
  get banner(): string {
    return `Linux version 7.${this.version}.0-model`;
  }

  /** The address of an entry. */
  address(name: KernelSymbol): bigint {
    const offset = this.#offsets.get(name);
    if (offset === undefined) throw new HarnessBug(`no kernel symbol ${name}`);
    return this.base + u64(offset);
  }

  /** The symbol that holds an address, or undefined outside text and before the first symbol. */
  symbolAt(hpa: bigint): SymbolAddress | undefined {
    if (hpa < this.base || hpa >= this.base + u64(TEXT_BYTES)) return undefined;
    let best: SymbolAddress | undefined;
    for (const name of KERNEL_SYMBOLS) {
      const start = this.address(name);
      if (start <= hpa && (best === undefined || start > this.address(best.name))) {
        best = { name, offset: toIndex(hpa - start) };
      }
    }
    return best;
  }
}

/** Symbols turn and shift with the version, as they do from one build to the next. */
function offsetOf(index: number, version: number): number {
  const slot = (index + version) % KERNEL_SYMBOLS.length;
  return 0x1000 + slot * SYMBOL_BYTES + (version % 8) * 0x40;
}
