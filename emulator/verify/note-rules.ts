/**
 * What the notes of an image claim, held against the profile.
 *
 * Source: the x86-64 psABI, "Program Property": GNU_PROPERTY_X86_FEATURE_1_AND with its bits IBT and SHSTK.
 * Invariant: a note that is not there claims nothing; whether a note section is whole is the loader's to say.
 */
import { finding } from '../../abi/compat/rules.js';
import type { Finding } from '../../abi/compat/rules.js';
import { hex } from '../../abi/uint.js';
import type { Note } from '../../loader/image.js';

const NT_GNU_PROPERTY_TYPE_0 = 5;
const FEATURE_1_AND = 0xc000_0002;
const IBT = 1;

/** Findings on notes under a profile with indirect branch tracking. */
export function noteFindings(notes: readonly Note[]): Finding[] {
  return notes
    .filter(({ owner, type }) => owner === 'GNU' && type === NT_GNU_PROPERTY_TYPE_0)
    .flatMap(({ section, bytes }) => {
      const features = featuresOf(bytes);
      const isDenied = features !== undefined && (features & IBT) === 0;
      return isDenied ? [finding('note-ibt', section, '', 'IBT', hex(features))] : [];
    });
}

/** The feature word of a property array; undefined when there is none. */
function featuresOf(bytes: Uint8Array): number | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at + 8 <= bytes.length;) {
    const size = view.getUint32(at + 4, true);
    if (view.getUint32(at, true) === FEATURE_1_AND && size === 4 && at + 12 <= bytes.length) {
      return view.getUint32(at + 8, true);
    }
    at += 8 + Math.ceil(size / 8) * 8;
  }
  return undefined;
}
