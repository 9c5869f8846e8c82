import { describe, expect, it } from 'vitest';
import { IpiBus, type IpiMessage, type IpiTarget } from '../../../emulator/vmx/root/ipi-bus.js';

interface Fake extends IpiTarget {
  readonly received: IpiMessage[];
}

function target(id: number, priority = 0): Fake {
  const received: IpiMessage[] = [];
  return {
    id,
    logicalId: (((id >>> 4) << 16) | (1 << (id & 15))) >>> 0,
    priority,
    received,
    receive: (message) => received.push(message),
  };
}

/** Four pCPUs: two of cluster 0, two of cluster 1; the second sends. */
function send(low: number, destination: number) {
  const targets = [target(0, 0x40), target(1), target(16, 0x20), target(17, 0x20)];
  const bus = new IpiBus();
  for (const each of targets.toReversed()) bus.attach(each);
  const outcome = bus.send(targets[1]!, low, destination);
  return { outcome, targets };
}

const LOGICAL = 1 << 11;
const [NMI, INIT, STARTUP, LOWEST] = [4 << 8, 5 << 8, 6 << 8, 1 << 8];
const [SELF, ALL, OTHERS] = [1 << 18, 2 << 18, 3 << 18];

describe('ICR destinations', () => {
  it.each([
    { rule: 'physical: the APIC with that id', low: 0x30, destination: 16, to: [16] },
    {
      rule: 'physical 0xffffffff: every APIC',
      low: 0x30,
      destination: 0xffff_ffff,
      to: [0, 1, 16, 17],
    },
    {
      rule: 'logical: members of one cluster',
      low: LOGICAL | 0x30,
      destination: 0x1_0003,
      to: [16, 17],
    },
    {
      rule: 'logical: only the members that are named',
      low: LOGICAL | 0x30,
      destination: 0x1_0002,
      to: [17],
    },
    {
      rule: 'logical: another cluster stays out',
      low: LOGICAL | 0x30,
      destination: 0x0_0003,
      to: [0, 1],
    },
    {
      rule: 'logical 0xffffffff: every APIC',
      low: LOGICAL | 0x30,
      destination: 0xffff_ffff,
      to: [0, 1, 16, 17],
    },
    { rule: 'self shorthand', low: SELF | 0x30, destination: 16, to: [1] },
    { rule: 'all including self', low: ALL | 0x30, destination: 0, to: [0, 1, 16, 17] },
    { rule: 'all excluding self', low: OTHERS | 0x30, destination: 0, to: [0, 16, 17] },
    {
      rule: 'lowest priority: the lowest PPR',
      low: LOWEST | LOGICAL | 0x30,
      destination: 0x0_0003,
      to: [1],
    },
    {
      rule: 'lowest priority: ties go to the lowest id',
      low: LOWEST | LOGICAL | 0x30,
      destination: 0x1_0003,
      to: [16],
    },
  ])('$rule', ({ low, destination, to }) => {
    const { outcome, targets } = send(low, destination);
    expect(outcome).toEqual({ kind: 'delivered', targets: to });
    expect(targets.filter(({ received }) => received.length > 0).map(({ id }) => id)).toEqual(to);
  });

  it('a message to nobody is unclaimed', () => {
    expect(send(0x30, 99).outcome).toEqual({ kind: 'unclaimed' });
  });

  it.each([
    { rule: 'NMI carries no vector', low: NMI | 0x30, message: { kind: 'nmi' } },
    { rule: 'INIT', low: INIT | (1 << 14), message: { kind: 'init' } },
    {
      rule: 'STARTUP carries the page',
      low: STARTUP | 0x9a,
      message: { kind: 'startup', vector: 0x9a },
    },
    {
      rule: 'fixed, whose trigger mode is ignored',
      low: 0x8031,
      message: { kind: 'fixed', vector: 0x31 },
    },
  ])('$rule', ({ low, message }) => {
    expect(send(low, 16).targets[2]!.received).toEqual([message]);
  });

  it.each([
    { rule: 'NMI with the self shorthand is invalid', low: SELF | NMI, kind: 'invalid' },
    { rule: 'INIT to all including self is invalid', low: ALL | INIT, kind: 'invalid' },
    { rule: 'delivery mode 3 is reserved', low: 3 << 8, kind: 'invalid' },
    { rule: 'delivery mode 7 is reserved', low: 7 << 8, kind: 'invalid' },
    { rule: 'an INIT level de-assert has no effect', low: INIT | (1 << 15), kind: 'ignored' },
  ])('$rule', ({ low, kind }) => {
    const { outcome, targets } = send(low, 16);
    expect(outcome.kind).toBe(kind);
    expect(targets.flatMap(({ received }) => received)).toEqual([]);
  });
});

it('a detached APIC receives nothing', () => {
  const bus = new IpiBus();
  const [one, two] = [target(0), target(1)];
  bus.attach(one);
  bus.attach(two);
  bus.detach(1);
  expect(bus.send(one, 0x30, 1)).toEqual({ kind: 'unclaimed' });
});
