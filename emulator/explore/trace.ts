/**
 * The instruction boundaries of an exit, one after the other, and what the instruction at each depends on.
 *
 * Source: DESIGN ("Exact points").
 * Invariant: stepping changes nothing: boundary n of a trace is where an event that is planned for instruction n lands. What
 * an instruction depends on is told too broadly rather than too narrowly.
 */
import { CARETAKER_CCB, CARETAKER_KVM_PAGE } from '../../abi/ccb.js';
import { accessesOf } from '../cpu/faulting-access.js';
import { REG } from '../cpu/registers.js';
import type { DebugHook } from '../machine/debug-hook.js';
import type { Lane } from '../machine/lane.js';
import { FOOTPRINT } from './events.js';

/** A boundary: the instruction that comes next. */
export interface Boundary {
  readonly rip: bigint;
  /** FOOTPRINT bits. */
  readonly dependsOn: number;
}

const ALL = FOOTPRINT.KVM_PAGE | FOOTPRINT.INTERRUPTS | FOOTPRINT.VMX;
const LONGEST_INSTRUCTION = 15;
const RFLAGS_IF = 0x200n;
/** Instructions that models execute and that neither see an interrupt nor let one in, nor leave VMX operation. */
const PRIVATE: ReadonlySet<string> = new Set([
  'VMREAD',
  'VMWRITE',
  'RDTSC',
  'RDTSCP',
  'CPUID',
  'PAUSE',
  'VMCLEAR',
  'VMPTRLD',
]);

/** Follows one exit of one vCPU. */
export class Tracer implements DebugHook {
  readonly boundaries: Boundary[] = [];
  readonly #sequence: number;

  /** `sequence` is that of the exit to follow. */
  constructor(sequence: number) {
    this.#sequence = sequence;
  }

  atBoundary(lane: Lane): number {
    if (!lane.inExit || lane.exit.sequence !== this.#sequence) return Infinity;
    const { exit, engine } = lane;
    const n = engine.counters.instructions - exit.instructions;
    const earlier = this.boundaries[n]?.dependsOn ?? 0;
    this.boundaries[n] = { rip: lane.rip, dependsOn: earlier | dependencies(lane) };
    return 1;
  }

  /** The vCPU waits, or its core is halted: one more boundary, at which everything is seen. */
  rest(lane: Lane): void {
    const n = lane.engine.counters.instructions - lane.exit.instructions;
    this.boundaries[n] = { rip: lane.rip, dependsOn: ALL };
  }

  hasBreakpoint(): boolean {
    return false;
  }
  watched(): void {
    // Nothing is watched.
  }
  entryRefused(): void {
    // The boundary behind it is told by itself.
  }
  left(): void {
    // What comes next begins at another boundary.
  }
}

/** What the instruction at RIP depends on. */
function dependencies(lane: Lane): number {
  const { engine, pcpu, rip } = lane;
  if ((pcpu.registers.values[REG.RFLAGS]! & RFLAGS_IF) !== 0n) return ALL;
  const site = engine.siteAt(rip);
  if (site !== undefined) return PRIVATE.has(site.instruction.name) ? 0 : ALL;
  const bytes = lane.memory.bytes.read(rip, LONGEST_INSTRUCTION);
  const from = lane.vcpu.ccb + BigInt(CARETAKER_KVM_PAGE);
  const to = lane.vcpu.ccb + BigInt(CARETAKER_CCB.sizeBytes);
  // A repeated string instruction goes on beyond its first element.
  if (bytes[0] === 0xf2 || bytes[0] === 0xf3) return FOOTPRINT.KVM_PAGE;
  const touches = accessesOf(bytes, pcpu.registers).some(
    ({ address, sizeBytes }) => address + BigInt(sizeBytes) > from && address < to,
  );
  return touches ? FOOTPRINT.KVM_PAGE : 0;
}
