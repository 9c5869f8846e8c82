import { describe } from 'vitest';
import { CET, MSR } from '../../../../abi/msrs.js';
import { at, type Fixture } from '../fixture.js';
import { GP0, RAX, UD, rows, type Arrangement } from './execute.js';

const SSP = 0x9000n;
const TOKEN = 0x9100n;
const cp = (errorCode: number) => ({ kind: 'fault', vector: 21, errorCode, address: null });
const AT_TOKEN = at(0x9100);

/** Shadow stacks on, with values in memory. */
const on = (words: Readonly<Record<number, bigint>> = {}, cet = CET.SH_STK_EN): Arrangement => ({
  pre: { CR4: 0x80_2020n, SSP, RAX: 3n },
  arrange: ({ pcpu, memory }: Fixture) => {
    pcpu.msrs.file.load(MSR.IA32_S_CET, cet);
    for (const [place, value] of Object.entries(words)) memory.writeU64(BigInt(place), value);
  },
});
const withToken = (token: bigint): Arrangement => {
  const { pre, arrange } = on({ 0x9100: token });
  return {
    pre: pre!,
    arrange: (f) => {
      arrange?.(f);
      f.pcpu.msrs.file.load(MSR.IA32_PL0_SSP, TOKEN);
    },
  };
};

describe('shadow-stack instructions', () => {
  // prettier-ignore
  rows([
    { name: 'RDSSPQ', rule: 'does nothing while shadow stacks are off', operands: [RAX], pre: { RAX: 5n, SSP: 9n }, post: { RAX: 5n } },
    { name: 'RDSSPQ', rule: 'reads SSP while they are on', operands: [RAX], ...on(), post: { RAX: SSP } },
    ...['INCSSPQ', 'SAVEPREVSSP', 'RSTORSSP', 'SETSSBSY', 'CLRSSBSY', 'WRSSQ', 'WRUSSQ'].map((name) => (
      { name, rule: 'is #UD while shadow stacks are off', operands: [AT_TOKEN, RAX], outcome: UD })),
    { name: 'INCSSPQ', rule: 'pops quadwords', operands: [RAX], ...on(), post: { SSP: SSP + 24n } },
    { name: 'INCSSPD', rule: 'pops doublewords', operands: [RAX], ...on(), post: { SSP: SSP + 12n } },
    { name: 'RSTORSSP', rule: 'goes to the stack of a restore token', operands: [AT_TOKEN], ...on({ 0x9100: (TOKEN + 8n) | 1n }), post: { SSP: TOKEN } },
    { name: 'RSTORSSP', rule: 'sets CF for an alignment hole', operands: [AT_TOKEN], ...on({ 0x9100: (TOKEN + 12n) | 1n }), post: { RFLAGS: 3n } },
    { name: 'RSTORSSP', rule: 'is #CP(RSTORSSP) for a busy supervisor token', operands: [AT_TOKEN], ...on({ 0x9100: TOKEN | 1n }), outcome: cp(4) },
    { name: 'RSTORSSP', rule: 'is #CP(RSTORSSP) for a previous-SSP token', operands: [AT_TOKEN], ...on({ 0x9100: (TOKEN + 8n) | 3n }), outcome: cp(4) },
    { name: 'RSTORSSP', rule: 'is #GP(0) for an operand that is not aligned', operands: [at(0x9104)], ...on(), outcome: GP0 },
    { name: 'SAVEPREVSSP', rule: 'pops a previous-SSP token', ...on({ 0x9000: 0x9803n }), post: { SSP: SSP + 8n } },
    { name: 'SAVEPREVSSP', rule: 'is #GP(0) without one', ...on({ 0x9000: 0x9801n }), outcome: GP0 },
    { name: 'SETSSBSY', rule: 'takes the token of IA32_PL0_SSP', ...withToken(TOKEN), post: { SSP: TOKEN } },
    { name: 'SETSSBSY', rule: 'is #CP(SETSSBSY) for a busy one', ...withToken(TOKEN | 1n), outcome: cp(5) },
    { name: 'CLRSSBSY', rule: 'frees a busy token and leaves no SSP', operands: [AT_TOKEN], ...on({ 0x9100: TOKEN | 1n }), post: { SSP: 0n, RFLAGS: 2n } },
    { name: 'CLRSSBSY', rule: 'sets CF for any other', operands: [AT_TOKEN], ...on({ 0x9100: TOKEN }), post: { SSP: 0n, RFLAGS: 3n } },
    { name: 'WRSSQ', rule: 'is #UD without WR_SHSTK_EN', operands: [AT_TOKEN, RAX], ...on(), outcome: UD },
    { name: 'WRSSQ', rule: 'is #GP(0) for an operand that is not aligned', operands: [at(0x9104), RAX], ...on({}, 3n), outcome: GP0 },
    { name: 'WRUSSQ', rule: 'is a user-mode #PF on a supervisor page', operands: [AT_TOKEN, RAX], ...on(), outcome: { kind: 'fault', vector: 14, errorCode: 0x47, address: TOKEN } },
  ]);
});
