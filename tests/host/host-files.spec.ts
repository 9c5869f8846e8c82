import { describe, expect, it } from 'vitest';
import { HarnessBug } from '../../abi/errors.js';
import { DebugFs } from '../../emulator/host/debugfs.js';
import { claimFrames } from '../../emulator/host/memory-claims.js';
import { PhysicalMemory } from '../../emulator/memory/physical-memory.js';
import { FileTable } from '../../emulator/host/files.js';
import { Process } from '../../emulator/host/process.js';
import { createSession, preserveFd } from '../../emulator/host/luo/agent.js';
import { agentOf, bootBench, errnoOf, must } from './bench.js';

function files() {
  const released: string[] = [];
  const table = new FileTable();
  table.register('x', { release: (file) => released.push(file.name) });
  const spawn = (pid: number, maxFds = 4) =>
    new Process(table, new Map(), { pid, name: `process ${pid}`, maxFds });
  return { table, released, spawn };
}

describe('struct file', () => {
  it('is released when its last holder lets go, and not before', () => {
    const { table, released, spawn } = files();
    const [a, b] = [spawn(1), spawn(2)];
    const fd = must(a.openFile('x', 1, 'shared'));
    must(b.installFile(a.file(fd)!));
    a.exit();
    expect(released).toEqual([]);
    expect(table.holders(1)).toEqual([{ kind: 'process', pid: 2, fd: 0 }]);
    b.exit();
    expect(released).toEqual(['shared']);
    expect(table.find(1)).toBeUndefined();
  });

  it('a put by one who does not hold it is a bug', () => {
    const { table, spawn } = files();
    const process = spawn(1);
    const file = process.file(must(process.openFile('x', 1, 'f')))!;
    expect(() => table.put(file, { kind: 'kernel', what: 'nobody' })).toThrow(HarnessBug);
  });

  it('descriptors are the lowest free ones, and EMFILE when there are none', () => {
    const { spawn } = files();
    const process = spawn(1, 3);
    for (let index = 0; index < 3; index++) must(process.openFile('x', index, `${index}`));
    expect(errnoOf(process.openFile('x', 3, '3'))).toBe('EMFILE');
    must(process.close(1));
    expect(must(process.openFile('x', 4, '4'))).toBe(1);
    expect(errnoOf(process.close(7))).toBe('EBADF');
  });

  it('exit closes the lowest descriptor first', () => {
    const { released, spawn } = files();
    const process = spawn(1);
    for (const name of ['a', 'b', 'c']) must(process.openFile('x', 0, name));
    must(process.close(0));
    must(process.openFile('x', 0, 'd'));
    process.exit();
    expect(released).toEqual(['a', 'd', 'b', 'c']);
    expect(errnoOf(process.open('/dev/null'))).toBe('ESRCH');
  });
});

describe('claims', () => {
  it('carving a range out of a region leaves both ends with their owner', () => {
    const memory = new PhysicalMemory(new ArrayBuffer(8 * 4096));
    memory.claim({ base: 4096, sizeBytes: 6 * 4096, owner: 'guest', label: 'g' });
    claimFrames(memory, { start: 3, count: 2 }, 'payload', 'p');
    const owners = memory.regions().map((r) => [r.base / 4096, r.sizeBytes / 4096, r.owner]);
    expect(owners).toEqual([
      [1, 2, 'guest'],
      [3, 2, 'payload'],
      [5, 2, 'guest'],
    ]);
  });
});

describe('debugfs', () => {
  it('reads what its callbacks say now, as text or as one plain object', () => {
    const debugfs = new DebugFs();
    let exits = 1n;
    must(debugfs.add('kvm/12-3/vcpu0/caretaker_telemetry', () => exits));
    must(debugfs.add('kvm/12-3/name', () => 'guest'));
    exits = 1n << 60n;
    expect(debugfs.tree()).toEqual({
      kvm: { '12-3': { name: 'guest', vcpu0: { caretaker_telemetry: 1n << 60n } } },
    });
    expect(must(debugfs.read('kvm/12-3/vcpu0/caretaker_telemetry'))).toBe('1152921504606846976');
    expect(debugfs.list('kvm/12-3')).toEqual(['name', 'vcpu0']);
    debugfs.remove('kvm/12-3/vcpu0');
    expect(debugfs.tree('kvm')).toEqual({ '12-3': { name: 'guest' } });
  });

  it.each([
    ['a path that is there', 'EEXIST', (d: DebugFs) => d.add('a/b', () => 1)],
    ['a file below a file', 'EINVAL', (d: DebugFs) => d.add('a/b/c', () => 1)],
    ['a file where a folder is', 'EINVAL', (d: DebugFs) => d.add('a', () => 1)],
    ['reading nothing', 'ENOENT', (d: DebugFs) => d.read('b')],
    ['reading a folder', 'EISDIR', (d: DebugFs) => d.read('a')],
  ] as const)('%s: %s', (_what, errno, attempt) => {
    const debugfs = new DebugFs();
    must(debugfs.add('a/b', () => 0));
    expect(errnoOf(attempt(debugfs))).toBe(errno);
  });
});

describe('memfd', () => {
  it('cannot be resized while preserved: EPERM, and can be again after', () => {
    const bench = bootBench();
    const { memfd } = bench.host;
    const { agent, device } = agentOf(bench);
    const session = must(createSession(agent, device, 'vm'));
    const fd = must(memfd.create(agent, 'm', 8192));
    const file = agent.file(fd)!;
    must(preserveFd(agent, session, fd, 1n));
    expect(errnoOf(memfd.truncate(file, 4096))).toBe('EPERM');
    must(agent.close(session));
    expect(errnoOf(memfd.truncate(file, 4096))).toBe('ok');
    expect(errnoOf(memfd.truncate(file, 8193))).toBe('EINVAL');
  });

  it('cannot be written once it is frozen for the reboot: EBUSY', () => {
    const bench = bootBench();
    const { kernel, memfd } = bench.host;
    const { agent, device } = agentOf(bench);
    const session = must(createSession(agent, device, 'vm'));
    const fd = must(memfd.create(agent, 'm', 4096));
    must(preserveFd(agent, session, fd, 1n));
    const file = agent.file(fd)!;
    expect(errnoOf(memfd.write(file, 0, Uint8Array.of(1)))).toBe('ok');
    must(kernel.luo.reboot());
    expect(errnoOf(memfd.write(file, 0, Uint8Array.of(1)))).toBe('EBUSY');
  });

  it('with a page in scratch cannot be preserved: EINVAL, and nothing stays preserved', () => {
    const bench = bootBench();
    const { kernel, memfd } = bench.host;
    const { agent, device } = agentOf(bench);
    const session = must(createSession(agent, device, 'vm'));
    while (kernel.allocator.alloc({ pages: 64, label: 'x' }).ok);
    const fd = must(memfd.create(agent, 'm', 64 * 4096, { movable: true }));
    const before = kernel.khoOut.state();
    expect(errnoOf(preserveFd(agent, session, fd, 1n))).toBe('EINVAL');
    expect(kernel.khoOut.preservedFrames().length).toBeLessThanOrEqual(before.preserved.length);
  });

  it('cancelling gives back every page that preserving took', () => {
    const bench = bootBench();
    const { kernel, memfd } = bench.host;
    const { agent, device } = agentOf(bench);
    const fd = must(memfd.create(agent, 'm', 300 * 4096));
    const before = [kernel.allocator.freePages(), kernel.khoOut.state()];
    const session = must(createSession(agent, device, 'vm'));
    must(preserveFd(agent, session, fd, 1n));
    expect(kernel.allocator.freePages()).toBeLessThan(before[0] as number);
    must(agent.close(session));
    expect([kernel.allocator.freePages(), kernel.khoOut.state()]).toEqual(before);
  });
});
