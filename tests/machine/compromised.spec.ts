/** A payload in its guest's hands: what each CR3 policy stops, what nothing in ring 0 stops, and that other VMs go on. */
import { describe, expect, it } from 'vitest';
import { Conductor } from '../../emulator/machine/conductor.js';
import { parseScenario } from '../../emulator/machine/scenario/load.js';
import { referencePayload } from '../support/reference-payload.js';

interface Attack {
  readonly how: string;
  readonly at: string;
  readonly settings?: string;
}

/** vCPU 0 is the attacker's, attached or in a gap; vCPU 1 is another VM's. */
function run(phase: 'attached' | 'detached', { how, at, settings = '' }: Attack): Conductor {
  const script = `script: [{ vcpu: 0, at: 0.005, attack: { how: ${how}, at: ${at} } }]`;
  const steps = {
    attached: `{ run: { seconds: 0.02, ${script} } }`,
    detached: `{ run: { seconds: 0.005 } }, { pause-devices: true }, { preserve: {} }, { gap: { seconds: 0.02, ${script} } }`,
  };
  const conductor = new Conductor(
    parseScenario(
      `
name: attack
description: one attack
vcpus: 2
vms: [{ vcpus: 1, payload: compromised }, { vcpus: 1 }]
direct-map: true
mix: idle
rate: 500
${settings}
steps: [${steps[phase]}]`,
      'attack.yaml',
    ),
    referencePayload(),
    false,
  );
  conductor.run();
  return conductor;
}

const said = ({ machine }: Conductor): string =>
  machine.ledger.findings.map(({ invariant, message }) => `${invariant}: ${message}`).join('\n');
const countedOf = ({ machine }: Conductor, what: string): number => machine.evidence[what] ?? 0;

const SHARED = 'cr3: shared-until-detach';
const VICTIM = '{ vcpu: 1 }';

describe('a compromised payload is stopped by a page fault', () => {
  // prettier-ignore
  it.each([
    ['own tables', 'attached', { how: 'read', at: 'kernel' }, 0x0],
    ['own tables', 'attached', { how: 'read', at: VICTIM }, 0x0],
    ['own tables', 'attached', { how: 'write', at: 'tables' }, 0x0],
    ['own tables', 'attached', { how: 'write', at: 'kvm-page' }, 0x3],
    ['own tables', 'detached', { how: 'write', at: 'kvm-page' }, 0x3],
    ['the host tables until then', 'detached', { how: 'read', at: 'kernel', settings: SHARED }, 0x0],
    ['the host tables until then', 'detached', { how: 'read', at: VICTIM, settings: SHARED }, 0x0],
    ['the host tables until then', 'detached', { how: 'write', at: 'tables', settings: SHARED }, 0x0],
  ] as const)('on %s, %s: %o', (_tables, phase, attack, errorCode) => {
    const conductor = run(phase, attack);
    expect(countedOf(conductor, 'attacksStopped')).toBe(1);
    expect(countedOf(conductor, 'attacksNotStopped')).toBe(0);
    const { ccbView } = conductor.machine.lane(0).vcpu;
    expect([ccbView.number('vector'), ccbView.number('error_code')]).toEqual([14, errorCode]);
    expect(said(conductor)).toMatch(/isolation: vCPU 0 .* the payload raised vector 14 accessing/);
  });

  it('and clearing CR0.WP by #GP where CR4.CET is set, as shadow stacks need it', () => {
    const settings = 'shadow-stacks: true';
    const conductor = run('attached', { how: 'write-unprotected', at: 'kvm-page', settings });
    expect(countedOf(conductor, 'attacksStopped')).toBe(1);
    expect(conductor.machine.lane(0).vcpu.ccbView.number('vector')).toBe(13);
  });
});

describe('a compromised payload is not stopped, and what it does is told', () => {
  // prettier-ignore
  it.each([
    ['on the host tables', 'attached', { how: 'read', at: 'kernel', settings: SHARED }, /routed with RBX/],
    ['on the host tables', 'attached', { how: 'read', at: VICTIM, settings: SHARED }, /routed with RBX/],
    ['on the host tables', 'attached', { how: 'write', at: 'tables', settings: SHARED }, /routed with RBX/],
    ['on the host tables', 'attached', { how: 'write', at: 'kvm-page', settings: SHARED }, /wrote .*attach_state/],
    ['on tables that it builds', 'attached', { how: 'read-by-own-tables', at: 'kernel' }, /isolation: .*CR3 is loaded with/],
    ['on tables that it builds', 'detached', { how: 'read-by-own-tables', at: VICTIM }, /isolation: .*CR3 is loaded with/],
    ['without write protection', 'attached', { how: 'write-unprotected', at: 'kvm-page' }, /w-xor-x: .*CR0.WP is cleared/],
    ['without write protection', 'detached', { how: 'write-unprotected', at: 'kvm-page' }, /wrote .*attach_state/],
  ] as const)('%s, %s: %o', (_how, phase, attack, finding) => {
    const conductor = run(phase, attack);
    expect(countedOf(conductor, 'attacksNotStopped')).toBe(1);
    expect(countedOf(conductor, 'attacksStopped')).toBe(0);
    expect(said(conductor)).toMatch(finding);
  });
});

describe('the other VM', () => {
  it('goes on, and nothing is found wrong with it', () => {
    const conductor = run('detached', { how: 'read', at: VICTIM });
    expect(said(conductor)).not.toMatch(/vCPU 1 exit|vCPU 1:/);
    expect(conductor.machine.lane(1).truth.exits).toBeGreaterThan(5);
  });
});
