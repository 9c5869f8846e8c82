/**
 * Explorations: every boundary is a point, the reduction loses nothing, the reference payload is clean, and a schedule is
 * what it says.
 */
import { beforeAll, describe, expect, it } from 'vitest';
import { CASES } from '../../emulator/explore/cases.js';
import { eventNamed, EVENTS, FOOTPRINT } from '../../emulator/explore/events.js';
import { CONTRACT_EVENTS, Exploration } from '../../emulator/explore/exploration.js';
import { ExploreError } from '../../emulator/explore/explore-error.js';
import { Ground } from '../../emulator/explore/ground.js';
import {
  caseName,
  formatSchedule,
  isSchedule,
  parseSchedule,
} from '../../emulator/explore/schedule.js';
import { REG } from '../../emulator/cpu/registers.js';
import { STATES } from '../../emulator/explore/states.js';
import { referencePayload } from '../support/reference-payload.js';

let payload: Uint8Array;
beforeAll(() => {
  payload = referencePayload();
});

const stateNamed = (name: string) => STATES.find((state) => state.name === name)!;
const caseNamed = (name: string) => CASES.find((exit) => caseName(exit) === name)!;

describe('a schedule', () => {
  it('is read as it was written, for every state, exit and event', () => {
    for (const state of STATES) {
      for (const exit of CASES) {
        const happenings = EVENTS.map((event, index) => ({ event, instruction: 7 * index }));
        const text = formatSchedule({ state, exit, happenings });
        expect(isSchedule(text)).toBe(true);
        expect(parseSchedule(text)).toEqual({ state, exit, happenings });
      }
    }
  });

  it.each([
    ['two parts', 'detached:VMCALL', 'schedule'],
    ['a state that is none', 'atached:VMCALL:nmi@1', 'state'],
    ['a reason that is none', 'attached:VMCAL:nmi@1', 'reason'],
    ['an event that is none', 'attached:VMCALL:nmj@1', 'event'],
    ['an event without a place', 'attached:VMCALL:nmi', '"nmi"'],
    ['events out of order', 'attached:VMCALL:nmi@9,mce@8', 'events'],
  ])('is refused with the part that is wrong: %s', (_what, text, field) => {
    try {
      parseSchedule(text);
      expect.unreachable();
    } catch (error) {
      expect(error).toBeInstanceOf(ExploreError);
      expect((error as ExploreError).details['field']).toBe(field);
    }
  });
});

describe('the boundaries of an exit', () => {
  it('end at VMRESUME, at the jump to KVM, or in the wait for it', () => {
    const ground = new Ground(payload, stateNamed('attached'), 1);
    const alone = new Ground(payload, stateNamed('detached'), 1);
    const lastSite = (of: Ground, name: string): string | undefined => {
      const last = of.trace(caseNamed(name), []).at(-1)!;
      return of.stage.lane.engine.siteAt(last.rip)?.instruction.name;
    };
    expect(lastSite(ground, 'PAUSE_INSTRUCTION')).toBe('VMRESUME');
    expect(lastSite(alone, 'PAUSE_INSTRUCTION')).toBe('VMRESUME');
    const routed = ground.trace(caseNamed('VMCALL'), []);
    const blocked = alone.trace(caseNamed('VMCALL'), []);
    const pauses = blocked.filter(
      ({ rip }) => alone.stage.lane.engine.siteAt(rip)?.instruction.name === 'PAUSE',
    );
    expect(routed.length).toBeGreaterThan(100);
    expect(pauses.length).toBeGreaterThanOrEqual(2);
  });

  it('are all points of every event', () => {
    const exploration = new Exploration({
      payload,
      seed: 1,
      events: CONTRACT_EVENTS,
      reasons: new Set(['INVD']),
      depth: 1,
    });
    Array.from(exploration.run());
    const boundaries = (state: string): number =>
      new Ground(payload, stateNamed(state), 1).trace(caseNamed('INVD'), []).length;
    const [attached, detached] = [boundaries('attached'), boundaries('detached')];
    const shared = boundaries('shared-attached');
    const alone = boundaries('attach-detached');
    expect(exploration.findings).toEqual([]);
    expect(exploration.matrix.get('INVD')).toEqual({
      flip: detached + alone,
      nmi: attached + detached + shared,
      mce: attached + detached,
      'mce-lost': attached + detached,
      intr: attached + detached,
      init: attached + detached,
      stop: attached + detached + shared + alone,
    });
  });
});

describe('the reduction loses nothing', () => {
  const commuting = EVENTS.filter(({ footprint }) => footprint !== FOOTPRINT.ANY);
  const cases = commuting.flatMap((event) =>
    ['HLT', 'VMCALL'].map((exit) => [event.name, exit] as const),
  );
  it.each(cases)('%s at every boundary of %s', (eventName, exitName) => {
    const event = eventNamed(eventName)!;
    const state = stateNamed(event.whenDetached ? 'root-halt-detached' : 'root-halt-attached');
    const ground = new Ground(payload, state, 1);
    const exit = caseNamed(exitName);
    const { lane, machine } = ground.stage;
    // All that came of it; the time of the event is the host's own.
    const end = (instruction: number): unknown => {
      const findings = ground.branch(exit, [{ event, instruction }]);
      return {
        findings,
        phase: lane.phase,
        outcome: lane.exit.outcome,
        instructions: lane.engine.counters.instructions,
        registers: [...lane.pcpu.registers.values.subarray(0, REG.RIP)],
        checked: machine.ledger.results().map(({ checked }) => checked),
        evidence: { ...machine.evidence },
        exits: lane.exit.sequence,
      };
    };
    const boundaries = ground.trace(exit, []);
    let representative: unknown = null;
    for (let at = boundaries.length - 1; at >= 0; at--) {
      const isLast = at === boundaries.length - 1;
      const own = end(at);
      if (isLast || (boundaries[at]!.dependsOn & event.footprint) !== 0) representative = own;
      else expect(own, `boundary ${at}`).toEqual(representative);
    }
  });
});

describe('the reference payload', () => {
  it('survives flips, machine checks and stops at every instruction of its handling of reason 0', () => {
    const exploration = new Exploration({
      payload,
      seed: 1,
      events: CONTRACT_EVENTS.filter(({ name }) => ['flip', 'mce', 'stop'].includes(name)),
      reasons: new Set(['EXCEPTION_NMI']),
      depth: 1,
    });
    Array.from(exploration.run());
    const schedules = exploration.findings.map(({ schedule }) => formatSchedule(schedule));
    expect(schedules).toEqual([]);
  });
});
