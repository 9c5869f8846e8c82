/** Recordings as a file from anywhere: changed at random they are read or refused with file, field and rule. */
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { readRecording, RecordingError, writeRecording } from '../../emulator/debug/recording.js';
import { debugRun, type DebugSession } from '../../emulator/debug/session.js';
import { referencePayload } from '../support/reference-payload.js';
import { SHORT } from './scripted.js';

const FILE = 'some.json';
let session: DebugSession;
let text = '';
beforeAll(() => {
  session = debugRun({ scenario: SHORT, payload: referencePayload() }, (at) => {
    at.edit({ kind: 'register', vcpu: at.lane.id, name: 'R13', value: 5n });
    at.edit({ kind: 'memory', address: 0x1000n, bytes: [1, 2] });
    at.edit({ kind: 'exit', vcpu: at.lane.id, exit: { basic: 10, registers: { RAX: 1n } } });
    at.edit({ kind: 'host', step: 'preserve' });
    text = writeRecording(at);
    return { kind: 'quit' };
  });
});

/** The refusal of a text, null for one that can be replayed; anything else that is thrown fails the test. */
function refusal(edited: string): RecordingError | null {
  try {
    readRecording(edited, FILE, session);
    return null;
  } catch (error) {
    if (error instanceof RecordingError) return error;
    throw error;
  }
}

describe('a recording', () => {
  it('is read as it was written', () => {
    expect(refusal(text)).toBeNull();
  });

  // prettier-ignore
  it.each<[string, (text: string) => string, string]>([
    ['a register named toString', (from) => from.replace('"R13"', '"toString"'), 'changes.0.edit.name'],
    ['a vCPU that the scenario has not', (from) => from.replace('"kind": "register",\n        "vcpu": 1', '"kind": "register", "vcpu": 2').replace('"kind": "register",\n        "vcpu": 0', '"kind": "register", "vcpu": 2'), 'changes.0.edit.vcpu'],
    ['an address beyond memory', (from) => from.replace('"0x1000"', '"0xffffffffffffffff"'), 'changes.1.edit.address'],
    ['an exit with a register of no name', (from) => from.replace('"RAX"', '"__proto__x"'), 'changes.2.edit.exit.registers.__proto__x'],
    ['a host step of no name', (from) => from.replace('"step": "preserve"', '"step": "prepare"'), 'changes.3.edit.step'],
    ['another seed', (from) => from.replace('"seed": 3', '"seed": 4'), 'seed'],
  ])('with %s is refused with file, field and rule', (_what, edit, field) => {
    const error = refusal(edit(text));
    expect(error?.details).toMatchObject({ file: FILE, field });
    expect(error?.details['rule']).not.toBe('');
    expect(error?.message.startsWith(`${FILE}: ${field}: `)).toBe(true);
  });

  it('with changed bytes is read, or refused with the name of the file', () => {
    const change = fc.tuple(fc.nat(), fc.integer({ min: 32, max: 126 }));
    const seen = new Set<string>();
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 3 }), (changes) => {
        const bytes = Buffer.from(text);
        for (const [at, byte] of changes) bytes[at % bytes.length] = byte;
        const error = refusal(bytes.toString());
        seen.add(error?.code ?? 'read');
        if (error !== null) expect(error.details['file']).toBe(FILE);
      }),
      { numRuns: 600 },
    );
    expect(seen).toEqual(
      new Set(['read', 'RECORDING_JSON', 'RECORDING_SCHEMA', 'RECORDING_OTHER_RUN']),
    );
  });

  it('that changes a vCPU before it has run ends the run, and says so', () => {
    const codes: (string | undefined)[] = [];
    const early = { time: 0, edit: { kind: 'nmi', vcpu: 1 } as const };
    debugRun({ scenario: SHORT, payload: referencePayload() }, (_session, { cause }) => {
      codes.push(cause.kind === 'ended' ? cause.error?.code : cause.kind);
      return codes.length > 1
        ? { kind: 'quit' }
        : { kind: 'replay', entries: [early], position: { exit: 3, instruction: 0 } };
    });
    expect(codes).toEqual(['start', 'VCPU_NOT_STARTED']);
  });
});
