/** The source level over a real run: backtraces, variables, places, the context and the views. */
import { stripVTControlCharacters } from 'node:util';
import { beforeAll, describe, expect, it } from 'vitest';
import { Disassembler } from '../../../emulator/cpu/disassembler.js';
import { debugRun, type DebugSession } from '../../../emulator/debug/session.js';
import { backtraceOf, framesOf } from '../../../emulator/debug/source/backtrace.js';
import { SourceError } from '../../../emulator/debug/source/errors.js';
import { editOf, parseAssignment } from '../../../emulator/debug/source/expression/assign.js';
import { evaluateNumber } from '../../../emulator/debug/source/expression/evaluate.js';
import { ExpressionScope } from '../../../emulator/debug/source/expression/scope.js';
import type { LaneView } from '../../../emulator/debug/source/lane-view.js';
import { addressesIn, parseLocation } from '../../../emulator/debug/source/location.js';
import { examine, hexdump, parseFormat } from '../../../emulator/debug/source/memory/format.js';
import { pageView } from '../../../emulator/debug/source/memory/page-view.js';
import { SourceLevel } from '../../../emulator/debug/source/source-level.js';
import { SourceText } from '../../../emulator/debug/source/source-text.js';
import { variablesOf } from '../../../emulator/debug/source/values/locate.js';
import { render } from '../../../emulator/debug/source/values/render.js';
import { codeView, sourceView } from '../../../emulator/debug/source/views/code.js';
import { disassembleAt } from '../../../emulator/debug/source/views/disassembly.js';
import { plain, widthOf } from '../../../emulator/debug/source/views/paint.js';
import { structureView } from '../../../emulator/debug/source/views/structure.js';
import { vmcsView } from '../../../emulator/debug/source/views/vmcs.js';
import { CCB_RULE } from '../../../emulator/host/kvm/ccb-rule.js';
import { parseElf } from '../../../loader/elf.js';
import { referencePayload } from '../../support/reference-payload.js';
import { SHORT } from '../scripted.js';

const root = new URL('../../..', import.meta.url).pathname;
const canvas = { columns: 80, cutAt: 80, paint: plain, isUnicode: false };
let level: SourceLevel;
let disassembler: Disassembler;

beforeAll(async () => {
  const image = parseElf(referencePayload(), CCB_RULE);
  level = await SourceLevel.create(image, { payloadFile: null, root });
  disassembler = await Disassembler.create();
});

/** Looks at the first stop at a symbol; `before` may change the machine at the first stop of all. */
function at<T>(
  symbol: string,
  look: (core: LaneView, session: DebugSession) => T,
  before: (session: DebugSession) => void = () => undefined,
): T {
  let found: { value: T } | undefined;
  let isFirst = true;
  debugRun({ scenario: SHORT, payload: referencePayload() }, (session, stop) => {
    if (isFirst) {
      isFirst = false;
      before(session);
      session.breakpoints.add({ kind: 'code', address: session.image.symbol(symbol)! });
      return { kind: 'continue' };
    }
    expect(stop.cause.kind).toBe('breakpoint');
    found = { value: look(level.core(session), session) };
    return { kind: 'quit' };
  });
  return found!.value;
}

const names = (core: LaneView): string[] => backtraceOf(core).map(({ name }) => name);

describe('a backtrace', () => {
  it('goes by call frame information to the VM exit', () => {
    const [found, last] = at('caretaker_count_fastpath', (core) => [
      names(core),
      framesOf(core).at(-1)!.cfa === core.vmcsField('HOST_RSP'),
    ]);
    expect(found).toEqual(['caretaker_count_fastpath', 'caretaker_dispatch', 'caretaker_vmexit']);
    expect(last).toBe(true);
  });

  it('shows what the compiler has inlined', () => {
    at('caretaker_count_fastpath', (core, session) => {
      const { functions } = level.program.debug!;
      const inlined = functions.startsOf('answer');
      expect(inlined.length).toBeGreaterThan(0);
      expect(functions.startsOf('nobody')).toEqual([]);
      const address = core.source!.placed(inlined[0]!);
      session.edit({ kind: 'register', vcpu: core.id, name: 'RIP', value: address });
      const [first, second] = backtraceOf(core);
      expect(first).toMatchObject({ name: 'answer', isInlined: true });
      expect(second).toMatchObject({ name: 'caretaker_dispatch', isInlined: false });
    });
  });

  it('goes through the frame of an NMI on its own stack', () => {
    const frames = at(
      'caretaker_trap',
      (core) => [names(core), backtraceOf(core).map(({ frame }) => frame.isInterrupted)],
      (session) => {
        session.edit({ kind: 'nmi', vcpu: session.selected! });
      },
    );
    expect(frames[0]).toEqual(['caretaker_trap', 'caretaker_trap_stubs', 'caretaker_vmexit']);
    expect(frames[1]).toEqual([false, false, true]);
  });

  it('restores the registers of the interrupted frame', () => {
    at(
      'caretaker_trap',
      (core) => {
        const interrupted = framesOf(core)[2]!;
        expect(interrupted.registers.get(7)).toBe(core.vmcsField('HOST_RSP'));
        expect(interrupted.address).toBe(core.source!.addressOf('caretaker_vmexit'));
      },
      (session) => {
        session.edit({ kind: 'nmi', vcpu: session.selected! });
      },
    );
  });
});

describe('the variables of a frame', () => {
  it('have the values of their registers, and say when there is none', () => {
    const shown = at('caretaker_count_fastpath', (core) =>
      variablesOf(core, framesOf(core)[0]!).map(({ name, value }) => `${name} = ${render(value)}`),
    );
    expect(shown[0]).toMatch(/^ccb = \(struct caretaker_ccb \*\) 0x/);
    expect(shown[1]).toMatch(/^reason = \d+$/);
    expect(shown[2]).toBe('telemetry = <optimised out>');
  });

  it('are what a name in an expression means', () => {
    at('caretaker_count_fastpath', (core) => {
      const scope = new ExpressionScope(core, framesOf(core)[0]);
      expect(evaluateNumber('reason == (vmcs.VM_EXIT_REASON & 0xffff)', scope)).toBe(1n);
      expect(evaluateNumber('ccb->attach_state == KVM_ATTACHED', scope)).toBe(1n);
      expect(evaluateNumber('ccb.telemetry_address == &telemetry', scope)).toBe(1n);
      expect(evaluateNumber('$rip == caretaker_count_fastpath', scope)).toBe(1n);
      const caller = new ExpressionScope(core, framesOf(core)[1]);
      expect(evaluateNumber('$rip != $pc || $rip > caretaker_dispatch', caller)).toBe(1n);
    });
  });
});

describe('a place', () => {
  it('is found by line, symbol, offset and expression', () => {
    at('caretaker_count_fastpath', (core) => {
      const rip = core.register('RIP');
      const line = core.source!.lineAt(rip)!;
      const { slide } = core.source!;
      const found = (text: string): readonly bigint[] =>
        addressesIn(parseLocation(text, core, framesOf(core)[0]), slide);
      expect(found('caretaker_count_fastpath')).toEqual([rip]);
      expect(found(`telemetry.c:${line.line}`)).toContain(rip);
      expect(found(line.line.toString())).toContain(rip);
      expect(found('*$rip')).toEqual([rip]);
      expect(found('*caretaker_count_fastpath + 4')).toEqual([rip + 4n]);
      expect(found('caretaker_count_fastpath+0x4')).toEqual([rip + 4n]);
      expect(found('answer').length).toBeGreaterThan(0);
      expect(parseLocation('telemetry.c:1', core).text).toMatch(/^telemetry\.c:\d\d$/);
    });
  });

  // prettier-ignore
  it.each([
    ['dispach.c:3', 'no code comes from a file "dispach.c"; did you mean "dispatch.c"?'],
    ['dispatch.c:9999', 'its last line with code is'], ['caretaker_dispach', 'did you mean "caretaker_dispatch"?'],
    ['caretaker_dispatch+0x100000', 'is outside the payload'], ['', 'a location is missing'],
    ['*', 'a value is missing'], ['a b c', 'is no location'],
  ])('that is none says what is near: %s', (text, message) => {
    at('caretaker_count_fastpath', (core) => {
      expect(() => parseLocation(text, core)).toThrow(SourceError);
      expect(() => parseLocation(text, core)).toThrow(message);
    });
  });
});

describe('an assignment', () => {
  it('names what it changes', () => {
    at('caretaker_count_fastpath', (core) => {
      const scope = new ExpressionScope(core, framesOf(core)[0]);
      const rax = core.register('RAX');
      expect(parseAssignment('$rax = 5', scope)).toEqual({
        kind: 'register',
        register: 'RAX',
        value: 5n,
      });
      expect(parseAssignment('$al = 0x7f', scope)).toMatchObject({ value: (rax & ~0xffn) | 0x7fn });
      expect(parseAssignment('$eax = -1', scope)).toMatchObject({ value: 0xffff_ffffn });
      expect(parseAssignment('vmcs.GUEST_RIP = 1 == 1', scope)).toEqual({
        kind: 'vmcs',
        field: 'GUEST_RIP',
        value: 1n,
      });
      expect(parseAssignment('msr.IA32_TSC_AUX=3', scope)).toMatchObject({
        kind: 'msr',
        value: 3n,
      });
      expect(editOf('ccb->state', '2', scope)).toEqual({
        kind: 'memory',
        address: core.ccbAddress! + 128n,
        bytes: Uint8Array.of(2, 0, 0, 0),
      });
      for (const [text, message] of [
        ['$rax == 5', 'assigns nothing'],
        ['5 = 5', 'no place that can be written'],
        ['ccb->state = 0x100000000', 'does not fit in the 32 bits'],
        ['*ccb = 1', 'set its parts'],
        ['telemetry = 1', 'set its parts'],
      ] as const) {
        expect(() => parseAssignment(text, scope)).toThrow(message);
      }
    });
  });
});

describe('memory', () => {
  it('is shown in each format of x', () => {
    at('caretaker_count_fastpath', (core) => {
      const ccb = core.ccbAddress!;
      const x = (format: string, address = ccb): readonly string[] =>
        examine(core, disassembler, address, parseFormat(format)).lines;
      expect(x('2xg')[0]).toContain('0x3142434352414321');
      expect(x('s')[0]).toMatch(/ccb\.header>: {2}"!CARCCB1\\x02"$/);
      expect(x('4c')[0]).toMatch(/33 '!' +67 'C' +65 'A' +82 'R'/);
      expect(x('2dw', ccb + 8n)[0]).toMatch(/<ccb\.header\+0x8>: +2 +8192$/);
      expect(x('tb')[0]).toContain('00100001');
      expect(x('ob')[0]).toMatch(/041$/);
      expect(x('a', ccb + 24n)[0]).toMatch(/<caretaker_vmexit>$/);
      expect(x('2i', core.register('RIP'))[0]).toMatch(/<caretaker_count_fastpath>: {2}endbr64$/);
      const nowhere = examine(core, disassembler, 0xffff_0000_0000n, parseFormat('xg'));
      expect(nowhere).toEqual({ lines: [], unmapped: 0xffff_0000_0000n });
      expect(hexdump(core, ccb, 16)[0]).toMatch(/^0x\w{8} {2}21 43 41 52 43 43 42 31 .*\|!CARCCB1/);
      expect(hexdump(core, ccb, 64).every((line) => line.length <= 80)).toBe(true);
      expect(hexdump(core, 0xffff_0000_0000n, 1)[0]).toMatch(/^0x0000ffff00000000 {2}\?\?/);
      expect(() => parseFormat('8q')).toThrow(SourceError);
      expect(() => parseFormat('99999x')).toThrow(SourceError);
    });
  });

  it('of a page is walked level by level', () => {
    at('caretaker_count_fastpath', (core, { machine }) => {
      const owner = (physical: bigint): string | null =>
        machine.memory.regionAt(Number(physical))?.owner ?? null;
      const view = (address: bigint): readonly string[] =>
        pageView(machine.memory, core.cr3, address, owner);
      const code = view(core.register('RIP'));
      const steps = code.map((line) => line.trim().split(/[[ ]/)[0]);
      expect(steps).toEqual(['linear', 'PML4E', 'PDPTE', 'PDE', 'PTE', 'physical']);
      expect(code.at(-1)).toMatch(/R-X {2}4 KiB page {2}owner: payload$/);
      expect(view(core.ccbAddress!).at(-1)).toMatch(/RW- /);
      expect(view(0xdead_0000n).at(-1)).toMatch(/^not mapped: \w+: not present: #PF$/);
      expect(view(1n << 63n)).toHaveLength(2);
    });
  });
});

describe('the context', () => {
  it.each([80, 120, 160, 200])('fits in %d columns and shows everything', (columns) => {
    const lines = at('caretaker_count_fastpath', (_core, session) =>
      level.context(session, { ...canvas, columns, cutAt: columns }, 'breakpoint 1'),
    );
    expect(Math.max(...lines.map(widthOf))).toBeLessThanOrEqual(columns);
    const text = lines.join('\n');
    for (const part of [
      'RIP',
      'caretaker_count_fastpath',
      '> ',
      'endbr64',
      'telemetry.c:',
      '#1',
      'ccb.header',
    ]) {
      expect(text).toContain(part);
    }
    // Where there is no room for the last part it has a line of its own.
    expect(lines.slice(0, 2).join('\n')).toMatch(
      /^-- \d+:\d+ \| breakpoint 1 \| vCPU 0 \| exit \w+, attached ?(\||-+\n) +guest RIP 0x\w{16}\b/,
    );
  });

  it('marks what changed since the last stop, and is the same text without colour', () => {
    at('caretaker_count_fastpath', (core, session) => {
      level.context(session, canvas);
      session.edit({ kind: 'register', vcpu: core.id, name: 'R15', value: 0x1234n });
      const changed = level.context(session, canvas).filter((line) => line.startsWith('*'));
      expect(changed).toEqual(['*R15    0x1234']);
      const paint = (_mark: string, text: string): string => `\u001b[1m${text}\u001b[0m`;
      const painted = level.context(session, { ...canvas, paint }).join('\n');
      expect(stripVTControlCharacters(painted)).toBe(level.context(session, canvas).join('\n'));
    });
  });

  it('says what it cannot find', () => {
    at('caretaker_count_fastpath', (core) => {
      const rip = core.register('RIP');
      expect(sourceView(core, new SourceText([]), rip, canvas)).toEqual([
        expect.stringMatching(/^telemetry\.c:\d+: source not found$/),
      ]);
      expect(sourceView(core, new SourceText([]), 0x7fff_0000n, canvas)[0]).toContain(
        'no source line',
      );
      expect(codeView(core, disassembler, 0x7fff_0000n, canvas)).toEqual([
        '0x7fff0000: not mapped',
      ]);
    });
  });
});

describe('an instruction', () => {
  it('names the VMCS field of a VMREAD and the MSR of an RDMSR, and the target of a call', () => {
    at('caretaker_dispatch', (core) => {
      const { start, end } = level.program.image.pages;
      const code = level.program.image.sections.find(({ name }) => name === '.text')!;
      expect(end).toBeGreaterThan(start);
      const from = core.source!.addressOf('caretaker_vmexit')!;
      const all = disassembleAt(core, disassembler, from, 2000);
      expect(code.sizeBytes).toBeGreaterThan(0);
      const notes = all.filter(({ text }) => text.startsWith('vmread')).map(({ note }) => note);
      expect(notes).toContain('VM_INSTRUCTION_ERROR');
      expect(notes).toContain('VM_EXIT_REASON');
      const wrmsr = all.filter(({ text }) => text === 'wrmsr').map(({ note }) => note);
      expect(wrmsr).toContain('IA32_GS_BASE');
      expect(all.map(({ text }) => text)).toContainEqual(
        expect.stringMatching(/^call 0x\w+ <caretaker_dispatch>$/),
      );
      const stores = all.filter(({ text }) => text.includes('gs:[0xc0]'));
      expect(stores[0]!.note).toBe('ccb.registers');
    });
  });
});

describe('a view', () => {
  it('of the VMCS decodes what has a meaning', () => {
    at('caretaker_count_fastpath', (core) => {
      const all = vmcsView(core, '', canvas).join('\n');
      expect(all).toContain('guest:');
      expect(all).toMatch(/HOST_RIP .* caretaker_vmexit$/m);
      expect(vmcsView(core, 'guest_rflags', canvas)[0]).toMatch(/\[.*\]$/);
      expect(vmcsView(core, 'VM_EXIT_REASON', canvas)).toHaveLength(1);
      expect(() => vmcsView(core, 'GUEST_RIB', canvas)).toThrow('did you mean "GUEST_RIP"?');
    });
  });

  it('of a shared structure leaves out what is reserved and 0', () => {
    at('caretaker_count_fastpath', (core) => {
      const ccb = structureView(core, 'ccb', canvas).join('\n');
      expect(ccb).toContain('(KVM_ATTACHED)');
      expect(ccb).toContain('<caretaker_vmexit>');
      expect(ccb).not.toContain('reserved');
      expect(structureView(core, 'config', canvas).join('\n')).toContain('exit_policy[10] CPUID');
      expect(structureView(core, 'config', canvas).join('\n')).toMatch(
        /msr\[1\] IA32_X2APIC_EOI +\{index = 0x80b,/,
      );
      expect(structureView(core, 'telemetry', canvas).join('\n')).toMatch(
        /last_exit_reason +\d+ \(\w+\)/,
      );
      expect(structureView(core, 'soft', canvas)[0]).toContain('struct caretaker_soft_state');
    });
  });
});
