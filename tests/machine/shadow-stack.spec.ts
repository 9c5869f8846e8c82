/** The payload on shadow stacks: under each policy, with a return address changed at any RET, with a token in use. */
import { describe, expect, it } from 'vitest';
import { CARETAKER_RUN_STATE } from '../../abi/ccb.js';
import { VECTOR } from '../../abi/interruption.js';
import { istToken } from '../../emulator/host/kvm/shadow-stacks.js';
import { Conductor } from '../../emulator/machine/conductor.js';
import type { DebugHook } from '../../emulator/machine/debug-hook.js';
import type { Lane } from '../../emulator/machine/lane.js';
import { parseScenario } from '../../emulator/machine/scenario/load.js';
import { isShadowStackOn } from '../../emulator/vmx/root/control-flow.js';
import { referencePayload } from '../support/reference-payload.js';

const RET = 0xc3;

const conductorOf = (steps: string, settings = ''): Conductor =>
  new Conductor(
    parseScenario(
      `name: s\ndescription: s\nvcpus: 1\nseed: 4\nshadow-stacks: true\n${settings}\nsteps: [${steps}]\n`,
      's.yaml',
    ),
    referencePayload(),
    false,
  );

const UPDATE = [
  '{ run: { exits: 60, script: [{ vcpu: 0, at: 0.001, event: { kind: nmi }, instruction: 100000 }] } }',
  '{ pause-devices: true }, { preserve: { mix: busy-gap } }, { vmm-exit: true }, { kexec: { seconds: 0.2 } }',
  '{ retrieve: true }, { finish: true }, { run: { exits: 60, mix: busy } }',
].join(', ');

describe('a payload on shadow stacks', () => {
  it.each(['lifecycle: attach', 'cr3: shared-until-detach', 'hlt: ROOT'])(
    'goes through a live update with %s',
    (settings) => {
      const { machine } = run(conductorOf(UPDATE, settings));
      expect(machine.ledger.findings).toEqual([]);
      const held = machine.cores.map(({ engine }) => engine.counters.heldReturns);
      expect(Math.max(...held)).toBeGreaterThan(100);
    },
  );

  it('has a #CP at every RET whose return address was changed on the stack', () => {
    const conductor = conductorOf('{ run: { exits: 40 } }');
    const tried = new Map<bigint, unknown>();
    conductor.machine.debug = hook((lane) => {
      const { registers } = lane.pcpu;
      const rip = registers.get('RIP');
      const bytes = conductor.machine.memory;
      if (bytes.readU8(rip) !== RET || tried.has(rip) || !isShadowStackOn(lane.pcpu)) return;
      const rsp = registers.get('RSP');
      const address = bytes.readU64(rsp);
      const before = registers.values.slice();
      bytes.writeU64(rsp, address ^ 8n);
      tried.set(rip, [lane.engine.run(1), registers.values.slice()]);
      expect(tried.get(rip)).toEqual([{ kind: 'control-protection', errorCode: 1 }, before]);
      bytes.writeU64(rsp, address);
    });
    expect(run(conductor).machine.ledger.findings).toEqual([]);
    expect(tried.size).toBeGreaterThan(8);
  });

  it('parks when a token is busy already: the NMI turns into #GP, which has a stack of its own', () => {
    const event = '{ vcpu: 0, at: 0.001, event: { kind: nmi }, instruction: 30 }';
    const conductor = conductorOf(`{ run: { exits: 40, script: [${event}] } }`);
    const { machine } = conductor;
    let isTaken = false;
    machine.debug = hook((lane) => {
      if (isTaken) return;
      isTaken = true;
      const token = istToken(BigInt(lane.shadowStack), 1);
      machine.memory.writeU64(token, token | 1n);
    });
    run(conductor);
    const { ccbView } = machine.lane(0).vcpu;
    expect(ccbView.number('state')).toBe(CARETAKER_RUN_STATE.PARKED);
    expect([ccbView.number('vector'), ccbView.number('error_code')]).toEqual([VECTOR.GP, 1]);
  });

  it('is found out when it enters the guest with a token in use', () => {
    const conductor = conductorOf('{ run: { exits: 5 } }');
    const { machine } = conductor;
    machine.debug = hook((lane) => {
      const token = istToken(BigInt(lane.shadowStack), 4);
      machine.memory.writeU64(token, token | 1n);
    });
    const findings = run(conductor).machine.ledger.findings;
    expect(findings.map(({ invariant }) => invariant)).toContain('stack');
    expect(findings[0]?.message).toMatch(/token at 0x.* is not free/);
  });
});

/** Runs to the end, or to where the vCPU cannot go on. */
function run(conductor: Conductor): Conductor {
  try {
    conductor.run();
  } catch (error) {
    expect(String(error)).toMatch(/Conductor/);
  }
  return conductor;
}

/** Looks at every instruction boundary. */
function hook(look: (lane: Lane) => void): DebugHook {
  return {
    atBoundary: (lane) => {
      look(lane);
      return 1;
    },
    hasBreakpoint: () => false,
    watched: () => undefined,
    entryRefused: () => undefined,
    left: () => undefined,
  };
}
