/** The session core under scripts: where it stops, how it goes on, and that nobody notices. */
import { describe, expect, it } from 'vitest';
import { parsePosition, printPosition } from '../../emulator/debug/position.js';
import type { Resume } from '../../emulator/debug/resume.js';
import { debugRun } from '../../emulator/debug/session.js';
import { referencePayload } from '../support/reference-payload.js';
import { describeStop, fingerprint, follow, outcomeOf, SHORT, undebugged } from './scripted.js';

const at = (text: string): Resume => ({ kind: 'seek', position: parsePosition(text)! });
const BACK = { backwards: true } as const;

describe('where a session stops', () => {
  it('first at HOST_RIP of the first exit', () => {
    expect(follow([])).toEqual(['start 1:0 vCPU 0 caretaker_vmexit+0']);
  });

  it('after as many instructions as were asked for', () => {
    const seen = follow([{ kind: 'step' }, { kind: 'step', count: 10 }]);
    expect(seen.map((line) => line.split(' ')[1])).toEqual(['1:0', '1:1', '1:11']);
  });

  it('at the next exit, of whichever core, behind the VMRESUME of this one', () => {
    const seen = follow([{ kind: 'finish' }, { kind: 'step' }]);
    expect(seen[1]).toMatch(/^exit-ends 1:\d+ vCPU 0 /);
    expect(seen[2]).toMatch(/^done 2:0 vCPU \d caretaker_vmexit\+0$/);
  });

  it('behind a call, having run all of it', () => {
    const seen = follow([
      (session) => {
        const { image } = session;
        const address = image.symbol('caretaker_dispatch')!;
        return { kind: 'until', addresses: [image.placed(session.lane, address)] };
      },
      { kind: 'step', ...BACK },
      { kind: 'next' },
      { kind: 'next', ...BACK },
      { kind: 'step' },
      { kind: 'finish' },
      { kind: 'step', ...BACK },
      { kind: 'finish', ...BACK },
    ]);
    const [, entry, call, behind, again, inside, finished, returning, called] = seen.map((line) =>
      line.replace(/^\S+ /, ''),
    );
    expect(entry).toContain('caretaker_dispatch+0');
    expect(call).toContain('caretaker_vmexit+');
    expect(behind).toContain('caretaker_vmexit+');
    expect(behind).not.toBe(call);
    expect(again).toBe(call);
    expect(inside).toBe(entry);
    expect(finished).toBe(behind);
    expect(returning).toContain('caretaker_dispatch+');
    expect(called).toBe(call);
  });

  it('at the end of the scenario, from where there is a way back', () => {
    const seen = follow([{ kind: 'continue' }, { kind: 'step', ...BACK }, { kind: 'continue' }]);
    expect(seen[1]).toMatch(/^ended /);
    expect(seen[2]).toMatch(/^done /);
    expect(seen[3]).toBe(seen[1]);
  });

  it('where it was when a position is sought that does not exist', () => {
    const seen = follow([{ kind: 'step' }, at('3:100000'), at('999999:0'), at('1:0')]);
    expect(seen.slice(1).map((line) => line.split(' vCPU')[0])).toEqual([
      'done 1:1',
      'not-reached 1:1',
      'not-reached 1:1',
      'done 1:0',
    ]);
  });

  it('at breakpoints, forwards and backwards at the same ones', () => {
    const forwards: string[] = [];
    const backwards: string[] = [];
    debugRun({ scenario: SHORT, payload: referencePayload() }, (session, stop) => {
      if (stop.cause.kind === 'start') {
        const address = session.image.symbol('caretaker_dispatch')!;
        session.breakpoints.add({ kind: 'code', address });
        return { kind: 'continue' };
      }
      if (stop.cause.kind === 'breakpoint' && forwards.length < 30) {
        forwards.push(describeStop(session, stop));
        return forwards.length < 30 ? { kind: 'continue' } : { kind: 'continue', ...BACK };
      }
      if (stop.cause.kind === 'breakpoint') backwards.push(describeStop(session, stop));
      if (stop.cause.kind === 'history-start') return { kind: 'quit' };
      return { kind: 'continue', ...BACK };
    });
    expect(backwards).toEqual(forwards.slice(0, -1).reverse());
  });

  it('at a breakpoint of one vCPU for that one alone', () => {
    const vcpus = new Set<number | null>();
    debugRun({ scenario: SHORT, payload: referencePayload() }, (session, stop) => {
      if (stop.cause.kind === 'start') {
        const address = session.image.symbol('caretaker_dispatch')!;
        session.breakpoints.add({ kind: 'code', address }, { vcpu: 0 });
      } else vcpus.add(stop.vcpu);
      return stop.cause.kind === 'ended' ? { kind: 'quit' } : { kind: 'continue' };
    });
    expect(vcpus.has(0)).toBe(true);
    expect(vcpus.size).toBeLessThanOrEqual(2);
  });
});

describe('what a session changes', () => {
  it('is nothing: a run that stops everywhere ends as one that stops nowhere', () => {
    let outcome: unknown;
    let stops = 0;
    debugRun({ scenario: SHORT, payload: referencePayload() }, (session, { cause }) => {
      stops++;
      if (cause.kind !== 'ended') return { kind: 'step' };
      outcome = outcomeOf(session.conductor);
      return { kind: 'quit' };
    });
    expect(stops).toBeGreaterThan(10_000);
    expect(outcome).toEqual(undebugged());
  });

  it('is the same machine again when a position is sought again', () => {
    const prints: string[] = [];
    const note = (resume: Resume) => (session: Parameters<typeof fingerprint>[0]) => {
      prints.push(fingerprint(session));
      return resume;
    };
    follow([
      at('9:40'),
      note(at('70:5')),
      note(at('9:40')),
      note(at('70:5')),
      note({ kind: 'quit' }),
    ]);
    expect(prints[2]).toBe(prints[0]);
    expect(prints[3]).toBe(prints[1]);
    expect(prints[0]).not.toBe(prints[1]);
  });

  it('is what it was told to, in every replay too, and what comes later is taken anew', () => {
    const values: bigint[] = [];
    follow([
      at('4:20'),
      (session) => {
        session.edit({ kind: 'register', vcpu: session.lane.id, name: 'R15', value: 0x1234n });
        return { kind: 'step' };
      },
      { kind: 'step', ...BACK },
      (session) => {
        values.push(session.lane.pcpu.registers.get('R15'));
        return { kind: 'step', ...BACK };
      },
      (session) => {
        values.push(session.lane.pcpu.registers.get('R15'));
        return { kind: 'quit' };
      },
    ]);
    expect(values[0]).toBe(0x1234n);
    expect(values[1]).not.toBe(0x1234n);
  });
});

describe('a position', () => {
  it.each([
    ['12:345', '12:345'],
    ['12', '12:0'],
    ['0:0', '0:0'],
  ])('%s is printed as %s', (text, printed) => {
    expect(printPosition(parsePosition(text)!)).toBe(printed);
  });

  it.each(['', ':', '1:', ':1', '-1:2', '1:2:3', '0x1:2', '1 2', '9999999999'])(
    '%j is none',
    (text) => {
      expect(parsePosition(text)).toBeNull();
    },
  );
});
