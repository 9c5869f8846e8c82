/**
 * `PLACE = VALUE` as an edit of the machine: where, how many bits, and what to write.
 *
 * Invariant: an edit names one register, VMCS field, MSR or run of bytes; the rest of a storage unit keeps its bits.
 */
import { hex, s64, u64 } from '../../../../abi/uint.js';
import { VMCS_SLOT, slotBits } from '../../../../abi/vmcs-fields.js';
import type { FieldName } from '../../../../abi/vmcs-fields.js';
import { unsignedOf } from '../../../../loader/dwarf/c-types.js';
import type { RegisterName } from '../../../cpu/registers.js';
import { SourceError } from '../errors.js';
import { bytesOf, isScalar } from '../values/value.js';
import type { Value } from '../values/value.js';
import { evaluate, evaluateNumber } from './evaluate.js';
import type { ExpressionScope } from './scope.js';

/** One change of the machine; register, VMCS and MSR values are whole. */
export type Edit =
  | { readonly kind: 'register'; readonly register: RegisterName; readonly value: bigint }
  | { readonly kind: 'vmcs'; readonly field: FieldName; readonly value: bigint }
  | { readonly kind: 'msr'; readonly index: number; readonly value: bigint }
  | { readonly kind: 'memory'; readonly address: bigint; readonly bytes: Uint8Array };

/** What `PLACE = VALUE` changes. @throws SourceError. */
export function parseAssignment(text: string, scope: ExpressionScope): Edit {
  // The first "=" that is not part of a comparison.
  const at = /(?<![=!<>])=(?!=)/.exec(text)?.index;
  if (at === undefined) {
    throw new SourceError('EXPRESSION_SYNTAX', `"${text}" assigns nothing; write PLACE = VALUE`);
  }
  return editOf(text.slice(0, at), text.slice(at + 1), scope);
}

/** The edit that gives `place` the value of `value`. @throws SourceError. */
export function editOf(place: string, value: string, scope: ExpressionScope): Edit {
  return editPlace(evaluate(place, scope), evaluateNumber(value, scope), place.trim(), scope);
}

/** The edit that gives an evaluated place a number. @throws SourceError. */
export function editPlace(
  target: Value,
  value: bigint,
  name: string,
  scope: ExpressionScope,
): Edit {
  const { type, place, bits } = target;
  if (!isScalar(type) || type.sizeBytes > 8) {
    throw new SourceError('EXPRESSION_TYPE', `${name} is a ${type.spelling}; set its parts`);
  }
  const width = bits?.size ?? type.sizeBytes * 8;
  checkFits(value, width, name);
  switch (place.kind) {
    case 'memory': {
      const storage = inserted(unsignedOf(target.bytes), bits?.offset ?? 0, width, value);
      const bytes = bytesOf(storage, type.sizeBytes);
      return { kind: 'memory', address: place.address, bytes };
    }
    case 'register': {
      if (scope.frame !== null && scope.frame.found !== 'registers') {
        throw new SourceError(
          'EXPRESSION_VALUE',
          `${name} of a caller cannot be set; select frame 0`,
        );
      }
      // Writing the low 32 bits clears the high ones, as the processor does it.
      const isHalf = width === 32 && place.bitOffset === 0 && bits === null;
      const old = isHalf ? 0n : scope.core.register(place.register);
      const at = place.bitOffset + (bits?.offset ?? 0);
      return {
        kind: 'register',
        register: place.register,
        value: inserted(old, at, width, value),
      };
    }
    case 'vmcs':
      checkFits(value, slotBits[VMCS_SLOT[place.field]]!, name);
      return { kind: 'vmcs', field: place.field, value: u64(value) };
    case 'msr':
      return { kind: 'msr', index: place.index, value: u64(value) };
    case 'none':
      throw new SourceError('EXPRESSION_TYPE', `${name} is no place that can be written`);
  }
}

/** `storage` with `bits` bits at `offset` replaced. */
function inserted(storage: bigint, offset: number, bits: number, value: bigint): bigint {
  const mask = ((1n << BigInt(bits)) - 1n) << BigInt(offset);
  return u64((storage & ~mask) | ((u64(value) << BigInt(offset)) & mask));
}

/** A number fits as it is or as a negative one. */
function checkFits(value: bigint, bits: number, name: string): void {
  const isInside = value >= -(1n << BigInt(bits - 1)) && value < 1n << BigInt(bits);
  if (isInside || bits === 64) return;
  const shown = value < 0n ? s64(value).toString() : hex(value);
  throw new SourceError('EXPRESSION_VALUE', `${shown} does not fit in the ${bits} bits of ${name}`);
}
