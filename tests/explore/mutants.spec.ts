/** A bug that hangs on one instruction is found by an event at that instruction, and by the invariant that names it. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { EVENTS } from '../../emulator/explore/events.js';
import { Exploration, type ExploreFinding } from '../../emulator/explore/exploration.js';
import { Ground } from '../../emulator/explore/ground.js';
import { formatSchedule, parseSchedule } from '../../emulator/explore/schedule.js';
import { MutantTree } from '../mutants/mutant-tree.js';
import { EXPLORED_MUTANTS, type ExploredMutant } from './mutants.js';

let tree: MutantTree;
beforeAll(() => {
  tree = new MutantTree();
});
afterAll(() => {
  tree.remove();
});

/** The first finding of an invariant. */
function find(
  payload: Uint8Array,
  { events, reason, depth, invariant }: ExploredMutant,
): ExploreFinding | undefined {
  const exploration = new Exploration({
    payload,
    seed: 1,
    events: EVENTS.filter(({ name }) => events.includes(name)),
    reasons: new Set([reason]),
    depth,
  });
  const named = (): ExploreFinding | undefined =>
    exploration.findings.find(({ finding }) => finding.invariant === invariant);
  const run = exploration.run();
  while (run.next().done !== true && named() === undefined);
  const found = named();
  exploration.dispose();
  return found;
}

it.each(EXPLORED_MUTANTS)('$patch: $invariant by $events in $reason', (mutant) => {
  const payload = tree.build(mutant.patch);
  const found = find(payload, mutant);
  expect(found).toBeDefined();
  // Its schedule alone shows it again.
  const { state, exit, happenings } = parseSchedule(formatSchedule(found!.schedule));
  const again = new Ground(payload, state, 1).branch(exit, happenings);
  expect(again.map(({ invariant }) => invariant)).toContain(mutant.invariant);
});
