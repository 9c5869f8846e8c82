/**
 * A shared structure field by field: value, offset, who writes it and what for.
 *
 * Source: abi/{ccb,config,telemetry,soft-state}.ts.
 * Invariant: reserved fields are left out while they are 0, and so are array elements that are all 0.
 */
import { printExitReason } from '../../../../abi/exit-reasons.js';
import { hex, low32 } from '../../../../abi/uint.js';
import { memberNamed } from '../../../../loader/dwarf/c-types.js';
import { SHARED_STRUCTURES } from '../contract-types.js';
import type { SharedName } from '../contract-types.js';
import type { CoreView } from '../core-view.js';
import { SourceError } from '../errors.js';
import { ExpressionScope } from '../expression/scope.js';
import { elementOf, memberOf } from '../values/member.js';
import { renderNumber, renderShort } from '../values/render.js';
import { isThere, scalarOf } from '../values/value.js';
import type { Value } from '../values/value.js';
import { addressName, msrLabel } from './names.js';
import { clipped } from './paint.js';
import type { Canvas } from './paint.js';

/** Arrays that are indexed by basic exit reason. */
const BY_REASON: readonly string[] = ['reason', 'exit_policy'];
const NAME_COLUMNS = 26;
/** From here on a number may be an address. */
const LARGE = 4096n;

/** The lines of a shared structure. @throws SourceError MEMORY when it is not there. */
export function structureView(core: CoreView, name: SharedName, canvas: Canvas): readonly string[] {
  const value = new ExpressionScope(core).shared(name);
  if (!isThere(value)) throw new SourceError('MEMORY', `${name}: ${value.problem}`);
  const layout = SHARED_STRUCTURES[name];
  const address = value.place.kind === 'memory' ? value.place.address : 0n;
  const head = `${name} at ${hex(address)} (struct ${layout.name}, ${layout.sizeBytes} bytes)`;
  const lines = layout.fields.flatMap((field) => {
    const { type } = value;
    const member = type.kind === 'record' ? memberNamed(type, field.name) : undefined;
    if (member === undefined) return [];
    const own = memberOf(value, member);
    const isEmpty = own.bytes.every((byte) => byte === 0);
    if (field.writer === 'reserved' && isEmpty) return [];
    const doc = canvas.columns >= 120 ? `${field.writer}: ${field.doc}` : '';
    return fieldLines(core, field.name, own, doc, canvas);
  });
  return [head, ...lines];
}

function fieldLines(
  core: CoreView,
  name: string,
  value: Value,
  doc: string,
  canvas: Canvas,
): readonly string[] {
  const { type } = value;
  const isTable = type.kind === 'array' && (type.count ?? 0) > 16;
  const isRecords = type.kind === 'array' && type.element().kind === 'record';
  if (type.kind !== 'array' || (!isTable && !isRecords)) {
    return [
      line(name, renderShort(value, options(core), 48) + noteOf(core, name, value), doc, canvas),
    ];
  }
  const element = type.element();
  const rows: string[] = [];
  for (let index = 0; index < (type.count ?? 0); index++) {
    const one = elementOf(value, element, index);
    if (one.bytes.every((byte) => byte === 0)) continue;
    const label = labelOf(name, index, one);
    const title = `${name}[${index}]${label === '' ? '' : ` ${label}`}`;
    const radix = one.type.kind === 'record' ? ({ radix: 'hex' } as const) : {};
    rows.push(line(title, renderShort(one, { ...options(core), ...radix }, 90), '', canvas));
  }
  return rows.length > 0 ? rows : [line(name, 'all 0', doc, canvas)];
}

/** What an element of an array is about: an exit reason, or the MSR that a row of `msr` names. */
function labelOf(name: string, index: number, element: Value): string {
  if (BY_REASON.includes(name)) return printExitReason(index);
  if (name !== 'msr' || element.type.kind !== 'record') return '';
  const member = memberNamed(element.type, 'index');
  return member === undefined ? '' : msrLabel(low32(scalarOf(memberOf(element, member))));
}

/** A large number in hex with what lies there, and the name of an exit reason. */
function noteOf(core: CoreView, name: string, value: Value): string {
  if (value.type.kind !== 'integer') return '';
  const number = scalarOf(value);
  if (name.endsWith('exit_reason') && number < 0x8000_0000n) {
    return ` (${printExitReason(low32(number) & 0xffff)})`;
  }
  if (number < LARGE) return '';
  const symbol = addressName(core, number);
  const text = renderNumber(number);
  const digits = text.startsWith('0x') ? '' : ` ${hex(number)}`;
  return `${digits}${symbol === null ? '' : ` <${symbol}>`}`;
}

function options(core: CoreView): { readonly sourceOf: CoreView['sourceOf'] } {
  return { sourceOf: (address) => core.sourceOf(address) };
}

function line(name: string, value: string, doc: string, canvas: Canvas): string {
  const head = `  ${name.padEnd(NAME_COLUMNS)} ${value}`;
  const text = doc === '' ? head : `${head.padEnd(72)}  ${canvas.paint('comment', doc)}`;
  return clipped(text.trimEnd(), canvas.cutAt);
}
