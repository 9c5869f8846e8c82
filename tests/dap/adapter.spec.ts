/** The debug adapter as its clients meet it: the real command on a pipe, spoken to in the protocol. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { DapClient } from './client.js';

const root = new URL('../..', import.meta.url).pathname;
const source = (name: string): { path: string } => ({
  path: join(root, 'caretaker-payload', name),
});
const lineOf = (name: string, text: string): number =>
  readFileSync(source(name).path, 'utf8')
    .split('\n')
    .findIndex((line) => line.includes(text)) + 1;

interface Frame {
  readonly id: number;
  readonly name: string;
  readonly line: number;
  readonly source?: { readonly path?: string };
  readonly instructionPointerReference: string;
}
interface Variable {
  readonly name: string;
  readonly value: string;
  readonly type: string;
  readonly variablesReference: number;
  readonly evaluateName?: string;
  readonly memoryReference?: string;
}
interface Stopped {
  readonly reason: string;
  readonly text: string;
  readonly description: string;
  readonly threadId: number;
  readonly hitBreakpointIds?: readonly number[];
}
interface Verdict {
  readonly id?: number;
  readonly verified: boolean;
  readonly line?: number;
  readonly message?: string;
}

const clients: DapClient[] = [];
afterEach(() => {
  for (const client of clients.splice(0)) client.kill();
});

/** A client whose session stands at its first stop, not yet configured. */
async function launched(configuration: unknown = {}): Promise<DapClient> {
  const client = new DapClient();
  clients.push(client);
  await client.body('initialize', { adapterID: 'caretaker' });
  await client.body('launch', { stopOnEntry: true, ...(configuration as object) });
  await client.event('initialized');
  return client;
}

/** The same, configured and stopped on entry. */
async function stopped(configuration: unknown = {}): Promise<DapClient> {
  const client = await launched(configuration);
  await client.body('configurationDone');
  await client.event('stopped');
  return client;
}

async function breakpoints(client: DapClient, name: string, lines: unknown[]): Promise<Verdict[]> {
  const { breakpoints: verdicts } = await client.body<{ breakpoints: Verdict[] }>(
    'setBreakpoints',
    {
      source: source(name),
      breakpoints: lines,
    },
  );
  return verdicts;
}

async function move(client: DapClient, command: string, args: object = {}): Promise<Stopped> {
  const threadId = client.stoppedThread;
  await client.body(command, { threadId, ...args });
  return client.event<Stopped>('stopped');
}

async function frames(client: DapClient): Promise<readonly Frame[]> {
  const { stackFrames } = await client.body<{ stackFrames: Frame[] }>('stackTrace', {
    threadId: client.stoppedThread,
  });
  return stackFrames;
}

async function rows(client: DapClient, scope: string): Promise<readonly Variable[]> {
  const [frame] = await frames(client);
  const { scopes } = await client.body<{ scopes: { name: string; variablesReference: number }[] }>(
    'scopes',
    { frameId: frame!.id },
  );
  const reference = scopes.find(({ name }) => name === scope)!.variablesReference;
  return below(client, reference);
}

async function below(client: DapClient, variablesReference: number): Promise<readonly Variable[]> {
  return (await client.body<{ variables: Variable[] }>('variables', { variablesReference }))
    .variables;
}

async function evaluated(client: DapClient, expression: string): Promise<string> {
  const [frame] = await frames(client);
  const args = { expression, frameId: frame!.id, context: 'watch' };
  return (await client.body<{ result: string }>('evaluate', args)).result;
}

const COUNT = 'telemetry->total.fastpath++';

describe('a launch', () => {
  it('ends at the first VM exit, and says which capabilities there are', async () => {
    const client = new DapClient();
    clients.push(client);
    const capabilities = await client.body<Record<string, unknown>>('initialize', {});
    expect(capabilities).toMatchObject({ supportsStepBack: true, supportsReadMemoryRequest: true });
    await client.body('launch', { stopOnEntry: true });
    await client.body('configurationDone');
    expect(await client.event('stopped')).toMatchObject({ reason: 'entry' });
    expect((await frames(client))[0]).toMatchObject({ name: 'caretaker_vmexit' });
  });

  it.each([
    [{ payload: 'no-such-file.elf' }, 'cannot be read'],
    [{ payload: 'package.json' }, 'no ELF file'],
    [{ scenario: 'no-such-scenario' }, 'no-such-scenario'],
    [{ seed: 'seven' }, 'seed is missing or no whole number'],
  ])('is refused with what is wrong: %o', async (configuration, message) => {
    const client = new DapClient();
    clients.push(client);
    await client.body('initialize', {});
    const answer = await client.request('launch', { cwd: root, ...configuration });
    expect(answer.success).toBe(false);
    expect(answer.message).toMatch(message === 'no ELF file' ? /ELF|magic/i : new RegExp(message));
    expect((await client.request('threads')).success).toBe(false);
    expect((await client.request('disconnect')).success).toBe(true);
    expect(await client.ended).toBe(0);
  });

  it('takes another seed and another scenario', async () => {
    const client = await stopped({ scenario: 'attached', seed: 7 });
    expect((await frames(client))[0]!.name).toBe('caretaker_vmexit');
  });
});

describe('breakpoints', () => {
  it('by line stop where the source says, and say which line has the code', async () => {
    const client = await stopped();
    const line = lineOf('telemetry.c', COUNT);
    const [exact, next, beyond] = await breakpoints(client, 'telemetry.c', [
      { line },
      { line: 1 },
      { line: 9999 },
    ]);
    expect(exact).toMatchObject({ verified: true, line });
    expect(next!.line).toBeGreaterThan(1);
    expect(beyond).toMatchObject({ verified: false });
    expect(beyond!.message).toContain('its last line with code is');
    const [only] = await breakpoints(client, 'telemetry.c', [{ line }]);
    const stop = await move(client, 'continue');
    expect(stop).toMatchObject({ reason: 'breakpoint', hitBreakpointIds: [only!.id] });
    const [frame, caller] = await frames(client);
    expect(frame!.source!.path).toBe(source('telemetry.c').path);
    expect([frame, caller].map((one) => one!.name)).toContain('caretaker_count_fastpath');
  });

  it('with a condition stop when it holds, and with a hit count at that hit', async () => {
    const client = await stopped();
    const line = lineOf('telemetry.c', COUNT);
    const [wrong] = await breakpoints(client, 'telemetry.c', [{ line, condition: 'reason ==' }]);
    expect(wrong!.message).toContain('a value is missing at the end');
    await breakpoints(client, 'telemetry.c', [
      { line, condition: 'telemetry.total.fastpath >= 3 && vmcs.GUEST_RIP != 0' },
    ]);
    await move(client, 'continue');
    expect(
      Number(
        await evaluated(
          client,
          '((struct caretaker_telemetry *)caretaker_ccb.telemetry_address)->total.fastpath',
        ),
      ),
    ).toBeGreaterThanOrEqual(3);
    const [many] = await breakpoints(client, 'telemetry.c', [{ line, hitCondition: 'often' }]);
    expect(many!.message).toContain('a hit count is a number');
  });

  it('by function, instruction, data and kind of event stop too', async () => {
    const client = await stopped();
    const set = async (command: string, one: object): Promise<Verdict> =>
      (await client.body<{ breakpoints: Verdict[] }>(command, { breakpoints: [one] }))
        .breakpoints[0]!;
    expect(await set('setFunctionBreakpoints', { name: 'caretaker_dispach' })).toMatchObject({
      verified: false,
      message: expect.stringContaining('did you mean "caretaker_dispatch"?') as unknown,
    });
    await set('setFunctionBreakpoints', { name: 'caretaker_dispatch' });
    expect((await move(client, 'continue')).reason).toBe('breakpoint');
    expect((await frames(client))[0]!.name).toContain('caretaker_dispatch');
    const { instructions } = await client.body<{ instructions: { address: string }[] }>(
      'disassemble',
      {
        memoryReference: (await frames(client))[0]!.instructionPointerReference,
        instructionCount: 4,
      },
    );
    await client.body('setFunctionBreakpoints', { breakpoints: [] });
    await set('setInstructionBreakpoints', { instructionReference: instructions[3]!.address });
    await move(client, 'continue');
    expect((await frames(client))[0]!.instructionPointerReference).toBe(instructions[3]!.address);
    await client.body('setInstructionBreakpoints', { breakpoints: [] });
    const { dataId } = await client
      .body<{ dataId: string }>('dataBreakpointInfo', {
        name: 'total',
        variablesReference: 0,
        frameId: (await frames(client))[0]!.id,
      })
      .catch(() => ({ dataId: '' }));
    expect(dataId).toBeNull();
    await client.body('setExceptionBreakpoints', {
      filters: [],
      filterOptions: [{ filterId: 'exit', condition: 'hlt' }],
    });
    await move(client, 'continue');
    expect(await evaluated(client, 'vmcs.VM_EXIT_REASON == EXIT_REASON_HLT')).toBe('1');
    const verdicts = await client.body<{ breakpoints: Verdict[] }>('setExceptionBreakpoints', {
      filters: ['finding', 'nothing'],
      filterOptions: [{ filterId: 'vmread', condition: 'GUEST_RIB' }],
    });
    expect(verdicts.breakpoints.map(({ verified }) => verified)).toEqual([true, false, false]);
    expect(verdicts.breakpoints[2]!.message).toContain('did you mean "GUEST_RIP"?');
  });

  it('on data stop behind the write', async () => {
    const client = await stopped();
    const telemetry = await rows(client, 'Telemetry');
    const total = telemetry.find(({ name }) => name === 'total')!;
    const { dataId } = await client.body<{ dataId: string }>('dataBreakpointInfo', {
      name: 'fastpath',
      variablesReference: total.variablesReference,
    });
    await client.body('setDataBreakpoints', { breakpoints: [{ dataId, accessType: 'write' }] });
    const stop = await move(client, 'continue');
    expect(stop).toMatchObject({ reason: 'data breakpoint' });
    expect(stop.text).toContain('0x0 became 0x1');
  });

  it('on a register, a VMCS field or what an expression names stop behind the change', async () => {
    const client = await stopped();
    const info = async (name: string) =>
      client.body<{ dataId: string | null; description: string }>('dataBreakpointInfo', {
        name,
        frameId: (await frames(client))[0]!.id,
      });
    const wanted = ['ccb->attach_state', '$rax', 'vmcs.GUEST_RIP', 'telemetry.total.fastpath'];
    for (const name of wanted) {
      const { dataId } = await info(name);
      const { breakpoints } = await client.body<{ breakpoints: Verdict[] }>('setDataBreakpoints', {
        breakpoints: [{ dataId, accessType: 'write' }],
      });
      expect(breakpoints[0]).toMatchObject({ verified: true });
      if (name === 'ccb->attach_state') continue;
      const stop = await move(client, 'continue');
      expect(stop.text).toMatch(/0x\w+ became 0x\w+/);
    }
    expect(await info('msr.IA32_EFER')).toMatchObject({
      dataId: null,
      description: expect.stringContaining('nothing that can be watched') as string,
    });
  });
});

describe('a client that is not there', () => {
  it('ends the adapter, though its input be a device that never closes', () => {
    const command = ['bin/caretaker-emu', 'dap'];
    const { status, stderr } = spawnSync(process.execPath, command, {
      cwd: root,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    expect({ status, stderr: stderr.toString() }).toEqual({ status: 0, stderr: '' });
  });
});

describe('steps', () => {
  it('go by lines, by instructions, into and out of functions, and back', async () => {
    const client = await stopped();
    await client.body('setFunctionBreakpoints', {
      breakpoints: [{ name: 'caretaker_count_fastpath' }],
    });
    await move(client, 'continue');
    await client.body('setFunctionBreakpoints', { breakpoints: [] });
    const at = async (): Promise<string> => (await frames(client))[0]!.instructionPointerReference;
    const entry = await at();
    await move(client, 'stepIn', { granularity: 'instruction' });
    expect(BigInt(await at())).toBe(BigInt(entry) + 4n);
    await move(client, 'stepBack', { granularity: 'instruction' });
    expect(await at()).toBe(entry);
    const out = await move(client, 'stepOut');
    expect(out.reason).toBe('step');
    expect((await frames(client)).at(-2)!.name).toContain('caretaker_dispatch');
    const [first] = await frames(client);
    await move(client, 'next');
    const [second] = await frames(client);
    expect([second!.line, second!.name]).not.toEqual([first!.line, first!.name]);
    await client.body('setFunctionBreakpoints', {
      breakpoints: [{ name: 'caretaker_count_fastpath' }],
    });
    const back = await move(client, 'reverseContinue');
    expect(back.reason).toBe('breakpoint');
    expect(await at()).toBe(entry);
    const start = await move(client, 'reverseContinue');
    expect(start).toMatchObject({ reason: 'entry', text: 'there is nothing before this' });
  });

  it('of a line never end in the middle of an instruction that belongs to it', async () => {
    const client = await stopped();
    await client.body('setFunctionBreakpoints', { breakpoints: [{ name: 'caretaker_dispatch' }] });
    await move(client, 'continue');
    const places: string[] = [];
    for (let count = 0; count < 8; count++) {
      await move(client, 'next');
      const [frame] = await frames(client);
      places.push(`${frame!.name} ${frame!.line}`);
      expect(frame!.line).toBeGreaterThan(0);
    }
    expect(new Set(places).size).toBeGreaterThan(4);
  });
});

describe('the state of a stop', () => {
  it('has threads, scopes and rows that unfold and can be set', async () => {
    const client = await stopped();
    await client.body('setFunctionBreakpoints', {
      breakpoints: [{ name: 'caretaker_count_fastpath' }],
    });
    await move(client, 'continue');
    const { threads } = await client.body<{ threads: { id: number; name: string }[] }>('threads');
    expect(threads.map(({ name }) => name)).toContainEqual(expect.stringMatching(/^vCPU 0 /));
    const locals = await rows(client, 'Locals');
    expect(locals.map(({ name }) => name)).toEqual(['ccb', 'reason', 'telemetry']);
    expect(locals[2]!.value).toBe('<optimised out>');
    const ccb = await below(client, locals[0]!.variablesReference);
    expect(ccb.find(({ name }) => name === 'attach_state')!.evaluateName).toBe(
      '(*ccb).attach_state',
    );
    const registers = await rows(client, 'Registers');
    expect(registers.find(({ name }) => name === 'RIP')!.value).toContain(
      '<caretaker_count_fastpath>',
    );
    expect(registers.map(({ name }) => name)).toContain('control');
    const vmcs = await rows(client, 'VMCS');
    const guest = await below(
      client,
      vmcs.find(({ name }) => name === 'guest')!.variablesReference,
    );
    expect(guest.find(({ name }) => name === 'GUEST_RFLAGS')!.value).toMatch(/^0x\w+ \[/);
    const shared = await rows(client, 'CCB');
    expect(shared.find(({ name }) => name === 'attach_state')!.value).toBe('1 (KVM_ATTACHED)');
    const config = await rows(client, 'Config');
    expect(config.map(({ name }) => name)).toContain('exit_policy');

    const [frame] = await frames(client);
    const { scopes } = await client.body<{
      scopes: { name: string; variablesReference: number }[];
    }>('scopes', { frameId: frame!.id });
    const reference = (name: string): number =>
      scopes.find((one) => one.name === name)!.variablesReference;
    const set = async (scope: string, name: string, value: string): Promise<string> =>
      (
        await client.body<{ value: string }>('setVariable', {
          variablesReference: reference(scope),
          name,
          value,
        })
      ).value;
    expect(await set('Registers', 'RSI', '0x20')).toBe('0x20');
    expect(await evaluated(client, 'reason')).toBe('32');
    expect(await set('CCB', 'request', 'CARETAKER_REQUEST_STOP')).toBe('1 (STOP)');
    expect(await evaluated(client, 'ccb->request')).toBe('1');
    const refused = await client.request('setVariable', {
      variablesReference: reference('CCB'),
      name: 'request',
      value: '0x100000000',
    });
    expect(refused.message).toContain('does not fit in the 32 bits');
    expect((await rows(client, 'MSRs')).map(({ name }) => name)).toContain('IA32_LSTAR');
    expect(await set('MSRs', 'IA32_LSTAR', '0x1234')).toBe('0x1234');
    expect(await evaluated(client, 'msr.IA32_LSTAR == 0x1234')).toBe('1');
    const time = await client.request('setVariable', {
      variablesReference: reference('MSRs'),
      name: 'IA32_TIME_STAMP_COUNTER',
      value: '5',
    });
    expect(time.message).toContain('cannot be set');
    await client.body('setExpression', { expression: 'vmcs.GUEST_RIP', value: '0x1234' });
    expect(await evaluated(client, 'vmcs.GUEST_RIP')).toBe('4660');
  });

  it('has memory and instructions by reference', async () => {
    const client = await stopped();
    const shared = await rows(client, 'CCB');
    const memoryReference = shared[0]!.memoryReference!;
    const read = await client.body<{ data: string; unreadableBytes?: number }>('readMemory', {
      memoryReference,
      count: 8,
    });
    expect(Buffer.from(read.data, 'base64').toString()).toBe('!CARCCB1');
    const reserved = { memoryReference, offset: 320 };
    await client.body('writeMemory', {
      ...reserved,
      data: Buffer.from('hello').toString('base64'),
    });
    const again = await client.body<{ data: string }>('readMemory', { ...reserved, count: 5 });
    expect(Buffer.from(again.data, 'base64').toString()).toBe('hello');
    const nothing = await client.body<{ unreadableBytes: number }>('readMemory', {
      memoryReference: '0xffff00000000',
      count: 4,
    });
    expect(nothing.unreadableBytes).toBe(4);
    const at = (await frames(client))[0]!.instructionPointerReference;
    const list = async (
      instructionOffset: number,
      instructionCount: number,
    ): Promise<readonly { address: string; instruction: string; symbol?: string }[]> =>
      (
        await client.body<{ instructions: { address: string; instruction: string }[] }>(
          'disassemble',
          { memoryReference: at, instructionOffset, instructionCount },
        )
      ).instructions;
    const around = await list(-5, 12);
    expect(around).toHaveLength(12);
    expect(around[5]).toMatchObject({
      address: at,
      instruction: 'endbr64',
      symbol: 'caretaker_vmexit',
    });
    expect((await list(3, 2)).map(({ address }) => address)).toEqual([
      around[8]!.address,
      around[9]!.address,
    ]);
    expect(await list(-4000, 10)).toHaveLength(10);
    const bad = await client.request('readMemory', { memoryReference: 'here', count: 4 });
    expect(bad.message).toContain('"here" is no address');
  });

  it("has a console that runs the debugger's own commands, and expressions", async () => {
    const client = await stopped();
    const typed = async (expression: string): Promise<string> =>
      (await client.body<{ result: string }>('evaluate', { expression, context: 'repl' })).result;
    expect(await typed('vmcs HOST_RIP')).toContain('caretaker_vmexit');
    expect(await typed('1 + 2')).toBe('3');
    await typed('break caretaker_dispatch');
    await typed('continue');
    await client.event('stopped');
    expect((await frames(client))[0]!.name).toContain('caretaker_dispatch');
    expect(
      (await client.request('evaluate', { expression: 'break nowhere_at_all', context: 'repl' }))
        .success,
    ).toBe(false);
  });

  it('completes names and shows mistakes with a caret', async () => {
    const client = await stopped();
    const { targets } = await client.body<{ targets: { label: string }[] }>('completions', {
      text: 'caretaker_disp',
      column: 15,
    });
    expect(targets.map(({ label }) => label)).toContain('caretaker_dispatch');
    const frameId = (await frames(client))[0]!.id;
    for (const [typed, label] of [
      ['vmcs.GUEST_R', 'GUEST_RIP'],
      ['ccb.at', 'attach_state'],
      ['telemetry.tot', 'total'],
      ['telemetry.total.', 'blocked'],
      ['print 1 + ccb->vcpu', 'vcpu_id'],
      ['vmcs GUEST_', 'GUEST_RIP'],
      ['catch phase next-', 'next-kernel'],
    ] as const) {
      const found = await client.body<{ targets: Target[] }>('completions', {
        text: typed,
        column: typed.length + 1,
        frameId,
      });
      const lines = found.targets.map((one) => typed.slice(0, one.start) + one.label);
      expect(lines).toContain(typed.replace(/[\w-]*$/, label));
    }
    const { message } = await client.request('evaluate', {
      expression: 'ccb.stat',
      context: 'repl',
    });
    expect(message).toMatch(/did you mean "state"\?\n {2}ccb\.stat\n {6}\^$/);
  });
});

interface Target {
  readonly label: string;
  readonly start: number;
}

describe('a client', () => {
  it('may pause a run, ask while it runs, and end it', async () => {
    const client = await launched({ stopOnEntry: false });
    client.send('configurationDone');
    const asked = client.request('threads');
    const set = client.request('setFunctionBreakpoints', { breakpoints: [] });
    expect((await asked).success).toBe(true);
    expect((await set).success).toBe(true);
    await client.body('pause', { threadId: 1 });
    const stop = await client.event<Stopped>('stopped');
    expect(['pause', 'exception']).toContain(stop.reason);
    await client.body('terminate');
    await client.event('terminated');
    await client.body('disconnect');
    expect(await client.ended).toBe(0);
    expect(client.errors).toBe('');
  });

  it('hears of the end of the scenario, from where there is a way back', async () => {
    const client = await stopped({ scenario: 'attached' });
    const end = await move(client, 'continue');
    expect(end.text).toContain('the scenario is over');
    const back = await move(client, 'stepBack', { granularity: 'instruction' });
    expect(back.reason).toBe('step');
    await move(client, 'continue');
    client.send('continue', { threadId: 1 });
    await client.event('terminated');
  });

  it('may send anything: what is wrong is the answer', async () => {
    const client = await stopped();
    const bad: [string, unknown][] = [
      ['nonsense', {}],
      ['stackTrace', {}],
      ['stackTrace', { threadId: 99 }],
      ['scopes', { frameId: 99 }],
      ['variables', { variablesReference: 99 }],
      ['setVariable', { variablesReference: 'x' }],
      ['continue', {}],
      ['disassemble', { memoryReference: '0x0' }],
      ['evaluate', { expression: 7 }],
      ['setBreakpoints', { source: 1 }],
      ['readMemory', { memoryReference: '0x0', count: -1 }],
      ['setBreakpoints', null],
      ['source', {}],
      ['__proto__', {}],
      ['attach', {}],
      ['launch', {}],
    ];
    for (const [command, args] of bad) {
      const { success, message } = await client.request(command, args);
      expect([command, success, typeof message]).toEqual([command, false, 'string']);
    }
    client.close();
    expect(await client.ended).toBe(0);
    expect(client.errors).toBe('');
  });
});
