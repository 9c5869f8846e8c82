/** IPIs between vCPUs in the gap: whom each mode, destination and shorthand reaches, and what only KVM can answer. */
import { describe, expect, it } from 'vitest';
import { Conductor } from '../../emulator/machine/conductor.js';
import { parseScenario } from '../../emulator/machine/scenario/load.js';
import { referencePayload } from '../support/reference-payload.js';

const SENDER = 1;
const VCPUS = 4;
const VECTOR = 0x61;

/** `reaches`: the vCPUs that take the vector, 'one of' several, or 'blocks' where the exit waits for KVM. */
interface Row {
  readonly rule: string;
  readonly ipi: string;
  readonly reaches: readonly number[] | 'blocks';
  readonly oneOf?: readonly number[];
}

// prettier-ignore
const ROWS: readonly Row[] = [
  { rule: 'physical mode: the local APIC of that id',                          ipi: 'destination: 2',                                reaches: [2] },
  { rule: 'physical mode: the sender itself, by its id',                       ipi: 'destination: 1',                                reaches: [1] },
  { rule: 'physical mode: an id that the VM does not have is KVM\'s to resolve', ipi: 'destination: 9',                              reaches: 'blocks' },
  { rule: 'physical mode: ffffffffH is a broadcast',                           ipi: 'destination: 0xffffffff',                       reaches: [0, 1, 2, 3] },
  { rule: 'logical mode: each local APIC whose bit is set in the cluster',     ipi: 'logical: true, destination: 0x5',               reaches: [0, 2] },
  { rule: 'logical mode: a bit without a local APIC is KVM\'s to resolve',     ipi: 'logical: true, destination: 0x14',              reaches: 'blocks' },
  { rule: 'logical mode: another cluster is KVM\'s to resolve',                ipi: 'logical: true, destination: 0x10004',           reaches: 'blocks' },
  { rule: 'logical mode: ffffffffH is a broadcast',                            ipi: 'logical: true, destination: 0xffffffff',        reaches: [0, 1, 2, 3] },
  { rule: 'shorthand self: the sender, whatever the destination says',         ipi: 'shorthand: self, destination: 2',               reaches: [1] },
  { rule: 'shorthand all including self',                                      ipi: 'shorthand: all',                                reaches: [0, 1, 2, 3] },
  { rule: 'shorthand all excluding self',                                      ipi: 'shorthand: others',                             reaches: [0, 2, 3] },
  { rule: 'lowest priority in logical mode: one of those addressed',           ipi: 'mode: lowest-priority, logical: true, destination: 0xd', reaches: [], oneOf: [0, 2, 3] },
  { rule: 'lowest priority in physical mode: the one addressed',               ipi: 'mode: lowest-priority, destination: 3',         reaches: [3] },
  { rule: 'lowest priority with shorthand all excluding self: one of those',   ipi: 'mode: lowest-priority, shorthand: others',      reaches: [], oneOf: [0, 2, 3] },
  { rule: 'lowest priority with shorthand self is not valid',                  ipi: 'mode: lowest-priority, shorthand: self',        reaches: 'blocks' },
  { rule: 'INIT is KVM\'s',                                                    ipi: 'mode: init, destination: 2',                    reaches: 'blocks' },
  { rule: 'SIPI is KVM\'s',                                                    ipi: 'mode: startup, destination: 2',                 reaches: 'blocks' },
  { rule: 'NMI with shorthand all including self is not valid',                ipi: 'mode: nmi, shorthand: all',                     reaches: 'blocks' },
];

const NMI_ROWS: readonly Row[] = [
  { rule: 'NMI in physical mode', ipi: 'destination: 3', reaches: [3] },
  {
    rule: 'NMI in logical mode',
    ipi: 'logical: true, destination: 0x9',
    reaches: [0, 3],
  },
  { rule: 'NMI with shorthand all excluding self', ipi: 'shorthand: others', reaches: [0, 2, 3] },
];

function play(ipi: string, state = ''): Conductor {
  const text = `
name: ipi
description: One IPI in the gap.
vcpus: ${VCPUS}
seed: 3
mix: idle
rate: 500
steps:
  - run: { seconds: 0.02 }
  - pause-devices: true
  - preserve: {}
  - gap:
      seconds: 0.1
      script: [${state}{ vcpu: ${SENDER}, at: 0.02, exit: { kind: ipi, ${ipi} } }]`;
  const conductor = new Conductor(parseScenario(text, 'ipi.yaml'), referencePayload(), false);
  conductor.run();
  return conductor;
}

const takers = ({ machine }: Conductor, vector: number): readonly number[] =>
  machine.lanes
    .filter(({ interrupts }) => interrupts.counts(vector).delivered > 0)
    .map(({ id }) => id);

const findings = ({ machine }: Conductor): readonly string[] =>
  machine.ledger.findings.map(({ invariant, message }) => `${invariant}: ${message}`);

const BLOCKED = /the run ends with an exit unanswered \(waiting\)/;

describe('in the gap', () => {
  it.each(ROWS)('$rule', ({ ipi, reaches, oneOf }) => {
    const conductor = play(`vector: ${VECTOR}, ${ipi}`);
    const [found] = findings(conductor);
    if (reaches === 'blocks') {
      expect(found).toMatch(BLOCKED);
      expect(takers(conductor, VECTOR)).toEqual([]);
      return;
    }
    expect(found).toBeUndefined();
    if (oneOf === undefined) expect(takers(conductor, VECTOR)).toEqual(reaches);
    else {
      expect(takers(conductor, VECTOR)).toHaveLength(1);
      expect(oneOf).toContain(takers(conductor, VECTOR)[0]);
    }
  });

  it.each(NMI_ROWS)('$rule', ({ ipi, reaches }) => {
    const conductor = play(`mode: nmi, ${ipi}`);
    expect(findings(conductor)).toEqual([]);
    expect(takers(conductor, 2)).toEqual(reaches);
  });

  it('a vector below 16 is an error that KVM reports', () => {
    const conductor = play('vector: 15, destination: 2');
    expect(findings(conductor)[0]).toMatch(BLOCKED);
  });
});

describe('a target', () => {
  const TO_2 = `vector: ${VECTOR}, destination: 2`;

  it.each([
    ['that runs takes it', '', [2]],
    ['that is halted is woken', '{ vcpu: 2, at: 0.0199, exit: { kind: hlt } }, ', [2]],
    [
      'that is parked does not, and the sender goes on',
      '{ vcpu: 2, at: 0.01, event: { kind: exception, vector: GP }, instruction: 0 }, { vcpu: 2, at: 0.011, exit: { kind: rdtsc } }, ',
      [],
    ],
  ])('%s', (_title, state, reached) => {
    const conductor = play(TO_2, state);
    expect(findings(conductor)).toEqual([]);
    expect(takers(conductor, VECTOR)).toEqual(reached);
    expect(conductor.machine.lane(SENDER).phase).toBe('guest');
  });

  it('that waits for KVM keeps it posted', () => {
    const conductor = play(TO_2, '{ vcpu: 2, at: 0.01, exit: { kind: vmcall } }, ');
    expect(findings(conductor)[0]).toMatch(/vCPU 2: .*waiting/);
    expect(takers(conductor, VECTOR)).toEqual([]);
    expect(conductor.machine.lane(2).hasPending(VECTOR)).toBe(true);
  });
});
