/**
 * Threads, frames, scopes and variables of a stop.
 *
 * Source: the Debug Adapter Protocol (`threads`, `stackTrace`, `scopes`, `variables`, `setVariable`, `setExpression`).
 * Invariant: a thread is a vCPU, its number one more; only the innermost frame's registers can be set.
 */
import { posix } from 'node:path';
import { hex } from '../../../abi/uint.js';
import { framesOf } from '../../debug/source/backtrace.js';
import { editOf, editPlace } from '../../debug/source/expression/assign.js';
import type { Edit } from '../../debug/source/expression/assign.js';
import { completeExpression } from '../../debug/source/expression/complete.js';
import { evaluate, evaluateNumber } from '../../debug/source/expression/evaluate.js';
import { ExpressionScope } from '../../debug/source/expression/scope.js';
import type { LaneView } from '../../debug/source/lane-view.js';
import { sessionEdits } from '../../debug/source/session-edit.js';
import { DapError, optionalText, record, text, whole } from '../arguments.js';
import type { Arguments } from '../arguments.js';
import { childOf, localsOf, msrsOf, registersOf, sharedOf, vmcsOf } from '../children.js';
import type { Child } from '../children.js';
import type { AdapterState, NumberedFrame } from '../state.js';

const MOST_COMPLETIONS = 200;

/** threads. */
export function threads(state: AdapterState): unknown {
  const { lanes } = state.session.machine;
  return {
    threads: lanes.map(({ id, phase }) => ({ id: id + 1, name: `vCPU ${id} (${phase})` })),
  };
}

/** stackTrace. */
export function stackTrace(state: AdapterState, args: Arguments): unknown {
  const all = state.frames(whole(args, 'threadId'));
  const first = whole(args, 'startFrame', 0);
  const levels = whole(args, 'levels', 0);
  const shown = all.slice(first, levels === 0 ? undefined : first + levels);
  return {
    totalFrames: all.length,
    stackFrames: shown.map((frame) => stackFrame(state, frame)),
  };
}

function stackFrame(
  state: AdapterState,
  { id, core, entry }: NumberedFrame & { id: number },
): unknown {
  const guest = core.lane.phase === 'guest' ? core.vmcsField('GUEST_RIP') : null;
  if (guest !== null) {
    const name = `the guest at ${hex(guest)}`;
    return { id, name, line: 0, column: 0, presentationHint: 'label' };
  }
  const { name, place, isInlined, frame, offset } = entry;
  const hasLine = place !== undefined && place.line > 0;
  const start = hasLine || offset === null || offset === 0 ? '' : `+${hex(offset)}`;
  return {
    id,
    name: `${name}${start}${isInlined ? ' [inlined]' : ''}`,
    line: hasLine ? place.line : 0,
    column: hasLine ? Math.max(place.column, 1) : 0,
    ...(hasLine ? { source: sourceOf(state, place.file) } : {}),
    instructionPointerReference: hex(frame.address),
    presentationHint: hasLine ? 'normal' : 'subtle',
  };
}

/** A source file as the client opens it; one that is nowhere on this machine has a name alone. */
export function sourceOf(state: AdapterState, file: string): unknown {
  const path = state.level.text.path(file);
  const name = posix.basename(file);
  return path === null
    ? { name, origin: 'source not found', presentationHint: 'deemphasize' }
    : { name, path };
}

/** scopes. */
export function scopes(state: AdapterState, args: Arguments): unknown {
  const { core, entry } = state.frame(whole(args, 'frameId'));
  const { frame } = entry;
  const scope = (name: string, children: () => readonly Child[], hint?: string): unknown => ({
    name,
    variablesReference: state.contain({ core, frame, children }),
    expensive: hint === undefined,
    ...(hint === undefined ? {} : { presentationHint: hint }),
  });
  return {
    scopes: [
      scope('Locals', () => localsOf(core, frame, entry.name), 'locals'),
      scope('Registers', () => registersOf(core, frame), 'registers'),
      scope('VMCS', () => vmcsOf(core)),
      scope('MSRs', () => msrsOf(core)),
      scope('CCB', () => sharedOf(core, 'ccb')),
      scope('Telemetry', () => sharedOf(core, 'telemetry')),
      scope('Config', () => sharedOf(core, 'config')),
      scope('Soft state', () => sharedOf(core, 'soft')),
    ],
  };
}

/** variables. */
export function variables(state: AdapterState, args: Arguments): unknown {
  const container = state.container(whole(args, 'variablesReference'));
  const all = container.children();
  const start = whole(args, 'start', 0);
  const count = whole(args, 'count', 0);
  const shown = all.slice(start, count === 0 ? undefined : start + count);
  return { variables: shown.map((child) => variable(state, child, container)) };
}

function variable(
  state: AdapterState,
  child: Child,
  { core, frame }: Pick<ReturnType<AdapterState['container']>, 'core' | 'frame'>,
): Readonly<Record<string, unknown>> {
  const { name, text: value, type, expression, children } = child;
  const memory = memoryOf(core, child);
  return {
    name,
    value,
    type,
    variablesReference: children === null ? 0 : state.contain({ core, frame, children }),
    ...(expression === null ? {} : { evaluateName: expression }),
    ...(memory === null ? {} : { memoryReference: hex(memory) }),
  };
}

/** What a memory view shows of a value: what it points to, or where it lies. */
function memoryOf(core: LaneView, { value }: Child): bigint | null {
  if (value === null) return null;
  if (value.type.kind === 'pointer' || value.place.kind === 'register') {
    const bytes = Buffer.alloc(8);
    bytes.set(value.bytes.subarray(0, 8));
    const target = bytes.readBigUInt64LE();
    return core.read(target, 1) === null ? null : target;
  }
  return value.place.kind === 'memory' ? value.place.address : null;
}

/** setVariable. */
export function setVariable(state: AdapterState, args: Arguments): unknown {
  const container = state.container(whole(args, 'variablesReference'));
  const name = text(args, 'name');
  const child = container.children().find((one) => one.name === name);
  const { core, frame } = container;
  if (child?.value === undefined || child.value === null) {
    throw new DapError('BAD_ARGUMENT', `${name} cannot be set: it has no value`);
  }
  const scope = new ExpressionScope(core, frame);
  const number = evaluateNumber(text(args, 'value'), scope);
  apply(state, core, editPlace(child.value, number, name, scope));
  // Rows are made anew from the machine, but for variables in registers, which are the frame's as it was.
  const again = container.children().find((one) => one.name === name) ?? child;
  const isOfFrame = child.value.place.kind === 'register' && child.expression?.[0] !== '$';
  const fresh = isOfFrame ? freshRow(core, child) : again;
  return { value: fresh.text, type: fresh.type, variablesReference: 0 };
}

/** A variable in a register after a change, by its expression. */
function freshRow(core: LaneView, child: Child): Child {
  if (child.expression === null) return child;
  const scope = new ExpressionScope(core, framesOf(core)[0] ?? null);
  return childOf(core, child.name, evaluate(child.expression, scope), child.expression);
}

/** setExpression. */
export function setExpression(state: AdapterState, args: Arguments): unknown {
  const scope = scopeOf(state, args);
  const expression = text(args, 'expression');
  const core = state.level.core(state.session, scope.core.id);
  apply(state, core, editOf(expression, text(args, 'value'), scope));
  const fresh = new ExpressionScope(core, framesOf(core)[0] ?? null);
  const child = childOf(core, expression, evaluate(expression, fresh), expression);
  return { value: child.text, type: child.type, variablesReference: 0 };
}

/** evaluate, of an expression alone: a watch, a hover, or what a console was given. */
export function evaluateExpression(state: AdapterState, args: Arguments): unknown {
  const scope = scopeOf(state, args);
  const expression = text(args, 'expression');
  const core = state.level.core(state.session, scope.core.id);
  const child = childOf(core, expression, evaluate(expression, scope), expression);
  const { value, type, variablesReference, memoryReference } = variable(state, child, {
    core,
    frame: scope.frame,
  });
  const isHex = record(args['format'])['hex'] === true;
  const shown = isHex && child.children === null ? hexOf(scope, expression) : value;
  return {
    result: shown,
    type,
    variablesReference,
    ...(memoryReference === undefined ? {} : { memoryReference }),
  };
}

function hexOf(scope: ExpressionScope, expression: string): string {
  return hex(evaluateNumber(expression, scope));
}

function scopeOf(state: AdapterState, args: Arguments): ExpressionScope {
  return state.scope(typeof args['frameId'] === 'number' ? args['frameId'] : null);
}

function apply(state: AdapterState, core: LaneView, edit: Edit): void {
  for (const one of sessionEdits(core, edit)) state.session.edit(one);
}

/** completions: what the text before the cursor may become, as words of a command or as an expression. */
export function completions(state: AdapterState, args: Arguments): unknown {
  const before = text(args, 'text').slice(0, Math.max(0, whole(args, 'column', 1) - 1));
  const { part, names } = completeExpression(before, scopeOf(state, args));
  const word = /\S*$/.exec(before)?.[0] ?? '';
  const targets = [
    ...state.commandWords(before).map((label) => targetOf(label, before, word)),
    ...names.map((label) => targetOf(label, before, part)),
  ];
  return { targets: targets.slice(0, MOST_COMPLETIONS) };
}

/** `label` in place of the end of the text before the cursor. */
function targetOf(label: string, before: string, end: string): unknown {
  return { label, start: before.length - end.length, length: end.length };
}

/** loadedSources. */
export function loadedSources(state: AdapterState): unknown {
  const files = state.level.program.ask(({ lines }) => lines.files) ?? [];
  return { sources: files.map((file) => sourceOf(state, file)) };
}

/** source: the text of a file that the client could not open by its path. */
export function sourceText(state: AdapterState, args: Arguments): unknown {
  const source = record(args['source']);
  const name = optionalText(source, 'path') ?? optionalText(source, 'name') ?? '';
  const lines = state.level.text.lines(name);
  if (lines === null) throw new DapError('BAD_ARGUMENT', `${name}: source not found`);
  return { content: `${lines.join('\n')}\n`, mimeType: 'text/x-csrc' };
}
