/**
 * Note sections: the build ID and whatever else the linker left.
 *
 * Source: System V ABI, "Note Section". Names and descriptors are padded to 4 bytes, in .note.gnu.property to 8.
 */
import { hex } from '../abi/uint.js';
import type { SectionHeader } from './checks/section-headers.js';
import { NT_GNU_BUILD_ID, SHT } from './elf-constants.js';
import { refuse } from './errors.js';
import type { FileBytes } from './file-bytes.js';
import type { CaretakerImage, Note } from './image.js';

const HEADER_BYTES = 12;

/** Every note of every note section. @throws LoaderError NOTE_BAD */
export function readNotes(file: FileBytes, sections: readonly SectionHeader[]): readonly Note[] {
  return sections
    .filter((section) => section.type === SHT.NOTE)
    .flatMap((section) => readNoteSection(file, section));
}

function readNoteSection(file: FileBytes, section: SectionHeader): Note[] {
  const padding = section.alignment === 8n ? 8 : 4;
  const end = section.offset + section.sizeBytes;
  const padded = (size: number): number => Math.ceil(size / padding) * padding;
  const notes: Note[] = [];
  for (let at = section.offset; at < end;) {
    const sizes = at + HEADER_BYTES <= end ? [file.u32(at), file.u32(at + 4)] : undefined;
    const [nameBytes = 0, descriptorBytes = 0] = sizes ?? [];
    // The name is padded to 4 in both layouts; the descriptor begins at the section's own padding.
    const descriptorAt = at + padded(HEADER_BYTES + nameBytes);
    const last = descriptorAt + descriptorBytes;
    if (sizes === undefined || last > end) {
      const evidence = { offset: at, expected: `at most ${hex(end)}`, actual: hex(last) };
      refuse('NOTE_BAD', `${section.name} ends inside a note`, evidence);
    }
    const name = file.slice(at + HEADER_BYTES, nameBytes);
    notes.push({
      section: section.name,
      owner: Buffer.from(name).toString('latin1').replace(/\0+$/, ''),
      type: file.u32(at + 8),
      bytes: file.slice(descriptorAt, descriptorBytes),
    });
    at = descriptorAt + padded(descriptorBytes);
  }
  return notes;
}

/** The GNU build ID as hex digits, or undefined when the file was linked without one. */
export function buildId(image: CaretakerImage): string | undefined {
  const note = image.notes.find((n) => n.owner === 'GNU' && n.type === NT_GNU_BUILD_ID);
  return note === undefined ? undefined : Buffer.from(note.bytes).toString('hex');
}
