import { describe, expect, it } from 'vitest';
import { u64 } from '../../../../abi/uint.js';
import { MODEL_TABLES } from '../../../../emulator/vmx/root/instructions/index.js';
import { CODE, DATA, at } from '../fixture.js';
import { UD, rows } from './execute.js';

describe('system instructions', () => {
  // prettier-ignore
  rows([
    { name: 'CLFLUSH', rule: 'checks its operand', operands: [at(DATA)], arrange: ({ space }) => space.refused.set(DATA, 'page-fault'), outcome: { kind: 'fault', vector: 14 } },
    { name: 'UD2', rule: 'is #UD', outcome: UD },
    { name: 'MWAIT', rule: 'an instruction without a model stops by its name', outcome: { kind: 'stop', reason: { kind: 'unmodelled', name: 'MWAIT', address: u64(CODE) } } },
  ]);
});

it('each instruction has one model', () => {
  const names = MODEL_TABLES.flatMap((table) => Object.keys(table));
  expect(names.length).toBe(new Set(names).size);
});
