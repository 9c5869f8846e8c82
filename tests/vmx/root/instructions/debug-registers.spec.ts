import { describe } from 'vitest';
import { NON_CANONICAL, RAX, UD, GP0, debug, rows } from './execute.js';

describe('debug registers', () => {
  // prettier-ignore
  rows([
    { name: 'MOV_TO_DR', rule: 'DR0 takes anything', operands: [debug(0), RAX], pre: { RAX: NON_CANONICAL }, post: { DR0: NON_CANONICAL } },
    { name: 'MOV_TO_DR', rule: 'DR6 keeps its fixed bits', operands: [debug(6), RAX], pre: { RAX: 0n }, post: { DR6: 0xfffe_07f0n } },
    { name: 'MOV_TO_DR', rule: 'DR7 keeps its fixed bits', operands: [debug(7), RAX], pre: { RAX: 0xd000n }, post: { DR7: 0x400n } },
    { name: 'MOV_TO_DR', rule: 'DR7[63:32] must be 0', operands: [debug(7), RAX], pre: { RAX: 1n << 32n }, outcome: GP0 },
    { name: 'MOV_TO_DR', rule: 'DR4 is DR6 while CR4.DE is clear', operands: [debug(4), RAX], pre: { RAX: 1n }, post: { DR6: 0xfffe_07f1n } },
    { name: 'MOV_TO_DR', rule: 'DR4 is #UD with CR4.DE', operands: [debug(4), RAX], pre: { CR4: 0x28n }, outcome: UD },
    { name: 'MOV_TO_DR', rule: 'an enabled breakpoint stops: nothing models it', operands: [debug(7), RAX], pre: { RAX: 0x401n }, outcome: { kind: 'stop' } },
    { name: 'MOV_FROM_DR', rule: 'DR7', operands: [RAX, debug(7)], post: { RAX: 0x400n } },
    { name: 'MOV_FROM_DR', rule: 'DR7.GD is #DB, sets DR6.BD and clears itself', operands: [RAX, debug(0)], pre: { DR7: 0x2400n, DR6: 0xfffe_07f0n }, outcome: { kind: 'fault', vector: 1 }, post: { DR7: 0x400n, DR6: 0xfffe_27f0n } },
  ]);
});
