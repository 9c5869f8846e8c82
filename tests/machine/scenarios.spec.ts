/** Every built-in scenario, and the example, with the reference payload: passes, exercises what it is about, repeats. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { referencePayload } from '../../emulator/cli/payload-file.js';
import { BUSY } from '../../emulator/guest/mix.js';
import { Conductor } from '../../emulator/machine/conductor.js';
import { builtinScenarioNames, loadScenario } from '../../emulator/machine/scenario/load.js';
import { runReport, type RunReport } from '../../emulator/report/run-report.js';
import type { InvariantId } from '../../emulator/vmx/stop-reason.js';

const payload = new Uint8Array(readFileSync(referencePayload()));
const documents = new Map<string, RunReport>();

function run(name: string, seed?: number): RunReport {
  const scenario = loadScenario(name);
  const conductor = new Conductor({ ...scenario, seed: seed ?? scenario.seed }, payload, true);
  conductor.run();
  return runReport(conductor, { payload, payloadSha256: '', stopped: null, timelineLength: 1e6 });
}

/** One run a scenario is enough for most rows. */
function reportOf(name: string): RunReport {
  const report = documents.get(name) ?? run(name);
  documents.set(name, report);
  return report;
}

/** Checked in any run that has exits at all. */
// prettier-ignore
const ALWAYS: readonly InvariantId[] = [
  'guest-registers', 'vmcs-writes', 'rip', 'no-lost-exit', 'no-routing-while-detached', 'ownership', 'telemetry', 'stack',
  'host-state', 'interrupts', 'time', 'bounded',
];
/** Checked once vCPUs were detached. */
// prettier-ignore
const GAP: readonly InvariantId[] = [...ALWAYS, 'isolation', 'reachable-preserved', 'w-xor-x', 'preserved'];

/** What a scenario is about: invariants that must be checked, and evidence that must be there. */
// prettier-ignore
const ABOUT: Readonly<Record<string, { readonly checked: readonly InvariantId[]; readonly evidence: readonly string[] }>> = {
  'live-update':        { checked: [...GAP, 'nmi', 'event-reinjected'], evidence: ['ipisSent', 'interruptsDelivered', 'deviceInterrupts', 'nmisDelivered'] },
  'attached':           { checked: ALWAYS, evidence: ['ipisSent', 'interruptsDelivered'] },
  'idle-guest':         { checked: GAP,    evidence: ['interruptsDelivered'] },
  'blocked-early':      { checked: GAP,    evidence: [] },
  'device-not-paused':  { checked: GAP,    evidence: [] },
  'no-kexec':           { checked: GAP,    evidence: [] },
  'cancelled':          { checked: GAP,    evidence: [] },
  'attach-lifecycle':   { checked: GAP,    evidence: ['exitsToKvmDirectly'] },
  'many-vcpus':         { checked: GAP,    evidence: ['ipisSent', 'interruptsDelivered'] },
  'migrate-attached':   { checked: ALWAYS, evidence: ['migrations'] },
  'stray-events':       { checked: [...GAP, 'nmi'], evidence: ['nmisDelivered', 'machineChecksDelivered', 'hostEventsHandedOn'] },
  'ipi':                { checked: GAP,    evidence: ['ipisToGuest', 'ipisToWaiting', 'ipisToStopped', 'ipisOfLowestPriority', 'nmisToGuests', 'nmisInjected', 'ipisForKvm'] },
  'nmi-storm':          { checked: [...GAP, 'nmi'], evidence: ['nmisDelivered', 'nmisLatched', 'nmisMerged', 'nmisInShadow', 'hostEventsHandedOn'] },
  'machine-check':      { checked: [...GAP, 'nmi'], evidence: ['machineChecksDelivered', 'coresShutDown', 'parked'] },
  'payload-fault':      { checked: GAP, evidence: ['faultsOfPayloads', 'parked', 'parkedRestarted', 'coresReclaimed'] },
  'caretaker-update':   { checked: GAP, evidence: ['updates', 'updatesRefused'] },
  'idt-only-in-gap':    { checked: ALWAYS, evidence: [] },
  'handover':           { checked: GAP, evidence: ['exitsToKvmDirectly', 'serialized', 'statesReadAndSet', 'statesRefusedWhileRunning'] },
  'timekeeping':        { checked: GAP, evidence: ['pvClocksSwitchedOn', 'serialized'] },
  'shadow-stack':       { checked: [...GAP, 'nmi'], evidence: ['returnsHeld', 'shadowStackFrames', 'nmisDelivered', 'machineChecksDelivered'] },
  'nested-paging':      { checked: [...GAP, 'nested-tables'], evidence: ['guestAccesses', 'pagesPrefaulted', 'pagesDiscarded', 'pagesLoggedDirty', 'serialized'] },
  'nested-paging-unaware': { checked: [...GAP, 'nested-tables'], evidence: ['guestAccesses', 'pagesDiscarded'] },
  'feature-mismatch':   { checked: GAP, evidence: ['vmsRefused', 'vcpusTerminated', 'coresReclaimed', 'migrations', 'returnsHeld'] },
  'irq-fallback':       { checked: [...GAP, 'completions'], evidence: ['completions', 'completionsSeen', 'interruptsDelivered'] },
  'compromised':        { checked: GAP, evidence: ['attacks', 'attacksStopped', 'attacksNotStopped', 'parked'] },
  'overcommit':         { checked: GAP, evidence: ['ipisToWaiting', 'nmisToGuests', 'nmisInjected', 'interruptsDelivered'] },
  'smt-siblings':       { checked: GAP, evidence: ['migrations'] },
  'posted-interrupts':  { checked: [...GAP, 'completions'], evidence: ['completionsSeen', 'notificationsProcessed', 'virtualInterruptsDelivered', 'apicAccessesVirtualized'] },
  'stop-and-serialize': { checked: ALWAYS, evidence: ['serialized'] },
};

const countsOf = (report: RunReport, name: string): { name: string; count: number } => ({
  name,
  count: report.evidence[name] ?? 0,
});

describe('every built-in scenario', () => {
  it.each(builtinScenarioNames())(
    '%s passes, with the findings alone that it is to show',
    (name) => {
      const { findings, expected, result } = reportOf(name);
      const wanted = expected.length === 0 ? [] : findings;
      expect({ findings, result }).toEqual({ findings: wanted, result: 'pass' });
    },
  );

  it.each(builtinScenarioNames())('%s exercises what it is about', (name) => {
    const { checked, evidence } = ABOUT[name] ?? { checked: ALWAYS, evidence: [] };
    const report = reportOf(name);
    const idle = report.invariants.filter((one) => one.checked === 0).map(({ id }) => id);
    expect(idle.filter((id) => checked.includes(id))).toEqual([]);
    const unseen = evidence
      .map((what) => countsOf(report, what))
      .filter(({ count }) => count === 0);
    expect(unseen).toEqual([]);
  });

  it('has a row that says what it is about', () => {
    const unknown = Object.keys(ABOUT).filter((name) => !builtinScenarioNames().includes(name));
    expect(unknown).toEqual([]);
  });
});

describe('what blocks in the gap', () => {
  it.each([
    ['live-update', 1, 'EPT_VIOLATION', 8.5],
    ['blocked-early', 0, 'EPT_VIOLATION', 10],
    ['device-not-paused', 1, 'EPT_MISCONFIG', 9.95],
    ['device-not-paused', 0, 'IO_INSTRUCTION', 9.915],
    ['cancelled', 0, 'VMCALL', 0.5],
  ])('%s: vCPU %i waits with %s for %d s', (name, vcpu, reason, seconds) => {
    const report = reportOf(name);
    const stalls = report.vcpus[vcpu]!.telemetry.stalls;
    expect(stalls.map((stall) => stall.reason)).toEqual([reason]);
    const waited = (stalls[0]!.tscRelease - stalls[0]!.tscEntry) / report.tscFrequencyHz;
    expect(waited).toBeCloseTo(seconds, 3);
  });

  it.each(['live-update', 'blocked-early', 'idle-guest', 'many-vcpus', 'attach-lifecycle'])(
    '%s: no other vCPU waits',
    (name) => {
      const blocked = reportOf(name).vcpus.reduce((sum, { exits }) => sum + exits.blocked, 0);
      expect(blocked).toBe(['live-update', 'blocked-early'].includes(name) ? 1 : 0);
    },
  );
});

describe('live-update', () => {
  it('has a gap of 30 s and at most 20,000 exits', () => {
    const { gap, vcpus, tscFrequencyHz } = reportOf('live-update');
    expect((gap!.tscEnd - gap!.tscStart) / tscFrequencyHz).toBeCloseTo(30, 3);
    expect(vcpus.reduce((sum, { exits }) => sum + exits.total, 0)).toBeLessThanOrEqual(20_000);
  });

  it('goes through attached, no kernel, the next kernel, and attached again', () => {
    const names = reportOf('live-update').phases.map(({ name }) => name);
    expect(names.filter((name) => name !== 'detached')).toEqual([
      'attached',
      'no-kernel',
      'next-kernel',
      'attached',
    ]);
  });

  it('has the exit reasons of a measured busy guest, each within four points of a hundred', () => {
    const measured = Object.entries(BUSY);
    const sum = measured.reduce((total, [, weight]) => total + weight, 0);
    const { vcpus } = reportOf('live-update');
    const counts = new Map<string, number>();
    for (const { telemetry } of vcpus) {
      for (const [reason, { fastpath, routed, blocked }] of Object.entries(telemetry.reasons)) {
        counts.set(reason, (counts.get(reason) ?? 0) + fastpath + routed + blocked);
      }
    }
    const exits = [...counts.values()].reduce((total, count) => total + count, 0);
    const off = measured.map(([reason, weight]) => {
      const points = ((counts.get(reason) ?? 0) / exits - weight / sum) * 100;
      return { reason, points: Math.round(points * 10) / 10 };
    });
    expect(off.filter(({ points }) => Math.abs(points) > 4)).toEqual([]);
  });
});

describe('overcommit', () => {
  it('has each of 64 vCPUs wait once, and none longer than for the next KVM', () => {
    const { vcpus, tscFrequencyHz } = reportOf('overcommit');
    expect(vcpus.map(({ exits }) => exits.blocked)).toEqual(Array(64).fill(1));
    const waits = vcpus.flatMap(({ telemetry }) => telemetry.stalls);
    const seconds = waits.map((stall) => (stall.tscRelease - stall.tscEntry) / tscFrequencyHz);
    expect(seconds[0]).toBeCloseTo(0.59, 3);
    expect(seconds.slice(1).filter((one) => Math.abs(one - 0.3) > 0.001)).toEqual([]);
  });

  it('has spinners that get twenty times as many exits as others, and none that is answered by KVM', () => {
    const { vcpus } = reportOf('overcommit');
    const pauses = vcpus.map(({ telemetry }) => telemetry.reasons['PAUSE_INSTRUCTION']);
    expect(pauses[1]!.fastpath).toBeGreaterThan(20 * pauses[2]!.fastpath);
    expect(pauses.filter((one) => one !== undefined && one.routed + one.blocked > 0)).toEqual([]);
  });
});

describe('a run', () => {
  it('is the same document twice', () => {
    expect(run('blocked-early')).toEqual(reportOf('blocked-early'));
  });

  it('is another with another seed', () => {
    expect(run('blocked-early', 99).vcpus).not.toEqual(reportOf('blocked-early').vcpus);
  });
});

describe('examples/scenario.yaml', () => {
  const file = new URL('../../examples/scenario.yaml', import.meta.url).pathname;

  it('passes', () => {
    const { findings, result } = run(file);
    expect({ findings, result }).toEqual({ findings: [], result: 'pass' });
  });

  it('has every step and every kind of mix that there is', () => {
    const { steps } = loadScenario(file);
    const kinds = new Set(steps.flatMap((step) => Object.keys(step)));
    // prettier-ignore
    expect([...kinds].sort()).toEqual([
      'close-session', 'dirty-log', 'finish', 'gap', 'get-set-state', 'kexec', 'madvise', 'migrate', 'pause-devices', 'prefault',
      'preserve', 'retrieve', 'run', 'stop', 'vmm-exit',
    ]);
  });
});
