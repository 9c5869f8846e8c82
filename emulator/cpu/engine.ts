/**
 * One pCPU's engine: the payload's own instructions under Unicorn, from a register file to a stop.
 *
 * Source: DESIGN ("One physical memory, one engine per pCPU", "Traps are sites, not callbacks", "Exact points").
 * Invariant: at every stop RIP, RFLAGS and the counters are exact and the instruction at RIP has not been executed; a run
 * is a pure function of memory, registers, the bound VMCS and the TSC base.
 * Not modelled: everything of the CPU that registers.ts leaves to the models; interrupts.
 */
import { hex, toIndex, u64 } from '../../abi/uint.js';
import { PAGE_SIZE } from '../memory/physical-memory.js';
import { AddressSpace, checkMappings, mappingRows } from './address-space.js';
import { AccessWatch } from './access-watch.js';
import { EdgeCoverage } from './edge-coverage.js';
import { EngineError } from './engine-error.js';
import type { EngineMemory } from './engine-memory.js';
import { ACCESSES, EngineStops, LIMIT } from './engine-stops.js';
import {
  CET_ON,
  COUNTER,
  COUNTER_WORDS,
  EXTENDED_BYTES,
  FLOW_WORDS,
  INFO,
  INFO_WORDS,
  NATIVE_STOP,
  TRACE_ENTRIES,
  nativeBinding,
  type NativeEngine,
} from './native-binding.js';
import type { InstructionForm } from './instruction-format.js';
import type {
  CetState,
  EngineCounters,
  EngineStop,
  InlineVmcs,
  LoggedAccess,
  Mapping,
  TrapSite,
} from './port.js';
import { RegisterFile } from './registers.js';
import { SharedCounters } from './shared-counters.js';
import { SweptCode } from './swept-code.js';

/** The version of the libunicorn that runs, as `2.1.4`. */
export function engineVersion(): string {
  return nativeBinding().version();
}

/**
 * An engine's own state as plain data. Memory is apart, because engines share it; coverage and the trace of blocks are
 * not in it: nothing that runs depends on them.
 */
export interface EngineSnapshot {
  readonly registers: BigUint64Array;
  readonly counters: Float64Array;
  /** Vector and x87 registers, null while nothing had used them. */
  readonly extended: Uint8Array | null;
  readonly flow: Float64Array;
  /** Watched accesses that nobody had taken. */
  readonly accesses: readonly LoggedAccess[];
}

const FETCH = BigInt(ACCESSES.indexOf('fetch'));
/** XMM0 to XMM15. */
const VECTOR_BYTES = 16 * 16;

export class Engine {
  readonly registers: RegisterFile;
  readonly counters: EngineCounters & { instructions: number };
  readonly coverage = new EdgeCoverage();
  readonly watch: AccessWatch;
  readonly #memory: Uint8Array;
  readonly #native: NativeEngine;
  readonly #words: Float64Array;
  readonly #info: BigUint64Array;
  readonly #trace: BigUint64Array;
  readonly #code: SweptCode;
  readonly #stops: EngineStops;
  /** Vector and x87 registers as the engine was made. */
  readonly #untouched: Uint8Array;
  readonly #spaces = new Set<AddressSpace>();
  readonly #breakpoints = new Set<bigint>();
  #active: AddressSpace | undefined;
  #isDisposed = false;

  constructor(memory: EngineMemory, registers: RegisterFile = new RegisterFile()) {
    this.registers = registers;
    this.#memory = new Uint8Array(memory.buffer);
    this.#words = new Float64Array(COUNTER_WORDS);
    this.#info = new BigUint64Array(INFO_WORDS);
    this.#trace = new BigUint64Array(TRACE_ENTRIES);
    this.counters = new SharedCounters(this.#words);
    this.#native = new (nativeBinding().NativeEngine)(
      memory.native,
      registers.values.buffer as ArrayBuffer,
      this.#words.buffer as ArrayBuffer,
      this.#info.buffer as ArrayBuffer,
      this.coverage.counts.buffer,
      this.coverage.places.buffer,
      this.#trace.buffer as ArrayBuffer,
    );
    this.#untouched = new Uint8Array(EXTENDED_BYTES);
    this.#native.readExtended(this.#untouched);
    this.#code = new SweptCode(this.#native, this.#memory);
    this.watch = new AccessWatch(this.#native, this.#words, this.#code, this.#memory.length, () => {
      this.#alive();
    });
    this.#stops = new EngineStops({
      registers,
      counters: this.counters,
      memory: this.#memory,
      info: this.#info,
      code: this.#code,
      lastBlock: () => this.recentBlocks().at(-1),
    });
  }

  /**
   * Runs from the register file until something stops it, for at most `limit` instructions.
   *
   * @throws EngineError ENGINE_DISPOSED.
   */
  run(limit = Infinity): EngineStop {
    this.#alive();
    this.#code.refresh();
    const end = this.counters.instructions + limit;
    for (;;) {
      const stop = this.#native.run(end - this.counters.instructions);
      if (stop === NATIVE_STOP.WRITTEN_CODE) this.#rereadWrittenCode();
      else if (!this.#isFirstFetch(stop)) return this.#stops.read(stop);
    }
  }

  /** Executes one instruction; the result of a completed one is `limit`. */
  step(): EngineStop {
    return this.run(1);
  }

  /**
   * Executes the one instruction at RIP natively though it be a site, as for x87 and SSE; `limit` when it completed.
   * Only for instructions whose every effect the engine holds: vector and x87 state.
   */
  stepOverNative(): EngineStop {
    this.#alive();
    this.#code.refresh();
    this.#code.sweepAt(this.registers.get('RIP'));
    const stop = this.#native.stepNative();
    if (stop === NATIVE_STOP.WRITTEN_CODE) {
      this.#rereadWrittenCode();
      return LIMIT;
    }
    return this.#stops.read(stop);
  }

  /** A model has executed the instruction at RIP: counts it and goes to the next one, or to `next`. */
  retire(site: TrapSite, next: bigint = u64(site.address + BigInt(site.instruction.length))): void {
    this.registers.set('RIP', next);
    this.counters.instructions += 1;
  }

  /** The TSC is this plus the instructions executed; the in-line RDTSC reads it. */
  get tscBase(): number {
    return this.#words[COUNTER.TSC_BASE]!;
  }
  set tscBase(value: number) {
    this.#words[COUNTER.TSC_BASE] = value;
  }

  /** Whether an indirect branch waits for its ENDBR64; where tracking is off, never. */
  get isWaitingForEndbranch(): boolean {
    return this.#words[COUNTER.TRACKER] !== 0;
  }

  /** What later runs enforce of near branches. SSP is a register; null for nothing. */
  setCet(cet: CetState | null): void {
    this.#words[COUNTER.CET] =
      cet === null
        ? 0
        : (cet.shadowStacks ? CET_ON.SHADOW_STACKS : 0) |
          (cet.endbranch ? CET_ON.ENDBRANCH : 0) |
          (cet.noTrack ? CET_ON.NO_TRACK : 0);
    this.#words[COUNTER.TRACKER] = cet?.endbranch === true && cet.isWaiting ? 1 : 0;
  }

  /**
   * Makes an address space; what is not in `mappings` faults.
   *
   * @throws EngineError MAPPING_NOT_IDENTITY, MAPPING_UNALIGNED, MAPPING_OUTSIDE_MEMORY, MAPPING_OVERLAP.
   */
  createAddressSpace(mappings: readonly Mapping[]): AddressSpace {
    this.#alive();
    checkMappings(mappings, this.#memory.length);
    const id = this.#native.createSpace(mappingRows(mappings));
    const space = new AddressSpace(id, [...mappings]);
    this.#spaces.add(space);
    this.#code.follow(this.#spaces);
    return space;
  }

  /** Switches to an address space, as a write of CR3. @throws EngineError ADDRESS_SPACE_DISPOSED. */
  activate(space: AddressSpace): void {
    this.#alive();
    if (space === this.#active) return;
    if (!this.#spaces.has(space)) {
      const code = space.isDisposed ? 'ADDRESS_SPACE_DISPOSED' : 'ADDRESS_SPACE_OF_ANOTHER_ENGINE';
      throw new EngineError(code, `address space ${String(space.id)} cannot be activated here`);
    }
    this.#native.activateSpace(space.id);
    this.#active = space;
  }

  /** The address space that runs, if one was activated. */
  get active(): AddressSpace | undefined {
    return this.#active;
  }

  /** Forgets an address space; nothing is mapped any more if it was the active one. */
  disposeAddressSpace(space: AddressSpace): void {
    if (!this.#spaces.delete(space)) return;
    space.isDisposed = true;
    if (space === this.#active) this.#active = undefined;
    this.#native.disposeSpace(space.id);
    this.#code.follow(this.#spaces);
  }

  /** Says that bytes were changed from outside an engine's own stores; code there is swept again before it runs. */
  invalidateCode(base: bigint, sizeBytes: number): void {
    this.#code.invalidate(toIndex(base), sizeBytes);
  }

  /** Tells where instructions begin: entry points and symbols, for code with data between functions. */
  addInstructionStarts(addresses: Iterable<bigint>): void {
    this.#code.addStarts(addresses);
  }

  /** The site at an address, if the sweep found one. */
  siteAt(address: bigint): TrapSite | undefined {
    return this.#code.siteAt(address);
  }

  /** Where instructions of a kind begin in executable bytes of [base, base + sizeBytes). */
  findInstructions(
    base: bigint,
    sizeBytes: number,
    isWanted: (form: InstructionForm) => boolean,
  ): readonly bigint[] {
    return this.#code.find(toIndex(base), sizeBytes, isWanted);
  }

  /** Every site of the executable ranges, in address order. */
  sites(): readonly TrapSite[] {
    return this.#code.sites();
  }

  /** Binds the current VMCS for VMREAD and VMWRITE in line; null lets every access stop. */
  bindVmcs(vmcs: InlineVmcs | null): void {
    this.#alive();
    if (vmcs === null) this.#native.unbindVmcs();
    else this.#native.bindVmcs(vmcs.values, vmcs.flags, vmcs.written, vmcs.writtenCount);
  }

  /** The dense slot of each of the 65536 encodings, NO_SLOT for none. */
  setSlotTable(slotOf: Uint16Array): void {
    this.#alive();
    this.#native.setSlotTable(slotOf);
  }

  /**
   * Stops before the instruction at an address. A run that begins at the address it has just stopped at goes on.
   *
   * @throws EngineError NO_INSTRUCTION_THERE.
   */
  setBreakpoint(address: bigint): void {
    if (this.#breakpoints.has(address)) return;
    if (!this.#code.isBoundary(address)) {
      throw new EngineError('NO_INSTRUCTION_THERE', `no instruction begins at ${hex(address)}`);
    }
    this.#breakpoints.add(address);
    this.#native.setBreakpoint(toIndex(address), true);
  }

  hasBreakpoint(address: bigint): boolean {
    return this.#breakpoints.has(address);
  }

  clearBreakpoint(address: bigint): void {
    if (!this.#breakpoints.delete(address)) return;
    this.#native.setBreakpoint(toIndex(address), false);
  }

  /** Whether the page at an offset may hold code that this engine has swept. */
  holdsCode(offset: number): boolean {
    return this.#code.overlaps(offset, PAGE_SIZE);
  }

  /** Sets the byte of each page that this engine has written since the last call; the others are left alone. */
  takeDirtyPages(pages: Uint8Array): void {
    if (pages.length < this.#memory.length / 4096)
      throw new RangeError('one byte a page is needed');
    this.#native.takeDirty(pages);
  }

  /** XMM0 to XMM15, 16 bytes each. */
  vectors(): Uint8Array {
    const bytes = new Uint8Array(VECTOR_BYTES);
    this.#native.readVectors(bytes);
    return bytes;
  }

  /** FPSW, FPCW, the tag word, MXCSR and ST0 to ST7, little-endian at the beginning of 16 bytes each. */
  x87(): Uint8Array {
    const bytes = new Uint8Array(EXTENDED_BYTES);
    this.#native.readExtended(bytes);
    return bytes.subarray(VECTOR_BYTES);
  }

  setVectors(bytes: Uint8Array): void {
    this.#native.writeVectors(bytes);
  }

  /** The last blocks entered, oldest first; at most 1024. */
  recentBlocks(): bigint[] {
    const head = this.#words[COUNTER.TRACE_HEAD]!;
    const known = Math.min(this.counters.blocks, TRACE_ENTRIES);
    const blocks: bigint[] = [];
    for (let back = known; back > 0; back--) {
      blocks.push(this.#trace[(head - back + TRACE_ENTRIES) % TRACE_ENTRIES]!);
    }
    return blocks;
  }

  /** The engine's own state; memory and address spaces are the caller's. */
  snapshot(): EngineSnapshot {
    // Before the counters: what is taken out of the native log is no longer counted there.
    const accesses = this.watch.held();
    const flow = new Float64Array(FLOW_WORDS);
    this.#native.saveFlow(flow);
    return {
      registers: this.registers.values.slice(),
      counters: this.#words.slice(),
      extended: this.#extended(),
      flow,
      accesses,
    };
  }

  /** Goes back to a snapshot; code that memory no longer holds as it was needs invalidateCode(). */
  restore(snapshot: EngineSnapshot): void {
    this.registers.values.set(snapshot.registers);
    this.#words.set(snapshot.counters);
    this.watch.hold(snapshot.accesses);
    if (this.#native.isExtendedUsed())
      this.#native.writeExtended(snapshot.extended ?? this.#untouched);
    this.#native.restoreFlow(snapshot.flow);
  }

  #extended(): Uint8Array | null {
    if (!this.#native.isExtendedUsed()) return null;
    const bytes = new Uint8Array(EXTENDED_BYTES);
    this.#native.readExtended(bytes);
    return bytes;
  }

  /** Gives back what the engine holds; memory lives on. */
  dispose(): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#native.dispose();
  }

  #alive(): void {
    if (this.#isDisposed) throw new EngineError('ENGINE_DISPOSED', 'the engine was disposed');
  }

  /** Whether the stop is only that code was about to run which nobody has swept; now it is. */
  #isFirstFetch(stop: number): boolean {
    return (
      stop === NATIVE_STOP.MEMORY &&
      this.#info[INFO.ACCESS] === FETCH &&
      this.#code.sweepAt(this.#info[INFO.ADDRESS]!)
    );
  }

  /** The payload wrote into a page that holds code. */
  #rereadWrittenCode(): void {
    const page = this.#info[INFO.ADDRESS]!;
    this.#code.invalidate(toIndex(page), 2 * 4096);
    this.#code.refresh();
  }
}
