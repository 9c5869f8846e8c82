/**
 * Post-gap ingestion: a Telemetry Buffer as the text of a debugfs file.
 *
 * Source: the RFC, "Gap Observability and Telemetry" (/sys/kernel/debug/kvm/).
 * Invariant: reading the file consumes nothing: stall_tail is moved by whoever drains the ring.
 */
import { printExitReason } from '../../../abi/exit-reasons.js';
import type { StructView } from '../../../abi/layout.js';
import { CARETAKER_STALL_RING, CARETAKER_TELEMETRY_REASONS } from '../../../abi/telemetry.js';
import { hex } from '../../../abi/uint.js';

/** One stall as KVM reads it. */
export interface StallRecord {
  readonly exitReason: number;
  readonly qualification: bigint;
  readonly rip: bigint;
  readonly tscEntry: bigint;
  readonly tscRelease: bigint;
}

/** The records that are still in the ring, oldest first. */
export function stallsOf(telemetry: StructView): readonly StallRecord[] {
  const head = telemetry.get('stall_head');
  const ring = BigInt(CARETAKER_STALL_RING);
  const first = head > ring ? head - ring : 0n;
  const records: StallRecord[] = [];
  for (let at = first; at < head; at++) {
    const path = `stall[${at % ring}]`;
    records.push({
      exitReason: telemetry.number(`${path}.exit_reason`),
      qualification: telemetry.get(`${path}.qualification`),
      rip: telemetry.get(`${path}.rip`),
      tscEntry: telemetry.get(`${path}.tsc_entry`),
      tscRelease: telemetry.get(`${path}.tsc_release`),
    });
  }
  return records;
}

/** Counters of a reason that has any. */
export interface ReasonRow {
  readonly reason: string;
  readonly fastpath: bigint;
  readonly routed: bigint;
  readonly blocked: bigint;
}

/** Rows for every reason that was counted, then `other`. */
export function reasonRows(telemetry: StructView): readonly ReasonRow[] {
  const row = (reason: string, path: string): ReasonRow => ({
    reason,
    fastpath: telemetry.get(`${path}.fastpath`),
    routed: telemetry.get(`${path}.routed`),
    blocked: telemetry.get(`${path}.blocked`),
  });
  const rows = Array.from({ length: CARETAKER_TELEMETRY_REASONS }, (_, n) =>
    row(printExitReason(n), `reason[${n}]`),
  );
  return [...rows, row('other', 'other')].filter((r) => r.fastpath + r.routed + r.blocked > 0n);
}

/** The text of caretaker_telemetry. */
export function renderTelemetry(telemetry: StructView): string {
  const lines = [
    ...reasonRows(telemetry).map(
      (r) => `${r.reason} fastpath=${r.fastpath} routed=${r.routed} blocked=${r.blocked}`,
    ),
    `total fastpath=${telemetry.get('total.fastpath')} routed=${telemetry.get('total.routed')} blocked=${telemetry.get('total.blocked')}`,
    `entry_failures=${telemetry.get('entry_failures')} stray_interrupts=${telemetry.get('stray_interrupts')}`,
    `nmis=${telemetry.get('nmis')} machine_checks=${telemetry.get('machine_checks')}`,
    `stall_tsc=${telemetry.get('stall_tsc')} stall_dropped=${telemetry.get('stall_dropped')}`,
    ...stallsOf(telemetry).map(
      (s) =>
        `stall ${printExitReason(s.exitReason & 0xffff)} qualification=${hex(s.qualification)} rip=${hex(s.rip)} ` +
        `tsc=${s.tscEntry}..${s.tscRelease}`,
    ),
  ];
  return `${lines.join('\n')}\n`;
}
