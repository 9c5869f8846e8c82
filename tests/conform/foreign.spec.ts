/** A payload that nobody wrote against this machine as the exit handler on both. */
import { describe, expect, it } from 'vitest';
import { EVENTS } from '../../emulator/conform/payload/event-cases.js';
import { GAP } from '../../emulator/conform/payload/gap-cases.js';
import { comparePayload, type PayloadResult } from '../../emulator/conform/payload/payload.js';
import { SecondMachine } from '../../emulator/conform/second-machine.js';
import { buildForeign } from '../foreign/build-foreign.js';
import { GCC } from '../payload/payload-tree.js';
import { BOCHS, HAS_BOCHS } from './bochs-here.js';

const unexplained = ({ differences }: PayloadResult): string[] =>
  differences
    .filter(({ known }) => known === null)
    .map(({ title, what, model, second }) => `${title}: ${what}: ${model} | ${second}`);

describe.skipIf(!HAS_BOCHS)(`the foreign payload as exit handler ${BOCHS}`, () => {
  const machine = HAS_BOCHS ? new SecondMachine() : undefined;

  it('does the same on both machines, whatever it makes of undefined fields and of VM entry', () => {
    const payload = buildForeign(GCC, 'ET_DYN');
    const parts = [{ host: {}, attached: EVENTS, gap: GAP }];
    const result = comparePayload(machine!, payload, parts);
    expect(unexplained(result)).toEqual([]);
    expect([result.cases, result.leftOut]).toEqual([EVENTS.length + GAP.length, []]);
  });

  it('is left out as an ET_EXEC where a host has two vCPUs, and the result says so', () => {
    const payload = buildForeign(GCC, 'ET_EXEC');
    const [one] = EVENTS;
    const result = comparePayload(machine!, payload, [
      { host: {}, attached: [one!], gap: [] },
      { host: { vcpus: 2 }, attached: [one!], gap: [] },
    ]);
    expect(unexplained(result)).toEqual([]);
    expect(result.cases).toBe(1);
    expect(result.leftOut).toEqual([
      'a host with vcpus: 2: an ET_EXEC lies at one address, and has room for one vCPU',
    ]);
  });
});
