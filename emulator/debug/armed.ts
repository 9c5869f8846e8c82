/**
 * The breakpoints as the engines have them: what is wanted at which address, and what was asked of each core's engine.
 *
 * Source: DESIGN ("One physical memory, one engine per pCPU").
 * Invariant: an engine gets only addresses of the instance that it runs, so that KVM's own stops stay KVM's.
 */
import { toIndex } from '../../abi/uint.js';
import { EngineError } from '../cpu/engine-error.js';
import type { Engine } from '../cpu/engine.js';
import type { Lane } from '../machine/lane.js';
import type { Breakpoint, BreakpointTable } from './breakpoints.js';
import type { PayloadImage } from './payload-image.js';

const PAGE = 4096;

/** What one engine was told. */
interface Told {
  version: number;
  readonly addresses: Set<bigint>;
}

export class ArmedBreakpoints {
  readonly #table: BreakpointTable;
  readonly #image: PayloadImage;
  readonly #compiled = new Map<number, { version: number; at: Map<bigint, Breakpoint[]> }>();
  readonly #told = new Map<Engine, Told>();
  #extra: readonly bigint[] = [];
  #isOn = false;
  /** Counts what may change what an engine should have. */
  #changes = 0;

  constructor(table: BreakpointTable, image: PayloadImage) {
    this.#table = table;
    this.#image = image;
  }

  /** Another machine, whose engines have nothing. */
  restart(): void {
    this.#told.clear();
  }

  /** Whether breakpoints count now, and addresses that a goal wants beside them. */
  want(isOn: boolean, extra: readonly bigint[]): void {
    const isSame =
      isOn === this.#isOn &&
      extra.length === this.#extra.length &&
      extra.every((address, index) => address === this.#extra[index]);
    if (isSame) return;
    this.#isOn = isOn;
    this.#extra = extra;
    this.#changes++;
  }

  /** Breakpoints at a lane's RIP. */
  at(lane: Lane): readonly Breakpoint[] {
    return this.#table.isEmpty ? [] : (this.#of(lane).get(lane.rip) ?? []);
  }

  /** Whether any engine was asked to stop at an address. */
  has(address: bigint): boolean {
    for (const { addresses } of this.#told.values()) if (addresses.has(address)) return true;
    return false;
  }

  /** Tells a lane's engine what has changed. */
  tell(lane: Lane): void {
    const version = this.#changes + this.#table.version * 0x1_0000_0000;
    let told = this.#told.get(lane.engine);
    if (told === undefined) {
      told = { version: -1, addresses: new Set() };
      this.#told.set(lane.engine, told);
    }
    if (told.version === version) return;
    told.version = version;
    const wanted = this.#isOn ? this.#addressesFor(lane) : new Set<bigint>();
    for (const address of told.addresses) {
      if (wanted.has(address)) continue;
      lane.engine.clearBreakpoint(address);
      told.addresses.delete(address);
    }
    for (const address of wanted) {
      if (!told.addresses.has(address) && set(lane.engine, address)) told.addresses.add(address);
    }
  }

  #addressesFor(lane: Lane): Set<bigint> {
    const wanted = new Set(this.#extra);
    if (!this.#table.isEmpty) for (const address of this.#of(lane).keys()) wanted.add(address);
    for (const address of wanted) if (!isInInstance(lane, address)) wanted.delete(address);
    return wanted;
  }

  #of(lane: Lane): Map<bigint, Breakpoint[]> {
    const known = this.#compiled.get(lane.id);
    if (known?.version === this.#table.version) return known.at;
    const at = new Map<bigint, Breakpoint[]>();
    for (const one of this.#table.of(lane)) {
      const { spec } = one;
      const address = spec.kind === 'code' ? this.#image.placed(lane, spec.address) : spec.address;
      at.set(address, [...(at.get(address) ?? []), one]);
    }
    this.#compiled.set(lane.id, { version: this.#table.version, at });
    return at;
  }
}

/** Whether an address lies in the instance that a lane runs. */
export function isInInstance(lane: Lane, address: bigint): boolean {
  const instance = lane.vcpu.memory.all().find(({ what }) => what === 'instance');
  if (instance === undefined) return false;
  return address >= instance.hpa && toIndex(address - instance.hpa) < instance.pages * PAGE;
}

/** Whether the engine took it: an address between two instructions is never reached. */
function set(engine: Engine, address: bigint): boolean {
  try {
    engine.setBreakpoint(address);
    return true;
  } catch (error) {
    if (error instanceof EngineError) return false;
    throw error;
  }
}
