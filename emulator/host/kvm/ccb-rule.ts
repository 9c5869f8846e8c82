/** The rule that KVM_SET_CARETAKER hands to the loader: what a .ccb of this contract looks like. */
import {
  CARETAKER_CCB,
  CARETAKER_CCB_ALIGN,
  CARETAKER_CCB_MAGIC,
  CARETAKER_CCB_VERSION,
} from '../../../abi/ccb.js';
import { CARETAKER_HEADER, fieldOf } from '../../../abi/layout.js';
import type { CcbRule } from '../../../loader/ccb-rule.js';

const at = (name: string): number => fieldOf(CARETAKER_CCB, name).offset;
const inHeader = (name: string): number => at('header') + fieldOf(CARETAKER_HEADER, name).offset;

/** The .ccb of this contract's version. */
export const CCB_RULE: CcbRule = {
  sectionSize: CARETAKER_CCB.sizeBytes,
  alignment: CARETAKER_CCB_ALIGN,
  magic: { offset: inHeader('magic'), sizeBytes: 8, value: CARETAKER_CCB_MAGIC },
  version: { offset: inHeader('version'), sizeBytes: 4, value: BigInt(CARETAKER_CCB_VERSION) },
  size: { offset: inHeader('size'), sizeBytes: 4, value: BigInt(CARETAKER_CCB.sizeBytes) },
  entryPoints: [
    { name: 'init', offset: at('entry_init'), isFileEntry: false },
    { name: 'vmexit', offset: at('entry_vmexit'), isFileEntry: true },
    { name: 'run', offset: at('entry_run'), isFileEntry: false },
  ],
};
