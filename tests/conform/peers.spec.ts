/** The cases of kvm-unit-tests and of Linux's live update selftests on the model; conformance.spec.ts holds both machines. */
import { describe, expect, it } from 'vitest';
import { COMPARED_CASES } from '../../emulator/conform/exits.js';
import { PEER_LISTS, holdPeers, type PeerReport } from '../../emulator/conform/peers/hold-peers.js';
import { VMX_INSTRUCTION_CASES } from '../../emulator/conform/vmx-instruction-cases.js';
import { ENTRY_RULES, forgetRule } from '../../emulator/vmx/entry-checks/evaluate.js';

const UNTRIED = [...COMPARED_CASES, ...VMX_INSTRUCTION_CASES].map(({ title }) => ({
  title,
  differences: [],
}));
const DIFFERS = { what: 'VM_EXIT_REASON', model: '0x1', second: '0x2' };
const told = ({ failures }: PeerReport): string[] =>
  failures.map(({ row, what, model, peer }) => `${row.test}: ${what}: ${model}, not ${peer}`);

describe('the peers’ lists', () => {
  const rows = Object.values(PEER_LISTS).flat();

  it('name their source, and no case twice', () => {
    const names = rows.map(({ source, test }) => `${source} ${test}`);
    expect(new Set(names).size).toBe(names.length);
    for (const { source } of rows) {
      expect(source).toMatch(
        /^(kvm-unit-tests x86|linux tools\/testing\/selftests\/liveupdate)\/\w+\.c$/,
      );
    }
  });

  it('say why for each case whose subject is not there', () => {
    for (const { holder } of rows) {
      if (holder.kind === 'not-offered') expect(holder.why.length).toBeGreaterThan(20);
    }
  });

  it('are held by the model, every case that something holds', () => {
    const report = holdPeers(null, UNTRIED);
    expect(told(report)).toEqual([]);
    for (const { rows: count, held, known, notOffered } of Object.values(report.tallies)) {
      expect([held + notOffered, known]).toEqual([count, 0]);
    }
  });

  it.each([
    [
      'hostState',
      'test_load_host_pat',
      'if load IA32_PAT is 1, each of its bytes must be 0, 1, 4, 5, 6 or 7',
      'host-state',
    ],
    ['controls', 'test_nmi_ctrls', 'if NMI exiting is 0, virtual NMIs must be 0', 'controls'],
    [
      'guestState',
      'test_guest_dr7',
      'if load debug controls is 1, bits 63:32 of GUEST_DR7 must be 0',
      'guest-state',
    ],
  ] as const)('%s: %s is not held when the model forgets its rule', (list, test, text, group) => {
    const rule = ENTRY_RULES.find((one) => one.rule === text && one.group === group)!;
    const only = { [list]: PEER_LISTS[list].filter((row) => row.test === test) };
    expect(holdPeers(null, [], only).failures).toEqual([]);
    const remember = forgetRule(rule);
    const { failures } = holdPeers(null, [], only);
    remember();
    expect(failures.length).toBeGreaterThan(0);
  });

  it('are counted apart where a known difference touches them', () => {
    const cases = UNTRIED.map((one) =>
      one.title === 'CPUID' ? { ...one, differences: [{ ...DIFFERS, known: { id: 'one' } }] } : one,
    );
    const { exits } = holdPeers(null, cases, { exits: PEER_LISTS.exits }).tallies;
    expect(exits).toMatchObject({ rows: exits.held + exits.known + exits.notOffered, known: 1 });
  });

  it('are not held where our case of an exit is missing', () => {
    const without = UNTRIED.filter(({ title }) => title !== 'CPUID');
    expect(told(holdPeers(null, without, { exits: PEER_LISTS.exits }))).toEqual([
      'insn_table: CPUID: CPUID: no such case, not held',
    ]);
  });
});
