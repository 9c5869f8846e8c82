/** What a payload takes of the host's in root operation goes to KVM once, and never as the exit in the VMCS. */
import { expect, it } from 'vitest';
import { Ground } from '../../emulator/explore/ground.js';
import { parseSchedule } from '../../emulator/explore/schedule.js';
import { referencePayload } from '../support/reference-payload.js';

const LAST_INSTRUCTION = 260;

/** What came of an NMI at each instruction of a handler in which KVM has attached. */
function outcomes(exit: string): readonly string[] {
  const { state } = parseSchedule(`detached:${exit}:`);
  const ground = new Ground(referencePayload(), state, 1);
  const { machine, lane } = ground.stage;
  const seen = new Set<string>();
  for (let n = 0; n < LAST_INSTRUCTION; n++) {
    const { exit: begin, happenings } = parseSchedule(`detached:${exit}:flip@${n},nmi@${n}`);
    const found = ground.branch(begin, happenings);
    for (const { invariant, message } of found) seen.add(`${invariant}: ${message}`);
    seen.add(`${lane.phase}, killed ${machine.evidence['killed'] ?? 0}`);
  }
  return [...seen];
}

it.each(['EXCEPTION_NMI.machine-check', 'EXCEPTION_NMI.nmi', 'EXTERNAL_INTERRUPT.device'])(
  'an NMI of the host’s behind an answered %s is handed to KVM, and the exit is not',
  (exit) => {
    expect(outcomes(exit)).toEqual(['guest, killed 0']);
  },
);
