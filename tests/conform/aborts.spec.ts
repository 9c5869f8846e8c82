import { describe, expect, it } from 'vitest';
import { ABORT_CASES, compareAborts } from '../../emulator/conform/aborts.js';
import { SecondMachine } from '../../emulator/conform/second-machine.js';
import { BOCHS, HAS_BOCHS } from './bochs-here.js';
import { unexplained } from './unexplained.js';

describe.skipIf(!HAS_BOCHS)(`VMX aborts ${BOCHS}`, () => {
  it('come for the same entries of the lists of VM exit, with the same number', () => {
    const results = compareAborts(new SecondMachine());
    expect(unexplained(results)).toEqual([]);
    expect(results).toHaveLength(ABORT_CASES.length);
  });
});
