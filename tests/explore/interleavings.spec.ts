/**
 * Interleavings over the real binary: the reduction loses nothing, the reference payload is clean with and without store
 * buffers, and a schedule is what it says.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  actorsName,
  castNamed,
  castsTo,
  CAST_STATES,
  type Cast,
} from '../../emulator/explore/interleave/casts.js';
import { Interleavings } from '../../emulator/explore/interleave/interleavings.js';
import { PartialOrderSearch } from '../../emulator/explore/interleave/partial-order.js';
import { Scene, Stand } from '../../emulator/explore/interleave/scene.js';
import {
  formatSceneSchedule,
  isSceneSchedule,
  parseSceneSchedule,
} from '../../emulator/explore/interleave/scene-schedule.js';
import { ExploreError } from '../../emulator/explore/explore-error.js';
import { isSchedule } from '../../emulator/explore/schedule.js';
import { MutantTree } from '../mutants/mutant-tree.js';

let tree: MutantTree;
beforeAll(() => {
  tree = new MutantTree();
});
afterAll(() => {
  tree.remove();
});

const castOf = (text: string): Cast => {
  const [state, actors] = text.split(':') as [string, string];
  return castNamed(
    CAST_STATES.find(({ name }) => name === state)!,
    actors,
  )!;
};

describe('a schedule of several actors', () => {
  it('is read as it was written, for every cast, and is none of events', () => {
    for (const cast of castsTo(2)) {
      const processes = 4 + cast.hosts.length;
      for (const isTso of [false, true]) {
        const steps = Array.from({ length: 3 * processes }, (_, n) => (n * n) % processes);
        const text = formatSceneSchedule({ cast, isTso, steps });
        expect(isSceneSchedule(text), text).toBe(true);
        expect(isSceneSchedule('detached:VMCALL:nmi@57,flip@81')).toBe(false);
        const parsed = parseSceneSchedule(text);
        expect({ ...parsed, cast: actorsName(parsed.cast) }).toEqual({
          cast: actorsName(cast),
          isTso,
          steps,
        });
      }
    }
    expect(isSchedule('detached:HLT+flip@0:a2c')).toBe(false);
  });

  it.each([
    ['a state that is none', 'atached:HLT+flip@0:a', 'state'],
    ['an exit that is none', 'detached:HTL+flip@0:a', 'actors'],
    ['a host that is none', 'detached:HLT+flop@0:a', 'actors'],
    ['a vCPU that is none', 'detached:HLT+flip@2:a', 'actors'],
    ['an actor that is none', 'detached:HLT+flip@0:a2d', 'steps'],
    ['too many steps', 'detached:HLT+flip@0:a99999999', 'steps'],
    ['a number without an actor', 'detached:HLT+flip@0:3a', 'steps'],
  ])('is refused with the part that is wrong: %s', (_what, text, field) => {
    try {
      parseSceneSchedule(text);
      expect.unreachable();
    } catch (error) {
      expect(error).toBeInstanceOf(ExploreError);
      expect((error as ExploreError).details['field']).toBe(field);
    }
  });

  it('is refused where a step cannot be taken', () => {
    const { cast, steps } = parseSceneSchedule('detached:HLT+flip@0:c20');
    const stand = new Stand(tree.reference, cast.state, 1);
    const scene = new Scene(stand, cast, false, stand.machine.snapshot());
    expect(() => scene.replay(steps)).toThrow(ExploreError);
    stand.dispose();
  });
});

/** All that the executions of a cast come to: findings, phases, registers, what was delivered, pages in common. */
function endsOf(payload: Uint8Array, cast: Cast, withoutReduction: boolean): ReadonlySet<string> {
  const stand = new Stand(payload, cast.state, 1);
  const scene = new Scene(stand, cast, false, stand.machine.snapshot());
  const search = new PartialOrderSearch(scene, scene.processes, {
    withoutReduction,
    limit: 20_000,
  });
  const ends = new Set<string>();
  for (const run = search.run(); run.next().done !== true;) {
    const findings = scene.judge();
    const lanes = scene.lanes.map((lane) => [
      lane.phase,
      lane.exit.sequence,
      lane.vcpu.ccbView.number('state'),
      [...lane.truth.state().counts],
      [0x61, 0x62].map((vector) => lane.interrupts.counts(vector)),
      lane.vcpu.softState.get('irr[1]').toString(16),
    ]);
    ends.add(JSON.stringify([findings.map(({ invariant }) => invariant), lanes]));
  }
  expect(search.result.isComplete).toBe(true);
  stand.dispose();
  return ends;
}

describe('the reduction finds what plain enumeration finds', () => {
  it.each([
    ['detached:VMCALL+stop@0', null],
    ['detached:HLT+stop@0', null],
    ['attached:HLT+stop@0', null],
    ['root-halt-detached:HLT+stop@0', null],
    ['detached:HLT+post@0', 'posted-not-in-the-last-look'],
  ] as const)('%s (%s)', (text, patch) => {
    const payload = patch === null ? tree.reference : tree.build(patch);
    const cast = castOf(text);
    const reduced = endsOf(payload, cast, false);
    expect([...reduced].sort()).toEqual([...endsOf(payload, cast, true)].sort());
    expect(reduced.size).toBeGreaterThan(1);
  });
});

describe('the reference payload', () => {
  it.each([
    ['one after the other', false],
    ['with the store buffers of x86-TSO', true],
  ])('survives every interleaving of two actors, stores visible %s', (_how, isTso) => {
    const casts = castsTo(1).filter(({ exits, hosts }) => exits.length + hosts.length === 2);
    const exploration = new Interleavings({ payload: tree.reference, seed: 1, casts, isTso });
    Array.from(exploration.run());
    exploration.dispose();
    expect(exploration.findings.map(({ schedule }) => formatSceneSchedule(schedule))).toEqual([]);
    expect(exploration.results.map(({ isComplete }) => isComplete)).not.toContain(false);
    expect(exploration.results).toHaveLength(casts.length);
  });
});
