/** The REPL under scripts of commands: what they print, what they refuse, and that a failure ends a script. */
import { beforeAll, describe, expect, it } from 'vitest';
import { COMMANDS } from '../../emulator/debug/repl/commands/index.js';
import { complete } from '../../emulator/debug/repl/asking.js';
import { scriptController, type ScriptResult } from '../../emulator/debug/repl/script.js';
import { debugRun, DebugSession } from '../../emulator/debug/session.js';
import { SourceLevel } from '../../emulator/debug/source/source-level.js';
import { PLAIN_CANVAS } from '../../emulator/debug/source/views/paint.js';
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

/** Runs commands; everything printed behind the first context, and the line that failed. */
function run(...lines: readonly string[]): { text: string; failedLine: number | null } {
  const printed: string[] = [];
  const files = new Map<string, string>();
  const result: ScriptResult = { failedLine: null };
  const parts = {
    level,
    canvas: () => PLAIN_CANVAS,
    print: (line: string) => printed.push(line),
    files: {
      read: (path: string) => files.get(path) ?? '',
      write: (path: string, text: string) => void files.set(path, text),
    },
  };
  const script = ['context off', ...lines];
  debugRun(
    { scenario: SHORT, payload: referencePayload() },
    scriptController(script, parts, result),
  );
  const start = printed.findIndex((line) => line.includes('backtrace')) + 2;
  const { failedLine } = result;
  return {
    text: printed.slice(start).join('\n'),
    failedLine: failedLine === null ? null : failedLine - 1,
  };
}

describe('a script of commands', () => {
  it('steps by instruction, by line and back again', () => {
    const { text, failedLine } = run('stepi 3', 'where', 'reverse-stepi 2', 'seek 2:5', 'restart');
    expect(failedLine).toBeNull();
    expect(text.split('\n').map((line) => line.split(' ')[0])).toEqual([
      '1:3',
      '1:3',
      '1:1',
      '2:5',
      '1:0',
    ]);
  });

  it('a step by line and its reverse come back to the line', () => {
    const { text } = run(
      'until caretaker_dispatch',
      'next',
      'next',
      'reverse-next',
      'reverse-next',
    );
    const lines = text.split('\n').map((line) => /\w+\.[chS]:\d+/.exec(line)?.[0]);
    expect(lines[3]).toBe(lines[1]);
    expect(lines[0]).toMatch(/^dispatch\.c:/);
  });

  it('a condition decides whether a breakpoint stops', () => {
    const { text } = run('break caretaker_dispatch if $exit >= 7', 'continue');
    expect(text).toMatch(/\n7:\d+ vCPU/);
  });

  it('abbreviations, comments and empty lines are understood', () => {
    expect(run('# a comment', '', 'si', 'rsi', 'disas 1', 'p 6 * 7').text).toMatch(/\n42$/);
  });

  it.each([
    ['info registers rip', 'registers rip'],
    ['info r cs', 'registers cs'],
    ['i b', 'breakpoints'],
    ['info threads', 'vcpus'],
    ['info locals', 'locals'],
    ['info symbol caretaker_dispatch', 'symbol caretaker_dispatch'],
  ])('%s is %s', (gdb, own) => {
    expect(run(gdb)).toEqual(run(own));
  });

  it.each([
    ['info', /info on what: registers, /],
    ['info s', /info on what: stack, source, symbol/],
    ['info regsters', /did you mean "registers"\?/],
    ['steppi', /did you mean "stepi"\?/],
    ['re', /"re" may be: /],
    ['break caretaker_dispatc', /did you mean "caretaker_dispatch"\?/],
    ['print ccb.attach_stat', /attach_state/],
    ['vmcs GUEST_RPI', /GUEST_RIP/],
    ['catch exit CPIUD', /did you mean "CPUID"\?/],
    ['catch phase kexce', /kexec/],
    ['x 0x7fffffffffffffff', /not mapped/],
    ['x/4xg $rsp - 8', /^0x[0-9a-f]+: .*\n.*not mapped/],
    ['hexdump 0x7fffffffffffffff', /not mapped/],
    ['disassemble *0', /not mapped/],
    ['until *0x123456', /no payload has code there/],
    ['inject exit CPUID 1 2 3', /CPUID takes at most 2, and there is "3"/],
    ['inject exit EPT_VIOLATION 1 2 3 4', /at most 3/],
    ['frame 0 100', /nothing is expected behind "0"/],
    ['frame 0x', /frames are 0 to/],
    ['help exit x', /nothing is expected behind "exit"/],
    ['save one two', /nothing is expected behind "one"/],
    ['flip sideways', /attached or detached/],
    ['flip', /flip takes what the flag becomes/],
    ['break exit HLT', /an event, not a place: catch exit HLT/],
    ['host prserve', /did you mean "preserve"\?/],
    ['host retrieve', /kexec comes first/],
    ['inject nim', /did you mean "nmi"\?/],
    ['inject interrupt 4096', /vectors are 16 to 255/],
    ['seek nowhere', /"nowhere" is no position/],
    ['seek 1:100000', /1:100000/],
    ['delete 9', /no breakpoint 9/],
    ['frame 99', /frames are 0 to/],
    ['vcpu 9', /no vCPU 9/],
    ['restore nothing', /no state is named/],
    ['replay no-file', /no-file/],
    ['set $rax', /assigns nothing|VALUE/],
    ['print 1 +', /./],
    ['x/9q 0', /no format or size/],
    ['break *1', /no code of the payload/],
    ['watch 5', /nothing that can be watched/],
    ['quit now', /nothing is expected/],
  ])('%s is refused in words, and ends the script there', (line, why) => {
    const { text, failedLine } = run(line, 'print 12345');
    expect(text).toMatch(why);
    expect(text).not.toContain('12345\n');
    expect(failedLine).toBe(1);
    expect(text).not.toContain('bug in caretaker-emu');
    expect(text).not.toMatch(/^\s+at .*\.(ts|js):/m);
  });

  it('tells phases in the words in which they are caught, and which began at once', () => {
    const { text } = run('catch phase kexec', 'continue', 'delete', 'catch phase', 'continue');
    const told = text.split('\n').filter((line) => line.startsWith('phase'));
    expect(told).toEqual(['phase kexec: preserve, then kexec', 'phase: next-kernel']);
  });

  it('cuts nothing off where there is no terminal to fit', () => {
    const { text } = run('until caretaker_wrmsr', 'context', 'backtrace', 'vmcs', 'telemetry');
    expect(text.split('\n').filter((line) => line.endsWith('>') && !/<[^<]*>$/.test(line))).toEqual(
      [],
    );
    expect(text.split('\n').some((line) => line.length > 80)).toBe(true);
  });

  it('what was changed is there, and gone before it was changed', () => {
    const { text } = run('si 20', 'set $r15 = 0x77', 'si', 'p/x $r15', 'rsi 2', 'p/x $r15');
    const values = text.split('\n').filter((line) => /^0x[0-9a-f]+$/.test(line));
    expect(values[0]).toBe('0x77');
    expect(values[1]).not.toBe('0x77');
  });

  it.each([
    ['IA32_LSTAR', '0x1234'],
    ['[0x808]', '0x20'],
    // Those of the core's registers.
    ['IA32_EFER', '0x501'],
    ['IA32_GS_BASE', '0x7000'],
    ['IA32_FS_BASE', '0x8000'],
  ])('MSR %s is set', (name, value) => {
    const place = name.startsWith('[') ? `msr${name}` : `msr.${name}`;
    expect(run(`set ${place} = ${value}`, `p/x ${place}`).text).toBe(value);
  });

  // The run's time; a timer in another mode; the APIC's id.
  it.each(['msr.IA32_TIME_STAMP_COUNTER', 'msr.IA32_TSC_DEADLINE', 'msr[0x802]'])(
    '%s has no value to set',
    (place) => {
      const { text, failedLine } = run(`set ${place} = 1`);
      expect(text).toMatch(/cannot be set to 0x1$/);
      expect(failedLine).toBe(1);
    },
  );

  it('an injected exit is the next of its guest', () => {
    const { text } = run('catch exit CPUID', 'inject exit CPUID 0x15', 'continue', 'p $rax');
    expect(text).toMatch(/breakpoint 1: exit CPUID/);
    expect(text).toMatch(/\n21$|\n0x15$/);
  });

  it('a saved state comes back with what was changed before it, and without what was changed after', () => {
    const { text } = run(
      'si 10',
      'set $r14 = 1',
      'save here',
      'si 5',
      'set $r14 = 2',
      'restore here',
      'p $r14',
      'where',
    );
    expect(text).toMatch(/\n1\n1:10 /);
  });

  it('a recording is replayed to its position with its changes', () => {
    const { text, failedLine } = run(
      'seek 6:9',
      'set $r13 = 99',
      'si 2',
      'record file',
      'restart',
      'replay file',
      'p $r13',
    );
    expect(failedLine).toBeNull();
    expect(text).toMatch(/6:11 vCPU .*\n99$/);
  });

  it('every command has a summary and an example that begins with its name', () => {
    for (const { name, summary, example } of COMMANDS) {
      expect(summary).not.toBe('');
      expect(example.split(/[ /]/)[0]).toBe(name);
    }
    const names = COMMANDS.flatMap(({ name, aliases }) => [name, ...(aliases ?? [])]);
    expect(new Set(names).size).toBe(names.length);
  });

  it.each(COMMANDS.filter(({ name }) => name !== 'quit').map(({ name }) => name))(
    'help %s shows the example',
    (name) => {
      expect(run(`help ${name}`).text).toContain('example: ');
    },
  );
});

describe('what help and lists print', () => {
  it('fits in 80 columns, broken between words', () => {
    const lines = run('help', 'hexdump $rip').text.split('\n');
    expect(lines.filter((line) => line.length > 80)).toEqual([]);
    const words = lines.join(' ').replace(/ +/g, ' ');
    for (const { summary } of COMMANDS) expect(words).toContain(summary);
  });

  it('counts the hits of a breakpoint', () => {
    const lines = run('break caretaker_dispatch', 'c', 'bl', 'c', 'bl').text.split('\n');
    expect(
      lines.filter((line) => / hit /.test(line)).map((line) => /hit .*/.exec(line)![0]),
    ).toEqual(['hit once', 'hit 2 times']);
  });
});

describe('completion', () => {
  it('goes on from the word at hand with what may follow', () => {
    const words = { '': ['step', 'stepi'], catch: ['exit'], 'catch exit': ['CPUID'] };
    expect(complete(words, 'st')).toEqual([['step ', 'stepi '], 'st']);
    expect(complete(words, 'catch ')).toEqual([['exit '], '']);
    expect(complete(words, 'catch exit cp')).toEqual([['CPUID '], 'cp']);
  });
});
