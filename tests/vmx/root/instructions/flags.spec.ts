import { describe, expect, it } from 'vitest';
import { u64 } from '../../../../abi/uint.js';
import { STACK } from '../fixture.js';
import { NON_CANONICAL, execute, rows } from './execute.js';

describe('flags', () => {
  // prettier-ignore
  rows([
    { name: 'CLI', rule: 'clears IF', pre: { RFLAGS: 0x246n }, post: { RFLAGS: 0x46n } },
    { name: 'STI', rule: 'sets IF', pre: { RFLAGS: 0x2n }, post: { RFLAGS: 0x202n } },
    { name: 'STAC', rule: 'sets AC', pre: { RFLAGS: 0x2n }, post: { RFLAGS: 0x4_0002n } },
    { name: 'CLAC', rule: 'clears AC', pre: { RFLAGS: 0x4_0002n }, post: { RFLAGS: 0x2n } },
    { name: 'POPFQ', rule: 'loads every flag but RF, VM, VIF and VIP at CPL 0', arrange: ({ memory }) => memory.writeU64(u64(STACK), 0x3f_feffn), post: { RFLAGS: 0x24_7ed7n, RSP: u64(STACK + 8) } },
    { name: 'POPFQ', rule: 'a non-canonical stack is #SS(0)', pre: { RSP: NON_CANONICAL }, outcome: { kind: 'fault', vector: 12, errorCode: 0 }, post: { RSP: NON_CANONICAL } },
    { name: 'POPFQ', rule: 'TF stops: nothing models single stepping', arrange: ({ memory }) => memory.writeU64(u64(STACK), 0x102n), outcome: { kind: 'stop', reason: { kind: 'unmodelled' } } },
  ]);

  it.each([
    { rule: 'STI begins a shadow when IF was 0', before: 0x2n, shadow: true },
    { rule: 'STI begins none when IF was 1', before: 0x202n, shadow: false },
  ])('$rule', ({ before, shadow }) => {
    expect(execute('STI', [], { pre: { RFLAGS: before } }).f.pcpu.blocking.sti).toBe(shadow);
  });
});
