/**
 * The cases of Linux's selftests of live update, executed on our host.
 *
 * Source: Linux tools/testing/selftests/liveupdate: liveupdate.c, luo_kexec_simple.c, luo_multi_session.c,
 * luo_stress_files.c, luo_stress_sessions.c, luo_cpu_preserve.c, luo_oncore.c.
 * Invariant: a case boots its own kernel; the agent does what the selftest's process does, through descriptors alone.
 */
import { hostEvents } from '../../host/events.js';
import type { OpenFile } from '../../host/files.js';
import { MemfdModule } from '../../host/handlers/memfd.js';
import { Kernel, type KernelConfig } from '../../host/kernel.js';
import { rebootKexec } from '../../host/kexec.js';
import {
  createSession,
  finishSession,
  openLiveupdate,
  preserveFd,
  retrieveFd,
  retrieveSession,
  sessionName,
} from '../../host/luo/agent.js';
import type { Process } from '../../host/process.js';
import type { Result } from '../../host/result.js';
import { PAGE_SIZE, PhysicalMemory } from '../../memory/physical-memory.js';
import { ConformError } from '../errors.js';
import { range, type PeerRow } from './peer-row.js';

const FOLDER = 'linux tools/testing/selftests/liveupdate/';
const MEMORY_BYTES = 32 << 20;
const MEMORY = {
  imageBase: 2 << 20,
  managed: { start: 256, count: MEMORY_BYTES / PAGE_SIZE - 256 },
  scratch: [
    { start: 1024, count: 64 },
    { start: 2048, count: 64 },
  ],
} as const;
/** As many as the peer tries. */
const MANY_SESSIONS = 2000;
const MANY_FILES = 500;
/** To what the peer raises RLIMIT_NOFILE, or more. */
const MOST_DESCRIPTORS = 4096;
const LONGEST_NAME = 63;

/** A kernel that is up, its memfds, and an agent with /dev/liveupdate open. */
interface Stage {
  readonly kernel: Kernel;
  readonly memfds: MemfdModule;
  readonly agent: Process;
  readonly device: number;
}

function stageOf(boot: (config: KernelConfig) => Kernel, generation: 'old' | 'next'): Stage {
  const made: { memfds?: MemfdModule } = {};
  const kernel = boot({
    generation,
    version: 1,
    cpus: [{ cpu: 0, apicId: 0 }],
    events: hostEvents({}),
    initcalls: (booting) => {
      made.memfds = new MemfdModule(booting);
    },
  });
  const agent = kernel.spawn('agent', MOST_DESCRIPTORS);
  return { kernel, memfds: made.memfds!, agent, device: must(openLiveupdate(agent)) };
}

function firstStage(): Stage {
  const memory = new PhysicalMemory(new ArrayBuffer(MEMORY_BYTES));
  return stageOf(
    (config) => new Kernel(config, { memory, ...MEMORY, handover: null }).boot(),
    'old',
  );
}

function nextStage({ kernel }: Stage): Stage {
  const gap = must(rebootKexec(kernel));
  return stageOf((config) => gap.bootNext(config), 'next');
}

function must<T>(result: Result<T>): T {
  if (result.ok) return result.value;
  throw new ConformError('PEER_CASE', `refused: ${result.errno}`);
}

function expectErrno(result: Result<unknown>, errno: string): void {
  const got = result.ok ? 'ok' : result.errno;
  if (got !== errno) throw new ConformError('PEER_CASE', `expected ${errno}, got ${got}`);
}

function expectText(got: string, wanted: string): void {
  if (got !== wanted) throw new ConformError('PEER_CASE', `expected ${wanted}, got ${got}`);
}

/** A memfd that holds a text, also an empty one. */
function memfdWith({ memfds, agent }: Stage, text: string): number {
  const fd = must(memfds.create(agent, 'test', Math.max(text.length, 1)));
  const file = fileOf(agent, fd);
  must(memfds.truncate(file, text.length));
  must(memfds.write(file, 0, new TextEncoder().encode(text)));
  return fd;
}

function textOf({ memfds, agent }: Stage, fd: number): string {
  const file = fileOf(agent, fd);
  return new TextDecoder().decode(must(memfds.read(file, 0, memfds.sizeOf(file))));
}

function fileOf(agent: Process, fd: number): OpenFile {
  const file = agent.file(fd);
  if (file === undefined) throw new ConformError('PEER_CASE', `descriptor ${fd} is not open`);
  return file;
}

/** Sessions with their files, by token: preserved, carried across a kexec, verified, finished. */
function acrossKexec(sessions: Readonly<Record<string, Readonly<Record<number, string>>>>): void {
  const before = firstStage();
  for (const [name, files] of Object.entries(sessions)) {
    const session = must(createSession(before.agent, before.device, name));
    for (const [token, text] of Object.entries(files)) {
      must(preserveFd(before.agent, session, memfdWith(before, text), BigInt(token)));
    }
  }
  const after = nextStage(before);
  for (const [name, files] of Object.entries(sessions)) {
    const session = must(retrieveSession(after.agent, after.device, name));
    for (const [token, text] of Object.entries(files)) {
      expectText(textOf(after, must(retrieveFd(after.agent, session, BigInt(token)))), text);
    }
    must(finishSession(after.agent, session));
    must(after.agent.close(session));
  }
}

function held(source: string, test: string, what: string, run: () => void): PeerRow {
  return { source: FOLDER + source, test, what, holder: { kind: 'run', run } };
}

function notOffered(source: string, test: string, what: string, why: string): PeerRow {
  return { source: FOLDER + source, test, what, holder: { kind: 'not-offered', why } };
}

/** A first stage with a session and a second one. */
function twoSessions(): Stage & { readonly first: number; readonly second: number } {
  const stage = firstStage();
  const [first, second] = ['first', 'second'].map((name) =>
    must(createSession(stage.agent, stage.device, name)),
  );
  return { ...stage, first: first!, second: second! };
}

const preservesTwo = (across: boolean): void => {
  const stage = twoSessions();
  const { agent, first, second } = stage;
  const texts = ['one', 'two', '', ''];
  const fds = texts.map((text) => memfdWith(stage, text));
  fds.forEach((fd, i) => {
    const session = across && i % 2 === 1 ? second : first;
    must(preserveFd(agent, session, fd, BigInt(i + 1)));
  });
  fds.forEach((fd, i) => {
    expectText(textOf(stage, fd), texts[i]!);
  });
};

/** The cases. */
export const LIVEUPDATE_ROWS: readonly PeerRow[] = [
  held('liveupdate.c', 'basic_open_close', 'the device opens and closes', () => {
    const { agent, device } = firstStage();
    must(agent.close(device));
  }),
  held('liveupdate.c', 'exclusive_open', 'a second open is refused with EBUSY', () => {
    const { kernel } = firstStage();
    expectErrno(openLiveupdate(kernel.spawn('other')), 'EBUSY');
  }),
  held(
    'liveupdate.c',
    'create_duplicate_session',
    'a name that is taken is refused with EEXIST',
    () => {
      const { agent, device } = twoSessions();
      expectErrno(createSession(agent, device, 'first'), 'EEXIST');
    },
  ),
  held('liveupdate.c', 'create_distinct_sessions', 'two names make two sessions', () => {
    const { agent, first, second } = twoSessions();
    must(agent.close(first));
    must(agent.close(second));
  }),
  held(
    'liveupdate.c',
    'preserve_memfd',
    'a preserved memfd keeps its content, also when its session is closed',
    () => {
      const stage = twoSessions();
      const fd = memfdWith(stage, 'content');
      must(preserveFd(stage.agent, stage.first, fd, 0x1234n));
      must(stage.agent.close(stage.first));
      expectText(textOf(stage, fd), 'content');
    },
  ),
  held(
    'liveupdate.c',
    'preserve_multiple_memfds',
    'several memfds of one session keep their contents apart',
    () => {
      preservesTwo(false);
    },
  ),
  held(
    'liveupdate.c',
    'preserve_complex_scenario',
    'empty memfds and others in two sessions',
    () => {
      preservesTwo(true);
    },
  ),
  held(
    'liveupdate.c',
    'preserve_unsupported_fd',
    'a file without a handler is refused with ENOENT',
    () => {
      const { agent, first } = twoSessions();
      expectErrno(preserveFd(agent, first, must(agent.open('/dev/null')), 0xdeadn), 'ENOENT');
    },
  ),
  held(
    'liveupdate.c',
    'prevent_double_preservation',
    'a file is preserved once, in any session, else EBUSY',
    () => {
      const stage = twoSessions();
      const { agent, first, second } = stage;
      const fd = memfdWith(stage, 'x');
      must(preserveFd(agent, first, fd, 0x1111n));
      expectErrno(preserveFd(agent, second, fd, 0x2222n), 'EBUSY');
      expectErrno(preserveFd(agent, first, fd, 0x3333n), 'EBUSY');
    },
  ),
  held(
    'liveupdate.c',
    'create_session_no_null_termination',
    'a name without its NUL is refused with EINVAL',
    () => {
      const { agent, device } = firstStage();
      expectErrno(createSession(agent, device, 'X'.repeat(LONGEST_NAME + 1)), 'EINVAL');
    },
  ),
  held('liveupdate.c', 'create_session_empty_name', 'an empty name is refused with EINVAL', () => {
    const { agent, device } = firstStage();
    expectErrno(createSession(agent, device, ''), 'EINVAL');
  }),
  held('liveupdate.c', 'get_session_name', 'a session tells its name', () => {
    const { agent, first } = twoSessions();
    expectText(must(sessionName(agent, first)), 'first');
  }),
  held('liveupdate.c', 'get_session_name_max_length', 'a session tells the longest name', () => {
    const { agent, device } = firstStage();
    const name = 'A'.repeat(LONGEST_NAME);
    expectText(must(sessionName(agent, must(createSession(agent, device, name)))), name);
  }),
  held('liveupdate.c', 'preserve_many_sessions', 'two thousand sessions are no limit', () => {
    const { agent, device } = firstStage();
    const sessions = range(1, MANY_SESSIONS).map((n) =>
      must(createSession(agent, device, `s${n}`)),
    );
    for (const session of sessions) must(agent.close(session));
  }),
  held(
    'liveupdate.c',
    'preserve_many_files',
    'five hundred files in one session are no limit',
    () => {
      const stage = twoSessions();
      for (const n of range(1, MANY_FILES)) {
        must(preserveFd(stage.agent, stage.first, memfdWith(stage, ''), BigInt(n)));
      }
      must(stage.agent.close(stage.first));
    },
  ),
  notOffered(
    'liveupdate.c',
    'session_freeze',
    'a session is frozen by its own ioctl',
    'an ioctl of a later kernel than the contract’s',
  ),
  held('luo_kexec_simple.c', 'whole program', 'one memfd survives a kexec', () => {
    acrossKexec({ simple: { 1: 'the content' } });
  }),
  held(
    'luo_multi_session.c',
    'whole program',
    'empty sessions and sessions with files survive a kexec',
    () => {
      acrossKexec({
        none: {},
        nothing: {},
        one: { 1: 'a' },
        two: { 2: 'b', 3: 'c' },
        state: { 998: '2' },
      });
    },
  ),
  held(
    'luo_stress_files.c',
    'whole program',
    'five hundred files of one session survive a kexec',
    () => {
      acrossKexec({ many: Object.fromEntries(range(1, MANY_FILES).map((n) => [n, `file ${n}`])) });
    },
  ),
  held('luo_stress_sessions.c', 'whole program', 'two thousand sessions survive a kexec', () => {
    acrossKexec(Object.fromEntries(range(1, MANY_SESSIONS).map((n) => [`session ${n}`, {}])));
  }),
  notOffered(
    'luo_cpu_preserve.c',
    'whole program',
    'a CPU is preserved by a file of sysfs',
    'our host preserves a CPU with the vCPU that runs on it',
  ),
  notOffered(
    'luo_oncore.c',
    'whole program',
    'a program runs on a preserved CPU',
    'only Caretakers run there here',
  ),
];
