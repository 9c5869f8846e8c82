/**
 * A vCPU's core of the emulated machine as a CoreView: what is asked is read through the core's own page tables.
 *
 * Source: emulator/machine/lane.ts; SDM, "4-Level Paging and 5-Level Paging".
 * Invariant: asking changes nothing in the machine. While the core is in the guest, addresses are those of the host that
 * it will exit to.
 */
import { toIndex, u64 } from '../../../abi/uint.js';
import { slotOf, VMCS_ENCODING } from '../../../abi/vmcs-fields.js';
import type { FieldName } from '../../../abi/vmcs-fields.js';
import type { RegisterName } from '../../cpu/registers.js';
import type { Lane } from '../../machine/lane.js';
import type { Machine } from '../../machine/machine.js';
import { walk } from '../../memory/page-tables.js';
import { VMCS_FLAG } from '../../vmx/vmcs.js';
import type { CoreView } from './core-view.js';
import type { PayloadProgram } from './payload-program.js';
import { SourceMap } from './source-map.js';

const PAGE = 4096n;

/** One vCPU's core. */
export class LaneView implements CoreView {
  readonly id: number;
  readonly machine: Machine;
  readonly lane: Lane;
  readonly sessionValues: ReadonlyMap<string, bigint>;
  readonly #sources: readonly { readonly vcpu: number; readonly source: SourceMap }[];

  constructor(
    machine: Machine,
    lane: Lane,
    program: PayloadProgram,
    sessionValues: ReadonlyMap<string, bigint> = new Map(),
  ) {
    this.id = lane.id;
    this.machine = machine;
    this.lane = lane;
    this.sessionValues = sessionValues;
    const linked = program.image.ccb.address;
    this.#sources = machine.lanes
      .filter(({ vcpu }) => vcpu.ccb !== 0n)
      .map(({ id, vcpu }) => ({
        vcpu: id,
        source: new SourceMap(program, u64(vcpu.ccb - linked)),
      }));
  }

  register(name: RegisterName): bigint {
    return this.lane.pcpu.registers.get(name);
  }

  read(address: bigint, sizeBytes: number): Uint8Array | null {
    const bytes = new Uint8Array(sizeBytes);
    for (let at = 0; at < sizeBytes;) {
      const linear = u64(address + BigInt(at));
      const length = Math.min(sizeBytes - at, toIndex(PAGE - (linear % PAGE)));
      const physical = this.physical(linear);
      if (physical === null) return null;
      bytes.set(this.machine.memory.read(physical, length), at);
      at += length;
    }
    return bytes;
  }

  /** The physical address of a linear one; null where nothing is mapped. */
  physical(linear: bigint): bigint | null {
    const found = walk(this.machine.memory, this.cr3, linear);
    if (found.kind !== 'mapped') return null;
    return found.physical < BigInt(this.machine.memory.sizeBytes) ? found.physical : null;
  }

  /** The tables that addresses are looked up in. */
  get cr3(): bigint {
    const isInGuest = this.lane.phase === 'guest';
    const host = isInGuest ? this.vmcsField('HOST_CR3') : null;
    return host ?? this.register('CR3');
  }

  vmcsField(name: FieldName): bigint | null {
    const vmcs = this.lane.pcpu.vmx.current;
    if (vmcs === null) return null;
    const slot = slotOf(VMCS_ENCODING[name]);
    return (vmcs.flags[slot]! & VMCS_FLAG.POISON) === 0 ? vmcs.get(slot) : null;
  }

  msr(index: number): bigint | null {
    return this.lane.pcpu.msrs.read(index) ?? null;
  }

  get source(): SourceMap | null {
    return this.#sources.find(({ vcpu }) => vcpu === this.id)?.source ?? null;
  }

  sourceOf(address: bigint): SourceMap | null {
    return this.#sources.find(({ source }) => source.has(address))?.source ?? null;
  }

  get ccbAddress(): bigint | null {
    return this.lane.vcpu.ccb === 0n ? null : this.lane.vcpu.ccb;
  }
}
