/**
 * Breakpoints of the protocol as those of the session: by line, function, instruction, data, and by kinds of events.
 *
 * Source: the Debug Adapter Protocol (`setBreakpoints` and its kin: each call replaces what the one before set).
 * Invariant: a breakpoint that cannot be set is answered as not verified, with the reason.
 */
import { didYouMean } from '../../../abi/did-you-mean.js';
import { HarnessBug, HarnessError } from '../../../abi/errors.js';
import { hex } from '../../../abi/uint.js';
import type { BreakpointSpec } from '../../debug/breakpoints.js';
import { EVENTS, eventSpec, fieldNamed, PHASES } from '../../debug/events.js';
import { conditionOf } from '../../debug/source/condition.js';
import { evaluate } from '../../debug/source/expression/evaluate.js';
import type { LaneView } from '../../debug/source/lane-view.js';
import { registerNamed } from '../../debug/source/register-names.js';
import { parseLocation } from '../../debug/source/location.js';
import type { Location } from '../../debug/source/location.js';
import type { Value } from '../../debug/source/values/value.js';
import { watchSpec } from '../../debug/source/watch.js';
import {
  address,
  DapError,
  optionalText,
  record,
  records,
  text,
  texts,
  whole,
} from '../arguments.js';
import type { Arguments } from '../arguments.js';
import type { AdapterState } from '../state.js';

/** What `exceptionBreakpointFilters` offers. */
export const FILTERS = [
  { filter: 'finding', label: 'Findings of the invariants', default: true },
  {
    filter: 'exit',
    label: 'VM exits',
    supportsCondition: true,
    conditionDescription: 'An exit reason, such as HLT; empty for every exit',
  },
  {
    filter: 'flip',
    label: "Flips of KVM's flag",
    supportsCondition: true,
    conditionDescription: 'attached or detached; empty for both',
  },
  {
    filter: 'phase',
    label: 'Phases of the live update',
    supportsCondition: true,
    conditionDescription: `${PHASES.join(', ')}; empty for each`,
  },
  {
    filter: 'vmread',
    label: 'VMREAD',
    supportsCondition: true,
    conditionDescription: 'A VMCS field, such as GUEST_RIP; empty for each',
  },
  {
    filter: 'vmwrite',
    label: 'VMWRITE',
    supportsCondition: true,
    conditionDescription: 'A VMCS field, such as GUEST_RIP; empty for each',
  },
] as const;

/** An answer for one breakpoint. */
type Verdict = Readonly<Record<string, unknown>>;

/** setBreakpoints: those of one source file. */
export function setLineBreakpoints(state: AdapterState, args: Arguments): unknown {
  const source = record(args['source']);
  const path = optionalText(source, 'path') ?? text(source, 'name');
  const wanted = records(args['breakpoints']);
  const lines = wanted.length > 0 ? wanted : legacyLines(args['lines']);
  const file = fileOf(state, path);
  return replace(state, `source ${path}`, lines, (one) => {
    const line = whole(one, 'line');
    if (file === null) throw new DapError('BAD_ARGUMENT', `no code comes from ${path}`);
    return [parseLocation(`${file}:${line}`, coreOf(state)), one];
  });
}

/** Clients of old give bare line numbers. */
function legacyLines(value: unknown): readonly Arguments[] {
  return Array.isArray(value) ? value.map((line: unknown) => ({ line })) : [];
}

/** setFunctionBreakpoints. */
export function setFunctionBreakpoints(state: AdapterState, args: Arguments): unknown {
  return replace(state, 'functions', records(args['breakpoints']), (one) => [
    parseLocation(text(one, 'name'), coreOf(state)),
    one,
  ]);
}

/** setInstructionBreakpoints. */
export function setInstructionBreakpoints(state: AdapterState, args: Arguments): unknown {
  return replace(state, 'instructions', records(args['breakpoints']), (one) => {
    const at = address(one, 'instructionReference') + BigInt(whole(one, 'offset', 0));
    return [{ kind: 'absolute', address: at, text: hex(at) }, one];
  });
}

/** setDataBreakpoints: watchpoints on what dataBreakpointInfo has named. */
export function setDataBreakpoints(state: AdapterState, args: Arguments): unknown {
  forgetGroup(state, 'data');
  const ids: number[] = [];
  const breakpoints = records(args['breakpoints']).map((one) =>
    verdict(() => {
      const id = text(one, 'dataId');
      const on = { read: 'read', readWrite: 'access' }[optionalText(one, 'accessType') ?? ''];
      const { spec, vcpu } = dataOf(id, on === 'read' || on === 'access' ? on : 'write');
      const made = add(state, spec, id, one, null, vcpu);
      ids.push(made);
      return { id: made, verified: true };
    }),
  );
  state.breakpoints.set('data', ids);
  return { breakpoints };
}

/** dataBreakpointInfo: what a variable or an expression is kept in. */
export function dataBreakpointInfo(state: AdapterState, args: Arguments): unknown {
  const name = text(args, 'name');
  const reference = typeof args['variablesReference'] === 'number' ? args['variablesReference'] : 0;
  const frameId = typeof args['frameId'] === 'number' ? args['frameId'] : null;
  try {
    const { core, value } =
      reference > 0 ? rowOf(state, reference, name) : valueOf(state, name, frameId);
    const spec = watchSpec(core, value, name, 'write');
    const isMemory = spec.kind === 'watch';
    return {
      dataId: dataIdOf(spec, core.id),
      description: isMemory ? `${spec.sizeBytes} bytes at ${hex(spec.address)} (${name})` : name,
      accessTypes: isMemory ? ['read', 'write', 'readWrite'] : ['write'],
    };
  } catch (error) {
    if (!(error instanceof HarnessError)) throw error;
    return { dataId: null, description: error.message };
  }
}

/** What is watched: memory of the machine, or a register or a VMCS field of one vCPU. */
interface Data {
  readonly spec: BreakpointSpec;
  readonly vcpu: number | null;
}

function dataIdOf(spec: BreakpointSpec, vcpu: number): string {
  switch (spec.kind) {
    case 'watch':
      return `${hex(spec.address)}/${spec.sizeBytes}`;
    case 'register':
    case 'field':
      return `${spec.kind}/${spec.name}/${vcpu}`;
    default:
      throw new HarnessBug(`${spec.kind} is no data`);
  }
}

/** @throws DapError for what dataIdOf() never said. */
function dataOf(id: string, on: 'read' | 'write' | 'access'): Data {
  const [, at, size] = /^(0x[0-9a-f]{1,16})\/(\d{1,4})$/.exec(id) ?? [];
  if (at !== undefined && size !== undefined) {
    const sizeBytes = Number.parseInt(size, 10);
    return { spec: { kind: 'watch', address: BigInt(at), sizeBytes, on }, vcpu: null };
  }
  const [, kind, name = '', owner = ''] = /^(register|field)\/(\w+)\/(\d{1,2})$/.exec(id) ?? [];
  const vcpu = Number.parseInt(owner, 10);
  if (kind === 'field') return { spec: { kind, name: fieldNamed(name) }, vcpu };
  const register = kind === 'register' ? registerNamed(name.toLowerCase()) : null;
  if (register === null) throw new DapError('BAD_ARGUMENT', `"${id}" names no data`);
  return { spec: { kind: 'register', name: register.register }, vcpu };
}

interface Watchable {
  readonly core: LaneView;
  readonly value: Value;
}

function rowOf(state: AdapterState, reference: number, name: string): Watchable {
  const container = state.container(reference);
  const value = container.children().find((one) => one.name === name)?.value ?? null;
  if (value === null) throw new DapError('BAD_ARGUMENT', `${name} has no value to watch`);
  return { core: container.core, value };
}

function valueOf(state: AdapterState, name: string, frameId: number | null): Watchable {
  const core = frameId === null ? coreOf(state) : state.frame(frameId).core;
  return { core, value: evaluate(name, state.scope(frameId)) };
}

/** setExceptionBreakpoints: which kinds of events stop the machine. */
export function setEventBreakpoints(state: AdapterState, args: Arguments): unknown {
  const options = records(args['filterOptions']).map((one) => ({
    filter: text(one, 'filterId'),
    condition: optionalText(one, 'condition'),
  }));
  const plain = texts(args['filters']).map((filter) => ({ filter, condition: null }));
  forgetGroup(state, 'events');
  state.session.pilot.stopsAtFindings = false;
  const ids: number[] = [];
  const breakpoints = [...plain, ...options].map(({ filter, condition }) =>
    verdict(() => {
      if (filter === 'finding') {
        state.session.pilot.stopsAtFindings = true;
        return { verified: true };
      }
      const id = add(state, specOf(filter, condition), filter, {});
      ids.push(id);
      return { id, verified: true };
    }),
  );
  state.breakpoints.set('events', ids);
  return { breakpoints };
}

function specOf(filter: string, condition: string | null): BreakpointSpec {
  const kind = EVENTS.find((one) => one === filter);
  const name = condition?.trim() ?? '';
  if (kind !== undefined) return eventSpec(kind, name === '' ? null : name);
  const words = FILTERS.map((one) => one.filter);
  throw new DapError('BAD_ARGUMENT', `no filter "${filter}"${didYouMean(filter, words)}`);
}

/** Replaces one list of breakpoints in code. */
function replace(
  state: AdapterState,
  group: string,
  wanted: readonly Arguments[],
  find: (one: Arguments) => readonly [Location, Arguments],
): unknown {
  forgetGroup(state, group);
  const ids: number[] = [];
  const breakpoints = wanted.map((one) =>
    verdict(() => {
      const [location, options] = find(one);
      const places =
        location.kind === 'absolute'
          ? [{ kind: 'address', address: location.address } as const]
          : location.addresses.map((at) => ({ kind: 'code', address: at }) as const);
      const made = places.map((spec) => add(state, spec, location.text, options, location));
      ids.push(...made);
      const line = /:(\d+)$/.exec(location.text)?.[1];
      return {
        id: made[0],
        verified: true,
        ...(line === undefined ? {} : { line: Number.parseInt(line, 10) }),
        instructionReference: hex(instructionOf(state, location)),
      };
    }),
  );
  state.breakpoints.set(group, ids);
  return { breakpoints };
}

function instructionOf(state: AdapterState, location: Location): bigint {
  if (location.kind === 'absolute') return location.address;
  const source = state.stoppedCore?.source;
  const [first = 0n] = location.addresses;
  return source?.placed(first) ?? first;
}

function add(
  { session, level }: AdapterState,
  spec: BreakpointSpec,
  name: string,
  options: Arguments,
  place: Location | null = null,
  vcpu: number | null = null,
): number {
  const asked = optionalText(options, 'condition');
  const condition = asked === null ? null : conditionOf(asked, level, session, place);
  const hits = optionalText(options, 'hitCondition');
  const ignore = hits === null ? 0 : ignoredHits(hits);
  const made = session.breakpoints.add(spec, { text: name, condition, vcpu });
  made.ignore = ignore;
  return made.id;
}

/** `3` and `>= 3` both let two hits pass. */
function ignoredHits(wanted: string): number {
  const [, count] = /^\s*(?:>=|==|=)?\s*(\d{1,9})\s*$/.exec(wanted) ?? [];
  if (count !== undefined && count !== '0') return Number.parseInt(count, 10) - 1;
  throw new DapError('BAD_ARGUMENT', `a hit count is a number from 1, not "${wanted}"`);
}

function coreOf(state: AdapterState): NonNullable<AdapterState['stoppedCore']> {
  const core = state.stoppedCore;
  if (core === null) throw new DapError('NOT_NOW', 'no vCPU has run yet');
  return core;
}

function verdict(set: () => Verdict): Verdict {
  try {
    return set();
  } catch (error) {
    if (!(error instanceof HarnessError)) throw error;
    return { verified: false, message: error.message };
  }
}

function forgetGroup(state: AdapterState, group: string): void {
  for (const id of state.breakpoints.get(group) ?? []) state.session.breakpoints.remove(id);
  state.breakpoints.delete(group);
}

/** The name by which debug information knows a file of the client's disk. */
function fileOf(state: AdapterState, path: string): string | null {
  const files = state.level.program.ask(({ lines }) => lines.files) ?? [];
  const wanted = path.replaceAll('\\', '/');
  const exact = files.find((file) => state.level.text.path(file) === wanted);
  if (exact !== undefined) return exact;
  const name = wanted.replace(/^.*\//, '');
  return files.find((file) => file.replace(/^.*\//, '') === name) ?? null;
}
