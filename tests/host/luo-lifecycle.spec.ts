/** Order and ownership over the life of preserved files, and the scenarios of Linux's own selftests. */
import { describe, expect, it } from 'vitest';
import { rebootKexec } from '../../emulator/host/kexec.js';
import {
  createSession,
  finishSession,
  openLiveupdate,
  preserveFd,
  retrieveFd,
  retrieveSession,
} from '../../emulator/host/luo/agent.js';
import type { OpenFile } from '../../emulator/host/files.js';
import type { LiveupdateFlb } from '../../emulator/host/luo/handler.js';
import type { Process } from '../../emulator/host/process.js';
import { DONE, ok } from '../../emulator/host/result.js';
import {
  agentOf,
  bootBench,
  errnoOf,
  kexec,
  must,
  obedientHandler,
  openFake,
  type Bench,
} from './bench.js';

/** Sessions a {1, 2} and b {3, 4}; the file of token 4 refuses to freeze on order. */
function twoSessions(bench: Bench) {
  const { agent, device } = agentOf(bench);
  const sessions = ['a', 'b'].map((name) => must(createSession(agent, device, name)));
  const names = ['one', 'two', 'three', 'four!'];
  names.forEach((name, index) => {
    const session = sessions[Math.floor(index / 2)]!;
    must(preserveFd(agent, session, openFake(bench, agent, name), BigInt(index + 1)));
  });
  return { agent, device, a: sessions[0]!, b: sessions[1]! };
}

describe('order', () => {
  it('closing an outgoing session cancels it: files are unpreserved in reverse order', () => {
    const bench = bootBench();
    const { agent, b } = twoSessions(bench);
    must(agent.close(b));
    expect(bench.orders.log.slice(-2)).toEqual(['unpreserve four!', 'unpreserve three']);
    expect(bench.host.kernel.luo.sessions.outgoing.map(({ name }) => name)).toEqual(['a']);
  });

  it('freeze goes first in, first out', () => {
    const bench = bootBench();
    twoSessions(bench);
    must(rebootKexec(bench.host.kernel));
    const frozen = bench.orders.log.filter((line) => line.startsWith('freeze'));
    expect(frozen).toEqual(['freeze one', 'freeze two', 'freeze three', 'freeze four!']);
  });

  it('a failed freeze unfreezes its session in the same order, then earlier sessions, newest first', () => {
    const bench = bootBench();
    const { agent, device } = agentOf(bench);
    for (const names of [['one', 'two'], ['three'], ['four', 'five', 'six!', 'seven']]) {
      const session = must(createSession(agent, device, names[0]!));
      names.forEach((name, token) => {
        must(preserveFd(agent, session, openFake(bench, agent, name), BigInt(token)));
      });
    }
    bench.orders.freeze = 'EIO';
    expect(errnoOf(rebootKexec(bench.host.kernel))).toBe('EIO');
    const undone = bench.orders.log.filter((line) => line.startsWith('unfreeze'));
    expect(undone.map((line) => line.slice(9))).toEqual(['four', 'five', 'three', 'one', 'two']);
  });

  it('after a rolled-back reboot the next one works', () => {
    const bench = bootBench();
    twoSessions(bench);
    bench.orders.freeze = 'EIO';
    expect(errnoOf(rebootKexec(bench.host.kernel))).toBe('EIO');
    delete bench.orders.freeze;
    const { agent, device } = agentOf(kexec(bench));
    const session = must(retrieveSession(agent, device, 'b'));
    expect(errnoOf(retrieveFd(agent, session, 4n))).toBe('ok');
  });

  it('files are retrieved in any order and finished in reverse order of preservation', () => {
    const old = bootBench();
    twoSessions(old);
    const bench = kexec(old);
    const { agent, device } = agentOf(bench);
    const b = must(retrieveSession(agent, device, 'b'));
    must(retrieveFd(agent, b, 4n));
    must(retrieveFd(agent, b, 3n));
    must(finishSession(agent, b));
    expect(bench.orders.log.filter((line) => line.startsWith('finish'))).toEqual([
      'finish 4 retrieved again 4',
      'finish 3 retrieved again 3',
    ]);
  });

  it('a file that was never retrieved is finished all the same and knows it', () => {
    const old = bootBench();
    twoSessions(old);
    const bench = kexec(old);
    const { agent, device } = agentOf(bench);
    const a = must(retrieveSession(agent, device, 'a'));
    bench.orders.retrieve = 'EIO';
    retrieveFd(agent, a, 1n);
    must(finishSession(agent, a));
    expect(bench.orders.log.slice(-2)).toEqual(['finish 2 untried -', 'finish 1 failed -']);
  });

  it('closing a retrieved session finishes it', () => {
    const old = bootBench();
    twoSessions(old);
    const bench = kexec(old);
    const { agent, device } = agentOf(bench);
    must(agent.close(must(retrieveSession(agent, device, 'a'))));
    expect(bench.orders.log.slice(-2)).toEqual(['finish 2 untried -', 'finish 1 untried -']);
    expect(bench.host.kernel.luo.sessions.incoming.map(({ name }) => name)).toEqual(['b']);
  });

  it('a session that cannot finish is kept when it is closed, with a warning', () => {
    const old = bootBench();
    twoSessions(old);
    const bench = kexec(old);
    const { agent, device } = agentOf(bench);
    bench.orders.cannotFinish = true;
    must(agent.close(must(retrieveSession(agent, device, 'a'))));
    expect(bench.warnings).toEqual(['luo_session_release: a: EBUSY']);
    expect(bench.host.kernel.luo.sessions.incoming.map(({ name }) => name)).toEqual(['a', 'b']);
    expect(errnoOf(retrieveSession(agent, device, 'a'))).toBe('EINVAL');
  });
});

describe('ownership', () => {
  it('a preserved file survives the process that opened it', () => {
    const bench = bootBench();
    const { kernel } = bench.host;
    const { agent, device } = agentOf(bench);
    const session = must(createSession(agent, device, 'vm'));
    const vmm = kernel.spawn('vmm');
    const fd = openFake(bench, vmm, 'guest');
    const file = vmm.file(fd)!;
    // The descriptor reaches the agent as over a socket.
    must(preserveFd(agent, session, must(agent.installFile(file)), 1n));
    agent.close(must(agent.installFile(file)));
    vmm.exit();
    expect(kernel.files.holders(file.id).map((holder) => holder.kind)).toEqual(['process', 'luo']);
    expect(bench.orders.log).not.toContain('release guest');
    must(agent.close(session));
    expect(bench.orders.log).not.toContain('release guest');
    agent.exit();
    expect(bench.orders.log.at(-1)).toBe('release guest');
  });

  it('an agent that dies before the reboot cancels all its sessions', () => {
    const bench = bootBench();
    const { agent } = twoSessions(bench);
    agent.exit();
    expect(bench.host.kernel.luo.sessions.outgoing).toEqual([]);
    expect(bench.orders.log.filter((line) => line.startsWith('unpreserve'))).toHaveLength(4);
    expect(bench.orders.log.filter((line) => line.startsWith('release'))).toHaveLength(4);
  });

  it('a retrieved file belongs to LUO and the process until finish, then to the process', () => {
    const old = bootBench();
    twoSessions(old);
    const bench = kexec(old);
    const { agent, device } = agentOf(bench);
    const a = must(retrieveSession(agent, device, 'a'));
    const fd = must(retrieveFd(agent, a, 1n));
    const kinds = () =>
      bench.host.kernel.files.holders(agent.file(fd)!.id).map((holder) => holder.kind);
    expect(kinds()).toEqual(['luo', 'process']);
    must(finishSession(agent, a));
    expect(kinds()).toEqual(['process']);
    must(agent.close(fd));
    expect(bench.orders.log.at(-1)).toBe('release again 1');
  });
});

describe('file-lifecycle-bound data', () => {
  it('is preserved with the first file and unpreserved with the last', () => {
    const bench = bootBench();
    const { kernel } = bench.host;
    const { agent, a, b } = twoSessions(bench);
    const { flb } = kernel.cpuPreserve;
    const page = kernel.luo.getOutgoingFlb(flb);
    expect(page).toBeDefined();
    must(agent.close(a));
    expect(kernel.luo.getOutgoingFlb(flb)).toBe(page);
    must(agent.close(b));
    expect(kernel.luo.getOutgoingFlb(flb)).toBeUndefined();
    expect(kernel.khoOut.isPreserved(page!)).toBe(false);
  });

  it('several of one handler go in order and come back in reverse order', () => {
    const bench = bootBench();
    const { kernel } = bench.host;
    const log: string[] = [];
    const handler = {
      ...obedientHandler(kernel, bench.orders),
      compatible: 'needy-v1',
      canPreserve: (file: OpenFile) => file.kind === 'needy',
    };
    kernel.files.register('needy', {});
    must(kernel.luo.registerFileHandler(handler));
    for (const name of ['x', 'y']) {
      const flb: LiveupdateFlb = {
        compatible: name,
        preserve: () => ok(BigInt(log.push(`preserve ${name}`))),
        unpreserve: () => log.push(`unpreserve ${name}`),
        retrieve: () => DONE,
        finish: () => undefined,
      };
      must(kernel.luo.registerFlb(handler, flb));
    }
    const { agent, device } = agentOf(bench);
    const session = must(createSession(agent, device, 'vm'));
    must(preserveFd(agent, session, must(agent.openFile('needy', 1, 'needy')), 1n));
    must(agent.close(session));
    expect(log).toEqual(['preserve x', 'preserve y', 'unpreserve y', 'unpreserve x']);
  });

  it('can be retrieved before any session is, and is finished with the last file', () => {
    const old = bootBench();
    twoSessions(old);
    const bench = kexec(old);
    const { luo, cpuPreserve } = bench.host.kernel;
    const page = must(luo.getIncomingFlb(cpuPreserve.flb));
    expect(bench.memory.readU64(page)).not.toBe(0n);
    const { agent, device } = agentOf(bench);
    must(finishSession(agent, must(retrieveSession(agent, device, 'a'))));
    expect(errnoOf(luo.getIncomingFlb(cpuPreserve.flb))).toBe('ok');
    must(finishSession(agent, must(retrieveSession(agent, device, 'b'))));
    expect(errnoOf(luo.getIncomingFlb(cpuPreserve.flb))).toBe('ENODATA');
  });
});

describe('selftests of Linux', () => {
  const memory = (bench: Bench, process: Process, text: string): number => {
    const fd = must(bench.host.memfd.create(process, text, 1 << 20));
    const page = new TextEncoder().encode(text);
    must(bench.host.memfd.write(process.file(fd)!, 70_000, page));
    return fd;
  };
  const textOf = (bench: Bench, process: Process, fd: number, length: number): string =>
    new TextDecoder().decode(must(bench.host.memfd.read(process.file(fd)!, 70_000, length)));

  it('the device opens, closes and opens again', () => {
    const agent = bootBench().host.kernel.spawn('agent');
    must(agent.close(must(openLiveupdate(agent))));
    expect(errnoOf(openLiveupdate(agent))).toBe('ok');
  });

  it('one memfd, two memfds, and several sessions with mixed and no memfds', () => {
    const old = bootBench();
    const one = agentOf(old);
    const plan = { empty: [], single: ['x'], mixed: ['hello', 'world!'], alsoEmpty: [] };
    for (const [name, texts] of Object.entries(plan)) {
      const session = must(createSession(one.agent, one.device, name));
      texts.forEach((text, token) => {
        must(preserveFd(one.agent, session, memory(old, one.agent, text), BigInt(token)));
      });
    }
    const bench = kexec(old);
    const two = agentOf(bench);
    for (const [name, texts] of Object.entries(plan).reverse()) {
      const session = must(retrieveSession(two.agent, two.device, name));
      texts.forEach((text, token) => {
        const fd = must(retrieveFd(two.agent, session, BigInt(token)));
        expect(textOf(bench, two.agent, fd, text.length)).toBe(text);
      });
      must(finishSession(two.agent, session));
    }
    expect(bench.warnings).toEqual([]);
  });

  it('the stage number survives in a session of its own, over three kernels', () => {
    let bench = bootBench();
    for (let stage = 0; stage < 3; stage++) {
      const { agent, device } = agentOf(bench);
      if (stage > 0) {
        const before = must(retrieveSession(agent, device, 'state'));
        const fd = must(retrieveFd(agent, before, 0n));
        expect(textOf(bench, agent, fd, 1)).toBe(String(stage - 1));
        must(finishSession(agent, before));
      }
      const session = must(createSession(agent, device, 'state'));
      must(preserveFd(agent, session, memory(bench, agent, String(stage)), 0n));
      bench = kexec(bench);
      expect(bench.host.kernel.luo.liveupdateNumber).toBe(BigInt(stage + 1));
    }
  });

  it('many files and many sessions', () => {
    const old = bootBench();
    const one = agentOf(old);
    for (let index = 0; index < 120; index++) {
      const session = must(createSession(one.agent, one.device, `session ${index}`));
      must(preserveFd(one.agent, session, openFake(old, one.agent, `${index}`), 7n));
    }
    const many = must(createSession(one.agent, one.device, 'many'));
    for (let token = 0n; token < 200n; token++) {
      must(preserveFd(one.agent, many, openFake(old, one.agent, `many ${token}`), token));
    }
    const bench = kexec(old);
    const { sessions } = bench.host.kernel.luo;
    agentOf(bench);
    expect(sessions.incoming).toHaveLength(121);
    expect(sessions.incoming.at(-1)?.fileSet.files.map(({ token }) => token)).toEqual(
      Array.from({ length: 200 }, (_none, index) => BigInt(index)),
    );
  });
});
