/** Random agents against a model that knows only names, tokens and which side of kexec they are on. */
import fc from 'fast-check';
import { describe, it } from 'vitest';
import {
  createSession,
  finishSession,
  preserveFd,
  retrieveFd,
  retrieveSession,
} from '../../emulator/host/luo/agent.js';
import { agentOf, bootBench, errnoOf, kexec, openFake, type Bench } from './bench.js';

interface ModelSession {
  readonly name: string;
  readonly isIncoming: boolean;
  readonly tokens: Set<number>;
  fd: number | null;
}
interface Model {
  sessions: ModelSession[];
}
interface Real {
  bench: Bench;
  agent: ReturnType<typeof agentOf>;
}

const NAMES = ['a', 'b', 'c'];

function same(actual: string, expected: string, what: string): void {
  if (actual !== expected) throw new Error(`${what}: ${actual}, the model says ${expected}`);
}

/** The sessions with a descriptor, in a fixed order: what a command's index points into. */
function open(model: Model): ModelSession[] {
  return model.sessions.filter((session) => session.fd !== null);
}

const command = (
  name: string,
  run: (model: Model, real: Real) => void,
  check: (model: Model) => boolean = () => true,
): fc.Command<Model, Real> => ({ check, run, toString: () => name });

const create = fc.constantFrom(...NAMES).map((name) =>
  command(`create ${name}`, (model, { agent }) => {
    const taken = model.sessions.some((s) => !s.isIncoming && s.name === name);
    const fd = createSession(agent.agent, agent.device, name);
    same(errnoOf(fd), taken ? 'EEXIST' : 'ok', 'create');
    if (fd.ok) {
      model.sessions.push({ name, isIncoming: false, tokens: new Set(), fd: fd.value });
    }
  }),
);

const retrieve = fc.constantFrom(...NAMES).map((name) =>
  command(`retrieve session ${name}`, (model, { agent }) => {
    const session = model.sessions.find((s) => s.isIncoming && s.name === name);
    const fd = retrieveSession(agent.agent, agent.device, name);
    const expected = session === undefined ? 'ENOENT' : session.fd === null ? 'ok' : 'EINVAL';
    same(errnoOf(fd), expected, 'retrieve session');
    if (fd.ok) session!.fd = fd.value;
  }),
);

const pick = fc.nat({ max: 20 });
const token = fc.nat({ max: 3 });

const preserve = fc.tuple(pick, token).map(([index, wanted]) =>
  command(
    `preserve ${wanted} in ${index}`,
    (model, { bench, agent }) => {
      const session = open(model)[index % open(model).length]!;
      const fd = openFake(bench, agent.agent, 'file');
      const expected = session.isIncoming ? 'EINVAL' : session.tokens.has(wanted) ? 'EEXIST' : 'ok';
      const done = preserveFd(agent.agent, session.fd!, fd, BigInt(wanted));
      same(errnoOf(done), expected, 'preserve');
      if (done.ok) session.tokens.add(wanted);
    },
    (model) => open(model).length > 0,
  ),
);

const retrieveFile = fc.tuple(pick, token).map(([index, wanted]) =>
  command(
    `retrieve ${wanted} from ${index}`,
    (model, { agent }) => {
      const session = open(model)[index % open(model).length]!;
      const expected = !session.isIncoming
        ? 'EINVAL'
        : session.tokens.has(wanted)
          ? 'ok'
          : 'ENOENT';
      same(errnoOf(retrieveFd(agent.agent, session.fd!, BigInt(wanted))), expected, 'retrieve');
    },
    (model) => open(model).length > 0,
  ),
);

const finish = pick.map((index) =>
  command(
    `finish ${index}`,
    (model, { agent }) => {
      const session = open(model)[index % open(model).length]!;
      same(
        errnoOf(finishSession(agent.agent, session.fd!)),
        session.isIncoming ? 'ok' : 'EINVAL',
        'finish',
      );
      if (session.isIncoming) session.tokens.clear();
    },
    (model) => open(model).length > 0,
  ),
);

const close = pick.map((index) =>
  command(
    `close ${index}`,
    (model, { agent }) => {
      const session = open(model)[index % open(model).length]!;
      same(errnoOf(agent.agent.close(session.fd!)), 'ok', 'close');
      model.sessions = model.sessions.filter((other) => other !== session);
    },
    (model) => open(model).length > 0,
  ),
);

/** Only outgoing sessions reach the next kernel; an incoming one that was not finished is lost. */
const reboot = fc.constant(
  command('kexec', (model, real) => {
    real.bench = kexec(real.bench);
    real.agent = agentOf(real.bench);
    model.sessions = model.sessions
      .filter((session) => !session.isIncoming)
      .map(({ name, tokens }) => ({ name, tokens, isIncoming: true, fd: null }));
    const { luo, khoIn } = real.bench.host.kernel;
    same(
      luo.sessions.incoming.map((s) => s.name).join(),
      model.sessions.map((s) => s.name).join(),
      'incoming',
    );
    same(String(khoIn.isKhoBoot), 'true', 'KHO boot');
  }),
);

const restart = fc.constant(
  command('agent restarts', (model, real) => {
    real.agent.agent.exit();
    real.agent = agentOf(real.bench);
    model.sessions = model.sessions.filter((session) => session.fd === null);
  }),
);

describe('LUO sessions', () => {
  it('behave as the model for any order of calls, over any number of kernels', () => {
    const commands = fc.commands(
      [create, retrieve, preserve, preserve, retrieveFile, finish, close, reboot, restart],
      { maxCommands: 40 },
    );
    fc.assert(
      fc.property(commands, (sequence) => {
        fc.modelRun(() => {
          const bench = bootBench();
          return { model: { sessions: [] }, real: { bench, agent: agentOf(bench) } };
        }, sequence);
      }),
      { numRuns: 60 },
    );
  });
});
