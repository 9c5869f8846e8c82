/** Looking at the run: vCPUs, timeline, invariants, findings. */
import { printExitReason } from '../../../../abi/exit-reasons.js';
import { hex } from '../../../../abi/uint.js';
import type { Lane } from '../../../machine/lane.js';
import { payloadStateOf } from '../../../machine/wake.js';
import { CARETAKER_RUN_STATE } from '../../../../abi/ccb.js';
import { bad, nothing, type ReplCommand } from '../command.js';
import type { Repl } from '../repl.js';

/** What a vCPU does, in a word: guest, caretaker, spinning, halted, parked, kvm. */
export function activityOf(lane: Lane): string {
  switch (lane.phase) {
    case 'guest':
      return 'guest';
    case 'payload':
      return 'caretaker';
    case 'waiting':
      return 'spinning';
    case 'halted':
      return 'halted';
    case 'in-kvm':
      return 'kvm';
    case 'stopped':
      return payloadStateOf(lane) === CARETAKER_RUN_STATE.PARKED ? 'parked' : 'stopped';
  }
}

function vcpuLine(repl: Repl, lane: Lane): string {
  const mark = lane.id === repl.session.selected ? '>' : ' ';
  const flag = lane.vcpu.ccb === 0n ? '' : lane.vcpu.isAttached ? 'attached' : 'detached';
  const exit =
    lane.exit.sequence === 0
      ? 'no exit yet'
      : `exit ${lane.exit.sequence} ${printExitReason(lane.exit.basic)}`;
  const rip = hex(lane.pcpu.registers.get('RIP'));
  const name = repl.session.image.nameOf(lane, lane.pcpu.registers.get('RIP'));
  const symbol = name === null ? '' : ` <${name.name}+${name.offset}>`;
  return `${mark} vCPU ${lane.id} on core ${lane.pcpu.id}  ${activityOf(lane).padEnd(9)} ${flag}  ${exit}  ${rip}${symbol}`;
}

/** Commands that look at the run. */
export const RUN: readonly ReplCommand[] = [
  {
    name: 'vcpus',
    aliases: ['threads'],
    group: 'looking',
    usage: '',
    summary: 'all vCPUs: core, what they do, their exit',
    example: 'vcpus',
    run: (repl, args) => {
      nothing(args);
      repl.print(...repl.session.machine.lanes.map((lane) => vcpuLine(repl, lane)));
    },
  },
  {
    name: 'vcpu',
    aliases: ['thread'],
    group: 'looking',
    usage: '[NUMBER]',
    summary: 'looks at another vCPU until the next stop',
    example: 'vcpu 1',
    complete: (repl) => repl.session.machine.lanes.map(({ id }) => `${id}`),
    run: (repl, { text }) => {
      if (text !== '') {
        if (!/^\d+$/.test(text)) bad(`the number of a vCPU is wanted, not "${text}"`);
        repl.session.select(Number.parseInt(text, 10));
        repl.frame = 0;
      }
      repl.print(vcpuLine(repl, repl.session.lane));
    },
  },
  {
    name: 'only',
    group: 'going on',
    usage: '[NUMBER | all]',
    summary: 'instruction steps and positions back are those of one vCPU, or of all again',
    example: 'only 0',
    run: (repl, { text }) => {
      const { pilot, machine } = repl.session;
      if (text === 'all' || text === '') pilot.onlyVcpu = null;
      else {
        const lane = machine.lanes.find(({ id }) => `${id}` === text);
        if (lane === undefined) return bad(`no vCPU ${text}`);
        pilot.onlyVcpu = lane.id;
      }
      repl.print(pilot.onlyVcpu === null ? 'all vCPUs' : `vCPU ${pilot.onlyVcpu} alone`);
    },
  },
  {
    name: 'timeline',
    aliases: ['tl'],
    group: 'looking',
    usage: '[COUNT]',
    summary: 'what happened so far, in virtual time',
    example: 'timeline 20',
    run: (repl, { text }) => {
      const count = text === '' ? 20n : repl.number(text);
      if (count < 1n || count > 100_000n) bad(`1 to 100000 events, not ${count}`);
      const { machine } = repl.session;
      const events = machine.timeline.mostTelling(Number.parseInt(count.toString(), 10));
      if (events.length === 0) repl.print('nothing yet');
      for (const { tsc, vcpu, event } of events) {
        const ms = ((tsc / machine.tscFrequencyHz) * 1000).toFixed(3).padStart(12);
        repl.print(`${ms} ms  ${(vcpu === null ? 'host' : `vCPU ${vcpu}`).padEnd(7)} ${event}`);
      }
    },
  },
  {
    name: 'invariants',
    aliases: ['inv'],
    group: 'looking',
    usage: '',
    summary: 'how often each invariant was checked so far, and what broke',
    example: 'invariants',
    run: (repl, args) => {
      nothing(args);
      for (const { id, held, checked, detail } of repl.session.machine.ledger.results()) {
        const verdict = checked === 0 && held ? '-' : held ? 'held' : 'broken';
        const line = `${id.padEnd(26)} ${verdict.padEnd(7)} ${checked.toString().padStart(8)}`;
        repl.print(held ? line : `${line}  ${detail}`);
      }
    },
  },
];
