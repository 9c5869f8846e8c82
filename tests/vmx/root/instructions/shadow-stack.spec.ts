import { describe } from 'vitest';
import { CET, MSR } from '../../../../abi/msrs.js';
import { RAX, UD, rows } from './execute.js';

describe('shadow-stack instructions', () => {
  // prettier-ignore
  rows([
    { name: 'RDSSPQ', rule: 'does nothing while shadow stacks are off', operands: [RAX], pre: { RAX: 5n, SSP: 9n }, post: { RAX: 5n } },
    { name: 'RDSSPQ', rule: 'reads SSP while they are on', operands: [RAX], pre: { CR4: 0x80_2020n, SSP: 9n }, arrange: ({ pcpu }) => pcpu.msrs.write(MSR.IA32_S_CET, CET.SH_STK_EN), post: { RAX: 9n } },
    { name: 'INCSSPQ', rule: 'is #UD while shadow stacks are off', operands: [RAX], outcome: UD },
  ]);
});
