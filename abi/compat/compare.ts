/**
 * Holds one structure against another: the pure comparison behind `abi check` and `abi diff`.
 *
 * Invariant: equal shapes give no finding; a field gives at most one error.
 */
import { finding } from './rules.js';
import type { Finding } from './rules.js';
import { isReserved, textOf } from './shape.js';
import type { FieldShape, StructShape } from './shape.js';

/** What `now` makes of `before`. */
export function compareStructs(before: StructShape, now: StructShape): Finding[] {
  const { name } = before;
  const found: Finding[] = [];
  const add = (...rest: Parameters<typeof finding>): void => void found.push(finding(...rest));
  if (before.size !== now.size) {
    add('struct-size', name, '', `${before.size} bytes`, `${now.size} bytes`);
  }
  if (before.align !== null && now.align !== null && now.align < before.align) {
    add('struct-align', name, '', `aligned to ${before.align}`, `aligned to ${now.align}`);
  }
  const old = new Map(before.fields.map((field) => [field.name, field]));
  const fresh = new Map(now.fields.map((field) => [field.name, field]));
  const renamed = new Set<string>();
  for (const field of before.fields) {
    const same = fresh.get(field.name);
    if (same !== undefined) {
      found.push(...compareFields(name, field, same));
      continue;
    }
    if (isReserved(field)) continue;
    const there = now.fields.find((other) => isSamePlace(field, other) && !old.has(other.name));
    if (there === undefined || isReserved(there)) {
      add('field-missing', name, field.name, textOf(field), there?.name ?? 'not there');
    } else {
      renamed.add(there.name);
      add('field-renamed', name, field.name, field.name, there.name);
    }
  }
  for (const field of now.fields) {
    if (old.has(field.name) || renamed.has(field.name)) continue;
    const rule = isInReserved(before, field)
      ? isReserved(field)
        ? 'reserved-reshaped'
        : 'field-appended'
      : field.offset >= before.size || !isReserved(field)
        ? 'field-unexpected'
        : 'reserved-reshaped';
    add(rule, name, field.name, 'reserved', textOf(field));
  }
  return found;
}

function compareFields(struct: string, before: FieldShape, now: FieldShape): Finding[] {
  const one = (rule: Parameters<typeof finding>[0]): Finding[] => [
    finding(rule, struct, before.name, textOf(before), textOf(now)),
  ];
  const isMoved = before.offset !== now.offset;
  const isSame = before.size === now.size && before.canonical === now.canonical;
  if (isReserved(before)) return isMoved || !isSame ? one('reserved-reshaped') : [];
  const wasBits = before.bitSize !== null;
  if (wasBits || now.bitSize !== null) {
    const start = (field: FieldShape): number => field.offset * 8 + (field.bitOffset ?? 0);
    const isEqual = start(before) === start(now) && before.bitSize === now.bitSize;
    if (!isEqual) return one('field-bits');
  } else if (isMoved) return one('field-moved');
  if (before.size !== now.size) return one('field-resized');
  if (before.canonical === now.canonical) return [];
  return one(isResigned(before.canonical, now.canonical) ? 'field-signedness' : 'field-retyped');
}

function isResigned(before: string, now: string): boolean {
  const unsigned = (type: string): string => type.replace(/^s(?=\d)/, 'u');
  return unsigned(before) === unsigned(now);
}

function isSamePlace(before: FieldShape, now: FieldShape): boolean {
  return (
    before.offset === now.offset &&
    before.size === now.size &&
    before.bitOffset === now.bitOffset &&
    before.bitSize === now.bitSize
  );
}

/** Whether every byte of a field was reserved before. */
function isInReserved(before: StructShape, { offset, size }: FieldShape): boolean {
  const reserved = before.fields.filter(isReserved);
  let at = offset;
  while (at < offset + size) {
    const under = reserved.find((field) => at >= field.offset && at < field.offset + field.size);
    if (under === undefined) return false;
    at = under.offset + under.size;
  }
  return true;
}
