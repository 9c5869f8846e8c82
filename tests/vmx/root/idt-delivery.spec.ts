import { describe, expect, it } from 'vitest';
import { REG } from '../../../emulator/cpu/registers.js';
import { combine, exceptionClass } from '../../../emulator/vmx/root/double-fault.js';
import { deliver, type DeliveryEvent } from '../../../emulator/vmx/root/idt-delivery.js';
import {
  CODE,
  CS,
  DESCRIPTOR,
  GDT,
  IDT,
  IST1,
  SS,
  STACK,
  TSS,
  fixture,
  handlerOf,
  stackOf,
  writeGate,
  type Fixture,
  type FixtureOptions,
} from './fixture.js';

const NMI: DeliveryEvent = { vector: 2, kind: 'nmi', errorCode: null };
const GP: DeliveryEvent = { vector: 13, kind: 'exception', errorCode: 0x18 };
const UD: DeliveryEvent = { vector: 6, kind: 'exception', errorCode: null };
const EXTERNAL: DeliveryEvent = { vector: 0x60, kind: 'external', errorCode: null };
const INT: DeliveryEvent = { vector: 0x80, kind: 'soft-int', errorCode: null };

function delivered(
  event: DeliveryEvent,
  arrange: (f: Fixture) => void = () => undefined,
  options: FixtureOptions = {},
) {
  const f = fixture(options);
  arrange(f);
  return {
    f,
    result: deliver(f.pcpu, event),
    get: (slot: number) => f.pcpu.registers.values[slot],
  };
}

describe('the frame', () => {
  it('is SS, RSP, RFLAGS, CS, RIP below a stack aligned to 16 bytes', () => {
    const { f } = delivered(NMI, ({ pcpu }) => {
      pcpu.registers.set('RSP', BigInt(STACK - 8));
      pcpu.registers.set('RFLAGS', 0x202n);
    });
    expect(f.pcpu.registers.get('RSP')).toBe(BigInt(STACK - 16 - 40));
    expect(stackOf(f, 5)).toEqual([CODE, CS, 0x202, STACK - 8, SS].map(BigInt));
  });

  it('ends with the error code where the exception has one', () => {
    const { f } = delivered(GP);
    expect(stackOf(f, 2)).toEqual([0x18n, BigInt(CODE)]);
    expect(f.pcpu.registers.get('RSP')).toBe(BigInt(STACK - 48));
  });

  it.each([
    { rule: 'a fault saves RFLAGS with RF set', event: GP, index: 3, rflags: 0x1_0002n },
    { rule: 'an NMI saves RFLAGS as it was', event: NMI, index: 2, rflags: 0x2n },
    { rule: 'an interrupt saves RFLAGS as it was', event: EXTERNAL, index: 2, rflags: 0x2n },
    { rule: 'INT n saves RFLAGS as it was', event: INT, index: 2, rflags: 0x2n },
    {
      rule: 'an abort saves RFLAGS as it was',
      event: { ...UD, vector: 18 },
      index: 2,
      rflags: 0x2n,
    },
  ])('$rule', ({ event, index, rflags }) => {
    expect(stackOf(delivered(event).f, index + 1)[index]).toBe(rflags);
  });

  it('goes to the IST stack that the gate names, whatever RSP is', () => {
    const { f, result } = delivered(NMI, ({ memory, pcpu }) => {
      writeGate(memory, 2, { ist: 1 });
      pcpu.registers.set('RSP', 0x8000_0000_0000n);
    });
    expect(result).toMatchObject({ kind: 'delivered', ist: 1, frame: BigInt(IST1 - 40) });
    expect(stackOf(f, 4)[3]).toBe(0x8000_0000_0000n);
  });
});

describe('the handler', () => {
  it('begins at the offset of the gate with the selector of the gate', () => {
    const { get } = delivered(EXTERNAL);
    expect([get(REG.RIP), get(REG.CS), get(REG.SS)]).toEqual([handlerOf(0x60), CS, SS].map(BigInt));
  });

  it.each([
    { rule: 'an interrupt gate clears IF', type: 14, after: 0x2n },
    { rule: 'a trap gate keeps IF', type: 15, after: 0x202n },
  ])('$rule; TF, NT, RF and VM are cleared by both', ({ type, after }) => {
    const { get } = delivered(EXTERNAL, ({ memory, pcpu }) => {
      writeGate(memory, 0x60, { type });
      pcpu.registers.set('RFLAGS', 0x1_4302n);
    });
    expect(get(REG.RFLAGS)).toBe(after);
  });

  it('has RPL 0 in CS whatever the gate says', () => {
    const { get } = delivered(EXTERNAL, ({ memory }) => {
      writeGate(memory, 0x60, { selector: CS | 3 });
    });
    expect(get(REG.CS)).toBe(BigInt(CS));
  });

  it('is reached through the last gate and the last IST entry that the limits allow', () => {
    const { result } = delivered(EXTERNAL, ({ memory, pcpu }) => {
      writeGate(memory, 0x60, { ist: 1 });
      pcpu.registers.set('IDTR_LIMIT', 0x60fn);
      pcpu.registers.set('TR_LIMIT', 0x2bn);
    });
    expect(result).toMatchObject({ kind: 'delivered', vector: 0x60, ist: 1 });
  });

  it('ends the shadow of STI and MOV SS; only an NMI blocks NMIs', () => {
    const arrange = ({ pcpu }: Fixture) => Object.assign(pcpu.blocking, { sti: true, movSs: true });
    expect(delivered(NMI, arrange).f.pcpu.blocking).toEqual({
      sti: false,
      movSs: false,
      nmi: true,
    });
    expect(delivered(EXTERNAL, arrange).f.pcpu.blocking.nmi).toBe(false);
  });

  it('sets the accessed bit of its code segment', () => {
    const { f } = delivered(NMI, ({ memory }) => {
      memory.writeU64(BigInt(GDT + CS), DESCRIPTOR.CODE64 & ~(1n << 40n));
    });
    expect(f.memory.readU64(BigInt(GDT + CS))).toBe(DESCRIPTOR.CODE64);
  });
});

/** Each row breaks the delivery of an external interrupt; the replacing exception says which check caught it. */
describe('checks, in the exception that replaces an external interrupt', () => {
  it.each<{ rule: string; arrange: (f: Fixture) => void; vector: number; error: number }>([
    {
      rule: 'a gate beyond the IDT limit is #GP(vector, IDT, EXT)',
      arrange: ({ pcpu }) => pcpu.registers.set('IDTR_LIMIT', 0x60fn - 1n),
      vector: 13,
      error: 0x303,
    },
    {
      rule: 'a gate of another type is #GP(vector, IDT, EXT)',
      arrange: ({ memory }) => writeGate(memory, 0x60, { type: 5 }),
      vector: 13,
      error: 0x303,
    },
    {
      rule: 'a gate that is not present is #NP(vector, IDT, EXT)',
      arrange: ({ memory }) => writeGate(memory, 0x60, { isPresent: false }),
      vector: 11,
      error: 0x303,
    },
    {
      rule: 'a null code selector is #GP(EXT)',
      arrange: ({ memory }) => writeGate(memory, 0x60, { selector: 3 }),
      vector: 13,
      error: 1,
    },
    {
      rule: 'a selector beyond the GDT limit is #GP(selector, EXT)',
      arrange: ({ memory }) => writeGate(memory, 0x60, { selector: 0x50 }),
      vector: 13,
      error: 0x51,
    },
    {
      rule: 'a selector of the LDT is #GP(selector, EXT)',
      arrange: ({ memory }) => writeGate(memory, 0x60, { selector: 0x14 }),
      vector: 13,
      error: 0x15,
    },
    {
      rule: 'a data segment is #GP(selector, EXT)',
      arrange: ({ memory }) => writeGate(memory, 0x60, { selector: SS }),
      vector: 13,
      error: 0x19,
    },
    {
      rule: 'a segment that is not 64-bit code is #GP(selector, EXT)',
      arrange: ({ memory }) => {
        memory.writeU64(BigInt(GDT + 0x20), DESCRIPTOR.CODE32);
        writeGate(memory, 0x60, { selector: 0x20 });
      },
      vector: 13,
      error: 0x21,
    },
    {
      rule: 'a less privileged code segment is #GP(selector, EXT)',
      arrange: ({ memory }) => {
        memory.writeU64(BigInt(GDT + 0x20), DESCRIPTOR.CODE64_DPL3);
        writeGate(memory, 0x60, { selector: 0x20 });
      },
      vector: 13,
      error: 0x21,
    },
    {
      rule: 'a code segment that is not present is #NP(selector, EXT)',
      arrange: ({ memory }) => {
        memory.writeU64(BigInt(GDT + 0x20), DESCRIPTOR.CODE64 & ~(1n << 47n));
        writeGate(memory, 0x60, { selector: 0x20 });
      },
      vector: 11,
      error: 0x21,
    },
    {
      rule: 'an IST entry beyond the TSS limit is #TS(TR, EXT)',
      arrange: ({ memory, pcpu }) => {
        writeGate(memory, 0x60, { ist: 1 });
        pcpu.registers.set('TR_LIMIT', 0x2an);
      },
      vector: 10,
      error: 0x41,
    },
    {
      rule: 'a non-canonical IST stack is #SS(EXT)',
      arrange: ({ memory }) => {
        writeGate(memory, 0x60, { ist: 2 });
        memory.writeU64(BigInt(TSS + 0x2c), 0x8000_0000_1000n);
      },
      vector: 12,
      error: 1,
    },
    {
      rule: 'a non-canonical offset is #GP(EXT)',
      arrange: ({ memory }) => writeGate(memory, 0x60, { offset: 0x8000_0000_0000n }),
      vector: 13,
      error: 1,
    },
  ])('$rule', ({ arrange, vector, error }) => {
    const { f, result } = delivered(EXTERNAL, arrange);
    expect(result).toMatchObject({ kind: 'delivered', vector, replaced: [0x60] });
    expect(stackOf(f, 2)).toEqual([BigInt(error), BigInt(CODE)]);
  });

  it('EXT is 0 when a software interrupt fails', () => {
    const { f } = delivered(INT, ({ memory }) => writeGate(memory, 0x80, { isPresent: false }));
    expect(stackOf(f, 1)).toEqual([0x402n]);
  });

  it('an exception that replaces a software interrupt saves the address of the INT', () => {
    const restart = BigInt(CODE - 2);
    const { f } = delivered({ ...INT, restart }, ({ memory }) =>
      writeGate(memory, 0x80, { isPresent: false }),
    );
    expect(stackOf(f, 4)).toEqual([0x402n, restart, BigInt(CS), 0x1_0002n]);
  });

  it('a stack that is not writable is #PF with its own error code, and CR2 is that of the first push', () => {
    const { f, result, get } = delivered(EXTERNAL, ({ memory, space }) => {
      space.refused.set(STACK - 0x1000, 'read-only');
      writeGate(memory, 14, { ist: 1 });
    });
    expect(result).toMatchObject({ vector: 14, replaced: [0x60] });
    expect(get(REG.CR2)).toBe(BigInt(STACK - 8));
    expect(stackOf(f, 1)).toEqual([3n]);
  });
});

describe('exceptions during delivery', () => {
  it('#DF replaces two contributory exceptions and pushes 0', () => {
    const { f, result } = delivered(GP, ({ memory }) =>
      writeGate(memory, 13, { isPresent: false }),
    );
    expect(result).toMatchObject({ kind: 'delivered', vector: 8, replaced: [13] });
    expect(stackOf(f, 1)).toEqual([0n]);
  });

  it('a fault while #DF is delivered shuts the processor down', () => {
    const { result } = delivered(GP, ({ memory }) => {
      writeGate(memory, 13, { isPresent: false });
      writeGate(memory, 8, { isPresent: false });
    });
    expect(result).toEqual({ kind: 'triple-fault', vectors: [13, 8, 11] });
  });

  it('a stack overflow with no IST for #DF shuts the processor down and leaves the registers', () => {
    const { result, get } = delivered(UD, ({ space }) =>
      space.refused.set(STACK - 0x1000, 'page-fault'),
    );
    expect(result).toEqual({ kind: 'triple-fault', vectors: [6, 14, 8, 14] });
    expect([get(REG.RSP), get(REG.RIP)]).toEqual([BigInt(STACK), BigInt(CODE)]);
  });

  it('an NMI blocks NMIs even when its own delivery faults', () => {
    const { f } = delivered(NMI, ({ memory }) => writeGate(memory, 2, { isPresent: false }));
    expect(f.pcpu.blocking.nmi).toBe(true);
  });

  it.each([
    ['benign', 'contributory', 'second'],
    ['benign', 'page-fault', 'second'],
    ['contributory', 'benign', 'second'],
    ['contributory', 'contributory', 'double-fault'],
    ['contributory', 'page-fault', 'second'],
    ['page-fault', 'contributory', 'double-fault'],
    ['page-fault', 'page-fault', 'double-fault'],
    ['double-fault', 'contributory', 'shutdown'],
    ['double-fault', 'page-fault', 'shutdown'],
    ['double-fault', 'benign', 'second'],
  ] as const)('%s then %s: %s', (first, second, outcome) => {
    expect(combine(first, second)).toBe(outcome);
  });

  it.each([
    [0, 'contributory'],
    [1, 'benign'],
    [6, 'benign'],
    [8, 'double-fault'],
    [10, 'contributory'],
    [11, 'contributory'],
    [12, 'contributory'],
    [13, 'contributory'],
    [14, 'page-fault'],
    [16, 'benign'],
    [18, 'benign'],
    [20, 'page-fault'],
    [21, 'contributory'],
  ] as const)('vector %i is %s', (vector, eventClass) => {
    expect(exceptionClass(vector)).toBe(eventClass);
  });
});

describe('implicit accesses', () => {
  it('gate, code descriptor, IST entry and frame are reported', () => {
    const seen: string[] = [];
    delivered(NMI, ({ memory }) => writeGate(memory, 2, { ist: 1 }), {
      events: {
        onImplicitAccess: (structure, access, address, sizeBytes) =>
          seen.push(`${structure} ${access} ${address.toString(16)}+${sizeBytes}`),
      },
    });
    expect(seen).toEqual([
      `idt read ${(IDT + 32).toString(16)}+16`,
      `gdt read ${(GDT + CS).toString(16)}+8`,
      `tss read ${(TSS + 0x24).toString(16)}+8`,
      `stack write ${(IST1 - 40).toString(16)}+40`,
    ]);
  });

  it('memory that the page tables map and the pCPU may not touch stops as an isolation finding', () => {
    const { result } = delivered(NMI, ({ space }) => space.refused.set(IDT, 'outside'));
    expect(result).toMatchObject({
      kind: 'stop',
      reason: { kind: 'finding', finding: { invariant: 'isolation' } },
    });
  });
});
