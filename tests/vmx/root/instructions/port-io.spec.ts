import { describe, expect, it } from 'vitest';
import { REG } from '../../../../emulator/cpu/registers.js';
import { imm, reg, type FixtureOptions } from '../fixture.js';
import { execute, rows } from './execute.js';

describe('port I/O', () => {
  const read = () => 0x1234_5678;
  const io = (written: unknown[] = []): FixtureOptions => ({
    ports: { portIo: { read, write: (...call) => written.push(call) > 0 } },
  });
  const DX = reg(REG.RDX, 2);
  // prettier-ignore
  rows([
    { name: 'IN', rule: 'AL keeps the rest of RAX', operands: [reg(REG.RAX, 1), imm(0x64)], pre: { RAX: 0xff00n }, options: io(), post: { RAX: 0xff78n } },
    { name: 'IN', rule: 'EAX clears the high half', operands: [reg(REG.RAX, 4), DX], pre: { RAX: 1n << 40n }, options: io(), post: { RAX: 0x1234_5678n } },
    { name: 'IN', rule: 'a port without a model stops', operands: [reg(REG.RAX, 1), DX], pre: { RDX: 0x60n }, outcome: { kind: 'stop', reason: { kind: 'unmodelled', name: 'IN', detail: 'port 0x60' } } },
    { name: 'OUT', rule: 'a port without a model stops', operands: [imm(0x80), reg(REG.RAX, 1)], outcome: { kind: 'stop', reason: { kind: 'unmodelled', detail: 'port 0x80' } } },
  ]);

  it('OUT hands port, value and size to the bus', () => {
    const written: unknown[] = [];
    execute('OUT', [DX, reg(REG.RAX, 2)], {
      pre: { RDX: 0x3f8n, RAX: 0x1_2345n },
      options: io(written),
    });
    expect(written).toEqual([[0x3f8, 0x2345, 2]]);
  });
});
