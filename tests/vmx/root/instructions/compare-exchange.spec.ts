import { describe } from 'vitest';
import { u64 } from '../../../../abi/uint.js';
import { REG } from '../../../../emulator/cpu/registers.js';
import { DATA, at, reg } from '../fixture.js';
import { GP0, NON_CANONICAL, rows } from './execute.js';

const PAIR = [at(DATA)];
const holds =
  (low: bigint, high = 0n) =>
  ({ memory }: { memory: { writeU64: (address: bigint, value: bigint) => void } }): void => {
    memory.writeU64(u64(DATA), low);
    memory.writeU64(u64(DATA + 8), high);
  };
const ALL = 0x8d7n;

describe('compare and exchange', () => {
  // prettier-ignore
  rows([
    { name: 'CMPXCHG', rule: 'what is found equal leaves RAX whole and sets ZF', operands: [reg(REG.RCX, 4), reg(REG.RDX, 4)], pre: { RAX: 0x1_0000_0005n, RCX: 0x2_0000_0005n, RDX: 9n, RFLAGS: 2n }, post: { RAX: 0x1_0000_0005n, RCX: 9n, RFLAGS: 0x46n } },
    { name: 'CMPXCHG', rule: 'what differs goes to RAX and leaves the destination whole', operands: [reg(REG.RCX, 4), reg(REG.RDX, 4)], pre: { RAX: 0x1_0000_0006n, RCX: 0x2_0000_0005n, RFLAGS: ALL }, post: { RAX: 5n, RCX: 0x2_0000_0005n, RFLAGS: 2n } },
    { name: 'CMPXCHG', rule: 'a borrow and a sign are those of CMP', operands: [at(DATA), reg(REG.RDX, 4)], arrange: holds(5n), pre: { RAX: 4n, RFLAGS: 2n }, post: { RAX: 5n, RFLAGS: 0x97n } },
    { name: 'CMPXCHG', rule: 'an overflow is that of CMP', operands: [at(DATA), reg(REG.RDX, 4)], arrange: holds(1n), pre: { RAX: 0x8000_0000n, RFLAGS: 2n }, post: { RAX: 1n, RFLAGS: 0x816n } },
    { name: 'CMPXCHG8B', rule: 'what differs goes to EDX:EAX, and no flag but ZF changes', operands: PAIR, arrange: holds(0x7_0000_0005n), pre: { RAX: 5n, RDX: u64(-1n), RFLAGS: ALL }, post: { RAX: 5n, RDX: 7n, RFLAGS: ALL & ~0x40n } },
    { name: 'CMPXCHG8B', rule: 'what is found equal leaves RAX and RDX whole', operands: PAIR, arrange: holds(0x7_0000_0005n), pre: { RAX: 0x1_0000_0005n, RDX: 0x2_0000_0007n, RFLAGS: 2n }, post: { RAX: 0x1_0000_0005n, RDX: 0x2_0000_0007n, RFLAGS: 0x42n } },
    { name: 'CMPXCHG8B', rule: 'it need not be aligned', operands: [at(DATA + 3)], pre: { RAX: 0n, RDX: 0n, RFLAGS: 2n }, post: { RFLAGS: 0x42n } },
    { name: 'CMPXCHG16B', rule: 'what differs goes to RDX:RAX', operands: PAIR, arrange: holds(5n, 7n), pre: { RAX: 5n, RDX: 6n, RFLAGS: 2n }, post: { RAX: 5n, RDX: 7n, RFLAGS: 2n } },
    { name: 'CMPXCHG16B', rule: 'an address that is not aligned is #GP(0)', operands: [at(DATA + 8)], pre: { RFLAGS: 2n }, outcome: GP0 },
    { name: 'CMPXCHG16B', rule: 'a non-canonical address is #GP(0)', operands: [{ ...at(0), displacement: NON_CANONICAL } as never], outcome: GP0 },
    { name: 'LOCKED', rule: 'LOCK where it may not stand is #UD', outcome: { kind: 'fault', vector: 6 } },
  ]);
});
