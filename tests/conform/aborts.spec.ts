import { describe, expect, it } from 'vitest';
import { ABORT_CASES, compareAborts } from '../../emulator/conform/aborts.js';
import { SecondMachine } from '../../emulator/conform/second-machine.js';
import { BOCHS, HAS_BOCHS } from './bochs-here.js';
import { unexplained } from './unexplained.js';

describe.skipIf(!HAS_BOCHS)(`VMX aborts ${BOCHS}`, () => {
  it('come for the same entries of the lists of VM exit, with the same number', () => {
    // One of each kind: conformance.spec.ts tries all of them.
    const some = ABORT_CASES.filter((_one, index) => index % 4 === 0);
    const results = compareAborts(new SecondMachine(), some);
    expect(unexplained(results)).toEqual([]);
    expect(results).toHaveLength(some.length);
  });
});
