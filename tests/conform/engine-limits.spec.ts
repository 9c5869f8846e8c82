/**
 * Each limit of the engine that the README lists has a detection, and Bochs shows what would happen without it.
 *
 * A row names sequences; with the detection they do on both machines the same, or end the run by a name. With the
 * detection switched off the engine goes its own way, and the comparison says so.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { Random } from '../../emulator/clock/random.js';
import { compareSequences, type SequenceResult } from '../../emulator/conform/instructions.js';
import { SecondMachine } from '../../emulator/conform/second-machine.js';
import { enforcedSequences, systematicSequences } from '../../emulator/conform/sequences.js';
import { packageRoot } from '../../emulator/machine/package-root.js';
import { BOCHS, HAS_BOCHS } from './bochs-here.js';

const off = vi.hoisted(() => ({
  sites: [] as readonly string[],
  writes: false,
  branches: false,
}));

vi.mock('../../emulator/cpu/system-instructions.js', async (importOriginal) => {
  const original =
    await importOriginal<typeof import('../../emulator/cpu/system-instructions.js')>();
  return {
    ...original,
    systemInstruction: (...form: Parameters<typeof original.systemInstruction>) => {
      const found = original.systemInstruction(...form);
      return found !== null && off.sites.includes(found.name) ? null : found;
    },
  };
});

vi.mock('../../emulator/cpu/faulting-access.js', async (importOriginal) => {
  const original = await importOriginal<typeof import('../../emulator/cpu/faulting-access.js')>();
  return {
    ...original,
    readsToWrite: (...of: Parameters<typeof original.readsToWrite>) =>
      !off.writes && original.readsToWrite(...of),
  };
});

vi.mock('../../emulator/cpu/refused-branch.js', async (importOriginal) => {
  const original = await importOriginal<typeof import('../../emulator/cpu/refused-branch.js')>();
  return {
    ...original,
    refusedBranch: (...of: Parameters<typeof original.refusedBranch>) =>
      off.branches ? undefined : original.refusedBranch(...of),
  };
});

interface Row {
  /** Words of the README's list. */
  readonly limit: string;
  /** Beginnings of the titles of sequences. */
  readonly titles: readonly string[];
  /** What is switched off; absent where the engine itself stops at it, or does it right in this case. */
  readonly without?: Partial<typeof off>;
}

const sites = (...names: string[]): Partial<typeof off> => ({ sites: names });

// prettier-ignore
const ROWS: readonly Row[] = [
  { limit: 'it reads unknown MSRs as 0', titles: ['rdmsr of S_CET'], without: sites('RDMSR') },
  { limit: 'takes shadow-stack instructions for nothing', titles: ['rdsspq; rdsspd'], without: sites('RDSSPD', 'RDSSPQ') },
  { limit: 'takes shadow-stack instructions for nothing', titles: ['incsspq of 2'], without: sites('INCSSPQ') },
  { limit: 'Unicorn has no IDT delivery', titles: ['int 0x30 and back'], without: sites('INT') },
  { limit: 'LLDT of an LDT', titles: ['lldt of an LDT', 'lldt that is not present'], without: sites('LLDT') },
  { limit: 'a transfer to compatibility mode', titles: ['iretq to 32-bit code'], without: sites('IRETQ') },
  { limit: 'a transfer to compatibility mode', titles: ['jmp far to 32-bit code'], without: sites('JMP_FARQ') },
  { limit: 'a far pointer with a 16-bit offset', titles: ['jmp far with a 16-bit offset', 'lar of 16 bits'] },
  { limit: 'a call gate', titles: ['jmp far to a call gate'], without: sites('JMP_FARQ') },
  { limit: 'single stepping by RFLAGS.TF', titles: ['nop under a single step'] },
  { limit: 'SYSRET', titles: ['sysret'] },
  { limit: 'ADCX, ADOX', titles: ['adcx', 'adox'] },
  { limit: 'every undefined opcode', titles: ['push es of 32-bit mode', 'a 16-byte instruction'] },
  { limit: '32-bit CMPXCHG', titles: ['cmpxchg rcx, rdx that', 'cmpxchg [rdi+8], rdx that'], without: sites('CMPXCHG') },
  { limit: 'CMPXCHG8B', titles: ['cmpxchg8b that does not'], without: sites('CMPXCHG8B') },
  { limit: 'CMPXCHG16B', titles: ['cmpxchg16b that does not'], without: sites('CMPXCHG16B') },
  { limit: 'LOCK where it may not stand raises #UD', titles: ['lock mov', 'lock nop'], without: sites('LOCKED') },
  { limit: 'a page fault of a read-modify-write reports a write', titles: ['add on an unmapped page'], without: { writes: true } },
  { limit: 'a branch to a non-canonical address is taken back', titles: ['jmp to a non-canonical'], without: { branches: true } },
  { limit: 'the legacy bitmap of branch tracking', titles: ['jmp rax under the legacy bitmap', 'jmp rax under suppression'] },
];

const limits = (): string => {
  const text = readFileSync(join(packageRoot(), 'README.md'), 'utf8');
  const from = text.indexOf('## Limits of the engine');
  return text.slice(from, text.indexOf('\n## ', from + 1)).replaceAll(/\s+/g, ' ');
};

const all = [...systematicSequences(1, new Random(1)), ...enforcedSequences(new Random(1))];
const NOP = 0x90;
const NAMED = all.map(({ title }) => title);

/** Whether the model did what Bochs did, or ended the run and said at what. */
const isDetected = ({ differences }: SequenceResult): boolean =>
  differences.length === 0 ||
  (differences[0]!.what === 'end' && differences[0]!.model.startsWith('unmodelled '));

afterEach(() => {
  Object.assign(off, { sites: [], writes: false, branches: false });
});

describe('the limits of the engine in the README', () => {
  it.each(ROWS)('name "$limit"', ({ limit }) => {
    expect(limits()).toContain(limit);
  });

  it.each(ROWS)('have sequences for "$limit"', ({ titles }) => {
    for (const title of titles) expect(NAMED.some((one) => one.startsWith(title))).toBe(true);
  });
});

describe.skipIf(!HAS_BOCHS)(`each limit of the engine ${BOCHS}`, () => {
  const machine = HAS_BOCHS ? new SecondMachine() : undefined;

  it.each(ROWS)('$limit: is detected, and seen when it is not', ({ titles, without }) => {
    const sequences = all.filter(({ title }) => titles.some((one) => title.startsWith(one)));
    expect(compareSequences(machine!, sequences).filter((one) => !isDetected(one))).toEqual([]);
    if (without === undefined) return;
    Object.assign(off, without);
    // A sweep is made once for the same bytes.
    const anew = sequences.map((one) => ({ ...one, code: Uint8Array.from([...one.code, NOP]) }));
    expect(compareSequences(machine!, anew).some((one) => !isDetected(one))).toBe(true);
  });
});
