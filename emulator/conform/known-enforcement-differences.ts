/**
 * Where Bochs differs from the SDM in control-flow enforcement.
 *
 * Source: each row names the SDM's rule; Bochs 2.7.
 * Invariant: a row explains the sequences that it names, and in those the values that it names.
 */
import type { InstructionDifference } from './instructions.js';
import type { KnownInstructionDifference } from './known-instruction-differences.js';

const FOLLOWS = 'the model follows the SDM';

/** A row that explains the named values of sequences under CR4.CET with one of `titles` among their fragments. */
function row(
  id: string,
  sdm: string,
  instead: string,
  titles: readonly string[],
  values: readonly string[],
): KnownInstructionDifference {
  const isNamed = ({ what }: InstructionDifference): boolean => values.includes(what);
  return {
    id,
    culprit: 'bochs',
    sdm,
    instead,
    detection: FOLLOWS,
    explains: ({ title, cet }, differences) =>
      cet !== null && titles.some((one) => title.includes(one)) && differences.every(isNamed),
  };
}

export const ENFORCEMENT_DIFFERENCES: readonly KnownInstructionDifference[] = [
  row(
    'shadow-push-before-its-target-is-checked',
    'CALL refuses a non-canonical target before it pushes',
    'the return address is written below SSP, and SSP is restored',
    ['call to a non-canonical address', 'call through memory to a non-canonical address'],
    ['shadow stacks'],
  ),
  row(
    'token-faults-as-read',
    'a token is exchanged by a locked read and write, whose page fault reports a write',
    'the token is read first, and the page fault reports a read',
    [
      'rstorssp on an ordinary page',
      'rstorssp on an unmapped page',
      'setssbsy on an ordinary page',
      'clrssbsy on an ordinary page',
      'int to a token on an ordinary page',
      'int to a token on an unmapped page',
    ],
    ['stack'],
  ),
  row(
    'carry-of-clrssbsy',
    'CLRSSBSY sets CF when the token was no busy one',
    'CF is set when it was one',
    ['clrssbsy of a busy token', 'clrssbsy of a free token'],
    ['RFLAGS'],
  ),
  row(
    'token-without-room',
    'a token and the frame below it must lie in one naturally aligned region of 32 bytes, or the event is #GP(0)',
    'it is not checked',
    ['int to a token without room in its region'],
    ['RIP', 'RSP', 'SSP', 'interrupt stack', 'shadow stacks'],
  ),
  row(
    'iret-to-a-non-canonical-ssp',
    'IRET to a non-canonical SSP is #GP(0)',
    'it is not checked',
    ['iretq to a non-canonical SSP'],
    ['RIP', 'RSP', 'SSP', 'interrupt stack', 'shadow stacks'],
  ),
  row(
    'far-return-checks-its-frame-first',
    'a far RET or an IRET to a non-canonical address is #GP(0) before the shadow stack is looked at',
    'the frame on the shadow stack is looked at first, and #CP comes',
    ['retfq to a non-canonical address', 'iretq to a non-canonical address'],
    ['RIP', 'RSP', 'SSP', 'stack', 'interrupt stack', 'shadow stacks'],
  ),
  row(
    'iret-frees-its-own-token',
    'IRET frees a token only when the SSP that it returns to is not the one behind its frame',
    'a busy token behind the frame is always freed',
    ['iretq to the stack behind the frame'],
    ['shadow stacks'],
  ),
  row(
    'no-track-with-fs',
    'in 64-bit mode the prefix 3EH is no no-track prefix beside 64H or 65H',
    'it is one',
    ['jmp rax with the no-track and the FS prefix'],
    ['RIP', 'RSP', 'S_CET', 'stack'],
  ),
];
