/**
 * The values that breakpoints watch, compared from boundary to boundary: memory, registers, VMCS fields, flags, the phase.
 *
 * Comparing values sees what the engine cannot: KVM's own stores, VM exits, instructions that a model executes.
 * Source: gdb's watch, rwatch and awatch.
 * Invariant: looking changes nothing; a value that was not known before has not changed.
 */
import { toIndex } from '../../abi/uint.js';
import type { WatchedAccess } from '../vmx/stop-reason.js';
import type { Lane } from '../machine/lane.js';
import type { Machine } from '../machine/machine.js';
import type { Breakpoint, BreakpointTable, Change } from './breakpoints.js';

export class WatchedValues {
  readonly #table: BreakpointTable;
  /** Last value by breakpoint and vCPU. */
  readonly #last = new Map<string, bigint>();
  #access: { readonly lane: Lane; readonly access: WatchedAccess } | null = null;

  constructor(table: BreakpointTable) {
    this.#table = table;
  }

  /** Another time: what was known of values is void. */
  forget(): void {
    if (this.#last.size > 0) this.#last.clear();
    this.#access = null;
  }

  /** The engine stopped behind an access. */
  note(lane: Lane, access: WatchedAccess): void {
    this.#access = { lane, access };
  }

  /** Takes the values as they are, so that only later changes count. */
  take(machine: Machine): void {
    this.forget();
    if (this.#table.isEmpty) return;
    for (const one of this.#table.all) {
      for (const lane of machine.lanes) this.#compare(one, lane, machine);
    }
  }

  /** What has changed, or was accessed, since the last look. */
  changes(lane: Lane, machine: Machine): readonly Change[] {
    const access = this.#access;
    this.#access = null;
    const changes: Change[] = [];
    for (const one of this.#table.all) {
      if (!one.isEnabled) continue;
      // Registers and fields are looked at where they can change: on the core that runs.
      for (const owner of one.spec.kind === 'flip' ? machine.lanes : [lane]) {
        if (one.vcpu !== null && one.vcpu !== owner.id) continue;
        const changed = this.#compare(one, owner, machine);
        if (changed !== null) changes.push(changed);
      }
      const accessed = access === null ? null : this.#accessed(one, access);
      if (accessed !== null && changes.at(-1)?.breakpoint !== one) changes.push(accessed);
    }
    return changes;
  }

  #compare(one: Breakpoint, lane: Lane, machine: Machine): Change | null {
    const after = valueOf(one, lane, machine);
    if (after === null) return null;
    const isShared = one.spec.kind === 'watch' || one.spec.kind === 'phase';
    const key = isShared ? `${one.id}` : `${one.id}:${lane.id}`;
    const before = this.#last.get(key);
    this.#last.set(key, after);
    if (before === undefined || before === after) return null;
    const change = { breakpoint: one, before, after };
    return isWanted(change, machine) ? change : null;
  }

  #accessed(
    one: Breakpoint,
    { lane, access }: { readonly lane: Lane; readonly access: WatchedAccess },
  ): Change | null {
    const { spec } = one;
    if (spec.kind !== 'watch' || spec.on === 'write') return null;
    if (one.vcpu !== null && one.vcpu !== lane.id) return null;
    if (spec.on === 'read' && access.access === 'write') return null;
    const isApart =
      access.address >= spec.address + BigInt(spec.sizeBytes) ||
      access.address + BigInt(access.sizeBytes) <= spec.address;
    const value = this.#last.get(`${one.id}`) ?? 0n;
    return isApart ? null : { breakpoint: one, before: value, after: value };
  }
}

/** Whether a new value is one to stop at. */
function isWanted({ breakpoint: { spec }, before, after }: Change, machine: Machine): boolean {
  if (spec.kind === 'phase' && spec.phase !== null)
    return machine.timeline.begun(toIndex(before), toIndex(after)).includes(spec.phase);
  if (spec.kind === 'flip' && spec.to !== null) return after === (spec.to === 'attached' ? 1n : 0n);
  if (spec.kind === 'watch') return spec.on !== 'read';
  return true;
}

/** The value that a breakpoint watches, null for one that watches none. */
function valueOf({ spec }: Breakpoint, lane: Lane, machine: Machine): bigint | null {
  switch (spec.kind) {
    case 'watch':
      return readValue(machine, spec.address, spec.sizeBytes);
    case 'register':
      return lane.pcpu.registers.get(spec.name);
    case 'field':
      return lane.pcpu.vmx.current?.read(spec.name) ?? null;
    case 'flip':
      return lane.vcpu.ccb === 0n ? null : BigInt(lane.vcpu.isAttached ? 1 : 0);
    case 'phase':
      return BigInt(machine.timeline.phaseCount);
    case 'address':
    case 'code':
    case 'exit':
    case 'vmread':
    case 'vmwrite':
      return null;
  }
}

/** Up to eight bytes as a number; more as a sum that any change changes. */
function readValue(machine: Machine, address: bigint, sizeBytes: number): bigint {
  const bytes = machine.memory.read(address, sizeBytes);
  let value = 0n;
  for (let at = bytes.length - 1; at >= 0; at--) value = value * 256n + BigInt(bytes[at]!);
  return value;
}
