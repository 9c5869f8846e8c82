/** Scenario files: each rule of the schema, and texts changed at random, which are run or refused by name. */
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { loadScenario, parseScenario } from '../../emulator/machine/scenario/load.js';
import { ScenarioError, type Scenario } from '../../emulator/machine/scenario/schema.js';

const FILE = 'some.yaml';
const example = readFileSync(new URL('../../examples/scenario.yaml', import.meta.url), 'utf8');

/** The scenario, or the error that refuses it; anything else that is thrown fails the test. */
function outcomeOf(text: string): Scenario | ScenarioError {
  try {
    return parseScenario(text, FILE);
  } catch (error) {
    if (error instanceof ScenarioError) return error;
    throw error;
  }
}

const HEAD = 'name: a\ndescription: b\nvcpus: 1\n';
const STEPS = 'steps: [{ pause-devices: true }]\n';
const run = (exit: string): string =>
  `${HEAD}steps: [{ run: { exits: 1, script: [{ vcpu: 0, at: 1, exit: ${exit} }] } }]`;

describe('a scenario file', () => {
  it('needs name, description, vcpus and steps, and has defaults for the rest', () => {
    expect(outcomeOf(HEAD + STEPS)).toEqual({
      ...{ name: 'a', description: 'b', vcpus: 1, steps: [{ 'pause-devices': true }] },
      ...{
        'dirty-logging': false,
        'direct-map': false,
        'threads-per-core': 1,
        'mmu-notifier': 'aware',
      },
      ...{ lifecycle: 'interpose', cr3: 'isolated', hlt: 'ACTIVITY', seed: 1, mix: 'busy' },
      ...{ rate: 3600, 'shadow-stacks': false, tables: 'always', parked: 'kill', expect: [] },
      'next-kernel': { 'tsc-ppm': 0, 'wall-step': 0, clock: 'carried', lacks: [], speaks: {} },
    });
  });

  it('keeps a 64-bit integer exact', () => {
    expect(
      outcomeOf(run('{ kind: wrmsr, index: 0x6e0, value: 0xfffffffffffffff1 }')),
    ).toMatchObject({
      steps: [{ run: { script: [{ exit: { value: 0xffff_ffff_ffff_fff1n } }] } }],
    });
  });

  it.each([
    ['a field that is missing', `name: a\nvcpus: 1\n${STEPS}`, 'description'],
    ['a field that nobody knows', `${HEAD}${STEPS}colour: red`, '(document)'],
    ['a document that is no map', '- 1', '(document)'],
    ['no text', '', '(document)'],
    ['no vCPU', `name: a\ndescription: b\nvcpus: 0\n${STEPS}`, 'vcpus'],
    ['too many vCPUs', `name: a\ndescription: b\nvcpus: 65\n${STEPS}`, 'vcpus'],
    ['half a vCPU', `name: a\ndescription: b\nvcpus: 1.5\n${STEPS}`, 'vcpus'],
    ['a life cycle of its own', `${HEAD}${STEPS}lifecycle: none`, 'lifecycle'],
    ['a CR3 policy of its own', `${HEAD}${STEPS}cr3: none`, 'cr3'],
    ['a HLT policy of its own', `${HEAD}${STEPS}hlt: SPIN`, 'hlt'],
    ['a mix that nobody measured', `${HEAD}${STEPS}mix: calm`, 'mix'],
    ['a negative seed', `${HEAD}${STEPS}seed: -1`, 'seed'],
    ['a seed beyond 32 bits', `${HEAD}${STEPS}seed: 0x100000000`, 'seed'],
    ['no step', `${HEAD}steps: []`, 'steps'],
  ])('is refused with the field for %s', (_title, text, field) => {
    expect(outcomeOf(text)).toMatchObject({
      code: 'SCENARIO_SCHEMA',
      details: { file: FILE, field, rule: expect.any(String) as string },
    });
  });

  it.each([
    ['a step that nobody knows', `${HEAD}steps: [{ reboot: true }]`],
    ['a step with two keys', `${HEAD}steps: [{ finish: true, retrieve: true }]`],
    ['a kexec without its length', `${HEAD}steps: [{ kexec: {} }]`],
    ['more than an hour', `${HEAD}steps: [{ gap: { seconds: 3601 } }]`],
    ['time that runs backwards', `${HEAD}steps: [{ gap: { seconds: -1 } }]`],
    ['an exit that nobody knows', run('{ kind: vmfunc }')],
    ['a value beyond 64 bits', run('{ kind: xsetbv, value: 0x10000000000000000 }')],
    ['a port beyond 16 bits', run('{ kind: out, port: 0x10000 }')],
  ])('is refused for %s, at the step', (_title, text) => {
    const outcome = outcomeOf(text);
    expect(outcome).toMatchObject({ code: 'SCENARIO_SCHEMA', details: { file: FILE } });
    expect((outcome as ScenarioError).details['field']).toMatch(/^steps\.0/);
  });

  it.each([
    ['{ run: { exits: lots } }', '.run.exits: a whole number is wanted'],
    ['{ run: { exist: 3 } }', '.run: Unrecognized key: "exist"'],
    ['{ kexec: {} }', '.kexec.seconds: a number of seconds is wanted'],
    ['{ gap: { seconds: 3601 } }', '.gap.seconds: Too big'],
    ['{ run: {} }', '.run.exits: exits or seconds are wanted'],
    [
      '{ run: { exits: 99999999999999999999 } }',
      '.run.exits: Too big: expected number to be <=10000000',
    ],
    ['{ preserve: { expect: EFOO } }', '.preserve.expect: the name of an errno is wanted'],
    [
      '{ run: { seconds: 1, script: [{ vcpu: 0, at: 0, event: { kind: nmi }, repeat: { times: 9, every: 0 } }] } }',
      '.run.script.0.repeat.every: Too small',
    ],
    [
      '{ run: { script: [{ vcpu: 0, at: 1, exit: { kind: hlt2 } }] } }',
      '.run.script.0.exit.kind: ',
    ],
    [
      '{ gap: { seconds: 1, script: [{ vcpu: 0, at: 0 }] } }',
      '.gap.script.0.exit: an exit or an event is wanted',
    ],
    [
      '{ gap: { seconds: 1, script: [{ vcpu: 0, at: 0, exit: { kind: hlt }, event: { kind: nmi } }] } }',
      '.gap.script.0.event: it is an exit or an event',
    ],
    [
      '{ gap: { seconds: 1, script: [{ vcpu: 0, at: 0, exit: { kind: hlt }, instruction: 3 }] } }',
      '.gap.script.0.instruction: only an event comes at an instruction',
    ],
    [
      '{ gap: { seconds: 1, script: [{ vcpu: 0, at: 0, event: { kind: interrupt, vector: 14 } }] } }',
      '.gap.script.0.event.vector: Too small',
    ],
    ['{ finish: 1 }', '.finish: Invalid input: expected true'],
    ['{ finsh: true }', ': no step is named "finsh"; did you mean "finish"?'],
    ['{ constructor: true }', ': no step is named "constructor"'],
    ['{ finish: true, retrieve: true }', ': a step has one key; this has finish, retrieve'],
    ['{}', ': a step has one key; this has none'],
    ['finish', ': a step is a map with one key'],
  ])('says of the step %s which field breaks which rule', (text, message) => {
    const outcome = outcomeOf(`${HEAD}steps: [${text}]`) as ScenarioError;
    expect(outcome.message).toContain(`${FILE}: steps.0${message}`);
  });

  it.each([
    ['[{ finish: true }]', 'steps.0.finish: there is no session to finish; retrieve comes first'],
    ['[{ preserve: {} }, { finish: true }]', 'steps.1.finish: there is no session to finish'],
    ['[{ vmm-exit: true }]', 'steps.0.vmm-exit: nothing but the VMM holds the VM'],
    ['[{ gap: { seconds: 1 } }]', 'steps.0.gap: no vCPU runs alone'],
    ['[{ preserve: {} }, { run: { exits: 1 } }]', 'steps.1.run: the vCPUs run alone'],
    [
      '[{ preserve: {} }, { kexec: { seconds: 1 } }, { run: { exits: 1 } }]',
      'steps.2.run: the vCPUs run alone',
    ],
    [
      '[{ preserve: {} }, { vmm-exit: true }, { madvise: { gpa: 0, pages: 1 } }]',
      'steps.2.madvise: no VMM has the files',
    ],
    [
      '[{ preserve: {} }, { kexec: { seconds: 1 } }, { update: {} }]',
      'steps.2.update: no VMM has the files',
    ],
    ['[{ retrieve: true }]', 'steps.0.retrieve: no session was handed over; kexec comes first'],
    ['[{ kexec: { seconds: 1 } }]', 'steps.0.kexec: vCPUs that are not preserved would be lost'],
    ['[{ close-session: true }]', 'steps.0.close-session: there is no session to close'],
    [
      '[{ preserve: {} }, { kexec: { seconds: 1, expect: EBUSY } }, { retrieve: true }]',
      'steps.2.retrieve: no session was handed over',
    ],
  ])('says of the steps %s which cannot be taken in this order', (steps, message) => {
    const outcome = outcomeOf(`${HEAD}steps: ${steps}`) as ScenarioError;
    expect(outcome.message).toContain(`${FILE}: ${message}`);
  });

  it.each([
    ['migrate: { vcpu: 1, pcpu: 1 }', 'migrate.vcpu: there is no vCPU 1; the last is 0'],
    ['migrate: { vcpu: 0, pcpu: 9 }', 'migrate.pcpu: there are cores 0 to 2'],
    ['migrate: { vcpu: 0, pcpu: 0 }', "migrate.pcpu: core 0 is the host's own"],
    ['offline: { pcpu: 9 }', 'offline.pcpu: there are cores 0 to 2'],
    ['stop: { vcpu: 9 }', 'stop.vcpu: there is no vCPU 9'],
    ['madvise: { gpa: 0x800, pages: 1 }', 'madvise.gpa: the address of a page is wanted'],
    ['madvise: { gpa: 0x3f000, pages: 2 }', "madvise.gpa: the guest's memory ends at 0x40000"],
    [
      'run: { exits: 1, script: [{ vcpu: 9, at: 0, exit: { kind: hlt } }] }',
      'run.script.0.vcpu: there is no vCPU 9',
    ],
    [
      'run: { exits: 1, script: [{ vcpu: 0, at: 0, exit: { kind: access, gpa: 0x3ffffffff000, pages: 2 } }] }',
      'run.script.0.exit.gpa: guest-physical addresses end at 0x400000000000',
    ],
    [
      'run: { exits: 1, script: [{ vcpu: 0, at: 0, attack: { how: read, at: { vcpu: 1 } } }] }',
      'run.script.0.attack.at.vcpu: there is no vCPU 1',
    ],
  ])('says of the step %s what there is not', (step, message) => {
    const outcome = outcomeOf(`${HEAD}steps: [{ ${step} }]`) as ScenarioError;
    expect(outcome.message).toContain(`${FILE}: steps.0.${message}`);
  });

  it('says of a VM that a step names and nobody makes that there is none', () => {
    const steps =
      '{ preserve: {} }, { kexec: { seconds: 1 } }, { retrieve: { refused: [{ vm: 1, expect: EIO }] } }';
    const outcome = outcomeOf(`${HEAD}steps: [${steps}]`) as ScenarioError;
    expect(outcome.message).toContain('steps.2.retrieve.refused.0.vm: there is no VM 1');
  });

  it('says that a field without a value is missing', () => {
    const outcome = outcomeOf(`name: a\nvcpus: 1\n${STEPS}`) as ScenarioError;
    expect(outcome.message).toBe(`${FILE}: description: it is missing`);
  });

  it('takes no text that a terminal would act on, and breaks no line for one', () => {
    const named = (name: string): Scenario | ScenarioError =>
      outcomeOf(`name: "${name}"\ndescription: b\nvcpus: 1\n${STEPS}`);
    expect(named('\\e[31mred')).toMatchObject({ details: { field: 'name' } });
    expect(named('\\u202ebackwards')).toMatchObject({ details: { field: 'name' } });
    expect(named('two\\nlines')).toMatchObject({ name: 'two lines' });
  });

  it('may use an anchor as often as a script repeats itself', () => {
    const entry = '{ vcpu: 0, at: 0, exit: { kind: hlt } }';
    const uses = (n: number): string =>
      `${HEAD}steps: [{ run: { exits: 1, script: [&a ${entry}${', *a'.repeat(n)}] } }]`;
    expect(outcomeOf(uses(99))).toMatchObject({ name: 'a' });
    expect(outcomeOf(uses(100))).toMatchObject({ code: 'SCENARIO_YAML' });
  });

  it.each([
    ['YAML that does not parse', 'a: [1', 2],
    ['a key given twice', 'name: a\nname: b\n', 2],
    ['a second document', `${HEAD}${STEPS}---\n${HEAD}${STEPS}`, 6],
  ])('is refused with the line for %s', (_title, text) => {
    expect(outcomeOf(text)).toMatchObject({
      code: 'SCENARIO_YAML',
      details: { file: FILE, line: expect.any(Number) as number },
    });
  });

  it('is read up to a bound, whatever it is', () => {
    expect(() => loadScenario('/dev/zero')).toThrow('/dev/zero: at most 1048576 bytes are read');
  });

  it('says that it is nested too deep, in a file made of brackets', () => {
    const outcome = outcomeOf('['.repeat(100_000));
    expect(outcome).toBeInstanceOf(ScenarioError);
    expect((outcome as ScenarioError).message).toMatch(/^some\.yaml:\d+: collections are nested/);
  });

  it('cannot grow by aliases', () => {
    const levels = Array.from({ length: 9 }, (_, n) => {
      const items = n === 0 ? 'x, x' : `*a${n - 1}, *a${n - 1}, *a${n - 1}, *a${n - 1}`;
      return `l${n}: &a${n} [${items}]`;
    });
    expect(outcomeOf(levels.join('\n'))).toBeInstanceOf(ScenarioError);
  });

  it.each([
    ['a name that nobody gave', 'live-updaet', 'SCENARIO_UNKNOWN'],
    ['a file that is not there', './gone.yaml', 'SCENARIO_UNREADABLE'],
    ['a folder', './tests', 'SCENARIO_UNREADABLE'],
  ])('%s is refused by its code', (_title, name, code) => {
    expect(() => loadScenario(name)).toThrow(expect.objectContaining({ code }) as Error);
  });
});

describe('a scenario file changed at random', () => {
  const words = [
    '{',
    '}',
    '[',
    ']',
    ':',
    '-',
    '&a ',
    '*a',
    '!!',
    '0x',
    '1e400',
    '.nan',
    '~',
    '\n',
    ' ',
    '\t',
    '\0',
    '"',
    '#',
  ];
  const edit = fc.record({
    at: fc.nat(example.length),
    removed: fc.nat(12),
    added: fc.oneof(fc.constantFrom(...words), fc.string({ maxLength: 6 }), fc.constant('')),
  });

  it('is a scenario, or refused by a ScenarioError that names file and place', () => {
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 6 }), (edits) => {
        const text = edits.reduce(
          (before, { at, removed, added }) =>
            before.slice(0, at) + added + before.slice(at + removed),
          example,
        );
        const outcome = outcomeOf(text);
        if (!(outcome instanceof ScenarioError)) return;
        expect(outcome.details['file']).toBe(FILE);
        expect(outcome.message.startsWith(FILE)).toBe(true);
        const { field, line } = outcome.details;
        expect(
          typeof field === 'string' || typeof line === 'number' || /alias/.test(outcome.message),
        ).toBe(true);
      }),
      { numRuns: 400 },
    );
  });
});
