/** The LUO error tables: each row is one refusal, titled with its rule. */
import { describe, expect, it } from 'vitest';
import { LUO_IOCTL, type LuoIoctlName } from '../../abi/luo.js';
import { FILE_SER_BYTES } from '../../emulator/host/luo/luo-abi.js';
import { entriesPerBlock } from '../../emulator/host/kho/block-set.js';
import {
  createSession,
  finishSession,
  luoStruct,
  openLiveupdate,
  preserveFd,
  retrieveFd,
  retrieveSession,
  sessionName,
} from '../../emulator/host/luo/agent.js';
import type { LiveupdateFlb } from '../../emulator/host/luo/handler.js';
import { rebootKexec } from '../../emulator/host/kexec.js';
import type { OpenFile } from '../../emulator/host/files.js';
import type { Process } from '../../emulator/host/process.js';
import { DONE, ok, refuse, type Result } from '../../emulator/host/result.js';
import {
  agentOf,
  bootBench,
  errnoOf,
  exhaustMemory,
  kexec,
  must,
  obedientHandler,
  openFake,
  type Bench,
} from './bench.js';

interface Stage {
  readonly bench: Bench;
  readonly agent: Process;
  readonly device: number;
  /** An outgoing session in stage 1, the retrieved one in stage 2. */
  readonly session: number;
  /** A file preserved in it as token 1. */
  readonly fd: number;
}

/** The old kernel: session `vm` with one file as token 1. */
function stage1(): Stage {
  const bench = bootBench();
  const { agent, device } = agentOf(bench);
  const session = must(createSession(agent, device, 'vm'));
  const fd = openFake(bench, agent, 'first');
  must(preserveFd(agent, session, fd, 1n));
  return { bench, agent, device, session, fd };
}

/** The next kernel: the same session, retrieved. */
function stage2(): Stage {
  const bench = kexec(stage1().bench);
  const { agent, device } = agentOf(bench);
  return { bench, agent, device, session: must(retrieveSession(agent, device, 'vm')), fd: -1 };
}

function fillFds(process: Process): void {
  while (process.open('/dev/null').ok);
}

type Row = readonly [rule: string, errno: string, attempt: (stage: Stage) => Result<unknown>];

describe('open of /dev/liveupdate', () => {
  // prettier-ignore
  it.each<Row>([
    ['a second open while the first is open',             'EBUSY', ({ bench }) => openLiveupdate(bench.host.kernel.spawn('other'))],
    ['a second open by the same process',                 'EBUSY', ({ agent }) => openLiveupdate(agent)],
    ['an open after the first was closed',                'ok',    ({ agent, device }) => (must(agent.close(device)), openLiveupdate(agent))],
    ['an open after the holder died',                     'ok',    ({ bench, agent }) => (agent.exit(), openLiveupdate(bench.host.kernel.spawn('other')))],
    ['an open without a free descriptor',                 'EMFILE', ({ agent, device }) => (fillFds(agent), agent.close(device), fillFds(agent), openLiveupdate(agent))],
  ])('%s: %s', (_rule, errno, attempt) => {
    expect(errnoOf(attempt(stage1()))).toBe(errno);
  });

  it('does not exist when live update is off: ENOENT', () => {
    const { kernel } = bootBench({ liveupdate: false }).host;
    expect(errnoOf(openLiveupdate(kernel.spawn('agent')))).toBe('ENOENT');
  });

  it('does not exist without KHO: ENOENT', () => {
    const { kernel } = bootBench({ kho: false }).host;
    expect(errnoOf(openLiveupdate(kernel.spawn('agent')))).toBe('ENOENT');
  });

  it('a record whose handler is missing: EIO at this and every later open', () => {
    const bench = kexec(stage1().bench, { initcalls: () => undefined });
    const agent = bench.host.kernel.spawn('agent');
    expect(errnoOf(openLiveupdate(agent))).toBe('EIO');
    expect(errnoOf(openLiveupdate(agent))).toBe('EIO');
  });

  it('what came in is read at the first open and not at boot', () => {
    const bench = kexec(stage1().bench);
    expect(bench.events).not.toContain('deserialize 1');
    agentOf(bench);
    expect(bench.events).toContain('deserialize 1');
  });
});

describe('CREATE_SESSION', () => {
  // prettier-ignore
  it.each<Row>([
    ['a name that is taken',                    'EEXIST', ({ agent, device }) => createSession(agent, device, 'vm')],
    ['another name',                            'ok',     ({ agent, device }) => createSession(agent, device, 'vm2')],
    ['an empty name',                           'EINVAL', ({ agent, device }) => createSession(agent, device, '')],
    ['a name without its NUL',                  'EINVAL', ({ agent, device }) => createSession(agent, device, 'x'.repeat(64))],
    ['the longest name',                        'ok',     ({ agent, device }) => createSession(agent, device, 'x'.repeat(63))],
    ['the name of a session that was closed',   'ok',     ({ agent, device, session }) => (must(agent.close(session)), createSession(agent, device, 'vm'))],
    ['no free descriptor',                      'EMFILE', ({ agent, device }) => (fillFds(agent), createSession(agent, device, 'vm2'))],
  ])('%s: %s', (_rule, errno, attempt) => {
    expect(errnoOf(attempt(stage1()))).toBe(errno);
  });

  it('has no fixed number of sessions, and ENOMEM when memory is full', () => {
    const stage = stage1();
    for (let index = 0; index < 60; index++) {
      must(createSession(stage.agent, stage.device, `more ${index}`));
    }
    exhaustMemory(stage.bench);
    const results = Array.from({ length: 60 }, (_none, index) =>
      errnoOf(createSession(stage.agent, stage.device, `last ${index}`)),
    );
    expect(results.at(-1)).toBe('ENOMEM');
  });

  it('an incoming session does not take the name from an outgoing one', () => {
    const { agent, device } = stage2();
    expect(errnoOf(createSession(agent, device, 'vm'))).toBe('ok');
  });
});

describe('RETRIEVE_SESSION', () => {
  // prettier-ignore
  it.each<Row>([
    ['a session that did not come in',        'ENOENT', ({ agent, device }) => retrieveSession(agent, device, 'other')],
    ['a session that is retrieved already',   'EINVAL', ({ agent, device }) => retrieveSession(agent, device, 'vm')],
    ['a session that was closed',             'ENOENT', ({ agent, device, session }) => (must(agent.close(session)), retrieveSession(agent, device, 'vm'))],
    ['no free descriptor',                    'EMFILE', ({ agent, device }) => (fillFds(agent), retrieveSession(agent, device, 'vm'))],
  ])('%s: %s', (_rule, errno, attempt) => {
    expect(errnoOf(attempt(stage2()))).toBe(errno);
  });

  it('no live update happened, and the session is an outgoing one: ENOENT', () => {
    const { agent, device } = stage1();
    expect(errnoOf(retrieveSession(agent, device, 'vm'))).toBe('ENOENT');
  });
});

describe('PRESERVE_FD', () => {
  // prettier-ignore
  it.each<Row>([
    ['a token in use in this session',              'EEXIST', ({ bench, agent, session }) => preserveFd(agent, session, openFake(bench, agent, 'b'), 1n)],
    ['a token in use, before the descriptor is looked at', 'EEXIST', ({ agent, session }) => preserveFd(agent, session, 999, 1n)],
    ['the token of another session',                'ok',     ({ bench, agent, device }) => preserveFd(agent, must(createSession(agent, device, 'b')), openFake(bench, agent, 'b'), 1n)],
    ['a descriptor that is not open',               'EBADF',  ({ agent, session }) => preserveFd(agent, session, 999, 2n)],
    ['a negative descriptor',                       'EBADF',  ({ agent, session }) => preserveFd(agent, session, -1, 2n)],
    ['a file that no handler takes',                'ENOENT', ({ agent, session }) => preserveFd(agent, session, must(agent.open('/dev/null')), 2n)],
    ['the session itself',                          'ENOENT', ({ agent, session }) => preserveFd(agent, session, session, 2n)],
    ['the same file twice in one session',          'EBUSY',  ({ agent, session, fd }) => preserveFd(agent, session, fd, 2n)],
    ['the same file in another session',            'EBUSY',  ({ agent, device, fd }) => preserveFd(agent, must(createSession(agent, device, 'b')), fd, 1n)],
    ['a file whose session was closed',             'ok',     ({ agent, device, session, fd }) => (must(agent.close(session)), preserveFd(agent, must(createSession(agent, device, 'b')), fd, 1n))],
    ['what the handler refuses with',               'EHWPOISON', ({ bench, agent, session }) => (bench.orders.preserve = 'EHWPOISON', preserveFd(agent, session, openFake(bench, agent, 'b'), 2n))],
    ['a busy device',                               'EBUSY',  ({ bench, agent, session }) => preserveFd(agent, session, must(bench.host.vfio.open(agent, 7)), 2n)],
  ])('%s: %s', (_rule, errno, attempt) => {
    expect(errnoOf(attempt(stage1()))).toBe(errno);
  });

  it('a refusal of the handler leaves nothing behind', () => {
    const { bench, agent, session } = stage1();
    const { kernel } = bench.host;
    const fd = openFake(bench, agent, 'b');
    const before = [kernel.luo.state(), kernel.khoOut.state(), kernel.files.state()];
    bench.orders.preserve = 'EIO';
    expect(errnoOf(preserveFd(agent, session, fd, 2n))).toBe('EIO');
    expect([kernel.luo.state(), kernel.khoOut.state(), kernel.files.state()]).toEqual(before);
  });

  it('a refusal of an FLB is the call’s: earlier FLBs are taken back, the handler is never asked', () => {
    const bench = bootBench();
    const { kernel } = bench.host;
    const log: string[] = [];
    const good = { ...flbNamed('good'), unpreserve: () => log.push('good unpreserved') };
    const needy = {
      ...obedientHandler(kernel, bench.orders),
      compatible: 'needy-v1',
      canPreserve: (file: OpenFile) => file.kind === 'needy',
    };
    kernel.files.register('needy', {});
    must(kernel.luo.registerFileHandler(needy));
    must(kernel.luo.registerFlb(needy, good));
    must(
      kernel.luo.registerFlb(
        needy,
        flbNamed('bad', () => refuse('ENOSPC')),
      ),
    );
    const { agent, device } = agentOf(bench);
    const fd = must(agent.openFile('needy', kernel.files.newInode(), 'needy'));
    const session = must(createSession(agent, device, 'vm'));
    expect(errnoOf(preserveFd(agent, session, fd, 1n))).toBe('ENOSPC');
    expect([log, bench.orders.log]).toEqual([['good unpreserved'], []]);
    expect(kernel.luo.getOutgoingFlb(good)).toBeUndefined();
  });

  it('more files than one block holds are no limit; full memory is ENOMEM', () => {
    const stage = stage1();
    const { bench, agent, session } = stage;
    const perBlock = entriesPerBlock(FILE_SER_BYTES);
    for (let token = 2n; token <= perBlock; token++) {
      must(preserveFd(agent, session, openFake(bench, agent, `${token}`), token));
    }
    exhaustMemory(stage.bench);
    const fd = openFake(bench, agent, 'one more');
    expect(errnoOf(preserveFd(agent, session, fd, 1000n))).toBe('ENOMEM');
  });
});

describe('RETRIEVE_FD', () => {
  // prettier-ignore
  it.each<Row>([
    ['an unknown token',                             'ENOENT', ({ agent, session }) => retrieveFd(agent, session, 2n)],
    ['the token of the session',                     'ok',     ({ agent, session }) => retrieveFd(agent, session, 1n)],
    ['no free descriptor',                           'EMFILE', ({ agent, session }) => (fillFds(agent), retrieveFd(agent, session, 1n))],
    ['a token after the session was finished',       'ENOENT', ({ agent, session }) => (must(finishSession(agent, session)), retrieveFd(agent, session, 1n))],
    ['what the handler refuses with',                'EILSEQ', ({ bench, agent, session }) => (bench.orders.retrieve = 'EILSEQ', retrieveFd(agent, session, 1n))],
    ['the first error again, though the handler would succeed now', 'EILSEQ', ({ bench, agent, session }) => {
      bench.orders.retrieve = 'EILSEQ';
      retrieveFd(agent, session, 1n);
      delete bench.orders.retrieve;
      return retrieveFd(agent, session, 1n);
    }],
  ])('%s: %s', (_rule, errno, attempt) => {
    expect(errnoOf(attempt(stage2()))).toBe(errno);
  });

  it('an empty session has no token: ENOENT', () => {
    const old = bootBench();
    const one = agentOf(old);
    must(createSession(one.agent, one.device, 'empty'));
    const { agent, device } = agentOf(kexec(old));
    const session = must(retrieveSession(agent, device, 'empty'));
    expect(errnoOf(retrieveFd(agent, session, 1n))).toBe('ENOENT');
    expect(errnoOf(finishSession(agent, session))).toBe('ok');
  });

  it('a second retrieve gives a new descriptor of the same file and does not ask the handler', () => {
    const { bench, agent, session } = stage2();
    const first = must(retrieveFd(agent, session, 1n));
    const second = must(retrieveFd(agent, session, 1n));
    expect(second).not.toBe(first);
    expect(agent.file(second)).toEqual(agent.file(first));
    expect(bench.orders.log.filter((line) => line === 'retrieve 1')).toHaveLength(1);
  });
});

describe('FINISH', () => {
  it('a file that cannot finish: EBUSY, and nothing is finished', () => {
    const { bench, agent, session } = stage2();
    must(retrieveFd(agent, session, 1n));
    bench.orders.cannotFinish = true;
    expect(errnoOf(finishSession(agent, session))).toBe('EBUSY');
    expect(bench.orders.log.filter((line) => line.startsWith('finish'))).toEqual([]);
    bench.orders.cannotFinish = false;
    expect(errnoOf(finishSession(agent, session))).toBe('ok');
  });

  it('a reserved field that is not zero: EINVAL', () => {
    const { agent, session } = stage2();
    const view = luoStruct('LIVEUPDATE_SESSION_FINISH');
    view.setUint32(4, 1, true);
    expect(errnoOf(ioctl(agent, session, 'LIVEUPDATE_SESSION_FINISH', view))).toBe('EINVAL');
  });

  it('finishing again finishes an empty session: success', () => {
    const { agent, session } = stage2();
    must(finishSession(agent, session));
    expect(errnoOf(finishSession(agent, session))).toBe('ok');
  });
});

describe('ioctl decoding', () => {
  const P = 'LIVEUPDATE_SESSION_PRESERVE_FD';
  const sized = (name: LuoIoctlName, bytes: number, size = bytes): DataView => {
    const view = new DataView(new ArrayBuffer(bytes));
    new Uint8Array(view.buffer).set(new Uint8Array(luoStruct(name).buffer).subarray(0, bytes));
    if (bytes >= 4) view.setUint32(0, size, true);
    return view;
  };
  const withTail = (last: number): DataView => {
    const view = sized('LIVEUPDATE_SESSION_GET_NAME', 80);
    view.setUint8(79, last);
    return view;
  };

  // prettier-ignore
  it.each<Row>([
    ['a number beyond the session’s table is EINVAL, not ENOTTY',  'EINVAL', ({ agent, session }) => agent.ioctl(session, 0xba44, null)],
    ['a number below it',                                          'EINVAL', ({ agent, session }) => agent.ioctl(session, 0xba00, null)],
    ['a number beyond the device’s table',                         'EINVAL', ({ agent, device }) => agent.ioctl(device, 0xba40, null)],
    ['a known number is looked up before the pointer is read',     'EFAULT', ({ agent, session }) => agent.ioctl(session, LUO_IOCTL[P], null)],
    ['a structure shorter than its size field',                    'EFAULT', ({ agent, session }) => ioctl(agent, session, P, sized(P, 3))],
    ['the pointer is read before the whole command is compared',   'EFAULT', ({ agent, session }) => agent.ioctl(session, 0x1140, null)],
    ['a known number with another type byte',                      'ENOTTY', ({ agent, session }) => agent.ioctl(session, 0x1140, bytes(luoStruct(P)))],
    ['a known number with size bits',                              'ENOTTY', ({ agent, session }) => agent.ioctl(session, 0x4010_ba40, bytes(luoStruct(P)))],
    ['RETRIEVE_FD on an outgoing session',                         'EINVAL', ({ agent, session }) => retrieveFd(agent, session, 1n)],
    ['FINISH on an outgoing session',                              'EINVAL', ({ agent, session }) => finishSession(agent, session)],
    ['a structure smaller than the smallest ever',                 'EINVAL', ({ agent, session }) => ioctl(agent, session, P, sized(P, 15))],
    ['a size that reaches beyond what is readable',                'EFAULT', ({ agent, session }) => ioctl(agent, session, P, sized(P, 16, 4096))],
    ['a larger structure with a zero tail',                        'ok',     ({ agent, session }) => ioctl(agent, session, 'LIVEUPDATE_SESSION_GET_NAME', withTail(0))],
    ['a larger structure with something in its tail',              'E2BIG',  ({ agent, session }) => ioctl(agent, session, 'LIVEUPDATE_SESSION_GET_NAME', withTail(1))],
    ['GET_NAME with a reserved field that is not zero',            'EINVAL', ({ agent, session }) => {
      const view = luoStruct('LIVEUPDATE_SESSION_GET_NAME');
      view.setUint32(4, 1, true);
      return ioctl(agent, session, 'LIVEUPDATE_SESSION_GET_NAME', view);
    }],
    ['an ioctl on a file that has none',                           'ENOTTY', ({ agent }) => agent.ioctl(must(agent.open('/dev/null')), LUO_IOCTL[P], null)],
    ['an ioctl on no file',                                        'EBADF',  ({ agent }) => agent.ioctl(999, LUO_IOCTL[P], null)],
  ])('%s: %s', (_rule, errno, attempt) => {
    expect(errnoOf(attempt(stage1()))).toBe(errno);
  });

  it('PRESERVE_FD on a retrieved session: EINVAL', () => {
    const { bench, agent, session } = stage2();
    expect(errnoOf(preserveFd(agent, session, openFake(bench, agent, 'b'), 2n))).toBe('EINVAL');
  });

  it('PRESERVE_FD on a session that is retrieved and finished: EINVAL', () => {
    const { bench, agent, session } = stage2();
    must(finishSession(agent, session));
    expect(errnoOf(preserveFd(agent, session, openFake(bench, agent, 'b'), 2n))).toBe('EINVAL');
  });

  it.each([
    ['an outgoing', stage1],
    ['an incoming', stage2],
  ])('GET_NAME tells the name of %s session', (_which, stage) => {
    const { agent, session } = stage();
    expect(must(sessionName(agent, session))).toBe('vm');
  });
});

describe('reboot', () => {
  it('a handler that refuses to freeze: its errno, and the kernel goes on', () => {
    const { bench, agent, session } = stage1();
    bench.orders.freeze = 'EREMOTEIO';
    must(preserveFd(agent, session, openFake(bench, agent, 'second!'), 2n));
    expect(errnoOf(rebootKexec(bench.host.kernel))).toBe('EREMOTEIO');
    expect(errnoOf(preserveFd(agent, session, openFake(bench, agent, 'third'), 3n))).toBe('ok');
  });

  it('KHO cannot be finalized: EAGAIN, and everything is unfrozen', () => {
    const stage = stage1();
    exhaustMemory(stage.bench);
    expect(errnoOf(rebootKexec(stage.bench.host.kernel))).toBe('EAGAIN');
    expect(stage.bench.orders.log.slice(-2)).toEqual(['freeze first', 'unfreeze first']);
    expect(stage.bench.host.kernel.khoOut.finalized).toBe(false);
  });

  it('and then the newest session goes first', () => {
    const stage = stage1();
    const { bench, agent } = stage;
    const other = must(createSession(agent, stage.device, 'other'));
    must(preserveFd(agent, other, openFake(bench, agent, 'second'), 1n));
    exhaustMemory(bench);
    expect(errnoOf(rebootKexec(bench.host.kernel))).toBe('EAGAIN');
    expect(bench.orders.log.slice(-2)).toEqual(['unfreeze second', 'unfreeze first']);
  });

  it('no room in scratch for the next image: ENOMEM before anything is frozen', () => {
    const bench = bootBench({}, [{ start: 1024, count: 17 }]);
    const { agent, device } = agentOf(bench);
    const session = must(createSession(agent, device, 'vm'));
    must(preserveFd(agent, session, openFake(bench, agent, 'first'), 1n));
    expect(errnoOf(rebootKexec(bench.host.kernel))).toBe('ENOMEM');
    expect(bench.orders.log).not.toContain('freeze first');
  });

  it('after a reboot that succeeds, calls on sessions never return', () => {
    const { bench, agent, session } = stage1();
    must(bench.host.kernel.luo.reboot());
    expect(() => sessionName(agent, session)).toThrow(
      expect.objectContaining({ code: 'CALL_NEVER_RETURNS' }),
    );
    expect(() => agent.exit()).toThrow(expect.objectContaining({ code: 'CALL_NEVER_RETURNS' }));
  });
});

describe('registration', () => {
  const kernelWith = (): Bench['host']['kernel'] => bootBench().host.kernel;
  const handlerNamed = (bench: Bench, compatible: string) => ({
    ...obedientHandler(bench.host.kernel, bench.orders),
    compatible,
  });

  it('a compatible string is registered once: EEXIST', () => {
    const bench = bootBench();
    expect(errnoOf(bench.host.kernel.luo.registerFileHandler(handlerNamed(bench, 'fake-v1')))).toBe(
      'EEXIST',
    );
  });

  it('a compatible string that does not fit its record: EINVAL', () => {
    const bench = bootBench();
    const { luo } = bench.host.kernel;
    expect(errnoOf(luo.registerFileHandler(handlerNamed(bench, 'x'.repeat(48))))).toBe('EINVAL');
    expect(errnoOf(luo.registerFileHandler(handlerNamed(bench, 'x'.repeat(47))))).toBe('ok');
  });

  it('live update is off: EOPNOTSUPP', () => {
    const bench = bootBench({ liveupdate: false });
    const { luo } = bench.host.kernel;
    expect(errnoOf(luo.registerFileHandler(handlerNamed(bench, 'new')))).toBe('EOPNOTSUPP');
    expect(errnoOf(luo.getIncomingFlb(flbNamed('x')))).toBe('EOPNOTSUPP');
  });

  it('an FLB for a handler that is not registered: EINVAL', () => {
    const bench = bootBench();
    const { luo } = bench.host.kernel;
    expect(errnoOf(luo.registerFlb(handlerNamed(bench, 'new'), flbNamed('x')))).toBe('EINVAL');
  });

  it('an FLB bound twice, or another of the same name: EEXIST', () => {
    const bench = bootBench();
    const { luo } = bench.host.kernel;
    const handler = handlerNamed(bench, 'new');
    must(luo.registerFileHandler(handler));
    const flb = flbNamed('x');
    must(luo.registerFlb(handler, flb));
    expect(errnoOf(luo.registerFlb(handler, flb))).toBe('EEXIST');
    const other = handlerNamed(bench, 'other');
    must(luo.registerFileHandler(other));
    expect(errnoOf(luo.registerFlb(other, flbNamed('x')))).toBe('EEXIST');
    expect(errnoOf(luo.registerFlb(other, flb))).toBe('ok');
  });

  it('an FLB while sessions exist: EBUSY', () => {
    const { bench } = stage1();
    const handler = handlerNamed(bench, 'new');
    must(bench.host.kernel.luo.registerFileHandler(handler));
    expect(errnoOf(bench.host.kernel.luo.registerFlb(handler, flbNamed('x')))).toBe('EBUSY');
  });

  it('more FLBs than one page holds: ENOSPC', () => {
    const bench = bootBench();
    const { luo } = bench.host.kernel;
    const handler = handlerNamed(bench, 'new');
    must(luo.registerFileHandler(handler));
    const results = Array.from({ length: 64 }, (_none, index) =>
      errnoOf(luo.registerFlb(handler, flbNamed(`flb ${index}`))),
    );
    // One is there from boot: the list of preserved CPUs.
    expect(results.indexOf('ENOSPC')).toBe(62);
  });

  it('nothing came in: ENODATA; something came in, but not this: ENOENT', () => {
    expect(errnoOf(kernelWith().luo.getIncomingFlb(flbNamed('x')))).toBe('ENODATA');
    expect(errnoOf(stage2().bench.host.kernel.luo.getIncomingFlb(flbNamed('x')))).toBe('ENOENT');
  });
});

function flbNamed(compatible: string, preserve = (): Result<bigint> => ok(1n)): LiveupdateFlb {
  return {
    compatible,
    preserve,
    unpreserve: () => undefined,
    retrieve: () => DONE,
    finish: () => undefined,
  };
}

function bytes(view: DataView): Uint8Array {
  return new Uint8Array(view.buffer);
}

function ioctl(process: Process, fd: number, name: LuoIoctlName, view: DataView): Result<number> {
  return process.ioctl(fd, LUO_IOCTL[name], bytes(view));
}
