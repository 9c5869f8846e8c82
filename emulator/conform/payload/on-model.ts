/**
 * The payload on this project's models, instruction by instruction, with everything that it writes.
 *
 * Source: emulator/vmx (VM exit and entry), emulator/cpu (the payload's instructions); SDM, "IA-32e Mode Interrupt Stack
 * Frame" for the events that a VM entry delivers to the guest.
 * Invariant: the guest's part is what the case says of it; nothing of the second machine goes in but the TSC at each exit
 * and what it has in fields that the architecture leaves undefined, so that what a payload makes of them is compared too.
 * Not modelled: guest code; an event that is delivered to the guest finds a gate that leads to its handler.
 */
import { HarnessBug } from '../../../abi/errors.js';
import { INTR_TYPE } from '../../../abi/interruption.js';
import { MSR } from '../../../abi/msrs.js';
import { hex, u64 } from '../../../abi/uint.js';
import { VMCS_FIELDS, VMCS_SLOT, type FieldName } from '../../../abi/vmcs-fields.js';
import { GENERAL_REGISTERS, RFLAGS, type RegisterName } from '../../cpu/registers.js';
import type { Lane } from '../../machine/lane.js';
import { applyDescription } from '../../vmx/description.js';
import { deliverExit } from '../../vmx/vm-exit.js';
import type { InjectedEvent } from '../../vmx/vm-entry.js';
import { execute, type VmxResult } from '../../vmx/vmx-instructions.js';
import { GUEST } from '../guest-area.js';
import { HANDLER_OFFSET, lastStep, type GuestStep, type PayloadCase } from './cases.js';
import type { KernelScript } from './kernel-script.js';
import type { Effect, Passage, Stop, StopKind } from './recording.js';
import { shadowEffects } from './shadow-effects.js';
import type { Stage } from './stage.js';

const PAGE = 4096;
/** No passage is longer. */
const LIMIT = 20_000;
/** What an event pushes in IA-32e mode: SS, RSP, RFLAGS, CS, RIP. */
const FRAME_WORDS = 5;
const FLAGS_CLEARED = RFLAGS.TF | RFLAGS.RF | RFLAGS.VM | RFLAGS.IF | 0x4000n;

/** The registers that a stop records. */
// prettier-ignore
export const RECORDED_REGISTERS = [
  ...GENERAL_REGISTERS, 'RSP', 'SSP', 'RIP', 'RFLAGS', 'CR0', 'CR3', 'CR4', 'CR8', 'EFER',
  'CS', 'SS', 'DS', 'ES', 'FS', 'GS', 'TR', 'LDTR', 'GS_BASE', 'FS_BASE', 'TR_BASE',
  'GDTR_BASE', 'GDTR_LIMIT', 'IDTR_BASE', 'IDTR_LIMIT',
] as const satisfies readonly RegisterName[];

/**
 * The second machine's n-th passage: its TSC at the exit, so that both clocks show the same; what the guest made of a time;
 * and when another processor attached.
 */
export type SecondAt = (passage: number) => Passage | undefined;

export class ModelRun {
  readonly #stage: Stage;
  readonly #lane: Lane;
  readonly #script: KernelScript;
  readonly #secondAt: SecondAt;
  readonly passages: Passage[] = [];
  /** The event that the last VM entry delivered to the guest. */
  #delivered: InjectedEvent | null = null;
  /** Slots that the architecture leaves undefined, and that hold what the second machine has there. */
  readonly #undefined = new Set<number>();
  /** The preemption timer's value at the last VM entry of the payload's. */
  #timer: number | null = null;

  constructor(stage: Stage, script: KernelScript, secondAt: SecondAt) {
    this.#stage = stage;
    this.#lane = stage.lane;
    this.#script = script;
    this.#secondAt = secondAt;
    this.#watch();
    this.#takeVcpu();
  }

  /** One stay of the guest: from KVM's entry to the exit that is routed. */
  runCase(one: PayloadCase, index: number): void {
    const { pcpu } = this.#lane;
    const way = this.#script.way(one, index);
    for (const { address, bytes } of this.#script.writes(one, way)) {
      pcpu.memory.write(address, bytes);
    }
    if (index === 0 || one.isFresh === true) this.#freshVmcs();
    applyDescription(this.#lane.vmcs, this.#script.description(one));
    if (way === 'run') {
      if (!this.#runEntry()) return;
    } else {
      const { registers } = pcpu;
      for (const [name, value] of Object.entries(this.#script.registers(one))) {
        registers.set(name as RegisterName, value);
      }
      if (!entered(execute(pcpu, { name: way === 'launch' ? 'VMLAUNCH' : 'VMRESUME' }))) {
        throw new HarnessBug(`${one.title}: the model's VM entry fails`);
      }
    }
    const handler = [...(one.handlerSteps ?? []), lastStep(one.handler ?? '', HANDLER_OFFSET)];
    let left: readonly GuestStep[] = [...one.steps, lastStep(one.code)];
    // What KVM injects itself belongs to the case's own first exit.
    const first = this.#takeDelivered();
    if (first !== null && one.posted !== undefined) {
      this.#interruptGuest(first.errorCode);
      left = handler;
    }
    for (;;) {
      const [step, ...rest] = left;
      if (step === undefined) throw new HarnessBug(`${one.title}: nothing is left to exit`);
      left = rest;
      if (!this.#comes(step)) continue;
      if (!this.#exit(step)) break;
      const delivered = this.#takeDelivered();
      if (delivered === null) continue;
      this.#interruptGuest(delivered.errorCode);
      left = handler;
    }
    if (one.afterwards === 'eoi') pcpu.apic.eoi();
    if (one.afterwards === 'iret') pcpu.blocking.nmi = false;
  }

  /** Ranges of memory at the end. */
  memory(): readonly { what: string; address: bigint; bytes: Uint8Array }[] {
    return this.#stage.written().map(({ what, address, bytes }) => ({
      what,
      address,
      bytes: this.#lane.pcpu.memory.read(address, bytes).slice(),
    }));
  }

  /** Logs every store to memory that the payload may write. */
  #watch(): void {
    const { engine } = this.#lane;
    const none = new Uint8Array(PAGE);
    const all = new Uint8Array(PAGE).fill(1);
    const executable = new Set(
      engine.active?.mappings.filter((m) => m.executable).flatMap((m) => pagesOf(m)) ?? [],
    );
    for (const { address, bytes } of this.#stage.written()) {
      for (let at = 0; at < bytes; at += PAGE) {
        const page = address + u64(at);
        if (!executable.has(page)) engine.watch.set(page, none, all);
      }
    }
  }

  /** From the machine's own run: the vCPU is now this file's, and stopped in KVM. */
  #takeVcpu(): void {
    const { pcpu } = this.#lane;
    pcpu.vmx.mode = 'root';
    this.#kernelContext();
  }

  #kernelContext(): void {
    const { registers, msrs } = this.#lane.pcpu;
    // KVM's own code has no shadow stack.
    msrs.write(MSR.IA32_S_CET, 0n);
    registers.set('CR3', this.#stage.routing.cr3);
    registers.set('GS_BASE', this.#stage.routing.gsBase);
    registers.set('RFLAGS', RFLAGS.FIXED);
  }

  #freshVmcs(): void {
    const { pcpu } = this.#lane;
    execute(pcpu, { name: 'VMCLEAR', pointer: this.#stage.vmcsRegion });
    execute(pcpu, { name: 'VMPTRLD', pointer: this.#stage.vmcsRegion });
    const vmcs = pcpu.vmx.current;
    this.#lane.engine.bindVmcs(vmcs);
    // KVM's writes define the rest.
    for (const { slot, readOnly } of VMCS_FIELDS) if (readOnly) vmcs?.poison(slot);
  }

  #runEntry(): boolean {
    const { registers } = this.#lane.pcpu;
    const { routing, places, runStub } = this.#stage;
    for (const name of GENERAL_REGISTERS) registers.set(name, 0n);
    // As the second machine's kernel comes out of its stub.
    registers.set('RAX', routing.cr3);
    registers.set('RCX', routing.stack);
    registers.set('RDX', places.run);
    registers.set('R8', runStub);
    registers.set('RDI', this.#lane.vcpu.ccb);
    registers.set('RSP', routing.stack);
    registers.set('RIP', places.run);
    this.#kernelContext();
    return this.#passage('run');
  }

  /** Whether a step's exit comes, where that depends on what the payload did before. */
  #comes({ registers, acknowledged, whenTimerIsZero }: GuestStep): boolean {
    const { pcpu } = this.#lane;
    if (whenTimerIsZero === true) return this.#timer === 0;
    if (acknowledged === undefined) return true;
    pcpu.apic.request(acknowledged);
    if (pcpu.apic.deliverable === acknowledged) return true;
    // An interrupt whose end the payload did not tell holds it back; the guest has executed its code all the same.
    for (const [name, value] of Object.entries(registers ?? {})) {
      pcpu.registers.set(name as RegisterName, value);
    }
    return false;
  }

  /** The guest exits; false when the payload does not enter it again. */
  #exit({ exit, rip, after, registers, taken, acknowledged }: GuestStep): boolean {
    const { pcpu, vmcs } = this.#lane;
    vmcs.write('GUEST_RIP', GUEST.CODE + u64(rip));
    vmcs.write('GUEST_ACTIVITY_STATE', 0n);
    for (const [name, value] of Object.entries(after ?? {}) as [FieldName, bigint][]) {
      vmcs.write(name, value);
    }
    for (const [name, value] of Object.entries(registers ?? {})) {
      pcpu.registers.set(name as RegisterName, value);
    }
    const second = this.#secondAt(this.passages.length)?.from;
    for (const name of taken ?? []) pcpu.registers.set(name, second?.registers.get(name) ?? 0n);
    if (acknowledged !== undefined) pcpu.apic.acknowledge();
    this.#synchronise();
    const delivered = deliverExit(pcpu, vmcs, exit);
    if (delivered.kind === 'abort') throw new HarnessBug(`VMX abort: ${delivered.rule}`);
    this.#takeUndefined(second);
    return this.#passage('exit');
  }

  /** What the architecture leaves undefined holds what the second machine has there. */
  #takeUndefined(second: Stop | undefined): void {
    const { vmcs } = this.#lane;
    this.#undefined.clear();
    for (const { name, slot } of VMCS_FIELDS) {
      const value = vmcs.isPoison(slot) ? second?.vmcs.get(name) : undefined;
      if (value === undefined) continue;
      this.#undefined.add(slot);
      vmcs.record(slot, 0);
      vmcs.values[slot] = value;
    }
  }

  #synchronise(): void {
    const tsc = this.#secondAt(this.passages.length)?.from.tsc;
    if (tsc !== undefined) this.#lane.pcpu.clock.restore({ tsc });
  }

  /** Steps to where the payload gives control away; true when the guest runs again. */
  #passage(kind: 'exit' | 'run'): boolean {
    if (kind === 'run') this.#synchronise();
    const { pcpu, engine } = this.#lane;
    const from = this.#stop(kind);
    const path: bigint[] = [];
    const effects: Effect[] = [];
    engine.watch.take();
    const end = (to: StopKind): void => {
      this.passages.push({ from, path, effects, to: this.#stop(to) });
    };
    const second = this.#secondAt(this.passages.length);
    const isPause = (rip: bigint): boolean => engine.siteAt(rip)?.instruction.name === 'PAUSE';
    // The other processor's writes are seen by the poll behind the last PAUSE.
    const attachesAfter = second?.ticks === undefined ? -1 : second.path.findLastIndex(isPause);
    for (let steps = 0; steps < LIMIT; steps++) {
      const rip = pcpu.registers.get('RIP');
      if (this.#stage.places.handlers.includes(rip)) {
        end('handler');
        this.#kernelContext();
        return false;
      }
      const name = engine.siteAt(rip)?.instruction.name;
      if (name === 'VMRESUME' || name === 'VMLAUNCH') {
        const result = this.#enter(name, () => {
          end(name === 'VMRESUME' ? 'vmresume' : 'vmlaunch');
        });
        if (result === 'guest') return true;
        path.push(rip);
        continue;
      }
      path.push(rip);
      if (name === 'VMWRITE') effects.push(this.#vmwriteAt(rip));
      const tick = second?.ticks?.[path.length - 1];
      if (name === 'RDTSC' && tick !== undefined) pcpu.clock.restore({ tsc: tick });
      const ssp = pcpu.registers.get('SSP');
      const stop = pcpu.run(1);
      if (path.length - 1 === attachesAfter) this.#attach();
      for (const { kind: access, address, sizeBytes } of engine.watch.take()) {
        if (access !== 'write') continue;
        // What is there: a PUSHF of the engine's has stored the flag of its own single step, and it is taken back.
        const value = wordOf(pcpu.memory.read(address, sizeBytes));
        effects.push({ kind: 'memory', rip, address, sizeBytes, value });
      }
      if (name?.startsWith('INT') === true) effects.push(...this.#frame(rip));
      if (pcpu.registers.get('SSP') !== ssp) effects.push(...this.#shadowEffects(rip, ssp));
      if (stop.kind === 'instruction-limit' || stop.kind === 'spinning') continue;
      if (stop.kind === 'routed' || stop.kind === 'breakpoint') continue;
      end('other');
      return false;
    }
    end('other');
    return false;
  }

  #attach(): void {
    for (const { address, bytes } of this.#script.attaching()) {
      this.#lane.pcpu.memory.write(address, bytes);
    }
  }

  /** `before` is called when the entry succeeds, with the machine as it was before it. */
  #enter(name: 'VMRESUME' | 'VMLAUNCH', before: () => void): 'guest' | 'payload' {
    const { pcpu, vmcs } = this.#lane;
    const launched = vmcs.launchState === 'launched';
    if (launched === (name === 'VMRESUME')) before();
    const result = execute(pcpu, { name });
    if (entered(result)) {
      const { event, timer } = result.entry;
      this.#timer = timer?.value ?? null;
      this.#delivered = event?.type === INTR_TYPE.OTHER_EVENT ? null : event;
      return 'guest';
    }
    if (result.kind === 'entry')
      throw new HarnessBug(`the model's VM entry fails: ${result.entry.kind}`);
    pcpu.registers.set('RIP', u64(pcpu.registers.get('RIP') + 3n));
    pcpu.clock.advance(1);
    return 'payload';
  }

  #takeDelivered(): InjectedEvent | null {
    const event = this.#delivered;
    this.#delivered = null;
    return event;
  }

  /** What the guest's processor does with an event that VM entry injected. */
  #interruptGuest(errorCode: number | null): void {
    const { vmcs } = this.#lane;
    const top = vmcs.read('GUEST_RSP') & ~0xfn;
    const pushed = BigInt(8 * (FRAME_WORDS + (errorCode === null ? 0 : 1)));
    vmcs.write('GUEST_RSP', u64(top - pushed));
    vmcs.write('GUEST_RFLAGS', vmcs.read('GUEST_RFLAGS') & ~FLAGS_CLEARED);
  }

  /** The operands of the VMWRITE at RIP. */
  #vmwriteAt(rip: bigint): Effect {
    const { engine, pcpu } = this.#lane;
    const [target, source] = engine.siteAt(rip)!.instruction.operands;
    if (target?.kind !== 'register' || source?.kind !== 'register') {
      throw new HarnessBug('a VMWRITE from memory is not compared');
    }
    const encoding = pcpu.registers.values[target.register]!;
    const field = VMCS_FIELDS.find((one) => BigInt(one.encoding) === encoding);
    if (field === undefined) throw new HarnessBug(`VMWRITE of no field: ${hex(encoding)}`);
    const value = pcpu.registers.values[source.register]!;
    return { kind: 'vmcs', rip, field: field.name, value: cut(field.name, value) };
  }

  /** The frame that an INT has just pushed, in the order of the pushes. */
  #frame(rip: bigint): Effect[] {
    const { pcpu } = this.#lane;
    const top = pcpu.registers.get('RSP') + BigInt(8 * FRAME_WORDS);
    return Array.from({ length: FRAME_WORDS }, (_, i) => {
      const address = u64(top - BigInt(8 * (i + 1)));
      const value = pcpu.memory.readU64(address);
      return { kind: 'memory', rip, address, sizeBytes: 8, value };
    });
  }

  #shadowEffects(rip: bigint, before: bigint): Effect[] {
    const { memory, registers } = this.#lane.pcpu;
    return shadowEffects(memory, this.#stage.tokens, rip, before, registers.get('SSP'));
  }

  #stop(kind: StopKind): Stop {
    const { pcpu } = this.#lane;
    const vmcs = pcpu.vmx.current;
    const defined = VMCS_FIELDS.filter(
      ({ slot }) => vmcs?.isPoison(slot) === false && !this.#undefined.has(slot),
    );
    return {
      kind,
      tsc: pcpu.now(),
      rip: pcpu.registers.get('RIP'),
      registers: new Map(RECORDED_REGISTERS.map((name) => [name, pcpu.registers.get(name)])),
      vmcs: new Map(defined.map(({ name, slot }) => [name, vmcs!.get(slot)])),
    };
  }
}

function entered(
  result: VmxResult,
): result is VmxResult & { kind: 'entry'; entry: { kind: 'entered' } } {
  return result.kind === 'entry' && result.entry.kind === 'entered';
}

/** Little-endian bytes as a value. */
function wordOf(bytes: Uint8Array): bigint {
  return bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
}

function pagesOf({ linear, sizeBytes }: { linear: bigint; sizeBytes: number }): bigint[] {
  return Array.from({ length: sizeBytes / PAGE }, (_, i) => linear + u64(i * PAGE));
}

/** A value as wide as its field. */
export function cut(name: FieldName, value: bigint): bigint {
  const { width } = VMCS_FIELDS[VMCS_SLOT[name]]!;
  const bits = width === 'natural' ? 64 : width;
  return value & ((1n << BigInt(bits)) - 1n);
}
