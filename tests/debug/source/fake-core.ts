/** A core that never ran: registers, MSRs and VMCS fields from tables, memory from the placed payload and a stack. */
import type { FieldName } from '../../../abi/vmcs-fields.js';
import type { RegisterName } from '../../../emulator/cpu/registers.js';
import type { CoreView } from '../../../emulator/debug/source/core-view.js';
import { PayloadProgram } from '../../../emulator/debug/source/payload-program.js';
import { SourceMap } from '../../../emulator/debug/source/source-map.js';
import { CCB_RULE } from '../../../emulator/host/kvm/ccb-rule.js';
import { parseElf } from '../../../loader/elf.js';
import { place } from '../../../loader/place.js';
import { builtPayload, type Compiler } from './built-payload.js';

export const BASE = 0x10_0000n;
export const STACK = 0x8_0000n;

/** A core whose tables a test may change. */
export class FakeCore implements CoreView {
  readonly id = 0;
  readonly registers: Partial<Record<RegisterName, bigint>> = {};
  readonly fields: Partial<Record<FieldName, bigint>> = {};
  readonly msrs = new Map<number, bigint>();
  readonly memory = new Map<bigint, Uint8Array>();
  readonly source: SourceMap;
  readonly sessionValues = new Map<string, bigint>([['exit', 7n]]);
  ccbAddress: bigint | null;

  constructor(compiler: Compiler = 'gcc') {
    const image = parseElf(builtPayload(compiler)!, CCB_RULE);
    const loaded = place(image, BASE);
    this.source = new SourceMap(new PayloadProgram(image), loaded.slide);
    this.ccbAddress = loaded.ccb.address;
    for (const { base, bytes } of loaded.ranges) this.memory.set(base, bytes.slice());
    this.memory.set(STACK, new Uint8Array(0x4000));
  }

  register(name: RegisterName): bigint {
    return this.registers[name] ?? 0n;
  }

  read(address: bigint, sizeBytes: number): Uint8Array | null {
    for (const [base, bytes] of this.memory) {
      const at = address - base;
      if (at < 0n || at + BigInt(sizeBytes) > BigInt(bytes.length)) continue;
      return bytes.slice(Number(at), Number(at) + sizeBytes);
    }
    return null;
  }

  write(address: bigint, value: bigint, sizeBytes = 8): void {
    for (const [base, bytes] of this.memory) {
      const at = address - base;
      if (at < 0n || at + BigInt(sizeBytes) > BigInt(bytes.length)) continue;
      for (let byte = 0; byte < sizeBytes; byte++) {
        bytes[Number(at) + byte] = Number((value >> BigInt(byte * 8)) & 0xffn);
      }
    }
  }

  vmcsField(name: FieldName): bigint | null {
    return this.fields[name] ?? null;
  }

  msr(index: number): bigint | null {
    return this.msrs.get(index) ?? null;
  }

  sourceOf(address: bigint): SourceMap | null {
    return this.source.has(address) ? this.source : null;
  }
}
