/**
 * Parts of a value: a field of a record, an element of an array, what a pointer points to.
 *
 * Invariant: a part has the place that it has inside the whole, so that it can be written.
 */
import { u64 } from '../../../../abi/uint.js';
import type { CMember, CType } from '../../../../loader/dwarf/c-types.js';
import type { CoreView } from '../core-view.js';
import { memoryValue } from './locate.js';
import { scalarOf } from './value.js';
import type { MaybeValue, Place, Value } from './value.js';

/** A field of a record. */
export function memberOf(record: Value, member: CMember): Value {
  const { offset, type, bits } = member;
  const bytes = record.bytes.subarray(offset, offset + type.sizeBytes);
  return { type, place: moved(record.place, offset), bytes, bits };
}

/** An element of an array that is there as a whole. */
export function elementOf(array: Value, element: CType, index: number): Value {
  const offset = index * element.sizeBytes;
  const bytes = array.bytes.subarray(offset, offset + element.sizeBytes);
  return { type: element, place: moved(array.place, offset), bytes, bits: null };
}

/** What a pointer points to, `index` elements further. */
export function targetOf(core: CoreView, pointer: Value, index = 0n): MaybeValue {
  const { type } = pointer;
  const target: CType =
    type.kind === 'pointer' ? type.target() : { kind: 'void', spelling: 'void', sizeBytes: 0 };
  const address = u64(scalarOf(pointer) + index * BigInt(target.sizeBytes));
  return memoryValue(core, address, target);
}

function moved(place: Place, offset: number): Place {
  if (place.kind === 'memory') {
    return { kind: 'memory', address: u64(place.address + BigInt(offset)) };
  }
  if (place.kind === 'register') return { ...place, bitOffset: place.bitOffset + offset * 8 };
  return offset === 0 ? place : { kind: 'none' };
}
