import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { hex } from '../../abi/uint.js';
import { Random } from '../../emulator/clock/random.js';
import {
  bucketOf,
  compareEntries,
  holdAgainst,
  rowAttempts,
  type AttemptResult,
  type Bucket,
} from '../../emulator/conform/entry-rows.js';
import { valueAttempts } from '../../emulator/conform/entry-values.js';
import { bitAttempts, mixedAttempts } from '../../emulator/conform/entry-variants.js';
import { msrListAttempts } from '../../emulator/conform/msr-list-attempts.js';
import { LAYOUT } from '../../emulator/conform/layout.js';
import { SecondMachine } from '../../emulator/conform/second-machine.js';
import { packageRoot } from '../../emulator/machine/package-root.js';
import { ENTRY_RULES, forgetRule } from '../../emulator/vmx/entry-checks/evaluate.js';
import { MSR_LOAD_RULES } from '../../emulator/vmx/msr-area.js';
import { BOCHS, HAS_BOCHS } from './bochs-here.js';

const unexplained = (results: readonly AttemptResult[]): string[] =>
  results
    .filter(({ model, second, known }) => model !== second && known === null)
    .map(({ attempt, model, second }) => `${attempt.title}: model ${model}, Bochs ${second}`);

/** Rows whose example another row refuses in the same way, where rules of the SDM overlap, with that row. */
const REFUSED_TWICE: Readonly<Record<string, string>> = {
  'if load IA32_EFER is 1, its LMA bit must equal IA-32e mode guest':
    'if load IA32_EFER is 1 and PG in GUEST_CR0 is 1, its LMA and LME bits must be equal',
  'SS: in protected mode without unrestricted guest, RPL must equal the RPL of CS':
    'SS: without unrestricted guest, DPL must equal the RPL of the selector',
  'if the VMCS link pointer is not all ones, it must be the physical address of a page':
    'the page at the VMCS link pointer must begin with the VMCS revision, bit 31 set as VMCS shadowing says',
};

describe('the layout', () => {
  it('is the monitor’s own', () => {
    const path = join(packageRoot(), 'emulator', 'conform', 'rom', 'layout.h');
    const header = readFileSync(path, 'utf8');
    for (const [name, address] of Object.entries(LAYOUT)) {
      expect(header).toMatch(new RegExp(`#define LAYOUT_${name}\\s+${hex(address)}\\n`));
    }
  });
});

describe.skipIf(!HAS_BOCHS)(`checks of VM entry ${BOCHS}`, () => {
  const machine = HAS_BOCHS ? new SecondMachine() : undefined;
  const rows = HAS_BOCHS ? compareEntries(machine!, rowAttempts(machine!.capabilities)) : [];

  it('end the same on both machines, row by row, but for known differences', () => {
    expect(unexplained(rows)).toEqual([]);
  });

  it('are each tried once, and each is in one bucket', () => {
    expect(rows.map(({ attempt }) => attempt.rule)).toEqual(ENTRY_RULES);
    const inBucket = (bucket: Bucket): number =>
      rows.filter((row) => bucketOf(row) === bucket).length;
    const counts = (['agree', 'known', 'notOffered', 'differs'] as const).map(inBucket);
    expect(counts.reduce((sum, count) => sum + count)).toBe(ENTRY_RULES.length);
    expect(inBucket('agree')).toBeGreaterThan(225);
  });

  it('are not offered where the row is about a processor outside IA-32e mode', () => {
    const legacy = rows.filter(({ attempt }) => attempt.rule!.setting?.longMode === false);
    expect(legacy.length).toBeGreaterThan(5);
    expect(new Set(legacy.map(bucketOf))).toEqual(new Set(['notOffered']));
  });

  it('end the same for mixtures of broken rows', () => {
    const attempts = mixedAttempts(machine!.capabilities, 300, new Random(7));
    expect(unexplained(compareEntries(machine!, attempts))).toEqual([]);
  });

  it('refuse a list of MSRs at the same entry, by every rule on what is loaded', () => {
    const results = compareEntries(machine!, msrListAttempts());
    expect(unexplained(results)).toEqual([]);
    for (const { attempt, second } of results) {
      const entry = /entry (\d)/.exec(attempt.title)?.[1];
      const end = entry === undefined ? 'entered' : `exit 34 qualification 0x${entry}`;
      expect(`${attempt.title}: ${second}`).toBe(`${attempt.title}: ${end}`);
    }
    const titles = results.map(({ attempt }) => attempt.title);
    for (const { rule } of MSR_LOAD_RULES) {
      expect(titles.filter((title) => title.includes(rule))).toHaveLength(2);
    }
  });

  const values = HAS_BOCHS ? compareEntries(machine!, valueAttempts(machine!.capabilities)) : [];

  it('end the same for each value that a check tells apart', () => {
    expect(values.length).toBeGreaterThan(2500);
    expect(unexplained(values)).toEqual([]);
  });

  it('end the same for each bit of the control registers, of EFER and of what no row checks', () => {
    const names = /^((HOST|GUEST)_(CR0|CR4|IA32_EFER|RFLAGS)|TSC_MULTIPLIER|TSC_OFFSET) /;
    const attempts = bitAttempts(machine!.capabilities).filter(({ title }) => names.test(title));
    expect(attempts.length).toBeGreaterThan(500);
    expect(unexplained(compareEntries(machine!, attempts))).toEqual([]);
  });

  // prettier-ignore
  it.each([
    'if use TSC scaling is 1, the TSC multiplier',
    'blocking by STI and by MOV SS must not both',
    'CS: the type must be',
    'SS: if usable, the type must be',
    'GS: if usable, bits 11:8 and 31:17',
    'CS: DPL must be 0 for type 3',
    'reserved bits 31:5 of the interruptibility',
    'reserved bits of the pending debug exceptions',
  ])('differ for a value when the model forgets: %s', (start) => {
    const remember = forgetRule(ENTRY_RULES.find(({ rule }) => rule.startsWith(start))!);
    const noticed = values.some(({ attempt, second }) => {
      const { model, known } = holdAgainst(machine!.capabilities, attempt, second);
      return model !== second && known === null;
    });
    remember();
    expect(noticed).toBe(true);
  });

  const withoutItsRule = ({ attempt, second }: AttemptResult): AttemptResult => {
    const remember = forgetRule(attempt.rule!);
    const result = holdAgainst(machine!.capabilities, attempt, second);
    remember();
    return result;
  };
  const agreeing = rows.filter((row) => bucketOf(row) === 'agree');
  const groups = [...new Set(ENTRY_RULES.map(({ group }) => group))];

  it.each(groups)('differ for each row on %s when the model forgets that row', (group) => {
    const ofGroup = agreeing.filter(({ attempt }) => attempt.rule!.group === group);
    expect(ofGroup.length).toBeGreaterThan(30);
    const unnoticed = ofGroup.map(withoutItsRule).filter(({ model, second }) => model === second);
    for (const { attempt, broken } of unnoticed) {
      expect(broken.map(({ rule }) => rule)).toContain(REFUSED_TWICE[attempt.title]);
    }
    expect(unnoticed.length).toBeLessThan(4);
  });

  it('agree for a known difference of a row as soon as the model forgets that row', () => {
    const known = rows.filter((row) => bucketOf(row) === 'known' && row.second === 'entered');
    expect(known.length).toBeGreaterThan(8);
    expect(known.map(withoutItsRule).filter(({ model, second }) => model !== second)).toEqual([]);
  });
});
