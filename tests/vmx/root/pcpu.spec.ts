import { describe, expect, it } from 'vitest';
import { LVT, X2APIC } from '../../../abi/x2apic.js';
import { MSR } from '../../../abi/msrs.js';
import { u64 } from '../../../abi/uint.js';
import { REG } from '../../../emulator/cpu/registers.js';
import { IpiBus } from '../../../emulator/vmx/root/ipi-bus.js';
import { fault } from '../../../emulator/vmx/root/outcome.js';
import type { StopReason } from '../../../emulator/vmx/stop-reason.js';
import {
  CODE,
  CS,
  DATA,
  SS,
  STACK,
  fixture,
  handlerOf,
  imm,
  instruction,
  reg,
  stackOf,
  writeGate,
  type Fixture,
  type FixtureOptions,
  type Scripted,
} from './fixture.js';

/** Instructions from CODE on, one byte each; null is a native one. */
function programmed(program: readonly (Scripted | null)[], options: FixtureOptions = {}): Fixture {
  const f = fixture(options);
  program.forEach((scripted, index) => {
    if (scripted !== null) f.engine.script.set(CODE + index, scripted);
  });
  return f;
}

const site = (name: string) => instruction(name);
const VMRESUME = site('VMRESUME');
const IF = 0x202n;

describe('control-flow enforcement', () => {
  /** What the engine is told, with IA32_S_CET and CR4.CET as given. */
  const enforcedWith = (cet: bigint, cr4 = 1n << 23n) => {
    const f = programmed([]);
    f.pcpu.registers.set('CR4', f.pcpu.registers.get('CR4') | cr4);
    f.pcpu.msrs.file.load(MSR.IA32_S_CET, cet);
    return { stop: f.pcpu.run(1), cet: f.engine.cet };
  };

  it.each([
    ['nothing while CR4.CET is 0', 5n, 0n, null],
    ['nothing while IA32_S_CET enables nothing', 2n, 1n << 23n, null],
    ['shadow stacks', 1n, 1n << 23n, { shadowStacks: true, endbranch: false }],
    [
      'indirect branch tracking',
      0x814n,
      1n << 23n,
      { endbranch: true, noTrack: true, isWaiting: true },
    ],
  ] as const)('enforces %s', (_, cet, cr4, expected) => {
    if (expected === null) expect(enforcedWith(cet, cr4).cet).toBeNull();
    else expect(enforcedWith(cet, cr4).cet).toMatchObject(expected);
  });

  it.each([
    ['LEG_IW_EN', 0xcn],
    ['SUPPRESS', 0x404n],
  ])('stops with %s, because nothing models the legacy bitmap', (_, cet) => {
    expect(enforcedWith(cet).stop).toMatchObject({ kind: 'unmodelled', name: 'indirect branch' });
  });

  it('a refused near RET is #CP with the error code on the stack', () => {
    const f = programmed([{ kind: 'control-protection', errorCode: 1 }]);
    f.engine.script.set(handlerOf(21), VMRESUME);
    expect(f.pcpu.run(1)).toMatchObject({ kind: 'vmresume', address: u64(handlerOf(21)) });
    expect(stackOf(f, 2)).toEqual([1n, u64(CODE)]);
  });
});

/** Where the interrupted program would go on, from the frame that the handler finds. */
const interruptedAt = (f: Fixture): number => Number(stackOf(f, 1)[0]) - CODE;
const isIn = (f: Fixture, vector: number): boolean =>
  Number(f.pcpu.registers.get('RIP')) >> 4 === handlerOf(vector) >> 4;

describe('run', () => {
  it('stops before VMRESUME and VMLAUNCH with one engine run', () => {
    const f = programmed([null, null, VMRESUME]);
    expect(f.pcpu.run(100)).toEqual({ kind: 'vmresume', address: u64(CODE + 2) });
    expect([f.engine.limits.length, f.pcpu.retired, f.pcpu.now()]).toEqual([1, 2, 2]);
    expect(programmed([site('VMLAUNCH')]).pcpu.run(1).kind).toBe('vmlaunch');
  });

  it('VMRESUME outside VMX operation is #UD', () => {
    const f = programmed([VMRESUME]);
    f.pcpu.vmx.mode = 'off';
    f.pcpu.run(1);
    expect(isIn(f, 6)).toBe(true);
  });

  it.each([
    {
      rule: 'a modelled instruction is one tick and one of the limit',
      program: [null, site('CLI'), null, site('RDTSC'), null],
      limit: 4,
      rip: 4,
    },
    { rule: 'a limit of 0 executes nothing', program: [site('CLI')], limit: 0, rip: 0 },
    { rule: 'the limit ends native code exactly', program: [], limit: 7, rip: 7 },
  ])('$rule', ({ program, limit, rip }) => {
    const f = programmed(program);
    expect(f.pcpu.run(limit)).toEqual({ kind: 'instruction-limit', address: u64(CODE + rip) });
    expect([f.pcpu.retired, f.pcpu.now()]).toEqual([limit, limit]);
  });

  it('RDTSC reads the time before itself', () => {
    const f = programmed([null, null, site('RDTSC'), site('RDTSC'), VMRESUME]);
    f.pcpu.run(3);
    expect(f.pcpu.registers.get('RAX')).toBe(2n);
    f.pcpu.run(1);
    expect(f.pcpu.registers.get('RAX')).toBe(3n);
  });

  it('a breakpoint at a routing address is routed, another one is a breakpoint', () => {
    const f = programmed([null, { kind: 'breakpoint' }]);
    expect(f.pcpu.run(10)).toEqual({ kind: 'breakpoint', address: u64(CODE + 1) });
    f.pcpu.routingAddresses.add(u64(CODE + 1));
    expect(f.pcpu.run(10)).toEqual({ kind: 'routed', address: u64(CODE + 1) });
  });

  it('an instruction without a model stops at it, and again when it runs on', () => {
    const f = programmed([null, site('MWAIT')]);
    const stop = { kind: 'unmodelled', name: 'MWAIT', address: u64(CODE + 1), detail: 'no model' };
    expect([f.pcpu.run(10), f.pcpu.run(10)]).toEqual([stop, stop]);
  });

  it('a requested stop ends the run at the next boundary, once', () => {
    const reason: StopReason = { kind: 'parked', address: 1n, vector: 2 };
    const f = programmed([site('CPUID'), VMRESUME], {
      ports: {
        cpuid: {
          execute: () => {
            f.pcpu.requestStop(reason);
            return { eax: 0, ebx: 0, ecx: 0, edx: 0 };
          },
        },
      },
    });
    expect([f.pcpu.run(10), f.pcpu.run(10).kind]).toEqual([reason, 'vmresume']);
  });

  it('a CR3 that somebody else loaded is activated before the next instruction', () => {
    const f = programmed([VMRESUME]);
    f.pcpu.run(1);
    f.pcpu.run(1);
    f.pcpu.registers.set('CR3', 0x6000n);
    f.pcpu.run(1);
    expect(f.space.activated).toEqual([0x7000n, 0x6000n]);
    f.pcpu.forgetAddressSpace();
    f.pcpu.run(1);
    expect(f.space.activated).toHaveLength(3);
  });

  it('a CR3 that cannot be modelled stops before anything runs', () => {
    const f = programmed([VMRESUME]);
    f.space.refuseActivation = 'not identity';
    expect(f.pcpu.run(1)).toMatchObject({ kind: 'unmodelled', detail: 'not identity' });
  });
});

describe('exceptions', () => {
  it.each<{ rule: string; stop: Scripted; vector: number; top: readonly number[] }>([
    {
      rule: 'a fault of a model',
      stop: instruction('MOV_TO_CR', [{ kind: 'control', register: 1 }, reg(0)]),
      vector: 6,
      top: [CODE],
    },
    { rule: '#DE of the engine', stop: { kind: 'exception', vector: 0 }, vector: 0, top: [CODE] },
    {
      rule: '#GP of the engine pushes 0',
      stop: { kind: 'exception', vector: 13 },
      vector: 13,
      top: [0, CODE],
    },
    {
      rule: 'a non-canonical access is #GP(0)',
      stop: {
        kind: 'memory',
        access: 'read',
        reason: 'non-canonical',
        address: 0x8000_0000_0000n,
        sizeBytes: 8,
      },
      vector: 13,
      top: [0, CODE],
    },
  ])('$rule goes through the IDT', ({ stop, vector, top }) => {
    const f = programmed([stop]);
    f.pcpu.run(1);
    expect(isIn(f, vector)).toBe(true);
    expect(stackOf(f, top.length)).toEqual(top.map(BigInt));
  });

  it('an access that the page tables refuse is #PF with CR2', () => {
    const f = programmed([
      { kind: 'memory', access: 'write', reason: 'protection', address: 0x5008n, sizeBytes: 8 },
    ]);
    f.space.refused.set(DATA, 'read-only');
    f.pcpu.run(1);
    expect([isIn(f, 14), f.pcpu.registers.get('CR2'), ...stackOf(f, 2)]).toEqual([
      true,
      0x5008n,
      3n,
      u64(CODE),
    ]);
  });

  it('an access that the page tables allow and the engine refuses is an isolation finding', () => {
    const f = programmed([
      { kind: 'memory', access: 'read', reason: 'unmapped', address: 0x5008n, sizeBytes: 8 },
    ]);
    expect(f.pcpu.run(1)).toMatchObject({
      kind: 'finding',
      finding: {
        invariant: 'isolation',
        details: { access: 'read', address: '0x5008', sizeBytes: 8 },
      },
    });
    expect(f.pcpu.registers.get('RIP')).toBe(u64(CODE));
  });

  it('onException can stop before the delivery', () => {
    const f = programmed([{ kind: 'exception', vector: 13 }], {
      events: { onException: () => 'stop' },
    });
    expect(f.pcpu.run(1)).toEqual({
      kind: 'exception',
      address: u64(CODE),
      vector: 13,
      errorCode: 0,
      faultAddress: null,
    });
    expect(f.pcpu.registers.get('RSP')).toBe(u64(STACK));
  });

  it('UD2 is #UD; bytes that nothing knows stop by their value', () => {
    const f = programmed([{ kind: 'invalid-instruction' }]);
    f.memory.writeU16(u64(CODE), 0x0b0f);
    f.pcpu.run(1);
    expect(isIn(f, 6)).toBe(true);
    const g = programmed([{ kind: 'invalid-instruction' }]);
    g.memory.writeU16(u64(CODE), 0x380f);
    expect(g.pcpu.run(1)).toMatchObject({ kind: 'unmodelled', name: 'opcode 0x380f' });
  });

  it('a triple fault ends the pCPU', () => {
    const f = programmed([{ kind: 'exception', vector: 13 }]);
    f.pcpu.registers.set('IDTR_LIMIT', 0n);
    expect(f.pcpu.run(1)).toEqual({
      kind: 'triple-fault',
      address: u64(CODE),
      vectors: [13, 8, 13],
    });
    expect(f.pcpu.run(1)).toMatchObject({ kind: 'halted', activity: 'shutdown' });
  });

  it('INT n that cannot be delivered at all is a triple fault', () => {
    const f = programmed([instruction('INT', [imm(0x80)])]);
    f.pcpu.registers.set('IDTR_LIMIT', 0n);
    expect(f.pcpu.run(1)).toMatchObject({ kind: 'triple-fault', vectors: [0x80, 13, 8, 13] });
    expect(f.pcpu.activity).toBe('shutdown');
  });

  it('a handler that faults at its first instruction for ever is a finding', () => {
    const f = programmed([{ kind: 'exception', vector: 6 }]);
    writeGate(f.memory, 6, { ist: 1 });
    f.engine.script.set(handlerOf(6), { kind: 'exception', vector: 6 });
    expect(f.pcpu.run(1000)).toMatchObject({ kind: 'finding', finding: { invariant: 'bounded' } });
  });

  it('the machine can raise an exception at a boundary', () => {
    const f = programmed([null]);
    expect(f.pcpu.raise(fault(21, 3))).toBeNull();
    expect([isIn(f, 21), ...stackOf(f, 1)]).toEqual([true, 3n]);
  });
});

describe('NMIs', () => {
  it('is taken between two instructions and blocks the next until IRETQ', () => {
    const f = programmed([null, null, VMRESUME]);
    f.engine.script.set(handlerOf(2) + 1, instruction('IRETQ'));
    f.pcpu.run(1);
    f.pcpu.pendingNmi = true;
    f.pcpu.run(1);
    expect([isIn(f, 2), interruptedAt(f)]).toEqual([true, 1]);
    f.pcpu.pendingNmi = true;
    f.pcpu.run(1);
    expect([f.pcpu.pendingNmi, f.pcpu.blocking.nmi]).toEqual([true, false]);
    f.pcpu.run(1);
    expect([f.pcpu.pendingNmi, isIn(f, 2), interruptedAt(f)]).toEqual([false, true, 1]);
  });

  it('comes through the local APIC of the addressed pCPU', () => {
    const bus = new IpiBus();
    const sender = fixture({ id: 0, bus });
    const receiver = fixture({ id: 1, bus });
    sender.pcpu.msrs.write(X2APIC.ICR, 0x1_0000_0400n);
    expect([sender.pcpu.pendingNmi, receiver.pcpu.pendingNmi]).toEqual([false, true]);
  });

  it('is taken before VMRESUME when it was pending', () => {
    const f = programmed([VMRESUME]);
    f.pcpu.pendingNmi = true;
    f.pcpu.run(1);
    expect([isIn(f, 2), interruptedAt(f)]).toEqual([true, 0]);
  });

  it('comes before an interrupt, whose gate the NMI’s cleared IF keeps waiting', () => {
    const f = programmed([null]);
    f.pcpu.registers.set('RFLAGS', IF);
    f.pcpu.apic.request(0x60);
    f.pcpu.pendingNmi = true;
    f.pcpu.run(1);
    expect([isIn(f, 2), f.pcpu.apic.isRequested(0x60)]).toEqual([true, true]);
  });

  it('onDelivery tells what was interrupted and where the frame is', () => {
    const seen: unknown[] = [];
    const f = programmed([null], {
      events: {
        onDelivery: (event, interrupted, result) => seen.push([event.kind, interrupted, result]),
      },
    });
    f.pcpu.pendingNmi = true;
    f.pcpu.run(1);
    expect(seen).toEqual([
      [
        'nmi',
        u64(CODE),
        { kind: 'delivered', vector: 2, frame: u64(STACK - 40), ist: 0, replaced: [] },
      ],
    ]);
  });
});

describe('interrupts', () => {
  const pending = (
    program: readonly (Scripted | null)[],
    rflags: bigint,
    options?: FixtureOptions,
  ) => {
    const f = programmed(program, options);
    f.pcpu.registers.set('RFLAGS', rflags);
    f.pcpu.apic.request(0x60);
    return f;
  };

  it('wait while IF is 0', () => {
    const f = pending([null, null], 2n);
    f.pcpu.run(2);
    expect([isIn(f, 0x60), f.pcpu.apic.isRequested(0x60)]).toEqual([false, true]);
  });

  it('are acknowledged when taken', () => {
    const f = pending([null], IF);
    f.pcpu.run(1);
    expect([isIn(f, 0x60), f.pcpu.apic.isInService(0x60)]).toEqual([true, true]);
  });

  it.each([
    { rule: 'STI; one more instruction comes first', program: [site('STI'), null, null], at: 2 },
    {
      rule: 'STI; a modelled instruction is that one too',
      program: [site('STI'), site('RDTSC'), null],
      at: 2,
    },
    {
      rule: 'STI; STI: the second does not begin a shadow',
      program: [site('STI'), site('STI'), null],
      at: 2,
    },
    {
      rule: 'STI; MOV SS: the second shadow follows the first',
      program: [
        site('STI'),
        instruction('MOV_TO_SEG', [{ kind: 'segment', register: 2 }, reg(REG.RAX, 2)]),
        null,
        null,
      ],
      at: 3,
    },
  ])('$rule', ({ program, at }) => {
    const f = pending(program, 2n);
    f.pcpu.registers.set('RAX', u64(SS));
    f.pcpu.run(10);
    expect([f.pcpu.apic.isInService(0x60), interruptedAt(f)]).toEqual([true, at]);
  });

  it('STI; CLI lets none in', () => {
    const f = pending([site('STI'), site('CLI'), null], 2n);
    f.pcpu.run(3);
    expect(f.pcpu.apic.isRequested(0x60)).toBe(true);
  });

  it.each([
    { rule: 'an NMI comes in the shadow of STI', isNmiBlockedBySti: false, at: 1 },
    {
      rule: 'an NMI waits for the end of the shadow of STI where the processor is so',
      isNmiBlockedBySti: true,
      at: 2,
    },
  ])('$rule', ({ isNmiBlockedBySti, at }) => {
    const f = programmed([site('STI'), null, null], { isNmiBlockedBySti });
    f.pcpu.run(1);
    f.pcpu.pendingNmi = true;
    f.pcpu.run(2);
    expect(interruptedAt(f)).toBe(at);
  });

  it('an NMI waits for the end of the shadow of MOV SS', () => {
    const f = programmed([
      instruction('MOV_TO_SEG', [{ kind: 'segment', register: 2 }, reg(REG.RAX, 2)]),
      null,
      null,
    ]);
    f.pcpu.registers.set('RAX', u64(SS));
    f.pcpu.run(1);
    f.pcpu.pendingNmi = true;
    f.pcpu.run(2);
    expect(interruptedAt(f)).toBe(2);
  });

  it('the shadow is still there at a VMRESUME right after MOV SS', () => {
    const f = programmed([
      instruction('MOV_TO_SEG', [{ kind: 'segment', register: 2 }, reg(REG.RAX, 2)]),
      VMRESUME,
    ]);
    f.pcpu.registers.set('RAX', u64(SS));
    expect(f.pcpu.run(5).kind).toBe('vmresume');
    expect(f.pcpu.blocking.movSs).toBe(true);
  });

  it('a lowered task priority lets a waiting one in at the next boundary', () => {
    const f = pending(
      [instruction('MOV_TO_CR', [{ kind: 'control', register: 8 }, reg(REG.RAX)]), null],
      IF,
    );
    f.pcpu.apic.tpr = 0x60;
    f.pcpu.run(2);
    expect([f.pcpu.apic.isInService(0x60), interruptedAt(f)]).toEqual([true, 1]);
  });
});

describe('the timer', () => {
  const armed = (program: readonly (Scripted | null)[], deadline: number, rflags = IF) => {
    const f = programmed(program);
    f.pcpu.registers.set('RFLAGS', rflags);
    f.pcpu.apic.write(X2APIC.LVT_TIMER, BigInt(LVT.TIMER_TSC_DEADLINE | 0x70));
    f.pcpu.msrs.write(MSR.IA32_TSC_DEADLINE, u64(deadline));
    return f;
  };

  it.each([
    {
      rule: 'interrupts native code at its TSC exactly',
      program: [] as (Scripted | null)[],
      deadline: 5,
    },
    {
      rule: 'comes before a site that is reached at its TSC',
      program: [null, null, site('CPUID')],
      deadline: 2,
    },
    {
      rule: 'comes before a VMRESUME that is reached at its TSC',
      program: [null, null, VMRESUME],
      deadline: 2,
    },
    {
      rule: 'comes after a site that ends at its TSC',
      program: [null, site('RDTSC')],
      deadline: 2,
    },
  ])('$rule', ({ program, deadline }) => {
    const f = armed(program, deadline);
    f.pcpu.run(20);
    expect([f.pcpu.apic.isInService(0x70), interruptedAt(f)]).toEqual([true, deadline]);
  });

  it('waits in the IRR while IF is 0, and does not hold the run up', () => {
    const f = armed([null, null, null, VMRESUME], 2, 2n);
    expect(f.pcpu.run(20).kind).toBe('vmresume');
    expect(f.pcpu.apic.isRequested(0x70)).toBe(true);
  });

  it('ends a HLT when time has come, with RIP past it', () => {
    const f = armed([site('HLT'), null], 1000);
    expect(f.pcpu.run(20)).toEqual({
      kind: 'halted',
      address: u64(CODE + 1),
      activity: 'halted',
      wakeTsc: 1000,
    });
    expect(f.pcpu.run(20).kind).toBe('halted');
    f.pcpu.clock.advanceTo(1000);
    f.pcpu.run(1);
    expect([isIn(f, 0x70), interruptedAt(f)]).toEqual([true, 1]);
  });
});

describe('HLT and PAUSE', () => {
  it('STI; HLT with an interrupt pending halts and wakes at once', () => {
    const f = programmed([site('STI'), site('HLT'), null]);
    f.pcpu.apic.request(0x60);
    f.pcpu.run(3);
    expect([isIn(f, 0x60), interruptedAt(f)]).toEqual([true, 2]);
  });

  it('a HLT with IF clear is ended by an NMI and not by an interrupt', () => {
    const f = programmed([site('HLT')]);
    f.pcpu.run(1);
    f.pcpu.apic.request(0x60);
    expect(f.pcpu.run(1).kind).toBe('halted');
    f.pcpu.pendingNmi = true;
    f.pcpu.run(1);
    expect([isIn(f, 2), f.pcpu.activity]).toEqual([true, 'active']);
  });

  it.each([
    {
      rule: 'PAUSE goes on where the hook says so',
      verdict: 'continue',
      stop: { kind: 'vmresume' },
    },
    {
      rule: 'PAUSE stops past itself as spinning',
      verdict: 'stop',
      stop: { kind: 'spinning', address: u64(CODE + 1), site: u64(CODE) },
    },
  ] as const)('$rule', ({ verdict, stop }) => {
    const sites: bigint[] = [];
    const f = programmed([site('PAUSE'), VMRESUME], {
      events: { onPause: (address) => (sites.push(address), verdict) },
    });
    expect(f.pcpu.run(5)).toMatchObject(stop);
    expect([sites, f.pcpu.retired]).toEqual([[u64(CODE)], 1]);
  });

  it('time that the PAUSE hook jumps is not charged to the limit', () => {
    const f = programmed([site('PAUSE'), null, null, VMRESUME], {
      events: { onPause: () => (f.pcpu.clock.advance(1_000_000), 'continue') },
    });
    expect(f.pcpu.run(4).kind).toBe('vmresume');
    expect([f.pcpu.now(), f.pcpu.retired]).toEqual([1_000_003, 3]);
  });
});

describe('machine checks and INIT', () => {
  it('a machine check goes through vector 18 whatever IF is, with MCIP set', () => {
    const f = programmed([null]);
    f.pcpu.pendingMachineCheck = true;
    f.pcpu.run(1);
    expect([isIn(f, 18), f.pcpu.msrs.read(MSR.IA32_MCG_STATUS)]).toEqual([true, 5n]);
  });

  it('RIPV stays clear when the interrupted context is lost', () => {
    const f = programmed([null]);
    Object.assign(f.pcpu, { pendingMachineCheck: true, isMachineCheckRestartable: false });
    f.pcpu.run(1);
    expect([isIn(f, 18), f.pcpu.msrs.read(MSR.IA32_MCG_STATUS)]).toEqual([true, 4n]);
  });

  it.each([
    {
      rule: 'a second one while MCIP is set shuts down',
      arrange: (f: Fixture) => f.pcpu.msrs.write(MSR.IA32_MCG_STATUS, 4n),
    },
    {
      rule: 'one with CR4.MCE clear shuts down',
      arrange: (f: Fixture) => f.pcpu.registers.set('CR4', 0x2020n),
    },
  ])('$rule', ({ arrange }) => {
    const f = programmed([null]);
    arrange(f);
    f.pcpu.pendingMachineCheck = true;
    expect(f.pcpu.run(1).kind).toBe('triple-fault');
  });

  it('INIT is blocked in VMX root operation and taken after VMXOFF', () => {
    const bus = new IpiBus();
    const f = fixture({ id: 1, bus });
    fixture({ id: 0, bus }).pcpu.msrs.write(X2APIC.ICR, 0x1_0000_4500n);
    expect([f.pcpu.pendingInit, f.pcpu.run(1).kind]).toEqual([true, 'instruction-limit']);
    f.pcpu.vmx.mode = 'off';
    expect(f.pcpu.run(1)).toMatchObject({ kind: 'halted', activity: 'wait-for-sipi' });
  });

  it('a SIPI reaches only a pCPU that waits for one', () => {
    const started: number[] = [];
    const f = fixture({ events: { onStartup: (vector) => started.push(vector) } });
    f.pcpu.apic.receive({ kind: 'startup', vector: 0x9a });
    f.pcpu.activity = 'wait-for-sipi';
    f.pcpu.apic.receive({ kind: 'startup', vector: 0x9b });
    expect(started).toEqual([0x9b]);
  });
});

describe('state', () => {
  it('a restored pCPU goes on like the one its state was taken from', () => {
    const program = [site('STI'), null, instruction('RDRAND', [reg(REG.RAX)]), null, site('HLT')];
    const f = programmed(program);
    f.pcpu.apic.write(X2APIC.LVT_TIMER, BigInt(LVT.TIMER_TSC_DEADLINE | 0x70));
    f.pcpu.msrs.write(MSR.IA32_TSC_DEADLINE, 500n);
    f.pcpu.msrs.write(MSR.IA32_STAR, 77n);
    f.pcpu.blocking.nmi = true;
    f.pcpu.run(1);
    const state = f.pcpu.state();
    const copy = programmed(program);
    copy.pcpu.restore(state, () => null);
    expect(copy.pcpu.state()).toEqual(state);
    expect(copy.pcpu.run(9)).toEqual(f.pcpu.run(9));
    expect(copy.pcpu.state()).toEqual(f.pcpu.state());
    expect(copy.pcpu.registers.get('RAX')).not.toBe(0n);
  });
});

it('an NMI on an IST stack leaves the interrupted stack alone', () => {
  const f = programmed([null]);
  writeGate(f.memory, 2, { ist: 1 });
  f.pcpu.pendingNmi = true;
  f.pcpu.run(1);
  expect(stackOf(f, 5)).toEqual([CODE, CS, 2, STACK, SS].map(BigInt));
  expect(f.memory.readU64(u64(STACK - 8))).toBe(0n);
});
