/**
 * An assignment of the source level as edits of a session.
 *
 * Invariant: memory is edited by physical address, page by page; what the session cannot change is refused with the
 * reason.
 */
import { toIndex, u64 } from '../../../abi/uint.js';
import type { Edit as SessionEdit } from '../edits.js';
import { SourceError } from './errors.js';
import type { Edit } from './expression/assign.js';
import type { LaneView } from './lane-view.js';

const PAGE = 4096n;

/** The edits that make a change on a core. @throws SourceError. */
export function sessionEdits(core: LaneView, edit: Edit): readonly SessionEdit[] {
  const vcpu = core.id;
  switch (edit.kind) {
    case 'register':
      return [{ kind: 'register', vcpu, name: edit.register, value: edit.value }];
    case 'vmcs':
      if (core.lane.pcpu.vmx.current === null) {
        throw new SourceError('EXPRESSION_VALUE', 'this core has no current VMCS');
      }
      return [{ kind: 'field', vcpu, name: edit.field, value: edit.value }];
    case 'msr':
      return [{ kind: 'msr', vcpu, index: edit.index, value: edit.value }];
    case 'memory':
      return memoryEdits(core, edit.address, edit.bytes);
  }
}

function memoryEdits(core: LaneView, address: bigint, bytes: Uint8Array): readonly SessionEdit[] {
  const edits: SessionEdit[] = [];
  for (let at = 0; at < bytes.length;) {
    const linear = u64(address + BigInt(at));
    const length = Math.min(bytes.length - at, toIndex(PAGE - (linear % PAGE)));
    const physical = core.physical(linear);
    if (physical === null) throw new SourceError('MEMORY', 'no memory there to write to');
    edits.push({ kind: 'memory', address: physical, bytes: [...bytes.subarray(at, at + length)] });
    at += length;
  }
  return edits;
}
