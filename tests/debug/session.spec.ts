/** The session core under scripts: where it stops, how it goes on, and that nobody notices. */
import { describe, expect, it, vi } from 'vitest';
import { toIndex } from '../../abi/uint.js';
import { parsePosition, printPosition } from '../../emulator/debug/position.js';
import type { BreakpointSpec } from '../../emulator/debug/breakpoints.js';
import type { Cause, LineOf, Moving, Resume } from '../../emulator/debug/resume.js';
import { debugRun, type DebugSession } from '../../emulator/debug/session.js';
import { Conductor } from '../../emulator/machine/conductor.js';
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

  it('at the end of the scenario, from where the way back is short, and leads to the same end', () => {
    const begun = vi.spyOn(Conductor.prototype, 'run');
    const ends: unknown[] = [];
    const seen = follow([
      { kind: 'continue' },
      (session) => {
        ends.push(outcomeOf(session.conductor));
        return { kind: 'step', ...BACK };
      },
      { kind: 'step', count: 3_000, ...BACK },
      { kind: 'continue' },
      (session) => {
        ends.push(outcomeOf(session.conductor));
        return { kind: 'quit' };
      },
    ]);
    expect(begun).toHaveBeenCalledTimes(1);
    begun.mockRestore();
    expect(seen[2]).toMatch(/^done /);
    expect(seen[3]).toMatch(/^done /);
    expect(seen[4]).toBe(seen[1]);
    expect(ends[1]).toEqual(ends[0]);
    expect(ends[0]).toEqual(undebugged());
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

describe('a stop of two causes', () => {
  /** An R14 that the guest never had, right before VMRESUME: found at the entry, and so told at the next boundary. */
  function withFinding(spec: BreakpointSpec | null, next: Resume): Cause[] {
    const causes: Cause[] = [];
    follow([
      { kind: 'finish' },
      (session) => {
        session.edit({ kind: 'register', vcpu: session.lane.id, name: 'R14', value: 0x1234n });
        if (spec !== null) session.breakpoints.add(spec);
        return next;
      },
      (_session, { cause }) => {
        causes.push(cause);
        return { kind: 'continue' };
      },
    ]);
    return causes;
  }
  const found = [expect.objectContaining({ invariant: 'guest-registers' })];

  it('tells of a finding', () => {
    const causes = withFinding(null, { kind: 'continue' });
    expect(causes).toEqual([{ kind: 'finding', findings: found }]);
  });

  it('tells of a finding at a breakpoint', () => {
    const causes = withFinding({ kind: 'exit', reason: null }, { kind: 'continue' });
    expect(causes).toEqual([expect.objectContaining({ kind: 'breakpoint', findings: found })]);
  });

  it.each<Resume>([{ kind: 'step' }, { kind: 'continue' }])(
    'tells of what the payload does where it does it: $kind',
    (next) => {
      const seen = follow([
        (session) => {
          const { id } = session.lane;
          session.edit({ kind: 'register', vcpu: id, name: 'RIP', value: 0xdead_beefn });
          return next;
        },
      ]);
      expect(seen[1]).toMatch(/^finding 1:1 vCPU 0 caretaker_trap_stubs\+/);
    },
  );

  it('tells of findings at the end', () => {
    const causes = withFinding(null, { kind: 'end' });
    expect(causes).toEqual([{ kind: 'ended', error: null, findings: found }]);
  });
});

describe('a breakpoint where no code may run, as the return of a call by hand has it', () => {
  it('stops before the fetch, which faults when the machine goes on', () => {
    let address = 0n;
    let broken = 0;
    const seen = follow([
      ({ image, lane }) => {
        const entry = image.symbol('caretaker_dispatch')!;
        return { kind: 'until', addresses: [image.placed(lane, entry)] };
      },
      (session) => {
        const rsp = session.lane.pcpu.registers.get('RSP');
        address = rsp - 0x400n;
        const bytes = Array.from({ length: 8 }, (_, index) =>
          toIndex((address >> BigInt(8 * index)) & 0xffn),
        );
        session.edit({ kind: 'memory', address: rsp, bytes });
        session.breakpoints.add({ kind: 'address', address });
        return { kind: 'continue' };
      },
      (session) => {
        expect(session.lane.rip).toBe(address);
        broken = session.machine.ledger.findings.length;
        return { kind: 'continue' };
      },
    ]);
    expect(broken).toBe(0);
    expect(seen.slice(2).map((line) => line.split(' ')[0])).toEqual(['breakpoint', 'finding']);
  });
});

describe('a controller that looks at another vCPU than the one that stopped', () => {
  const LOOKS_AT_OTHER: readonly Resume[] = [
    { kind: 'step' },
    { kind: 'next' },
    { kind: 'finish' },
    { kind: 'step-line', lineOf: () => null },
    { kind: 'step-range', ranges: [] },
  ];

  it.each(LOOKS_AT_OTHER)('$kind is of that vCPU, forwards and backwards', (resume) => {
    const vcpus: (number | null)[] = [];
    const other = (session: DebugSession, backwards: boolean): Resume => {
      vcpus.push(session.stop.vcpu);
      session.select(session.stop.vcpu === 0 ? 1 : 0);
      return { ...(resume as Moving), backwards };
    };
    follow([
      at('20:9'),
      (session) => other(session, false),
      (session) => other(session, false),
      (session) => other(session, true),
      (session) => other(session, true),
      (session) => other(session, true),
    ]);
    expect(vcpus).toHaveLength(5);
    const [first, second] = vcpus;
    expect(second).not.toBe(first);
    expect(vcpus).toEqual([first, second, first, second, first]);
  });

  it('goes on inside an exit that waits', () => {
    const seen = follow([
      (session) => {
        session.breakpoints.add({
          kind: 'code',
          address: session.image.symbol('caretaker_block')!,
        });
        return { kind: 'continue' };
      },
      (session) => {
        session.breakpoints.clear();
        return { kind: 'step', count: 2_000 };
      },
      (session) => {
        session.select(1);
        return { kind: 'next' };
      },
    ]);
    expect(seen[1]).toMatch(/ vCPU 1 caretaker_block\+0$/);
    expect(seen[2]).toMatch(/ vCPU 0 /);
    // Where it polls, an interrupt may come: then it is in the handler, inside the same exit.
    expect(seen[3]).toMatch(/^done 87:\d+ vCPU 1 /);
  });
});

describe('a wish to stop', () => {
  it('stops a run to the end', () => {
    const interrupt = new Int32Array(new SharedArrayBuffer(4));
    const causes: string[] = [];
    debugRun({ scenario: SHORT, payload: referencePayload(), interrupt }, (_session, { cause }) => {
      causes.push(cause.kind);
      if (causes.length === 1) Atomics.store(interrupt, 0, 1);
      return { kind: cause.kind === 'ended' ? 'quit' : 'end' };
    });
    expect(causes).toEqual(['start', 'interrupted', 'ended']);
  });

  it('ends a way back where it began, whenever it comes', () => {
    const interrupt = new Int32Array(new SharedArrayBuffer(4));
    /** Lines that are asked for before the wish comes: of the boundary at hand, then of each that is looked at. */
    let left = Infinity;
    const lineOf: LineOf = () => {
      if (--left === 0) Atomics.store(interrupt, 0, 1);
      return { key: 'the only line', begins: 'statement' };
    };
    const LOOKS = 12;
    const seen: string[] = [];
    debugRun(
      { scenario: SHORT, payload: referencePayload(), interrupt },
      (_session, { cause, position }) => {
        if (cause.kind === 'start') return at(`6:${LOOKS}`);
        seen.push(`${cause.kind} ${printPosition(position)}`);
        left = seen.length;
        return seen.length > LOOKS + 1 ? { kind: 'quit' } : { kind: 'step-line', lineOf, ...BACK };
      },
    );
    const [first, ...interrupted] = seen;
    expect(first).toBe(`done 6:${LOOKS}`);
    expect(interrupted.slice(0, LOOKS)).toEqual(Array(LOOKS).fill(`interrupted 6:${LOOKS}`));
    expect(interrupted[LOOKS]).toBe('done 6:0');
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
