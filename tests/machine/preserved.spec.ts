/** The preserved invariant names whatever a host loses or changes of a vCPU between two kernels. */
import { describe, expect, it } from 'vitest';
import { Conductor, ConductorError } from '../../emulator/machine/conductor.js';
import type { Lane } from '../../emulator/machine/lane.js';
import { parseScenario } from '../../emulator/machine/scenario/load.js';
import { REG } from '../../emulator/cpu/registers.js';
import { X2APIC } from '../../abi/x2apic.js';
import { referencePayload } from '../support/reference-payload.js';

const scenario = parseScenario(
  `
name: short
description: One vCPU across a kexec.
vcpus: 1
seed: 4
steps:
  - run: { exits: 50 }
  - pause-devices: true
  - preserve: {}
  - vmm-exit: true
  - kexec: { seconds: 0.01, mix: busy-gap, rate: 1000 }
  - retrieve: true
  - finish: true
  - run: { exits: 50, mix: busy, rate: 3600 }
`,
  'short.yaml',
);

const findings = ({ machine }: Conductor): readonly string[] =>
  machine.ledger.findings
    .filter(({ invariant }) => invariant === 'preserved')
    .map(({ message }) => message);

function run(conductor: Conductor): readonly string[] {
  try {
    conductor.run();
  } catch (error) {
    if (!(error instanceof ConductorError)) throw error;
  }
  return findings(conductor);
}

/** A fault of the host's at one of the two moments that the invariant looks at. */
function withFault(moment: 'vcpuTakesOver' | 'kexec', fault: (lane: Lane) => void): Conductor {
  const conductor = new Conductor(scenario, referencePayload(), false);
  const { machine } = conductor;
  if (moment === 'vcpuTakesOver') {
    const original = machine.kvmHost.vcpuTakesOver.bind(machine.kvmHost);
    machine.kvmHost.vcpuTakesOver = (id) => {
      original(id);
      fault(machine.lane(id));
    };
  } else {
    const original = machine.gapBegins.bind(machine);
    machine.gapBegins = () => {
      original();
      fault(machine.lane(0));
    };
  }
  return conductor;
}

const flip = (lane: Lane, address: bigint): void => {
  const { bytes } = lane.memory;
  bytes.writeU64(address, bytes.readU64(address) ^ 1n);
};

describe('a kernel that takes a vCPU over', () => {
  it('changes nothing that the guest could see', () => {
    const conductor = new Conductor(scenario, referencePayload(), false);
    expect(run(conductor)).toEqual([]);
    const { checked } = conductor.machine.ledger.results().find(({ id }) => id === 'preserved')!;
    expect(checked).toBeGreaterThan(1000);
  });

  it.each<[string, (lane: Lane) => void, RegExp]>([
    [
      'a guest field of the VMCS',
      ({ vmcs }) => vmcs.write('GUEST_LDTR_LIMIT', 7n),
      /GUEST_LDTR_LIMIT was/,
    ],
    [
      'the guest RIP',
      ({ vmcs }) => vmcs.write('GUEST_RIP', 0xffff_ffff_8100_0000n),
      /GUEST_RIP was/,
    ],
    [
      'the virtual APIC',
      (lane) => flip(lane, lane.vcpu.memory.at('softState') + 32n),
      /soft state\.irr/,
    ],
    [
      'the TSC deadline',
      (lane) => flip(lane, lane.vcpu.memory.at('softState') + 16n),
      /soft state\.tsc_deadline/,
    ],
    [
      'an MSR that the policy keeps',
      (lane) => flip(lane, lane.vcpu.memory.at('softState') + 344n),
      /soft state\.msr_value/,
    ],
    [
      'a register in the save area',
      (lane) => flip(lane, lane.vcpu.ccb + 192n),
      /the save area at offset/,
    ],
    [
      'a counter of telemetry',
      (lane) => flip(lane, lane.vcpu.memory.at('telemetry') + 16n),
      /telemetry\.total/,
    ],
    ['CR2', ({ pcpu }) => pcpu.registers.set('CR2', 0x1234n), /CR2 was/],
    ['a debug register', ({ pcpu }) => pcpu.registers.set('DR3', 0x1234n), /DR3 was/],
    ['XCR0', ({ pcpu }) => (pcpu.registers.values[REG.XCR0] = 1n), /XCR0 was/],
    [
      'the vector registers',
      ({ engine }) => engine.setVectors(new Uint8Array(256).fill(3, 16, 32)),
      /XMM1 was/,
    ],
    [
      'the local APIC',
      ({ pcpu }) => pcpu.apic.write(X2APIC.LVT_TIMER, 0x400ecn),
      /local APIC's LVT_TIMER/,
    ],
  ])('and one that changes %s is named', (_title, fault, says) => {
    expect(run(withFault('vcpuTakesOver', fault)).join('\n')).toMatch(says);
  });
});

describe('what nobody writes in the gap', () => {
  it.each<[string, (lane: Lane) => void, RegExp]>([
    [
      "the payload's text",
      (lane) => {
        const { base, sizeBytes } = lane.vcpu.ranges.find(({ executable }) => executable)!;
        flip(lane, base + BigInt(sizeBytes) - 8n);
      },
      /the text at 0x.* changed in the gap/,
    ],
    [
      'guest memory',
      (lane) => {
        const region = lane.memory.bytes
          .regions()
          .find(({ label }) => label.includes('guest-memory'))!;
        flip(lane, BigInt(region.base + 0x1000));
      },
      /guest-memory.* changed in the gap/,
    ],
  ])('%s is the same afterwards', (_title, fault, says) => {
    expect(run(withFault('kexec', fault)).join('\n')).toMatch(says);
  });
});

describe('the next kernel', () => {
  it('that finds a vCPU on other pages than it was preserved on is named', () => {
    const conductor = withFault('kexec', ({ vcpu }) => {
      Object.defineProperty(vcpu, 'apicId', { value: 9 });
    });
    expect(run(conductor).join('\n')).toMatch(/the APIC id was 0x9, is 0x0 in the next kernel/);
  });
});
