/**
 * The breakpoints as the engines have them: what is wanted at which address, and what was asked of each core's engine.
 *
 * Source: DESIGN ("One physical memory, one engine per pCPU").
 * Invariant: an engine gets only addresses of the instance that it runs, so that KVM's own stops stay KVM's.
 */
import { toIndex } from '../../abi/uint.js';
import { VMCS_ENCODING, type FieldName } from '../../abi/vmcs-fields.js';
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
  watches: readonly Watch[];
}

type Watch = Extract<Breakpoint['spec'], { kind: 'watch' }>;

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
    const here = this.#table.isEmpty ? undefined : this.#of(lane).get(lane.rip);
    if (here === undefined) return [];
    return here.filter(({ spec }) => {
      if (spec.kind === 'field') return false;
      if (spec.kind !== 'vmread' && spec.kind !== 'vmwrite') return true;
      return spec.field === null || isOfField(lane, spec.field);
    });
  }

  /** Whether a lane is to stop at an address, be it code or not. */
  wants(lane: Lane, address: bigint): boolean {
    if (!this.#isOn) return false;
    return this.#extra.includes(address) || this.#of(lane).has(address);
  }

  /** Whether the instruction at a lane's RIP is a VMWRITE behind which a watched field is to be looked at. */
  isAtWatchedWrite(lane: Lane): boolean {
    if (!this.#table.has('field')) return false;
    return (
      this.#of(lane)
        .get(lane.rip)
        ?.some(({ spec }) => spec.kind === 'field') ?? false
    );
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
      told = { version: -1, addresses: new Set(), watches: [] };
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
    this.#tellWatches(lane.engine, told);
  }

  #tellWatches(engine: Engine, told: Told): void {
    if (!engine.watch.canStop) return;
    const wanted = this.#isOn
      ? this.#table.all.flatMap(({ isEnabled, spec }) =>
          isEnabled && spec.kind === 'watch' ? [spec] : [],
        )
      : [];
    if (wanted.length === 0 && told.watches.length === 0) return;
    for (const { address, sizeBytes } of told.watches) {
      engine.watch.stopAt(address, sizeBytes, { read: false, write: false });
    }
    for (const { address, sizeBytes, on } of wanted) {
      const read = on !== 'write';
      engine.watch.stopAt(address, sizeBytes, { read, write: on !== 'read' });
    }
    told.watches = wanted;
  }

  #addressesFor(lane: Lane): Set<bigint> {
    const wanted = new Set(this.#extra);
    if (!this.#table.isEmpty) for (const address of this.#of(lane).keys()) wanted.add(address);
    for (const address of wanted) if (!isInInstance(lane, address)) wanted.delete(address);
    return wanted;
  }

  /** Where the engine stops for a breakpoint. */
  #stopsOf({ spec }: Breakpoint, lane: Lane): readonly bigint[] {
    switch (spec.kind) {
      case 'address':
        return [spec.address];
      case 'code':
        return [spec.address, ...(spec.more ?? [])].map((address) =>
          this.#image.placed(lane, address),
        );
      case 'vmread':
        return sitesOf(lane, 'VMREAD');
      case 'vmwrite':
      case 'field':
        return sitesOf(lane, 'VMWRITE');
      case 'watch':
      case 'register':
      case 'exit':
      case 'flip':
      case 'phase':
        return [];
    }
  }

  #of(lane: Lane): Map<bigint, Breakpoint[]> {
    const known = this.#compiled.get(lane.id);
    if (known?.version === this.#table.version) return known.at;
    const at = new Map<bigint, Breakpoint[]>();
    for (const one of this.#table.of(lane)) {
      for (const address of this.#stopsOf(one, lane)) {
        at.set(address, [...(at.get(address) ?? []), one]);
      }
    }
    this.#compiled.set(lane.id, { version: this.#table.version, at });
    return at;
  }
}

/** Where instructions of a name lie in a lane's instance. */
function sitesOf(lane: Lane, name: string): bigint[] {
  return lane.engine
    .sites()
    .filter(({ address, instruction }) => instruction.name === name && isInInstance(lane, address))
    .map(({ address }) => address);
}

/** Whether the VMREAD or VMWRITE that a lane is at is of a field. */
function isOfField(lane: Lane, field: FieldName): boolean {
  const operands = lane.engine.siteAt(lane.rip)?.instruction.operands ?? [];
  // VMREAD r/m64, r64 and VMWRITE r64, r/m64: the field is in the register that is not the value's.
  const isRead = lane.engine.siteAt(lane.rip)?.instruction.name === 'VMREAD';
  const operand = operands[isRead ? 1 : 0];
  if (operand?.kind !== 'register') return false;
  const encoding = lane.pcpu.registers.values[operand.register]!;
  return encoding === BigInt(VMCS_ENCODING[field]);
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
