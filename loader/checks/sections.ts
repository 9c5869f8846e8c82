/**
 * Allocated sections against the list of those a payload may have, and against the segments that load them.
 *
 * Source: DESIGN ("The payload", "Traps are sites, not callbacks": the sweep reads .text, so nothing else executes).
 * Invariant: after checkSections() each allocated byte has one section at most, and its page has the rights its name calls for.
 */
import { hex, toIndex } from '../../abi/uint.js';
import { SHF, SHT } from '../elf-constants.js';
import { refuse } from '../errors.js';
import type { FileBytes } from '../file-bytes.js';
import type { LoadHeader } from './program-headers.js';
import { FIELD } from './section-headers.js';
import type { SectionHeader } from './section-headers.js';
import { HARMLESS_FLAGS, ONLY_EMPTY, sectionRule } from './section-rules.js';
import type { SectionRule } from './section-rules.js';
import { loadContaining } from './segments.js';
import type { Segments } from './segments.js';

const ACCESS = SHF.WRITE | SHF.EXECINSTR;

/** Checks every allocated section; gives back .text. @throws LoaderError */
export function checkSections(
  file: FileBytes,
  sections: readonly SectionHeader[],
  segments: Segments,
): SectionHeader {
  const allocated = sections.filter((section) => section.isAllocated);
  for (const section of allocated) {
    const rule = checkKind(section);
    if (section.sizeBytes > 0) checkLoaded(file, section, rule, segments);
  }
  checkMemoryOverlap(allocated);
  const text = allocated.find((section) => section.name === '.text');
  if (text === undefined) refuse('TEXT_MISSING', 'no allocated section is named .text');
  checkOnlyTextExecutes(text, segments);
  return text;
}

function checkKind(section: SectionHeader): SectionRule {
  const { at, name, type, flags } = section;
  if (ONLY_EMPTY.has(name)) {
    if (section.sizeBytes === 0) return { types: [], access: null, segment: [] };
    refuse('SECTION_NOT_EMPTY', `${name} has ${hex(section.sizeBytes)} bytes`, {
      offset: at + FIELD.size,
      expected: 0,
      actual: section.sizeBytes,
    });
  }
  const rule = sectionRule(name);
  if (rule === undefined) {
    refuse('SECTION_REFUSED', `a payload may not have an allocated section ${name}`, {
      offset: at + FIELD.name,
      actual: name,
    });
  }
  if (!rule.types.includes(type)) {
    refuse('SECTION_BAD_TYPE', `${name} has type ${hex(type)}`, {
      offset: at + FIELD.type,
      expected: rule.types.map((allowed) => hex(allowed)).join(' or '),
      actual: hex(type),
    });
  }
  const isAccess =
    rule.access === null ? (flags & SHF.EXECINSTR) === 0n : (flags & ACCESS) === rule.access;
  if (!isAccess || (flags & ~(ACCESS | SHF.ALLOC | HARMLESS_FLAGS)) !== 0n) {
    refuse('SECTION_BAD_FLAGS', `${name} has flags ${hex(flags)}`, {
      offset: at + FIELD.flags,
      expected: hex(SHF.ALLOC | (rule.access ?? 0n)),
      actual: hex(flags),
    });
  }
  return rule;
}

function checkLoaded(
  file: FileBytes,
  section: SectionHeader,
  rule: SectionRule,
  segments: Segments,
): void {
  const { at, name, address } = section;
  const end = address + BigInt(section.sizeBytes);
  const load = loadContaining(segments.loads, address, end);
  if (load === undefined) {
    refuse('SECTION_OUTSIDE_SEGMENT', `${name} at ${hex(address)} to ${hex(end)} is not loaded`, {
      offset: at + FIELD.address,
      actual: hex(address),
    });
  }
  const { relro } = segments;
  const isReadOnlyLater = relro !== null && address < relro.end && relro.start < end;
  const mustStayWritable = rule.segment.every((p) => p === 'RW') && name !== '.data.rel.ro';
  if (!rule.segment.includes(load.permissions) || (isReadOnlyLater && mustStayWritable)) {
    const actual = isReadOnlyLater ? `${load.permissions} (RELRO)` : load.permissions;
    refuse('SECTION_PERMISSIONS', `${name} lies in ${load.label}, which is ${actual}`, {
      offset: at + FIELD.address,
      expected: rule.segment.join(' or '),
      actual,
    });
  }
  checkBytes(file, section, load);
}

/** The bytes that the section names must be the ones that the segment puts there. */
function checkBytes(file: FileBytes, section: SectionHeader, load: LoadHeader): void {
  const { at, name, sizeBytes } = section;
  const from = toIndex(section.address - load.address);
  if (section.type === SHT.NOBITS) {
    const length = Math.min(sizeBytes, load.fileSizeBytes - from);
    if (length <= 0 || file.isZero(load.offset + from, length)) return;
    refuse('SECTION_NOBITS_NOT_ZERO', `${load.label} loads bytes that are not 0 into ${name}`, {
      offset: load.offset + from,
    });
  }
  if (section.offset === load.offset + from && from + sizeBytes <= load.fileSizeBytes) return;
  refuse('SECTION_OFFSET_MISMATCH', `${load.label} does not load ${name} from where it is`, {
    offset: at + FIELD.offset,
    expected: hex(load.offset + from),
    actual: hex(section.offset),
  });
}

function checkMemoryOverlap(allocated: readonly SectionHeader[]): void {
  const inMemory = allocated
    .filter((section) => section.sizeBytes > 0)
    .sort((a, b) => (a.address < b.address ? -1 : 1));
  inMemory.slice(1).forEach((section, index) => {
    const before = inMemory[index]!;
    const end = before.address + BigInt(before.sizeBytes);
    if (section.address >= end) return;
    refuse('SECTIONS_OVERLAP', `${section.name} begins inside ${before.name} in memory`, {
      offset: section.at + FIELD.address,
      expected: `at least ${hex(end)}`,
      actual: hex(section.address),
    });
  });
}

function checkOnlyTextExecutes(text: SectionHeader, segments: Segments): void {
  const end = text.address + BigInt(text.sizeBytes);
  for (const load of segments.loads) {
    if (load.permissions !== 'RX') continue;
    if (text.address <= load.address && load.end <= end) continue;
    refuse('EXECUTABLE_OUTSIDE_TEXT', `${load.label} executes more than .text`, {
      offset: load.at,
      expected: `${hex(text.address)} to ${hex(end)}`,
      actual: `${hex(load.address)} to ${hex(load.end)}`,
    });
  }
}
