/** Conditions of breakpoints: checked when they are set, asked where they are hit. */
import { beforeAll, describe, expect, it } from 'vitest';
import type { BreakpointSpec } from '../../emulator/debug/breakpoints.js';
import { debugRun, DebugSession } from '../../emulator/debug/session.js';
import { conditionOf } from '../../emulator/debug/source/condition.js';
import { parseLocation } from '../../emulator/debug/source/location.js';
import { SourceLevel } from '../../emulator/debug/source/source-level.js';
import { referencePayload } from '../support/reference-payload.js';
import { SHORT } from './scripted.js';

let level: SourceLevel;
beforeAll(async () => {
  const root = new URL('../..', import.meta.url).pathname;
  level = await SourceLevel.create(DebugSession.imageOf(referencePayload()), {
    payloadFile: null,
    root,
  });
});

/** What the first hit of a condition at a function finds: its problem, and the value of a register; null without one. */
function firstHit(
  text: string,
  at = 'caretaker_count_fastpath',
): { problem: string | null; rsi: bigint } | null {
  let found: { problem: string | null; rsi: bigint } | null = null;
  debugRun({ scenario: SHORT, payload: referencePayload() }, (session, { cause }) => {
    if (cause.kind === 'start') {
      const place = parseLocation(at, level.core(session));
      if (place.kind !== 'linked') throw new Error(at);
      const spec: BreakpointSpec = { kind: 'code', address: place.addresses[0]! };
      session.breakpoints.add(spec, { condition: conditionOf(text, level, session, place) });
      return { kind: 'continue' };
    }
    if (cause.kind === 'breakpoint') {
      const problem = cause.breakpoints[0]!.condition!.problem;
      found = { problem, rsi: session.lane.pcpu.registers.get('RSI') };
    }
    return { kind: 'quit' };
  });
  return found;
}

describe('a condition', () => {
  it.each([
    ['a parameter of the function', 'reason == EXIT_REASON_HLT'],
    ['a pointer that is one', 'ccb->attach_state == 1 && reason == EXIT_REASON_HLT'],
    ['a register', '$rsi == 12'],
    ['a VMCS field', '(vmcs.VM_EXIT_REASON & 0xffff) == EXIT_REASON_HLT'],
  ])('is asked of %s at each hit', (_, text) => {
    expect(firstHit(text)).toEqual({ problem: null, rsi: 12n });
  });

  it('that never holds never stops', () => {
    expect(firstHit('reason == 0xffff')).toBeNull();
  });

  it('that cannot be told at a hit stops there and says why', () => {
    expect(firstHit('*0 == 1')?.problem).toBe('no memory at 0x0');
  });

  /** What a condition is refused with. */
  function refusal(text: string): string {
    let message = '';
    debugRun({ scenario: SHORT, payload: referencePayload() }, (session) => {
      const place = parseLocation('caretaker_count_fastpath', level.core(session));
      try {
        conditionOf(text, level, session, place);
      } catch (error) {
        message = String(error);
      }
      return { kind: 'quit' };
    });
    return message;
  }

  it.each([
    ['reason ==', /a value is missing at the end/],
    ['resaon == 1', /no name "resaon" there; did you mean "reason"/],
    ['ccb->attach_stat == 1', /has no field "attach_stat"/],
    ['vmcs.GUEST_RPI == 1', /no VMCS field "GUEST_RPI"; did you mean "GUEST_RIP"/],
    ['$raxx == 1', /no register \$raxx/],
  ])('%s is refused when it is set', (text, why) => {
    expect(refusal(text)).toMatch(why);
  });
});
