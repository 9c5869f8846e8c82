import { describe, expect, it } from 'vitest';
import { CpuHotplug } from '../../emulator/host/cpu-hotplug.js';
import { rebootKexec } from '../../emulator/host/kexec.js';
import { createSession, preserveFd, retrieveSession } from '../../emulator/host/luo/agent.js';
import type { Result } from '../../emulator/host/result.js';
import {
  agentOf,
  bootBench,
  bootNext,
  CPUS,
  errnoOf,
  kexec,
  must,
  openFake,
  recordingEvents,
  type Bench,
} from './bench.js';

function hotplug() {
  const events: string[] = [];
  const cpus = new CpuHotplug(CPUS, recordingEvents(events, []));
  cpus.smpInit();
  events.length = 0;
  return { cpus, events };
}

describe('CPU hotplug', () => {
  it.each<[string, string, (cpus: CpuHotplug) => Result<void>]>([
    ['the boot CPU stays online', 'EBUSY', (c) => c.offline(0)],
    ['a pCPU that does not exist', 'ENODEV', (c) => c.offline(9)],
    ['a pCPU that is offline', 'EINVAL', (c) => (must(c.offline(1)), c.offline(1))],
    [
      'a pCPU that is not present',
      'ENODEV',
      (c) => (must(c.offline(1)), must(c.park(1)), c.offline(1)),
    ],
    ['only an offline pCPU parks', 'EINVAL', (c) => c.park(1)],
    [
      'only a parked pCPU takes a workload',
      'EINVAL',
      (c) => (must(c.offline(1)), c.startWorkload(1)),
    ],
    [
      'only an exiting pCPU dies',
      'EINVAL',
      (c) => (must(c.offline(1)), must(c.park(1)), c.reportDead(1)),
    ],
    [
      'a pCPU at work cannot just be brought up',
      'EINVAL',
      (c) => (must(c.offline(1)), must(c.park(1)), c.online(1)),
    ],
    ['an online pCPU is not adopted', 'EINVAL', (c) => c.adopt(2)],
    ['an unknown APIC id is not adopted', 'ENODEV', (c) => c.adopt(1)],
  ])('%s: %s', (_rule, errno, attempt) => {
    expect(errnoOf(attempt(hotplug().cpus))).toBe(errno);
  });

  it('goes from online to its workload and back, with INIT only at the end', () => {
    const { cpus, events } = hotplug();
    for (const step of ['offline', 'park', 'startWorkload', 'requestExit', 'reportDead'] as const) {
      must(cpus[step](1));
    }
    expect(cpus.stateOf(1)).toBe('dead');
    expect(events).toEqual(['offline 2', 'kick 2']);
    must(cpus.online(1));
    expect(events.slice(2)).toEqual(['INIT 2', 'SIPI 2']);
    expect(cpus.cpus()[1]).toMatchObject({ state: 'online', isPresent: true });
  });

  it('timers and interrupts move away before a pCPU is offline', () => {
    const { cpus, events } = hotplug();
    cpus.addTimer('tick', 1);
    cpus.addTimer('other', 2);
    cpus.routeIrq(33, 1);
    must(cpus.offline(1));
    expect(events).toEqual(['timer tick 1->0', 'irq 33 1->0', 'offline 2']);
    expect(cpus.boundTo(1)).toEqual({ timers: [], irqs: [] });
    expect(cpus.boundTo(2)).toEqual({ timers: ['other'], irqs: [] });
  });

  it('smp_send_stop reaches only pCPUs that are online', () => {
    const { cpus, events } = hotplug();
    must(cpus.offline(1));
    must(cpus.park(1));
    events.length = 0;
    cpus.smpSendStop();
    expect(events).toEqual(['stop 4']);
    expect(cpus.stateOf(1)).toBe('parked');
  });

  it('smp_init skips the preserved and sends INIT and SIPI to the others', () => {
    const events: string[] = [];
    const cpus = new CpuHotplug(CPUS, recordingEvents(events, []));
    cpus.smpInit(new Set([4]));
    expect(events).toEqual(['INIT 2', 'SIPI 2']);
    expect(cpus.cpus()[2]).toMatchObject({ state: 'workload', isPresent: false });
    must(cpus.adopt(4));
    expect(cpus.cpus()[2]).toMatchObject({ state: 'online', isPresent: true });
    expect(events).toHaveLength(2);
  });
});

/** A file that keeps pCPU 1 is preserved, and the pCPU runs. */
function isolate(bench: Bench, cpu = 1) {
  const { agent, device } = agentOf(bench);
  const session = must(createSession(agent, device, 'vm'));
  must(preserveFd(agent, session, openFake(bench, agent, 'vcpu'), 1n));
  const { cpuPreserve, hotplug: cpus } = bench.host.kernel;
  must(cpuPreserve.preserve(cpu));
  must(cpus.startWorkload(cpu));
  return { agent, session };
}

describe('preserved pCPUs', () => {
  it('neither the stop of the old kernel nor the INIT of the next one reaches them', () => {
    const old = bootBench();
    isolate(old);
    old.events.length = 0;
    const bench = kexec(old);
    const touched = bench.events.filter((event) => /^(INIT|SIPI|stop|kick) 2$/.test(event));
    expect(touched).toEqual([]);
    const others = bench.events.filter((event) => event.endsWith(' 4') || event === 'kexec');
    expect(others).toEqual(['stop 4', 'kexec', 'INIT 4', 'SIPI 4']);
    expect(bench.host.kernel.hotplug.stateOf(1)).toBe('workload');
  });

  it('are found by APIC id, however the next kernel numbers its CPUs', () => {
    const old = bootBench();
    isolate(old);
    const cpus = [CPUS[0]!, { cpu: 1, apicId: 4 }, { cpu: 2, apicId: 2 }];
    old.events.length = 0;
    const { kernel } = kexec(old, { cpus }).host;
    expect(old.events.filter((event) => event.startsWith('INIT'))).toEqual(['INIT 4']);
    expect(kernel.hotplug.stateOf(2)).toBe('workload');
  });

  it('a next kernel without live update sends INIT to them: the machine sees it', () => {
    const old = bootBench();
    isolate(old);
    kexec(old, { liveupdate: false });
    expect(old.events).toContain('INIT 2');
  });

  it('a list that makes no sense is refused, with a warning, and all are brought up', () => {
    const old = bootBench();
    isolate(old);
    const page = old.host.kernel.luo.getOutgoingFlb(old.host.kernel.cpuPreserve.flb)!;
    old.memory.writeU64(page, 0n);
    bootNext(old, must(rebootKexec(old.host.kernel)));
    expect(old.warnings[0]).toMatch(/^smp_init/);
    expect(old.events).toContain('INIT 2');
  });

  it('without a file that keeps it, a pCPU cannot be preserved: ENODATA', () => {
    expect(errnoOf(bootBench().host.kernel.cpuPreserve.preserve(1))).toBe('ENODATA');
  });

  it('unpreserving brings it back and takes it off the list', () => {
    const bench = bootBench();
    isolate(bench);
    const { cpuPreserve, hotplug: cpus } = bench.host.kernel;
    must(cpus.requestExit(1));
    must(cpus.reportDead(1));
    must(cpuPreserve.unpreserve(1));
    expect(cpus.stateOf(1)).toBe('online');
    const { kernel } = kexec(bench).host;
    expect(must(kernel.cpuPreserve.incoming())).toEqual(new Set());
  });

  it('the list is gone once its last file is finished', () => {
    const old = bootBench();
    isolate(old);
    const bench = kexec(old);
    const { cpuPreserve } = bench.host.kernel;
    expect(must(cpuPreserve.incoming())).toEqual(new Set([2]));
    const { agent, device } = agentOf(bench);
    must(agent.close(must(retrieveSession(agent, device, 'vm'))));
    expect(must(cpuPreserve.incoming())).toEqual(new Set());
  });
});
