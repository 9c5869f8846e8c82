/**
 * Campaigns: reproducible, clean on the reference payload, and finding what is planted.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { EXIT_REASON } from '../../abi/exit-reasons.js';
import { accountOf } from '../../emulator/fuzz/account.js';
import { Arena } from '../../emulator/fuzz/arena.js';
import { Campaign } from '../../emulator/fuzz/campaign.js';
import { decode, encode } from '../../emulator/fuzz/codec.js';
import type { ExitOp, FuzzInput, Op } from '../../emulator/stage/input.js';
import { minimise } from '../../emulator/fuzz/minimise.js';
import { campaignReport } from '../../emulator/fuzz/report.js';
import { MutantTree } from '../mutants/mutant-tree.js';

let tree: MutantTree;
beforeAll(() => {
  tree = new MutantTree();
});
afterAll(() => {
  tree.remove();
});

const campaignOf = (payload: Uint8Array, runs: number, seed = 1): Campaign => {
  const campaign = new Campaign({ payload, seed, mix: 'all', corpus: [] });
  while (campaign.execs < runs && campaign.findings.length === 0) campaign.step();
  return campaign;
};

describe('a campaign', () => {
  it('is a function of its seed: corpus, coverage, account and findings', () => {
    const told = (): unknown => {
      const campaign = campaignOf(tree.reference, 700, 9);
      return { ...campaignReport(accountOf(campaign), 1), corpus: campaign.corpus.map(encode) };
    };
    expect(told()).toEqual(told());
  });

  it('finds nothing in the reference payload, with every invariant that a VM alone can exercise', () => {
    const campaign = campaignOf(tree.reference, 1500, 5);
    expect(campaignReport(accountOf(campaign), 1).findings).toEqual([]);
    const checked = campaign.invariants.results().filter((result) => result.checked > 0);
    expect(checked.map(({ id }) => id)).toEqual(
      expect.arrayContaining(['guest-registers', 'rip', 'no-lost-exit', 'interrupts', 'nmi']),
    );
  });

  it('takes every reason of the table in both states', () => {
    const rows = campaignOf(tree.reference, 700).tally.rows();
    const seen = (attached: boolean): ReadonlySet<number> =>
      new Set(rows.filter((row) => row.attached === attached).map(({ basic }) => basic));
    for (const basic of Object.values(EXIT_REASON)) {
      expect(seen(false), `reason ${basic} detached`).toContain(basic);
      expect(seen(true), `reason ${basic} attached`).toContain(basic);
    }
  });
});

describe('what a campaign found once holds now', () => {
  it.each([
    ['a debug trap comes before the next exit', 'da00120001000d00000000010002040202008000000000'],
    [
      'SELF_IPI with reserved bits sends nothing',
      '5000200001000208e6793000000000003f080000000000000000000000000000',
    ],
    [
      'an exit that an event defers is still that op',
      'd90501002400010004000141000c0001000200002f0001000c00040562',
    ],
    [
      'an interrupt that KVM injects #DB before waits again',
      '020000000100020601000000000000000000000000000000',
    ],
    ['a machine check that the policy leaves to KVM has no MCIP', '37072d000103020307'],
    [
      'LVT_TIMER with reserved bits is #GP, also for KVM',
      'c800200001000208fffffdffffffff7f32080000000000000000000000000000',
    ],
    [
      'a timer that gets another vector owes the old one nothing',
      'a700200001000208000000000000000032080000000000000000000000000000',
    ],
  ])('%s', (_, input) => {
    expect(new Arena(tree.reference, 1).run(decode(Buffer.from(input, 'hex'))).findings).toEqual(
      [],
    );
  });
});

describe('a planted bug is found by the invariant that names it', () => {
  it.each([
    ['r12-clobbered', 'guest-registers'],
    ['rip-advanced-twice', 'rip'],
    ['rip-advanced-on-blocked-exit', 'rip'],
    ['cpuid-subleaf-ignored', 'guest-registers'],
    ['single-step-lost', 'rip'],
    ['interrupt-shadow-left', 'rip'],
    ['answered-against-policy', 'no-lost-exit'],
    ['counter-total-wrong', 'telemetry'],
    ['wrong-vmcs-field', 'vmcs-writes'],
    ['pointer-before-flag', 'no-routing-while-detached'],
  ] as const)('%s: %s', (patch, invariant) => {
    const campaign = campaignOf(tree.build(patch), 4000);
    expect(campaign.findings.map((finding) => finding.invariant)).toContain(invariant);
    const [finding] = campaign.findings;
    expect(finding!.input.ops.length).toBeLessThanOrEqual(3);
    const again = new Arena(tree.build(patch), 1).run(finding!.input);
    expect(again.findings.map((one) => one.invariant)).toContain(finding!.invariant);
  });
});

const exit = (basic: number): ExitOp => ({
  kind: 'exit',
  basic,
  modifiers: 0,
  instructionLength: 1,
  interruptibility: 0,
  mode: 2,
});

describe('what campaigns found stays mended', () => {
  it.each<[string, readonly Op[]]>([
    ['a device that has the spurious vector gets its EOI', [{ kind: 'interrupt', vector: 0xff }]],
    [
      'also when it ends a halt of the core',
      [exit(EXIT_REASON.EXIT_REASON_HLT), { kind: 'interrupt', vector: 0xff }],
    ],
    [
      'and when it comes before an exit that the payload answers',
      [{ kind: 'interrupt', vector: 0xff }, exit(EXIT_REASON.EXIT_REASON_PAUSE_INSTRUCTION)],
    ],
  ])('%s', (_case, ops) => {
    const arena = new Arena(tree.reference, 1);
    for (let base = 0; base < arena.baseCount; base++) {
      expect(arena.run({ base, ops }).findings).toEqual([]);
    }
  });
});

describe('an execution', () => {
  it('begins in the same state whatever ran before it', () => {
    const arena = new Arena(tree.reference, 3);
    const input: FuzzInput = {
      base: 1,
      ops: [exit(10), { kind: 'time', exponent: 12, mantissa: 40 }, exit(48), { kind: 'nmi' }],
    };
    const told = (): unknown => {
      const { findings, exits } = arena.run(input);
      const { lane, machine } = arena;
      return { findings, exits, tsc: machine.now(), registers: [...lane.pcpu.registers.values] };
    };
    const first = told();
    arena.run({ base: 0, ops: [{ kind: 'flip', attached: false }, exit(12), exit(0)] });
    expect(told()).toEqual(first);
  });
});

describe('minimisation', () => {
  it('keeps what shows the finding and drops the rest', () => {
    const input: FuzzInput = {
      base: 0,
      ops: [exit(1), { ...exit(10), registers: [7n, 8n, 9n], rip: 5n }, { kind: 'nmi' }, exit(12)],
    };
    const shows = ({ ops }: FuzzInput): boolean =>
      ops.some((op) => op.kind === 'exit' && op.basic === 10 && op.registers?.[1] === 8n);
    expect(minimise(input, shows)).toEqual({
      base: 0,
      ops: [{ ...exit(10), registers: [0n, 8n, 0n] }],
    });
  });
});
