/**
 * Breakpoints of a session: where or at what to stop, for whom, and under which condition.
 *
 * Source: the field's own words (gdb's break, tbreak, catch, ignore).
 * Invariant: an address of a symbol is the same offset in every instance of the payload; the others are absolute.
 */
import type { FieldName } from '../../abi/vmcs-fields.js';
import type { RegisterName } from '../cpu/registers.js';
import type { Lane } from '../machine/lane.js';
import type { PhaseName } from '../machine/timeline.js';

/** What stops the machine. */
export type BreakpointSpec =
  /** An instruction at an absolute address. */
  | { readonly kind: 'address'; readonly address: bigint }
  /** An instruction at a link-time address, in every instance, and `more` where a line has several. */
  | { readonly kind: 'code'; readonly address: bigint; readonly more?: readonly bigint[] }
  /** Bytes of memory that an instruction reads, or that change; whoever changed them. */
  | {
      readonly kind: 'watch';
      readonly address: bigint;
      readonly sizeBytes: number;
      readonly on: 'write' | 'read' | 'access';
    }
  /** A register of a vCPU's core that changes. */
  | { readonly kind: 'register'; readonly name: RegisterName }
  /** A VMCS field that changes, by VMWRITE, VM exit or VM entry. */
  | { readonly kind: 'field'; readonly name: FieldName }
  /** An exit with this basic reason, or any, at HOST_RIP. */
  | { readonly kind: 'exit'; readonly reason: number | null }
  /** A VMREAD or VMWRITE of a field, or of any, before it executes. */
  | { readonly kind: 'vmread' | 'vmwrite'; readonly field: FieldName | null }
  /** KVM's flag changes. */
  | { readonly kind: 'flip'; readonly to: 'attached' | 'detached' | null }
  /** The first instruction of a phase, or of any. */
  | { readonly kind: 'phase'; readonly phase: PhaseName | null };

/** The tag of a spec. */
export type BreakpointKind = BreakpointSpec['kind'];

/** One breakpoint as a user has it. */
export interface Breakpoint {
  readonly id: number;
  readonly spec: BreakpointSpec;
  /** What the user typed. */
  readonly text: string;
  /** Only for this vCPU; null for all. */
  readonly vcpu: number | null;
  readonly isTemporary: boolean;
  isEnabled: boolean;
  /** Holds a hit to be one; absent means always. */
  condition: BreakpointCondition | null;
  /** Hits to let pass. */
  ignore: number;
  hits: number;
}

/** A condition and its text; it looks and changes nothing but its own problem. */
export interface BreakpointCondition {
  readonly text: string;
  /** Why its value could not be told at the last hit, which it let stop; null when it could. */
  problem: string | null;
  holds(lane: Lane): boolean;
}

/** A breakpoint that was hit, as a user is told of it. */
export function hitText({ id, text, condition }: Breakpoint): string {
  const problem = condition?.problem ?? null;
  return `breakpoint ${id}: ${text}${problem === null ? '' : ` (its condition: ${problem})`}`;
}

/** A value that changed, or an access that was made, at a breakpoint. */
export interface Change {
  readonly breakpoint: Breakpoint;
  /** What was read without changing has one value. */
  readonly before: bigint;
  readonly after: bigint;
}

/** What a new breakpoint may say beside its spec. */
export interface BreakpointOptions {
  readonly text?: string;
  readonly vcpu?: number | null;
  readonly isTemporary?: boolean;
  readonly condition?: BreakpointCondition | null;
}

export class BreakpointTable {
  readonly #all = new Map<number, Breakpoint>();
  #nextId = 1;
  /** Counts changes, so that engines are told once. */
  version = 0;
  /** The kinds of which one is enabled, as of a version: asked for at every boundary. */
  #kinds: { readonly version: number; readonly of: ReadonlySet<BreakpointKind> } | null = null;

  get all(): readonly Breakpoint[] {
    return [...this.#all.values()];
  }

  get isEmpty(): boolean {
    return this.#all.size === 0;
  }

  add(spec: BreakpointSpec, options: BreakpointOptions = {}): Breakpoint {
    const made: Breakpoint = {
      id: this.#nextId++,
      spec,
      text: options.text ?? '',
      vcpu: options.vcpu ?? null,
      isTemporary: options.isTemporary ?? false,
      isEnabled: true,
      condition: options.condition ?? null,
      ignore: 0,
      hits: 0,
    };
    this.#all.set(made.id, made);
    this.version++;
    return made;
  }

  get(id: number): Breakpoint | undefined {
    return this.#all.get(id);
  }

  /** Whether there was one. */
  remove(id: number): boolean {
    this.version++;
    return this.#all.delete(id);
  }

  clear(): void {
    this.#all.clear();
    this.version++;
  }

  enable(id: number, isEnabled: boolean): boolean {
    const found = this.#all.get(id);
    if (found === undefined) return false;
    found.isEnabled = isEnabled;
    this.version++;
    return true;
  }

  /** Enabled ones that may stop a lane. */
  of(lane: Lane): readonly Breakpoint[] {
    return this.all.filter((one) => one.isEnabled && (one.vcpu === null || one.vcpu === lane.id));
  }

  /** Whether one of a kind is enabled. */
  has(kind: BreakpointKind): boolean {
    if (this.#kinds?.version !== this.version) {
      const enabled = this.all.filter(({ isEnabled }) => isEnabled);
      this.#kinds = { version: this.version, of: new Set(enabled.map(({ spec }) => spec.kind)) };
    }
    return this.#kinds.of.has(kind);
  }
}
