/**
 * Values as rows of a tree: what a variables view shows and what unfolds below it.
 *
 * Source: the Debug Adapter Protocol (`Variable`).
 * Invariant: a row that can be set has the value it was made from, with its place.
 */
import { printExitReason } from '../../abi/exit-reasons.js';
import { MSR } from '../../abi/msrs.js';
import { hex } from '../../abi/uint.js';
import { VMCS_FIELDS } from '../../abi/vmcs-fields.js';
import type { VmcsArea } from '../../abi/vmcs-fields.js';
import type { RegisterName } from '../cpu/registers.js';
import type { Frame } from '../debug/source/backtrace.js';
import type { SharedName } from '../debug/source/contract-types.js';
import { ExpressionScope } from '../debug/source/expression/scope.js';
import type { LaneView } from '../debug/source/lane-view.js';
import { variablesOf } from '../debug/source/values/locate.js';
import { elementOf, memberOf, targetOf } from '../debug/source/values/member.js';
import { render, renderShort } from '../debug/source/values/render.js';
import { isThere } from '../debug/source/values/value.js';
import type { MaybeValue, Value } from '../debug/source/values/value.js';
import { flagNames, GENERAL_ORDER } from '../debug/source/views/registers.js';
import { fieldNote } from '../debug/source/views/vmcs.js';

/** One row. */
export interface Child {
  readonly name: string;
  readonly text: string;
  readonly type: string;
  /** What an expression calls it; null when nothing does. */
  readonly expression: string | null;
  /** The value behind the row; null of a heading. */
  readonly value: Value | null;
  /** Rows below it; null of a leaf. */
  readonly children: (() => readonly Child[]) | null;
}

const MAX_ELEMENTS = 512;
/** Arrays that are indexed by basic exit reason. */
const BY_REASON = /(^|\.)(reason|exit_policy)$/;

/** A row of a value. */
export function childOf(
  core: LaneView,
  name: string,
  value: MaybeValue,
  expression: string | null,
): Child {
  const { type } = value;
  const text = renderShort(value, { sourceOf: (address) => core.sourceOf(address) }, 80);
  if (!isThere(value)) {
    return { name, text, type: type.spelling, expression, value: null, children: null };
  }
  const children = childrenOf(core, value, expression);
  return { name, text, type: type.spelling, expression, value, children };
}

function childrenOf(
  core: LaneView,
  value: Value,
  expression: string | null,
): (() => readonly Child[]) | null {
  const { type } = value;
  const below = (suffix: string): string | null =>
    expression === null ? null : `${bracketed(expression)}${suffix}`;
  if (type.kind === 'record') {
    return () =>
      type
        .members()
        .map((member) =>
          childOf(
            core,
            member.name ?? '(anonymous)',
            memberOf(value, member),
            member.name === null ? expression : below(`.${member.name}`),
          ),
        );
  }
  if (type.kind === 'array') {
    const count = Math.min(type.count ?? 0, MAX_ELEMENTS);
    if (count === 0) return null;
    const isByReason = BY_REASON.test(expression ?? '');
    return () =>
      Array.from({ length: count }, (_, index) => {
        const label = isByReason ? `[${index}] ${printExitReason(index)}` : `[${index}]`;
        return childOf(core, label, elementOf(value, type.element(), index), below(`[${index}]`));
      });
  }
  if (type.kind !== 'pointer') return null;
  const target = type.target();
  if (target.kind !== 'record' && target.kind !== 'integer' && target.kind !== 'pointer') {
    return null;
  }
  return () => {
    const found = targetOf(core, value);
    if (!isThere(found) || found.type.kind !== 'record') {
      return [childOf(core, `*${expression ?? ''}`, found, below('[0]'))];
    }
    return childrenOf(core, found, expression === null ? null : `(*${expression})`)?.() ?? [];
  };
}

function bracketed(expression: string): string {
  return /^[*&]/.test(expression) ? `(${expression})` : expression;
}

/** The variables of a frame; of one function when `scope` names it. */
export function localsOf(core: LaneView, frame: Frame, scope: string | null): readonly Child[] {
  return variablesOf(core, frame)
    .filter((one) => scope === null || one.scope === scope)
    .map((one) => childOf(core, one.name, one.value, one.name));
}

/** General registers, flags, and below them the others. */
export function registersOf(core: LaneView, frame: Frame): readonly Child[] {
  // The innermost frame's are the core's own, also behind a change.
  const scope = new ExpressionScope(core, frame.found === 'registers' ? null : frame);
  const row = (name: RegisterName): Child => {
    const value = scope.register(name.toLowerCase())!;
    const child = childOf(core, name, value, `$${name.toLowerCase()}`);
    if (child.value === null) return child;
    const number = core.register(name);
    const text =
      name === 'RFLAGS' ? `${hex(number)} [${flagNames(number)}]` : inHex(core, child.value);
    return { ...child, text };
  };
  const more = (name: string, names: readonly RegisterName[]): Child => ({
    name,
    text: '',
    type: '',
    expression: null,
    value: null,
    children: () => names.map(row),
  });
  return [
    ...GENERAL_ORDER.map(row),
    row('RFLAGS'),
    more('control', ['CR0', 'CR2', 'CR3', 'CR4', 'CR8', 'EFER', 'XCR0', 'SSP']),
    more('segments', ['CS', 'SS', 'DS', 'ES', 'FS', 'GS', 'FS_BASE', 'GS_BASE', 'TR', 'LDTR']),
    more('tables', ['GDTR_BASE', 'GDTR_LIMIT', 'IDTR_BASE', 'IDTR_LIMIT', 'TR_BASE', 'TR_LIMIT']),
    more('debug', ['DR0', 'DR1', 'DR2', 'DR3', 'DR6', 'DR7']),
  ];
}

function inHex(core: LaneView, value: Value): string {
  const text = render(value, { radix: 'hex' });
  const symbol = core.sourceOf(BigInt(text))?.symbolAt(BigInt(text));
  if (symbol === undefined || symbol === null) return text;
  return `${text} <${symbol.name}${symbol.offset === 0 ? '' : `+${hex(symbol.offset)}`}>`;
}

const AREAS: readonly VmcsArea[] = ['exit-info', 'guest', 'control', 'host'];

/** The fields of the current VMCS by area. */
export function vmcsOf(core: LaneView): readonly Child[] {
  const scope = new ExpressionScope(core);
  return AREAS.map((area) => ({
    name: area,
    text: '',
    type: '',
    expression: null,
    value: null,
    children: () =>
      VMCS_FIELDS.filter(({ type }) => type === area).map(({ name }) => {
        const value = scope.vmcs(name)!;
        const child = childOf(core, name, value, `vmcs.${name}`);
        const number = core.vmcsField(name);
        if (child.value === null || number === null) return { ...child, text: 'undefined' };
        const note = fieldNote(core, name, number);
        return { ...child, text: `${hex(number)}${note === '' ? '' : ` ${note}`}` };
      }),
  }));
}

/** The MSRs that the core has, by name. */
export function msrsOf(core: LaneView): readonly Child[] {
  const scope = new ExpressionScope(core);
  return Object.entries(MSR).flatMap(([name, index]) => {
    const child = childOf(core, name, scope.msrAt(index), `msr.${name}`);
    if (child.value === null) return [];
    return [{ ...child, text: render(child.value, { radix: 'hex' }) }];
  });
}

/** The fields of a shared structure. */
export function sharedOf(core: LaneView, name: SharedName): readonly Child[] {
  const value = new ExpressionScope(core).shared(name);
  const child = childOf(core, name, value, name);
  if (child.children === null) return [child];
  return child.children().filter((one) => !one.name.startsWith('reserved'));
}
