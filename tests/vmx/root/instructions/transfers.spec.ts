import { describe, expect, it } from 'vitest';
import { u64 } from '../../../../abi/uint.js';
import {
  CODE,
  CS,
  DESCRIPTOR,
  GDT,
  SS,
  STACK,
  handlerOf,
  imm,
  stackOf,
  type Fixture,
} from '../fixture.js';
import { NON_CANONICAL, GP0, UNMODELLED, gp, execute, rows } from './execute.js';

describe('control transfers', () => {
  const frame =
    (values: readonly (number | bigint)[]) =>
    ({ memory, pcpu }: Fixture): void => {
      pcpu.blocking.nmi = true;
      values.forEach((value, index) => memory.writeU64(u64(STACK + index * 8), u64(value)));
    };
  const SELECTOR = 0x20;
  const returnTo =
    (cs: number, descriptor: bigint = DESCRIPTOR.CODE64) =>
    (f: Fixture): void => {
      f.memory.writeU64(u64(GDT + SELECTOR), descriptor);
      frame([0x1234, cs, 0x202, 0x7000, SS])(f);
    };
  // prettier-ignore
  rows([
    { name: 'IRETQ', rule: 'loads RIP, CS, RFLAGS, RSP and SS', arrange: frame([0x1234, CS, 0x1_0246, 0x7000, 0]), outcome: { kind: 'jumped' }, post: { RIP: 0x1234n, CS: u64(CS), RFLAGS: 0x246n, RSP: 0x7000n, SS: 0n } },
    { name: 'IRETQ', rule: 'a non-canonical RIP is #GP(0)', arrange: frame([NON_CANONICAL, CS, 2, 0x7000, SS]), outcome: GP0, post: { RSP: u64(STACK) } },
    { name: 'IRETQ', rule: 'a null CS is #GP(0)', arrange: frame([0x1234, 0, 2, 0x7000, SS]), outcome: GP0 },
    { name: 'IRETQ', rule: 'a CS beyond the limit is #GP(selector)', arrange: frame([0x1234, 0x50, 2, 0x7000, SS]), outcome: gp(0x50) },
    { name: 'IRETQ', rule: 'a CS that is data is #GP(selector)', arrange: frame([0x1234, SS, 2, 0x7000, SS]), outcome: gp(SS) },
    { name: 'IRETQ', rule: 'an absent CS is #NP(selector)', arrange: returnTo(SELECTOR, DESCRIPTOR.CODE64 & ~(1n << 47n)), outcome: { kind: 'fault', vector: 11, errorCode: SELECTOR } },
    { name: 'IRETQ', rule: 'a DPL above CPL is #GP(selector)', arrange: returnTo(SELECTOR, DESCRIPTOR.CODE64_DPL3), outcome: gp(SELECTOR) },
    { name: 'IRETQ', rule: 'to an outer level stops', arrange: returnTo(SELECTOR | 3, DESCRIPTOR.CODE64_DPL3), outcome: UNMODELLED },
    { name: 'IRETQ', rule: 'to compatibility mode stops', arrange: returnTo(SELECTOR, DESCRIPTOR.CODE32), outcome: UNMODELLED },
    { name: 'IRETQ', rule: 'with TF stops', arrange: frame([0x1234, CS, 0x102, 0x7000, SS]), outcome: UNMODELLED },
    { name: 'IRETQ', rule: 'an SS that is code is #GP(selector)', arrange: frame([0x1234, CS, 2, 0x7000, CS]), outcome: gp(CS) },
    { name: 'IRETQ', rule: 'an SS with another RPL is #GP(selector)', arrange: frame([0x1234, CS, 2, 0x7000, SS | 3]), outcome: gp(SS) },
    { name: 'IRETQ', rule: 'with NT is #GP(0)', pre: { RFLAGS: 0x4002n }, arrange: frame([0x1234, CS, 2, 0x7000, SS]), outcome: GP0 },
    { name: 'RETFQ', rule: 'pops RIP and CS', arrange: frame([0x1234, CS]), outcome: { kind: 'jumped' }, post: { RIP: 0x1234n, CS: u64(CS), RSP: u64(STACK + 16) } },
    { name: 'RETFQ', rule: 'releases its immediate', operands: [imm(8)], arrange: frame([0x1234, CS]), outcome: { kind: 'jumped' }, post: { RSP: u64(STACK + 24) } },
    { name: 'RETFD', rule: 'pops 32 bits each', arrange: frame([0x10_0000_1234n]), outcome: { kind: 'jumped' }, post: { RIP: 0x1234n, RSP: u64(STACK + 8) } },
    { name: 'RETFQ', rule: 'a null CS is #GP(0)', arrange: frame([0x1234, 0]), outcome: GP0, post: { RSP: u64(STACK) } },
    { name: 'INT', rule: 'goes through its gate', operands: [imm(0x80)], outcome: { kind: 'jumped' }, post: { RIP: u64(handlerOf(0x80)) } },
    { name: 'INT3', rule: 'is vector 3', outcome: { kind: 'jumped' }, post: { RIP: u64(handlerOf(3)) } },
    { name: 'INT1', rule: 'is vector 1', outcome: { kind: 'jumped' }, post: { RIP: u64(handlerOf(1)) } },
  ]);

  it.each([
    { rule: 'IRETQ ends NMI blocking', values: [0x1234, CS, 2, 0x7000, SS] },
    { rule: 'IRETQ ends NMI blocking even when it faults', values: [0x1234, 0, 2, 0x7000, SS] },
  ])('$rule', ({ values }) => {
    expect(execute('IRETQ', [], { arrange: frame(values) }).f.pcpu.blocking.nmi).toBe(false);
  });

  it('RETFQ does not end NMI blocking', () => {
    expect(execute('RETFQ', [], { arrange: frame([0x1234, CS]) }).f.pcpu.blocking.nmi).toBe(true);
  });

  it('INT n saves the address after itself', () => {
    expect(stackOf(execute('INT', [imm(0x80)]).f, 1)).toEqual([u64(CODE + 3)]);
  });
});
