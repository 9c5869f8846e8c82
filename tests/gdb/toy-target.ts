/**
 * A machine in a few arrays, behind which the protocol is tested: two threads that execute nothing, in 4 MiB.
 *
 * A "step" adds one to RIP and to the 64-bit counter at COUNTER; 100 of them are its whole life.
 */
import type {
  AddressKind,
  GdbCommandResult,
  GdbFile,
  GdbPoint,
  GdbRequest,
  GdbStop,
  GdbStopCause,
  GdbTarget,
  GdbThread,
} from '../../emulator/gdb/target.js';
import { GDB_REGISTERS } from '../../emulator/gdb/registers.js';

/** Where the counter of steps lies. */
export const COUNTER = 0x20_0000n;
const MEMORY = 4 << 20;
const LAST = 100;
const RIP = 16;

export class ToyTarget implements GdbTarget {
  readonly registers = GDB_REGISTERS;
  executable: GdbFile = { path: '/payload.elf', bytes: Uint8Array.of(1, 0x23, 0x7d, 0x2a, 5) };
  bases: bigint[] = [0x10_0000n, 0x30_0000n];
  readonly memory = new Uint8Array(MEMORY);
  readonly values = [1, 2].map(() => GDB_REGISTERS.map(({ bits }) => new Uint8Array(bits / 8)));
  readonly points = new Map<string, GdbPoint>();
  readonly requests: GdbRequest[] = [];
  /** Steps taken since the beginning. */
  at = 0;
  #stop: GdbStop = stopOf({ kind: 'step' });

  constructor() {
    this.values[0]!.forEach((bytes, i) => bytes.fill(i));
    this.#setRip(0x1000n);
  }

  threads(): readonly GdbThread[] {
    return [
      { id: 1, name: 'vCPU 0', state: 'caretaker', core: 1 },
      { id: 2, name: 'vCPU 1', state: 'guest <&>', core: 2 },
    ];
  }

  stop(): GdbStop {
    return this.#stop;
  }

  images(): readonly bigint[] {
    return this.bases;
  }

  readRegister(thread: number, register: number): Uint8Array | null {
    const isX87 = GDB_REGISTERS[register]!.source.kind === 'x87';
    return isX87 ? null : this.values[thread - 1]![register]!.slice();
  }

  writeRegister(thread: number, register: number, bytes: Uint8Array): boolean {
    if (GDB_REGISTERS[register]!.source.kind === 'x87') return false;
    this.values[thread - 1]![register]!.set(bytes);
    return true;
  }

  readMemory(_thread: number, kind: AddressKind, address: bigint, sizeBytes: number): Uint8Array {
    // The first page is only there for physical addresses.
    if (address >= BigInt(MEMORY) || (kind === 'linear' && address < 4096n))
      return new Uint8Array(0);
    return this.memory.slice(Number(address), Number(address) + sizeBytes);
  }

  writeMemory(_thread: number, kind: AddressKind, address: bigint, bytes: Uint8Array): boolean {
    if (address + BigInt(bytes.length) > BigInt(MEMORY)) return false;
    if (kind === 'linear' && address < 4096n) return false;
    this.memory.set(bytes, Number(address));
    return true;
  }

  memoryRanges(): readonly { readonly base: bigint; readonly sizeBytes: number }[] {
    return [{ base: 0n, sizeBytes: MEMORY }];
  }

  setPoint(point: GdbPoint): boolean {
    if (point.address >= BigInt(MEMORY)) return false;
    this.points.set(keyOf(point), point);
    return true;
  }

  clearPoint(point: GdbPoint): boolean {
    return this.points.delete(keyOf(point));
  }

  runCommand(_thread: number, line: string): GdbCommandResult {
    if (line === 'go') return { output: '', moves: true };
    return { output: line === 'nothing' ? '' : `${line}: 1 µs\n`, moves: false };
  }

  /** What the machine does with a request. */
  perform(request: GdbRequest): void {
    this.requests.push(request);
    switch (request.kind) {
      case 'restart':
        this.#move(-this.at);
        this.#stop = stopOf({ kind: 'step' });
        return;
      case 'command':
        this.#move(1);
        this.#stop = { ...stopOf({ kind: 'step' }), message: 'moved\n' };
        return;
      case 'step':
        this.#stop = stopOf(this.#step(request.isBackwards) ?? { kind: 'step' });
        return;
      case 'range':
        while (this.rip >= request.begin && this.rip < request.end) {
          const cause = this.#step(false);
          if (cause !== null) {
            this.#stop = stopOf(cause);
            return;
          }
        }
        this.#stop = stopOf({ kind: 'step' });
        return;
      case 'continue':
        for (;;) {
          const cause = this.#step(request.isBackwards);
          if (cause === null) continue;
          this.#stop = stopOf(cause);
          return;
        }
    }
  }

  get rip(): bigint {
    return viewOf(this.values[0]![RIP]!).getBigUint64(0, true);
  }

  #setRip(value: bigint): void {
    viewOf(this.values[0]![RIP]!).setBigUint64(0, value, true);
  }

  #move(by: number): void {
    this.at += by;
    this.#setRip((this.rip + BigInt(by)) & 0xffff_ffff_ffff_ffffn);
    viewOf(this.memory).setBigUint64(Number(COUNTER), BigInt(this.at), true);
  }

  #step(isBackwards: boolean): GdbStopCause | null {
    if (isBackwards && this.at === 0) return { kind: 'history-begin' };
    if (!isBackwards && this.at === LAST) return { kind: 'history-end' };
    this.#move(isBackwards ? -1 : 1);
    for (const { kind, address, sizeBytes } of this.points.values()) {
      if (kind === 'software' || kind === 'hardware') {
        if (address === this.rip) return { kind };
      } else if (address < COUNTER + 8n && address + BigInt(sizeBytes) > COUNTER) {
        return { kind, address };
      }
    }
    return null;
  }
}

function stopOf(cause: GdbStopCause): GdbStop {
  return { thread: 1, cause, message: '' };
}

function keyOf({ kind, address, sizeBytes }: GdbPoint): string {
  return [kind, address, sizeBytes].join(' ');
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
