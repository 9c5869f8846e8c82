/** What happened when: the most telling events of a run, in order of time. */
import type { RunReport } from '../../../report/run-report.js';
import { columnsOf } from '../table.js';
import type { Terminal } from '../terminal.js';
import { milliseconds, plural } from './units.js';

/** On a page that nobody asked a length of, events below this weight are noise: exits that took their usual course. */
const LEAST_WEIGHT = 2;
const PAGE_LENGTH = 40;

/** At most `wanted` events, or a page of them when that is null, and a note when there were more. */
export function eventsTable(report: RunReport, wanted: number | null, terminal: Terminal): string {
  const { timeline, eventCount, tscFrequencyHz } = report;
  const groups =
    wanted === null
      ? mostTelling(alike(timeline.filter(isTelling), tscFrequencyHz), PAGE_LENGTH)
      : alike(
          mostTelling(
            timeline.map((event) => [event]),
            wanted,
          ).flat(),
          tscFrequencyHz,
        );
  const rows = groups.map((group) => rowOf(group, tscFrequencyHz));
  if (rows.length === 0) return '';
  const header = ['ms', 'who', 'what happened'].map((cell) => terminal.style('bold', cell));
  const table = columnsOf([header, ...rows], terminal.columns, [0]);
  const left = eventCount - groups.reduce((sum, { length }) => sum + length, 0);
  if (left <= 0) return table;
  const note = `${plural(left, 'less telling event')} left out; --timeline ${eventCount} shows all`;
  return `${table}\n${terminal.style('dim', note)}`;
}

const isTelling = ({ weight }: Event): boolean => weight >= LEAST_WEIGHT;

/** At most `count` groups, the most telling, in order of time. */
function mostTelling(groups: readonly Group[], count: number): readonly Group[] {
  const ranked = groups
    .map((group, index) => ({ weight: group[0]!.weight, index }))
    .sort((a, b) => b.weight - a.weight);
  const kept = new Set(ranked.slice(0, count).map(({ index }) => index));
  return groups.filter((_, index) => kept.has(index));
}

/** Neighbours within this part of a second that differ in a number alone are told once. */
const TOGETHER_SECONDS = 0.001;
const FEWEST_ALIKE = 3;

type Event = RunReport['timeline'][number];
/** Events that are told as one. */
type Group = readonly Event[];

/** Parts events into groups of one, and groups of neighbours that say the same of several cores or vCPUs. */
function alike(events: readonly Event[], tscFrequencyHz: number): readonly Group[] {
  const pattern = ({ vcpu, event }: Event): string =>
    `${vcpu === null ? 'host' : 'vCPU'} ${event.replaceAll(/\d+/g, '#')}`;
  const groups: Event[][] = [];
  for (const event of events) {
    const first = groups.at(-1)?.[0];
    const isAlike =
      first !== undefined &&
      pattern(first) === pattern(event) &&
      event.tsc - first.tsc <= TOGETHER_SECONDS * tscFrequencyHz;
    if (isAlike) groups.at(-1)!.push(event);
    else groups.push([event]);
  }
  return groups.flatMap((group) =>
    group.length < FEWEST_ALIKE ? group.map((event) => [event]) : [group],
  );
}

function rowOf(group: Group, tscFrequencyHz: number): readonly string[] {
  const { tsc, vcpu, event } = group[0]!;
  const time = milliseconds(tsc, tscFrequencyHz);
  if (group.length === 1) return [time, vcpu === null ? 'host' : `vCPU ${vcpu}`, event];
  if (vcpu !== null) return [time, `${group.length} vCPUs`, event];
  return [time, 'host', `${event}; and ${group.length - 1} more like it`];
}
