import { describe, expect, it } from 'vitest';
import { LVT, SIVR_ENABLE, X2APIC } from '../../../abi/x2apic.js';
import { IpiBus } from '../../../emulator/vmx/root/ipi-bus.js';
import { LocalApic } from '../../../emulator/vmx/root/local-apic.js';

const TICKS = 10;

function apicOf(id = 0, bus = new IpiBus()) {
  const time = { now: 0 };
  const signals: string[] = [];
  const apic = new LocalApic({ id, timerTicksPerCount: TICKS }, () => time.now, bus, {
    onNmi: () => signals.push('nmi'),
    onInit: () => signals.push('init'),
    onStartup: (vector) => signals.push(`startup ${vector}`),
    onSmi: () => signals.push('smi'),
    onEoi: (vector, isLevel) => signals.push(`eoi ${String(vector)}${isLevel ? ' level' : ''}`),
  });
  bus.attach(apic);
  apic.write(X2APIC.SIVR, BigInt(SIVR_ENABLE | 0xff));
  return { apic, time, signals, bus };
}

describe('x2APIC register access', () => {
  it.each([
    { rule: 'a reserved index raises #GP on read', index: 0x801 },
    { rule: 'DFR does not exist in x2APIC mode', index: 0x80e },
    { rule: 'EOI is write-only', index: X2APIC.EOI },
    { rule: 'SELF_IPI is write-only', index: X2APIC.SELF_IPI },
    { rule: 'ICR2 does not exist in x2APIC mode', index: 0x831 },
  ])('$rule', ({ index }) => expect(apicOf().apic.read(index)).toBeUndefined());

  it.each([
    { rule: 'the APIC id is read-only', index: X2APIC.APICID, value: 1n },
    { rule: 'VERSION is read-only', index: X2APIC.VERSION, value: 0n },
    { rule: 'LDR is read-only', index: X2APIC.LDR, value: 0n },
    { rule: 'PPR is read-only', index: X2APIC.PPR, value: 0n },
    { rule: 'IRR is read-only', index: X2APIC.IRR0, value: 0n },
    { rule: 'the current count is read-only', index: X2APIC.TIMER_CURRENT, value: 0n },
    { rule: 'EOI accepts 0 only', index: X2APIC.EOI, value: 1n },
    { rule: 'ESR accepts 0 only', index: X2APIC.ESR, value: 1n },
    { rule: 'TPR has eight bits', index: X2APIC.TPR, value: 0x100n },
    { rule: 'SELF_IPI has eight bits', index: X2APIC.SELF_IPI, value: 0x100n },
    {
      rule: 'bits 63:32 of every register but ICR are reserved',
      index: X2APIC.TPR,
      value: 1n << 32n,
    },
    { rule: 'ICR bit 12 is reserved', index: X2APIC.ICR, value: 0x1030n },
    { rule: 'ICR bits 31:20 are reserved', index: X2APIC.ICR, value: 0x10_0030n },
    { rule: 'LVT timer mode 3 is reserved', index: X2APIC.LVT_TIMER, value: 0x6_0030n },
    { rule: 'LVT timer has no delivery mode', index: X2APIC.LVT_TIMER, value: 0x430n },
    { rule: 'the divide register has bits 3, 1 and 0', index: X2APIC.TIMER_DIVIDE, value: 4n },
  ])('$rule: the write raises #GP', ({ index, value }) =>
    expect(apicOf().apic.write(index, value)).toBe(false),
  );

  it('the logical id is the cluster in the high half and one bit of sixteen', () => {
    expect(apicOf(0x25).apic.read(X2APIC.LDR)).toBe(0x0002_0020n);
  });

  it('ICR reads back as it was written', () => {
    const { apic } = apicOf();
    apic.write(X2APIC.ICR, 0x0000_0005_0000_0031n);
    expect(apic.read(X2APIC.ICR)).toBe(0x0000_0005_0000_0031n);
  });
});

describe('interrupt priority', () => {
  it.each([
    { rule: 'an idle processor takes any class', tpr: 0, service: -1, request: 0x20, taken: 0x20 },
    { rule: 'a class equal to TPR waits', tpr: 0x2f, service: -1, request: 0x2f, taken: -1 },
    { rule: 'a class above TPR is taken', tpr: 0x2f, service: -1, request: 0x30, taken: 0x30 },
    {
      rule: 'the class in service waits for its EOI',
      tpr: 0,
      service: 0x31,
      request: 0x3f,
      taken: -1,
    },
    {
      rule: 'a class above the one in service nests',
      tpr: 0,
      service: 0x31,
      request: 0x40,
      taken: 0x40,
    },
  ])('$rule', ({ tpr, service, request, taken }) => {
    const { apic } = apicOf();
    if (service >= 0) {
      apic.request(service);
      apic.acknowledge();
    }
    apic.write(X2APIC.TPR, BigInt(tpr));
    apic.request(request);
    expect(apic.deliverable).toBe(taken);
  });

  it('the highest requested vector is acknowledged first', () => {
    const { apic } = apicOf();
    for (const vector of [0x31, 0xf0, 0x80]) apic.request(vector);
    expect(apic.acknowledge()).toBe(0xf0);
    expect([apic.isRequested(0xf0), apic.isInService(0xf0)]).toEqual([false, true]);
  });

  it('acknowledging nothing gives the spurious vector and puts nothing in service', () => {
    const { apic } = apicOf();
    expect([apic.acknowledge(), apic.isInService(0xff)]).toEqual([0xff, false]);
  });

  it('an interrupt that was withdrawn is deliverable as the spurious vector, once', () => {
    const { apic } = apicOf();
    apic.raiseSpurious();
    expect([apic.deliverable, apic.acknowledge(), apic.deliverable]).toEqual([0xff, 0xff, -1]);
    expect(apic.isInService(0xff)).toBe(false);
  });

  it('PPR is TPR, or the class in service when that is higher', () => {
    const { apic } = apicOf();
    apic.write(X2APIC.TPR, 0x23n);
    expect(apic.read(X2APIC.PPR)).toBe(0x23n);
    apic.request(0x45);
    apic.acknowledge();
    expect(apic.read(X2APIC.PPR)).toBe(0x40n);
    apic.write(X2APIC.TPR, 0x43n);
    expect(apic.read(X2APIC.PPR)).toBe(0x43n);
  });

  it('EOI ends the highest vector in service, and reports a level-triggered one', () => {
    const { apic, signals } = apicOf();
    apic.request(0x31);
    apic.acknowledge();
    apic.request(0x51, true);
    apic.acknowledge();
    for (let eoi = 0; eoi < 3; eoi++) apic.write(X2APIC.EOI, 0n);
    expect(signals).toEqual(['eoi 81 level', 'eoi 49', 'eoi null']);
  });

  it('two requests of one vector before its acknowledgement are one interrupt', () => {
    const { apic } = apicOf();
    apic.request(0x31);
    apic.request(0x31);
    apic.acknowledge();
    apic.eoi();
    expect(apic.deliverable).toBe(-1);
  });

  it('IRR, ISR and TMR show 32 vectors a register', () => {
    const { apic } = apicOf();
    apic.request(0x41, true);
    expect(apic.read(X2APIC.IRR0 + 2)).toBe(2n);
    expect(apic.read(X2APIC.TMR0 + 2)).toBe(2n);
    apic.acknowledge();
    expect(apic.read(X2APIC.ISR0 + 2)).toBe(2n);
  });

  it('a software-disabled APIC drops fixed interrupts and masks its LVT, but passes an NMI on', () => {
    const { apic, signals } = apicOf();
    apic.write(X2APIC.LVT_TIMER, 0x30n);
    apic.write(X2APIC.SIVR, 0xffn);
    apic.request(0x31);
    apic.receive({ kind: 'nmi' });
    expect(apic.deliverable).toBe(-1);
    expect(apic.read(X2APIC.LVT_TIMER)).toBe(BigInt(LVT.MASKED | 0x30));
    expect(signals).toEqual(['nmi']);
  });

  it('an error that is logged raises no second interrupt until a write of ESR rearms it', () => {
    const { apic } = apicOf();
    apic.write(X2APIC.LVT_ERROR, 0xe1n);
    const raised = (): boolean => {
      apic.write(X2APIC.SELF_IPI, 3n);
      const isRaised = apic.deliverable === 0xe1;
      if (isRaised) apic.acknowledge();
      apic.eoi();
      return isRaised;
    };
    expect([raised(), raised()]).toEqual([true, false]);
    apic.write(X2APIC.ESR, 0n);
    expect(raised()).toBe(true);
  });

  it('a vector below 16 is not accepted and shows in ESR after it was written', () => {
    const { apic } = apicOf();
    apic.request(5);
    expect(apic.read(X2APIC.ESR)).toBe(0n);
    apic.write(X2APIC.ESR, 0n);
    expect(apic.read(X2APIC.ESR)).toBe(0x40n);
  });

  it('sending a vector below 16 is an error, raises the error interrupt, and sends nothing', () => {
    const { apic } = apicOf();
    apic.write(X2APIC.LVT_ERROR, 0xfen);
    expect(apic.write(X2APIC.SELF_IPI, 3n)).toBe(true);
    expect(apic.deliverable).toBe(0xfe);
    apic.write(X2APIC.ESR, 0n);
    expect(apic.read(X2APIC.ESR)).toBe(0x20n);
  });

  it('SELF_IPI requests its vector of the same APIC', () => {
    const { apic } = apicOf();
    apic.write(X2APIC.SELF_IPI, 0x77n);
    expect(apic.deliverable).toBe(0x77);
  });

  it('a performance interrupt masks its own LVT entry', () => {
    const { apic, signals } = apicOf();
    apic.write(X2APIC.LVT_PMI, 0x400n);
    apic.raise(X2APIC.LVT_PMI);
    apic.raise(X2APIC.LVT_PMI);
    expect(signals).toEqual(['nmi']);
  });
});

describe('APIC timer', () => {
  it.each([
    { rule: 'one-shot expires once, after its divided count', mode: 0, divide: 0, expiries: [40] },
    {
      rule: 'divide encoding 11 counts at the undivided clock',
      mode: 0,
      divide: 0xb,
      expiries: [20],
    },
    {
      rule: 'periodic starts over',
      mode: LVT.TIMER_PERIODIC,
      divide: 0,
      expiries: [40, 80, 120, 160, 200],
    },
  ])('$rule', ({ mode, divide, expiries }) => {
    const { apic, time } = apicOf();
    apic.write(X2APIC.TIMER_DIVIDE, BigInt(divide));
    apic.write(X2APIC.LVT_TIMER, BigInt(mode | 0x30));
    apic.write(X2APIC.TIMER_INITIAL, 2n);
    const seen: number[] = [];
    while (apic.nextTsc <= 200) {
      time.now = apic.nextTsc;
      apic.tick();
      expect(apic.acknowledge()).toBe(0x30);
      apic.eoi();
      seen.push(time.now);
    }
    expect(seen).toEqual(expiries);
  });

  it('the current count falls with time and stays at 0 after a one-shot', () => {
    const { apic, time } = apicOf();
    apic.write(X2APIC.TIMER_DIVIDE, 0xbn);
    apic.write(X2APIC.TIMER_INITIAL, 5n);
    const counts = [0, 9, 10, 49, 50, 500].map((now) => {
      time.now = now;
      apic.tick();
      return apic.read(X2APIC.TIMER_CURRENT);
    });
    expect(counts).toEqual([5n, 5n, 4n, 1n, 0n, 0n]);
  });

  it('missed periods of a periodic timer leave its phase and raise one interrupt', () => {
    const { apic, time } = apicOf();
    apic.write(X2APIC.TIMER_DIVIDE, 0xbn);
    apic.write(X2APIC.LVT_TIMER, BigInt(LVT.TIMER_PERIODIC | 0x30));
    apic.write(X2APIC.TIMER_INITIAL, 2n);
    time.now = 75;
    apic.tick();
    expect([apic.deliverable, apic.nextTsc]).toEqual([0x30, 80]);
  });

  it('a TSC deadline fires when the TSC reaches it and reads 0 afterwards', () => {
    const { apic, time } = apicOf();
    apic.write(X2APIC.LVT_TIMER, BigInt(LVT.TIMER_TSC_DEADLINE | 0x31));
    apic.deadline = 1000n;
    time.now = 999;
    apic.tick();
    expect([apic.deliverable, apic.deadline]).toEqual([-1, 1000n]);
    time.now = 1000;
    apic.tick();
    expect([apic.deliverable, apic.deadline]).toEqual([0x31, 0n]);
  });

  it('IA32_TSC_DEADLINE reads 0 and ignores writes outside TSC-deadline mode', () => {
    const { apic } = apicOf();
    apic.deadline = 1000n;
    expect([apic.deadline, apic.nextTsc]).toEqual([0n, Infinity]);
  });

  it('leaving TSC-deadline mode disarms the timer', () => {
    const { apic } = apicOf();
    apic.write(X2APIC.LVT_TIMER, BigInt(LVT.TIMER_TSC_DEADLINE | 0x31));
    apic.deadline = 1000n;
    apic.write(X2APIC.LVT_TIMER, 0x31n);
    expect(apic.nextTsc).toBe(Infinity);
  });

  it('a masked timer expires without an interrupt', () => {
    const { apic, time } = apicOf();
    apic.write(X2APIC.TIMER_INITIAL, 1n);
    time.now = 1000;
    apic.tick();
    expect([apic.deliverable, apic.nextTsc]).toEqual([-1, Infinity]);
  });
});

describe('LocalApic state', () => {
  it('a restored APIC behaves like the one its state was taken from', () => {
    const { apic, time } = apicOf();
    apic.write(X2APIC.LVT_TIMER, BigInt(LVT.TIMER_TSC_DEADLINE | 0x31));
    apic.deadline = 500n;
    apic.request(0x91, true);
    apic.acknowledge();
    apic.request(0x41);
    apic.write(X2APIC.TPR, 0x10n);
    const copy = apicOf();
    copy.apic.restore(apic.state());
    expect(copy.apic.state()).toEqual(apic.state());
    copy.apic.eoi();
    expect(copy.apic.acknowledge()).toBe(0x41);
    copy.time.now = time.now = 500;
    copy.apic.tick();
    expect(copy.apic.isRequested(0x31)).toBe(true);
  });

  it('INIT clears everything but the id', () => {
    const { apic } = apicOf(3);
    apic.request(0x41);
    apic.write(X2APIC.TPR, 0x10n);
    apic.reset();
    expect([apic.deliverable, apic.tpr, apic.isEnabled, apic.id]).toEqual([-1, 0, false, 3]);
  });
});
