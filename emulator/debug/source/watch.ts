/**
 * What it takes to watch a value: its memory, its register or its VMCS field.
 *
 * Source: gdb's watch, rwatch and awatch.
 * Invariant: what cannot be watched is refused with the rule.
 */
import { hex } from '../../../abi/uint.js';
import type { BreakpointSpec } from '../breakpoints.js';
import { SourceError } from './errors.js';
import type { LaneView } from './lane-view.js';
import type { Value } from './values/value.js';

const MOST_BYTES = 4096;

/** A breakpoint on the place of a value that is called `what`. @throws SourceError EXPRESSION_VALUE. */
export function watchSpec(
  core: LaneView,
  { place, bytes }: Value,
  what: string,
  on: 'write' | 'read' | 'access',
): BreakpointSpec {
  switch (place.kind) {
    case 'memory': {
      const address = core.physical(place.address);
      if (address === null) return refuse(`${hex(place.address)} is not mapped`);
      if (core.sourceOf(place.address)?.hasCode(place.address) === true)
        refuse(`${hex(place.address)} is code, which is not watched; use break`);
      if (bytes.length > MOST_BYTES)
        refuse(`${what} has ${bytes.length} bytes; at most ${MOST_BYTES} are watched`);
      return { kind: 'watch', address, sizeBytes: bytes.length, on };
    }
    case 'register':
      if (on !== 'write') refuse('a register is watched for changes only: use watch');
      return { kind: 'register', name: place.register };
    case 'vmcs':
      if (on !== 'write') refuse('reads of a field are caught: catch vmread FIELD');
      return { kind: 'field', name: place.field };
    case 'msr':
    case 'none':
      return refuse(`${what} is nothing that can be watched: memory, a register or vmcs.FIELD is`);
  }
}

function refuse(message: string): never {
  throw new SourceError('EXPRESSION_VALUE', message);
}
