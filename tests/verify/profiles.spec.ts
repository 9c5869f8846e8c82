/** The later generations of the contract: built-in code with a control block, held against the profile of each. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { checkAbi } from '../../abi/compat/check.js';
import { PROFILES } from '../../abi/compat/profiles.js';
import type { ProfileName } from '../../abi/compat/profiles.js';
import type { RuleId } from '../../abi/compat/rules.js';
import { abiOf } from '../../emulator/cli/abi-file.js';
import { checkPayload } from '../../emulator/verify/check-payload.js';

const folder = mkdtempSync(join(tmpdir(), 'profiles-'));
afterAll(() => rmSync(folder, { recursive: true }));

const BLOCK = `struct caretaker_control_block {
  unsigned state, pcpu_id, vcpu_id, reserved; unsigned long telemetry; };`;
const RECORD = `struct caretaker_telemetry_record {
  unsigned long total_runs, total_exits, stall_count, last_exit_reason, last_exit_rip, stall_exit_reason, stall_exit_rip; };`;
const ATTACH = `enum states { CARETAKER_STATE_ATTACHED, CARETAKER_STATE_DETACHED, CARETAKER_STATE_ATTACHING };`;
const RUN = `enum states { CARETAKER_STATE_PAUSED, CARETAKER_STATE_RUNNING, CARETAKER_STATE_STOPPING, CARETAKER_STATE_STOPPED,
  CARETAKER_STATE_FAILED };`;
const CODE = `
struct caretaker_control_block cb; struct caretaker_telemetry_record record; enum states state;
__attribute__((noinline)) void count(unsigned long reason) { record.total_exits++; record.last_exit_reason = reason; }
void _start(unsigned long reason) { state = cb.state; count(reason); cb.state = 1; }`;

function rulesOf(text: string, profile: ProfileName): readonly RuleId[] {
  const file = join(folder, 'built-in.elf');
  const flags = [
    '-g',
    '-O2',
    '-nostdlib',
    '-ffreestanding',
    '-mno-red-zone',
    '-mgeneral-regs-only',
  ];
  const how = ['-fcf-protection=none', '-static', '-x', 'c', '-', '-o', file];
  execFileSync('gcc', [...flags, ...how], { input: text });
  const bytes = new Uint8Array(readFileSync(file));
  const shape = abiOf(bytes);
  if (!('structs' in shape)) return [shape.rule];
  const code = checkPayload(bytes, PROFILES[profile].code);
  expect(code.functions).toBeGreaterThan(0);
  return [...checkAbi(shape, profile), ...code.findings].map(({ rule }) => rule);
}

describe('code of a later series', () => {
  // prettier-ignore
  it.each<[string, ProfileName, string, RuleId[]]>([
    ['follows attach-states', 'attach-states', BLOCK + RECORD + ATTACH + CODE, []],
    ['follows run-states', 'run-states', BLOCK + RECORD + RUN + CODE, []],
    ['numbers a state otherwise', 'run-states', BLOCK + RECORD + RUN.replace('STOPPING,', 'STOPPING = 4,') + CODE, ['constant-value', 'constant-value']],
    ['puts the ids in another order', 'run-states', BLOCK.replace('pcpu_id, vcpu_id', 'vcpu_id, pcpu_id') + RECORD + RUN + CODE, ['field-moved', 'field-moved']],
    ['keeps 32-bit counters', 'run-states', BLOCK + RECORD.replace('unsigned long', 'unsigned') + RUN + CODE,
      ['struct-size', 'struct-align', 'field-resized', ...Array<RuleId>(6).fill('field-moved')]],
    ['takes more than its page of stack', 'run-states', (BLOCK + RECORD + RUN + CODE).replace('count(reason);', 'volatile char log[4096]; log[reason & 4095] = 1; count(reason);'), ['stack-limit']],
    ['calls through a pointer, which nothing in the gap may answer', 'run-states', (BLOCK + RECORD + RUN + CODE).replace('count(reason);', 'void (*volatile hook)(unsigned long) = count; hook(reason);'), ['exit-undeclared']],
  ])('%s', (_what, profile, text, expected) => {
    expect([...rulesOf(text, profile)].sort()).toEqual([...expected].sort());
  });

  it('is not the RFC’s payload', () => {
    expect(
      checkAbi({ structs: [], constants: new Map(), versions: new Map() }, 'rfc').map(
        ({ rule }) => rule,
      ),
    ).toContain('struct-missing');
  });
});
