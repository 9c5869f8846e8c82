/** What each vCPU did, from the payload's telemetry: exits by outcome, by reason, and the stalls. */
import type { RunReport, VcpuReport } from '../../../report/run-report.js';
import type { OutcomeCounts } from '../../../report/telemetry-report.js';
import { columnsOf } from '../table.js';
import type { Terminal } from '../terminal.js';
import { grouped, milliseconds } from './units.js';

const OUTCOMES = ['fastpath', 'routed', 'blocked'] as const;
/** Columns of a reason's name, and of one vCPU's three counters. */
const REASON_COLUMNS = 20;
const VCPU_COLUMNS = 27;
/** More tables than this are summed up instead. */
const MOST_TABLES = 2;

const bold = (cells: readonly string[], terminal: Terminal): string[] =>
  cells.map((cell) => (cell === '' ? '' : terminal.style('bold', cell)));
const counted = (count: number): string => (count === 0 ? '-' : grouped(count));

/** A line a vCPU: exits by outcome, time waited, stack, where it ended. */
export function exitsTable({ vcpus, tscFrequencyHz }: RunReport, terminal: Terminal): string {
  const header = ['', 'exits', ...OUTCOMES, 'waited, ms', 'stack, bytes', 'core', 'payload'];
  const rows = vcpus.map(({ id, pcpu, exits, stack, payloadState, telemetry }) => [
    `vCPU ${id}`,
    grouped(exits.total),
    ...OUTCOMES.map((outcome) => counted(exits[outcome])),
    telemetry.stallTsc === 0 ? '-' : milliseconds(telemetry.stallTsc, tscFrequencyHz),
    `${grouped(stack.usedBytes)} of ${grouped(stack.sizeBytes)}`,
    `${pcpu}`,
    payloadState.toLowerCase(),
  ]);
  return columnsOf([bold(header, terminal), ...rows], terminal.columns, [1, 2, 3, 4, 5, 6, 7]);
}

/** The counters by reason: vCPUs side by side where they fit, else all of them summed. */
export function telemetryTables({ vcpus }: RunReport, terminal: Terminal): string {
  const fit = Math.max(1, Math.floor((terminal.columns - REASON_COLUMNS) / VCPU_COLUMNS));
  if (vcpus.length > fit * MOST_TABLES) {
    const table = reasonTable(
      [{ name: `all ${vcpus.length} vCPUs`, reasons: summed(vcpus) }],
      terminal,
    );
    return `${table}\n${terminal.style('dim', 'each vCPU has counters of its own: --json')}`;
  }
  const groups = Array.from({ length: Math.ceil(vcpus.length / fit) }, (_, group) =>
    vcpus.slice(group * fit, (group + 1) * fit),
  );
  return groups
    .map((group) =>
      group.map(({ id, telemetry }) => ({ name: `vCPU ${id}`, reasons: telemetry.reasons })),
    )
    .map((columns) => reasonTable(columns, terminal))
    .join('\n\n');
}

type Reasons = Readonly<Record<string, OutcomeCounts>>;

function reasonTable(
  groups: readonly { readonly name: string; readonly reasons: Reasons }[],
  terminal: Terminal,
): string {
  const sizes = summed(groups.map(({ reasons }) => ({ telemetry: { reasons } })));
  const total = (reason: string): number =>
    OUTCOMES.reduce((sum, outcome) => sum + sizes[reason]![outcome], 0);
  const names = Object.keys(sizes)
    .sort()
    .sort((a, b) => total(b) - total(a));
  const rows = names.map((reason) => [
    reason,
    ...groups.flatMap(({ reasons }) =>
      OUTCOMES.map((outcome) => counted(reasons[reason]?.[outcome] ?? 0)),
    ),
  ]);
  const heads = [
    ['', ...groups.flatMap(({ name }) => [name, '', ''])],
    ['exit reason', ...groups.flatMap(() => OUTCOMES)],
  ].map((head) => bold(head, terminal));
  const right = Array.from({ length: 3 * groups.length }, (_, index) => index + 1);
  return columnsOf([...heads, ...rows], terminal.columns, right);
}

function summed(
  vcpus: readonly { readonly telemetry: Pick<VcpuReport['telemetry'], 'reasons'> }[],
): Reasons {
  const sums: Record<string, { fastpath: number; routed: number; blocked: number }> = {};
  for (const { telemetry } of vcpus) {
    for (const [reason, counts] of Object.entries(telemetry.reasons)) {
      const sum = (sums[reason] ??= { fastpath: 0, routed: 0, blocked: 0 });
      for (const outcome of OUTCOMES) sum[outcome] += counts[outcome];
    }
  }
  return sums;
}

/** The stalls as the payload recorded them, and what else it counted. */
export function stallsTable({ vcpus, tscFrequencyHz }: RunReport, terminal: Terminal): string {
  const rows = vcpus.flatMap(({ id, telemetry }) =>
    telemetry.stalls.map(({ reason, qualification, rip, tscEntry, tscRelease }) => [
      `vCPU ${id}`,
      reason,
      milliseconds(tscEntry, tscFrequencyHz),
      tscRelease === 0 ? 'waits still' : milliseconds(tscRelease - tscEntry, tscFrequencyHz),
      rip,
      qualification,
    ]),
  );
  const header = ['stall', 'exit reason', 'from, ms', 'for, ms', 'guest RIP', 'qualification'];
  const table = columnsOf([bold(header, terminal), ...rows], terminal.columns, [2, 3]);
  const dropped = vcpus.reduce((sum, { telemetry }) => sum + telemetry.stallsDropped, 0);
  const note = dropped === 0 ? '' : `\n${grouped(dropped)} older stalls were dropped from the ring`;
  return rows.length === 0 ? '' : table + note;
}
