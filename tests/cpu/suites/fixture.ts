/** An engine over a small memory with code at CODE, data at DATA and a stack below STACK_TOP. */
import { Engine } from '../../../emulator/cpu/engine.js';
import { EngineMemory } from '../../../emulator/cpu/engine-memory.js';
import type { Mapping } from '../../../emulator/cpu/port.js';
import { PhysicalMemory } from '../../../emulator/memory/physical-memory.js';

export const CODE = 0x10000n;
export const CODE_BYTES = 0x4000;
export const DATA = 0x20000n;
export const DATA_BYTES = 0x4000;
export const STACK_TOP = 0x30000n;
export const MEMORY_BYTES = 0x100000;

export const mapping = (linear: bigint, sizeBytes: number, flags = 'r'): Mapping => ({
  linear,
  physical: linear,
  sizeBytes,
  writable: flags.includes('w'),
  executable: flags.includes('x'),
});

export const MAPPINGS: readonly Mapping[] = [
  mapping(CODE, CODE_BYTES, 'rx'),
  mapping(DATA, DATA_BYTES, 'rw'),
  mapping(STACK_TOP - 0x4000n, 0x4000, 'rw'),
];

export interface Fixture {
  readonly engine: Engine;
  readonly memory: PhysicalMemory;
}

/** `code` is hexadecimal, blanks and anything after a semicolon apart. */
export function bytesOf(code: string): Uint8Array {
  const text = code.replace(/;.*$/gm, '').replace(/\s+/g, '');
  return Uint8Array.from(Buffer.from(text, 'hex'));
}

/** An engine that is about to run `code` at CODE. */
export function fixture(code: string | Uint8Array, mappings = MAPPINGS): Fixture {
  const bytes = typeof code === 'string' ? bytesOf(code) : code;
  const backing = new EngineMemory(MEMORY_BYTES);
  const memory = new PhysicalMemory(backing.buffer);
  memory.write(CODE, bytes);
  const engine = new Engine(backing);
  engine.activate(engine.createAddressSpace(mappings));
  reset(engine);
  return { engine, memory };
}

/** Puts the registers where a payload's would be. */
export function reset(engine: Engine): void {
  engine.registers.values.fill(0n);
  engine.registers.set('RIP', CODE);
  engine.registers.set('RSP', STACK_TOP);
  engine.registers.set('RFLAGS', 2n);
}
