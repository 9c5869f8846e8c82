/** VMREAD, VMWRITE and RDTSC answered in line must equal the same traffic answered at stops. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Engine } from '../../../emulator/cpu/engine.js';
import {
  NO_SLOT,
  VMCS_SLOT_FLAG,
  type InlineVmcs,
  type TrapSite,
} from '../../../emulator/cpu/port.js';
import { RFLAGS, RFLAGS_ARITHMETIC } from '../../../emulator/cpu/registers.js';
import { CODE, STACK_TOP, bytesOf, fixture, reset } from './fixture.js';

const { READABLE, WRITABLE, POISON, WRITTEN } = VMCS_SLOT_FLAG;

/** Encodings by width: 16, 64, 32 bits and natural; the last is read-only, 0x2001 the high half of 0x2000. */
const FIELDS = [0x0800, 0x2000, 0x4000, 0x6000, 0x4400];
const ENCODINGS = [...FIELDS, 0x2001, 0x6802, 0x1_0800, 0xffff_ffff_0000_6000];
const WIDTHS = [
  0xffffn,
  0xffff_ffff_ffff_ffffn,
  0xffff_ffffn,
  0xffff_ffff_ffff_ffffn,
  0xffff_ffffn,
];

const slotOf = new Uint16Array(65536).fill(NO_SLOT);
FIELDS.forEach((encoding, slot) => (slotOf[encoding] = slot));

/** The rules once more, for one access at a stop: what a model of VMREAD and VMWRITE does with these fields. */
function access(engine: Engine, vmcs: InlineVmcs, site: TrapSite): void {
  const { values } = engine.registers;
  const isRead = site.instruction.name === 'VMREAD';
  const [first, second] = site.instruction.operands.map((operand) =>
    operand.kind === 'register' ? operand.register : 0,
  );
  const encoding = values[isRead ? second! : first!]!;
  const field = FIELDS.indexOf(Number(encoding & ~1n));
  const isHigh = (encoding & 1n) !== 0n;
  const isKnown = field >= 0 && encoding < 0x10000n && (!isHigh || encoding === 0x2001n);
  const flags = values[17]! & ~RFLAGS_ARITHMETIC;
  if (!isKnown || (!isRead && encoding === 0x4400n)) {
    values[17] = flags | RFLAGS.ZF;
  } else if (isRead) {
    values[first!] = isHigh ? vmcs.values[field]! >> 32n : vmcs.values[field]!;
    values[17] = flags;
  } else {
    const value = values[second!]!;
    const old = vmcs.values[field]!;
    vmcs.values[field] = isHigh
      ? (old & 0xffff_ffffn) | ((value & 0xffff_ffffn) << 32n)
      : value & WIDTHS[field]!;
    if ((vmcs.flags[field]! & WRITTEN) === 0) {
      vmcs.written[vmcs.writtenCount[0]!] = field;
      vmcs.writtenCount[0]! += 1;
    }
    vmcs.flags[field] = (vmcs.flags[field]! & ~POISON) | WRITTEN;
    values[17] = flags;
  }
  engine.retire(site);
}

interface Access {
  readonly isRead: boolean;
  /** ModRM registers; RSP is left alone. */
  readonly rm: number;
  readonly reg: number;
  readonly encoding: number;
}

const general = fc.integer({ min: 0, max: 15 }).filter((register) => register !== 4);
const traffic = fc.array(
  fc.record<Access>({
    isRead: fc.boolean(),
    rm: general,
    reg: general,
    encoding: fc.constantFrom(...ENCODINGS),
  }),
  { minLength: 1, maxLength: 30 },
);

const hexByte = (value: number): string => value.toString(16).padStart(2, '0');

/** mov reg,encoding; stc; the access; setc; PUSHF keeps the flags on the stack. */
function encode({ isRead, rm, reg, encoding }: Access): string {
  const immediate = Buffer.alloc(8);
  immediate.writeBigUInt64LE(BigInt.asUintN(64, BigInt(encoding)));
  const move = `${hexByte(0x48 | (reg >> 3))}${hexByte(0xb8 | (reg & 7))}${immediate.toString('hex')}`;
  const rex = hexByte(0x40 | ((reg >> 3) << 2) | (rm >> 3));
  const modrm = hexByte(0xc0 | ((reg & 7) << 3) | (rm & 7));
  return `${move} f9 ${rex}0f${isRead ? '78' : '79'}${modrm} 9c`;
}

const newVmcs = (values: readonly bigint[], flags: readonly number[]): InlineVmcs => ({
  values: BigUint64Array.from(values.map((value, slot) => value & WIDTHS[slot]!)),
  flags: Uint8Array.from(flags.map((flag, slot) => (slot === 4 ? flag & ~WRITABLE : flag))),
  written: new Uint16Array(FIELDS.length),
  writtenCount: new Uint32Array(1),
});

function play(code: string, vmcs: InlineVmcs, registers: readonly bigint[], isInline: boolean) {
  const { engine, memory } = fixture(`${code} f4`);
  reset(engine);
  registers.forEach((value, register) => {
    if (register !== 4) engine.registers.values[register] = value;
  });
  engine.setSlotTable(slotOf);
  engine.bindVmcs(isInline ? vmcs : null);
  for (;;) {
    const stop = engine.run();
    if (stop.kind !== 'site') throw new Error(`unexpected ${stop.kind}`);
    if (stop.site.instruction.name === 'HLT') break;
    access(engine, vmcs, stop.site);
  }
  const result = {
    registers: engine.registers.values.slice(),
    stack: Buffer.from(memory.read(STACK_TOP - 0x1000n, 0x1000)).toString('hex'),
    vmcs,
    instructions: engine.counters.instructions,
    blocks: engine.counters.blocks,
  };
  const inline = engine.counters.inlineVmreads + engine.counters.inlineVmwrites;
  engine.dispose();
  return { result, inline };
}

export function inlineSites(): void {
  describe('VMREAD and VMWRITE in line', () => {
    it('equal the same accesses at stops, over random traffic', () => {
      const u64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
      const flag = fc.integer({ min: 0, max: 7 });
      let inline = 0;
      fc.assert(
        fc.property(
          traffic,
          fc.array(u64, { minLength: 16, maxLength: 16 }),
          fc.array(u64, { minLength: 5, maxLength: 5 }),
          fc.array(flag, { minLength: 5, maxLength: 5 }),
          (accesses, registers, values, flags) => {
            const code = accesses.map(encode).join(' ');
            const fast = play(code, newVmcs(values, flags), registers, true);
            const slow = play(code, newVmcs(values, flags), registers, false);
            expect(slow.inline).toBe(0);
            expect(fast.result).toEqual(slow.result);
            inline += fast.inline;
          },
        ),
        { numRuns: 60 },
      );
      expect(inline).toBeGreaterThan(50);
    });

    const one = (code: string, flags: number, encoding = 0x6000n) => {
      const { engine } = fixture(`${code} f4`);
      const vmcs = newVmcs([0n, 0n, 0n, 7n, 0n], [0, 0, 0, flags, 0]);
      engine.setSlotTable(slotOf);
      engine.bindVmcs(vmcs);
      reset(engine);
      engine.registers.set('RAX', encoding);
      engine.registers.set('RBX', 0x55n);
      return { engine, vmcs, stop: engine.run() };
    };

    it.each([
      { what: 'a field that may not be read', flags: WRITABLE, encoding: 0x6000n },
      { what: 'a poisoned field', flags: READABLE | POISON, encoding: 0x6000n },
      { what: 'an encoding without a slot', flags: READABLE, encoding: 0x6802n },
      { what: 'an encoding of more than 16 bits', flags: READABLE, encoding: 0x1_6000n },
      { what: 'the high half of a field', flags: READABLE, encoding: 0x6001n },
    ])('VMREAD of $what stops', ({ flags, encoding }) => {
      const { engine, stop } = one('90 0f78c3', flags, encoding); // vmread rbx,rax
      expect(stop).toMatchObject({ kind: 'site', site: { address: CODE + 1n } });
      expect(engine.registers.get('RIP')).toBe(CODE + 1n);
      expect(engine.registers.get('RBX')).toBe(0x55n);
      expect(engine.counters.instructions).toBe(1);
    });

    it('VMWRITE makes a poisoned field defined and lists it once', () => {
      const { vmcs } = one('0f79c3 0f79c3', WRITABLE | POISON); // vmwrite rax,rbx twice
      expect(vmcs.values[3]).toBe(0x55n);
      expect(vmcs.flags[3]).toBe(WRITABLE | WRITTEN);
      expect([...vmcs.written.subarray(0, vmcs.writtenCount[0])]).toEqual([3]);
    });

    it('a memory form stops', () => {
      const { stop } = one('0f7803', READABLE);
      expect(stop).toMatchObject({ kind: 'site', site: { instruction: { name: 'VMREAD' } } });
    });

    it('an unbound VMCS makes every access stop', () => {
      const { engine } = one('0f78c3', READABLE);
      engine.bindVmcs(null);
      engine.registers.set('RIP', CODE);
      expect(engine.run()).toMatchObject({
        kind: 'site',
        site: { instruction: { name: 'VMREAD' } },
      });
    });

    it('memory shows the true bytes of a replaced site', () => {
      const { engine, memory } = fixture('0f78c3 0f31 f4');
      engine.run();
      expect(memory.read(CODE, 6)).toEqual(bytesOf('0f78c3 0f31 f4'));
    });
  });
}
