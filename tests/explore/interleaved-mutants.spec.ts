/**
 * A bug that hangs on the order in which others act is found by its interleavings, by the invariant that names it; one that
 * hangs on a missing fence with store buffers alone.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { actorsName, castsTo } from '../../emulator/explore/interleave/casts.js';
import { Interleavings } from '../../emulator/explore/interleave/interleavings.js';
import { Scene, Stand } from '../../emulator/explore/interleave/scene.js';
import {
  formatSceneSchedule,
  parseSceneSchedule,
} from '../../emulator/explore/interleave/scene-schedule.js';
import { MutantTree } from '../mutants/mutant-tree.js';
import { FENCES, HARMLESS, ORDERS } from './interleaved-mutants.js';

let tree: MutantTree;
beforeAll(() => {
  tree = new MutantTree();
});
afterAll(() => {
  tree.remove();
});

function explored(payload: Uint8Array, actors: string, isTso: boolean): Interleavings {
  const casts = castsTo(2).filter((cast) => `${cast.state.name}:${actorsName(cast)}` === actors);
  expect(casts, actors).toHaveLength(1);
  const exploration = new Interleavings({ payload, seed: 1, casts, isTso });
  const run = exploration.run();
  while (run.next().done !== true && exploration.findings.length === 0);
  exploration.dispose();
  return exploration;
}

/** Its schedule alone shows it again. */
function showsAgain(payload: Uint8Array, { findings }: Interleavings): void {
  const [found] = findings;
  const { cast, isTso, steps } = parseSceneSchedule(formatSceneSchedule(found!.schedule));
  const stand = new Stand(payload, cast.state, 1);
  const again = new Scene(stand, cast, isTso, stand.machine.snapshot()).replay(steps);
  stand.dispose();
  expect(again).toEqual([found!.finding]);
}

describe('an order of steps', () => {
  it.each(ORDERS)('%s is shown by %s: %s', (patch, actors, invariant) => {
    const payload = tree.build(patch);
    const exploration = explored(payload, actors, false);
    expect(exploration.findings.map(({ finding }) => finding.invariant)).toContain(invariant);
    showsAgain(payload, exploration);
  });
});

describe('a missing fence', () => {
  it.each(FENCES)(
    '%s is shown by %s with store buffers, and without them by none: %s',
    (patch, actors, invariant) => {
      const payload = tree.build(patch);
      expect(explored(payload, actors, false).findings).toEqual([]);
      const exploration = explored(payload, actors, true);
      expect(exploration.findings.map(({ finding }) => finding.invariant)).toContain(invariant);
      showsAgain(payload, exploration);
    },
  );

  it('that nothing hangs on is none: the stop loop looks until it sees', () => {
    const payload = tree.build(HARMLESS);
    expect(explored(payload, 'detached:HLT+stop@0', true).findings).toEqual([]);
  });
});
