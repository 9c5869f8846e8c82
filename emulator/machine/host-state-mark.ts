/**
 * What a VM exit leaves to the payload of the host's state and of the guest's, remembered at the exit.
 *
 * Source: SDM, "Loading Host State" for what VM exit loads, and so for what it does not.
 * Invariant: changes() names everything that differs from the last mark, whether or not it was put back in between.
 */
import { hex } from '../../abi/uint.js';
import { REG, type RegisterName } from '../cpu/registers.js';
import type { Pcpu } from '../vmx/pcpu.js';
import type { LocalApic } from '../vmx/root/local-apic.js';
import type { MsrFile, MsrFileState } from '../vmx/root/msr-file.js';

/** The guest's registers that VM exit leaves in the core. */
const KEPT = ['CR2', 'DR0', 'DR1', 'DR2', 'DR3', 'DR6'] as const satisfies readonly RegisterName[];
const KEPT_SLOTS = KEPT.map((name) => REG[name]);

/** A mark as plain data. */
export interface HostStateMarkState {
  readonly file: MsrFile | null;
  readonly msrs: MsrFileState | null;
  readonly xcr0: number;
  readonly cr8: number;
  readonly tpr: number;
  readonly apic: LocalApic | null;
  readonly apicWrites: number;
  readonly configuration: ReadonlyMap<string, bigint>;
  readonly kept: Uint32Array;
}

export class HostStateMark {
  /** The MSRs looked at, another core's after a migration. */
  #file: MsrFile | null = null;
  #msrs: MsrFileState | null = null;
  #xcr0 = 0;
  #cr8 = 0;
  #tpr = 0;
  /** The local APIC looked at, and its count of writes then. */
  #apic: LocalApic | null = null;
  #apicWrites = -1;
  #configuration: ReadonlyMap<string, bigint> = new Map();
  readonly #kept = new Uint32Array(2 * KEPT.length);

  /** Remembers what is there now. */
  take({ msrs, registers, apic }: Pcpu): void {
    const isKnown = this.#file === msrs.file && !msrs.file.changedSince(this.#msrs?.mark ?? -1);
    if (!isKnown) this.#msrs = msrs.file.state();
    this.#file = msrs.file;
    this.#xcr0 = registers.words[2 * REG.XCR0]!;
    this.#cr8 = registers.words[2 * REG.CR8]!;
    this.#tpr = apic.tpr;
    if (this.#apic !== apic || this.#apicWrites !== apic.configurationWrites)
      this.#configuration = apic.configuration();
    this.#apic = apic;
    this.#apicWrites = apic.configurationWrites;
    for (let i = 0; i < KEPT.length; i++) {
      this.#kept[2 * i] = registers.words[2 * KEPT_SLOTS[i]!]!;
      this.#kept[2 * i + 1] = registers.words[2 * KEPT_SLOTS[i]! + 1]!;
    }
  }

  /** What of it has changed, one sentence each; `ownMsrs` are those that the handler or the hardware had to write. */
  changes({ msrs, registers, apic }: Pcpu, ownMsrs: readonly number[]): readonly string[] {
    const changes: string[] = [];
    if (this.#msrs !== null && msrs.file.changedSince(this.#msrs.mark)) {
      for (const { index, before, now } of msrs.file.differencesFrom(this.#msrs)) {
        if (ownMsrs.includes(index)) continue;
        changes.push(`MSR ${hex(index)} is ${hex(now)}, the host left ${hex(before)}`);
      }
    }
    if (registers.words[2 * REG.XCR0] !== this.#xcr0) changes.push('XCR0 changed');
    if (registers.words[2 * REG.CR8] !== this.#cr8) changes.push('the task priority (CR8) changed');
    if (apic.tpr !== this.#tpr) changes.push("the local APIC's TPR changed");
    if (this.#apicWrites !== apic.configurationWrites) {
      for (const [name, now] of apic.configuration()) {
        const before = this.#configuration.get(name)!;
        if (now !== before)
          changes.push(`the local APIC's ${name} is ${hex(now)}, the host left ${hex(before)}`);
      }
    }
    for (let i = 0; i < KEPT.length; i++) {
      const at = 2 * KEPT_SLOTS[i]!;
      const isLowSame = registers.words[at] === this.#kept[2 * i];
      if (!isLowSame || registers.words[at + 1] !== this.#kept[2 * i + 1])
        changes.push(`${KEPT[i]!} changed`);
    }
    return changes;
  }

  state(): HostStateMarkState {
    return {
      file: this.#file,
      msrs: this.#msrs,
      xcr0: this.#xcr0,
      cr8: this.#cr8,
      tpr: this.#tpr,
      apic: this.#apic,
      apicWrites: this.#apicWrites,
      configuration: this.#configuration,
      kept: this.#kept.slice(),
    };
  }

  restore(state: HostStateMarkState): void {
    this.#file = state.file;
    this.#msrs = state.msrs;
    this.#xcr0 = state.xcr0;
    this.#cr8 = state.cr8;
    this.#tpr = state.tpr;
    this.#apic = state.apic;
    this.#apicWrites = state.apicWrites;
    this.#configuration = state.configuration;
    this.#kept.set(state.kept);
  }
}
