/**
 * CPUID from a table of leaves, with the bits that depend on the registers of the pCPU that asks.
 *
 * Source: SDM, "CPUID—CPU Identification", "Detection of AVX Instructions", "Enumeration of XSAVE state".
 * Invariant: a basic leaf beyond the maximum answers as the highest basic leaf, a leaf in a gap answers zeros.
 * Not modelled: leaves that change with time; topology beyond the x2APIC id.
 */
import { low32 } from '../../../abi/uint.js';
import { REG, type RegisterFile } from '../../cpu/registers.js';
import type { VmxPcpu } from '../ports.js';
import type { CpuidPort, CpuidResult } from './root-cpu.js';

/** One row: `subleaf` is null for a leaf that ignores ECX. */
export interface CpuidLeaf extends CpuidResult {
  readonly leaf: number;
  readonly subleaf: number | null;
}

const ZEROS: CpuidResult = { eax: 0, ebx: 0, ecx: 0, edx: 0 };
const EXTENDED = 0x8000_0000;
const LEAF_FEATURES = 1;
const LEAF_STRUCTURED = 7;
const LEAF_TOPOLOGY = 0xb;
const LEAF_XSAVE = 0xd;
const LEAF_TOPOLOGY_V2 = 0x1f;

const CR4_OSXSAVE = 1n << 18n;
const CR4_PKE = 1n << 22n;
const OSXSAVE = 1 << 27;
const OSPKE = 1 << 4;
const LEGACY_AND_HEADER_BYTES = 576;

export class CpuidTable implements CpuidPort {
  readonly #rows: ReadonlyMap<string, CpuidLeaf>;
  readonly #maxBasic: number;
  readonly #maxExtended: number;

  constructor(rows: readonly CpuidLeaf[]) {
    this.#rows = new Map(rows.map((row) => [keyOf(row.leaf, row.subleaf), row]));
    const leaves = rows.map(({ leaf }) => leaf >>> 0);
    this.#maxBasic = Math.max(0, ...leaves.filter((leaf) => leaf < EXTENDED));
    this.#maxExtended = Math.max(EXTENDED, ...leaves.filter((leaf) => leaf >= EXTENDED));
  }

  execute(cpu: VmxPcpu, leaf: number, subleaf: number): CpuidResult {
    const known = this.#answeringLeaf(leaf >>> 0);
    const row = this.#rows.get(keyOf(known, null)) ?? this.#rows.get(keyOf(known, subleaf));
    return this.#withDynamicBits(cpu, known, subleaf, row ?? ZEROS);
  }

  #answeringLeaf(leaf: number): number {
    const isBasic = leaf <= this.#maxBasic;
    const isExtended = leaf >= EXTENDED && leaf <= this.#maxExtended;
    return isBasic || isExtended ? leaf : this.#maxBasic;
  }

  #withDynamicBits(cpu: VmxPcpu, leaf: number, subleaf: number, row: CpuidResult): CpuidResult {
    const { registers, apicId } = cpu;
    const cr4 = registers.values[REG.CR4]!;
    switch (leaf) {
      case LEAF_FEATURES: {
        const ebx = ((row.ebx & 0xff_ffff) | ((apicId & 0xff) << 24)) >>> 0;
        return { ...row, ebx, ecx: withBit(row.ecx, OSXSAVE, (cr4 & CR4_OSXSAVE) !== 0n) };
      }
      case LEAF_STRUCTURED:
        if (subleaf !== 0) return row;
        return { ...row, ecx: withBit(row.ecx, OSPKE, (cr4 & CR4_PKE) !== 0n) };
      case LEAF_TOPOLOGY:
      case LEAF_TOPOLOGY_V2:
        return { ...row, edx: apicId };
      case LEAF_XSAVE:
        return subleaf === 0 ? { ...row, ebx: this.#standardAreaBytes(registers) } : row;
      default:
        return row;
    }
  }

  /** The size of an XSAVE area for the components of XCR0, which end where their sub-leaf says. */
  #standardAreaBytes(registers: RegisterFile): number {
    const xcr0 = low32(registers.values[REG.XCR0]!);
    let end = LEGACY_AND_HEADER_BYTES;
    for (let component = 2; component < 32; component++) {
      const row = this.#rows.get(keyOf(LEAF_XSAVE, component));
      if ((xcr0 & (1 << component)) !== 0 && row !== undefined) {
        end = Math.max(end, row.ebx + row.eax);
      }
    }
    return end;
  }
}

function withBit(value: number, bit: number, isSet: boolean): number {
  return (isSet ? value | bit : value & ~bit) >>> 0;
}

function keyOf(leaf: number, subleaf: number | null): string {
  return subleaf === null ? String(leaf >>> 0) : `${leaf >>> 0}.${subleaf >>> 0}`;
}
