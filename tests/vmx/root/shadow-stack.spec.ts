import { describe, expect, it } from 'vitest';
import { CET, MSR } from '../../../abi/msrs.js';
import { deliver, type DeliveryEvent } from '../../../emulator/vmx/root/idt-delivery.js';
import { executeInstruction } from '../../../emulator/vmx/root/instructions/index.js';
import {
  CODE,
  CS,
  STACK,
  fixture,
  handlerOf,
  instruction,
  writeGate,
  type Fixture,
} from './fixture.js';

const SSP = 0x9100n;
const TABLE = 0x9200n;
/** A token and the frame below it lie in one naturally aligned region of 32 bytes. */
const TOKEN = 0x9318n;
const EVENT: DeliveryEvent = { vector: 0x80, kind: 'soft-int', errorCode: null };
const NMI: DeliveryEvent = { vector: 2, kind: 'nmi', errorCode: null };

/** A pCPU on a shadow stack, with a token for the first IST, through which vectors 2 and 0x81 go. */
function enforced(cet = CET.SH_STK_EN): Fixture {
  const f = fixture();
  const { pcpu, memory } = f;
  pcpu.registers.set('CR4', pcpu.registers.get('CR4') | (1n << 23n));
  pcpu.registers.set('SSP', SSP);
  pcpu.msrs.file.load(MSR.IA32_S_CET, cet);
  pcpu.msrs.file.load(MSR.IA32_INTERRUPT_SSP_TABLE_ADDR, TABLE);
  memory.writeU64(TABLE + 8n, TOKEN);
  memory.writeU64(TOKEN, TOKEN);
  writeGate(memory, 2, { ist: 1 });
  writeGate(memory, 0x81, { ist: 1 });
  return f;
}

const frameAt = ({ memory }: Fixture, ssp: bigint): bigint[] =>
  [0n, 8n, 16n].map((offset) => memory.readU64(ssp + offset));
const iret = ({ pcpu }: Fixture) => executeInstruction(pcpu, instruction('IRETQ', [], 2));

describe('delivery on a shadow stack', () => {
  it('pushes CS, LIP and SSP below SSP', () => {
    const f = enforced();
    expect(deliver(f.pcpu, EVENT)).toMatchObject({ kind: 'delivered' });
    expect(f.pcpu.registers.get('SSP')).toBe(SSP - 24n);
    expect(frameAt(f, SSP - 24n)).toEqual([SSP, BigInt(CODE), BigInt(CS)]);
  });

  it('through an IST takes the token that the interrupt SSP table names', () => {
    const f = enforced();
    deliver(f.pcpu, NMI);
    expect(f.pcpu.registers.get('SSP')).toBe(TOKEN - 24n);
    expect(frameAt(f, TOKEN - 24n)).toEqual([SSP, BigInt(CODE), BigInt(CS)]);
    expect(f.memory.readU64(TOKEN)).toBe(TOKEN | 1n);
  });

  // prettier-ignore
  it.each([
    ['is busy', (f: Fixture) => f.memory.writeU64(TOKEN, TOKEN | 1n)],
    ['names another address', (f: Fixture) => f.memory.writeU64(TOKEN, TOKEN + 8n)],
    ['is not aligned to 8 bytes', (f: Fixture) => f.memory.writeU64(TABLE + 8n, TOKEN + 4n)],
    ['has its frame in another region of 32 bytes', (f: Fixture) => { f.memory.writeU64(TABLE + 8n, 0x9308n); f.memory.writeU64(0x9308n, 0x9308n); }],
  ])('through an IST whose token %s is #GP', (_, arrange) => {
    const f = enforced();
    arrange(f);
    expect(deliver(f.pcpu, { ...EVENT, vector: 0x81 })).toMatchObject({ vector: 13, replaced: [0x81] });
    expect(f.pcpu.registers.get('RIP')).toBe(BigInt(handlerOf(13)));
    expect(f.pcpu.registers.get('SSP')).toBe(SSP - 24n);
  });

  it('an NMI whose token is busy is a #GP with EXT', () => {
    const f = enforced();
    f.memory.writeU64(TOKEN, TOKEN | 1n);
    expect(deliver(f.pcpu, NMI)).toMatchObject({ vector: 13, replaced: [2] });
    expect(f.memory.readU64(f.pcpu.registers.get('RSP'))).toBe(1n);
  });

  it('leaves shadow stacks alone while they are off', () => {
    const f = enforced(CET.WR_SHSTK_EN);
    deliver(f.pcpu, NMI);
    expect([f.pcpu.registers.get('SSP'), f.memory.readU64(TOKEN)]).toEqual([SSP, TOKEN]);
  });

  it('sets the tracker where indirect branches are tracked', () => {
    const f = enforced(CET.ENDBR_EN | CET.SUPPRESS);
    deliver(f.pcpu, EVENT);
    expect(f.pcpu.msrs.file.read(MSR.IA32_S_CET)).toBe(CET.ENDBR_EN | CET.TRACKER);
  });
});

describe('IRETQ on a shadow stack', () => {
  it('goes back and frees the token of another stack', () => {
    const f = enforced();
    deliver(f.pcpu, NMI);
    expect(iret(f)).toEqual({ kind: 'jumped' });
    expect(f.pcpu.registers.get('SSP')).toBe(SSP);
    expect(f.memory.readU64(TOKEN)).toBe(TOKEN);
  });

  it('goes back on its own stack', () => {
    const f = enforced();
    deliver(f.pcpu, EVENT);
    iret(f);
    expect([f.pcpu.registers.get('SSP'), f.pcpu.registers.get('RSP')]).toEqual([
      SSP,
      BigInt(STACK),
    ]);
  });

  it.each([
    ['RIP was changed', 8n, 1n],
    ['CS has bits that a selector has not', 16n, BigInt(CS) | 0x1_0000n],
    ['SSP is not aligned to 4 bytes', 0n, SSP + 2n],
  ])('is #CP(FAR-RET/IRET) when %s', (_, offset, value) => {
    const f = enforced();
    deliver(f.pcpu, EVENT);
    f.memory.writeU64(SSP - 24n + offset, value);
    expect(iret(f)).toMatchObject({ kind: 'fault', vector: 21, errorCode: 2 });
    expect(f.pcpu.registers.get('SSP')).toBe(SSP - 24n);
  });

  it('is #CP(FAR-RET/IRET) when SSP is not aligned to 8 bytes', () => {
    const f = enforced();
    deliver(f.pcpu, EVENT);
    f.pcpu.registers.set('SSP', SSP - 20n);
    expect(iret(f)).toMatchObject({ vector: 21, errorCode: 2 });
  });
});
