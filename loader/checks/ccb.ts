/**
 * The control block: where .ccb is and whether its constants and entry points are what the rule wants.
 *
 * Source: CONTRACT ("CCB", "Entry points"). The rule is handed in; no layout is written here.
 * Invariant: magic, version, size and entry points are judged as the instance will have them after relocation.
 */
import { hex } from '../../abi/uint.js';
import type { CcbConstant, CcbEntryPoint, CcbRule } from '../ccb-rule.js';
import { refuse } from '../errors.js';
import type { LoaderErrorCode } from '../errors.js';
import type { FileBytes } from '../file-bytes.js';
import type { ImageCcb, Relocation } from '../image.js';
import type { Header } from './header.js';
import { FIELD } from './section-headers.js';
import type { SectionHeader } from './section-headers.js';

/** What the control block is checked against. */
export interface CcbContext {
  readonly header: Header;
  readonly sections: readonly SectionHeader[];
  readonly text: SectionHeader;
  readonly relocations: readonly Relocation[];
}

/** Finds and checks .ccb. @throws LoaderError */
export function checkCcb(file: FileBytes, context: CcbContext, rule: CcbRule): ImageCcb {
  const ccb = context.sections.find((section) => section.name === '.ccb' && section.isAllocated);
  if (ccb === undefined) refuse('CCB_MISSING', 'no allocated section is named .ccb');
  checkShape(ccb, rule);
  const end = ccb.address + BigInt(ccb.sizeBytes);
  const relocated = context.relocations.filter(
    ({ address }) => address + 8n > ccb.address && address < end,
  );
  const block: Block = { file, ccb, relocated };
  checkConstant(block, 'CCB_BAD_MAGIC', 'magic', rule.magic);
  checkConstant(block, 'CCB_BAD_VERSION', 'version', rule.version);
  checkConstant(block, 'CCB_BAD_SIZE_FIELD', 'size', rule.size);
  const entryPoints = rule.entryPoints.map(
    (point) => [point.name, checkEntryPoint(block, context, point)] as const,
  );
  return {
    address: ccb.address,
    sizeBytes: ccb.sizeBytes,
    entryPoints: Object.fromEntries(entryPoints),
  };
}

/** The section's bytes and the relocations that touch them. */
interface Block {
  readonly file: FileBytes;
  readonly ccb: SectionHeader;
  readonly relocated: readonly Relocation[];
}

function checkShape(ccb: SectionHeader, rule: CcbRule): void {
  if (ccb.sizeBytes !== rule.sectionSize) {
    refuse('CCB_BAD_SIZE', `.ccb has ${ccb.sizeBytes} bytes`, {
      offset: ccb.at + FIELD.size,
      expected: rule.sectionSize,
      actual: ccb.sizeBytes,
    });
  }
  const alignment = BigInt(rule.alignment);
  if (ccb.alignment < alignment || ccb.address % alignment !== 0n) {
    refuse('CCB_BAD_ALIGNMENT', `.ccb at ${hex(ccb.address)} is aligned to ${hex(ccb.alignment)}`, {
      offset: ccb.at + FIELD.alignment,
      expected: hex(alignment),
      actual: hex(ccb.alignment),
    });
  }
}

function checkConstant(
  block: Block,
  code: LoaderErrorCode,
  name: string,
  constant: CcbConstant,
): void {
  const at = block.ccb.offset + constant.offset;
  const start = block.ccb.address + BigInt(constant.offset);
  const end = start + BigInt(constant.sizeBytes);
  if (block.relocated.some(({ address }) => address + 8n > start && address < end)) {
    refuse('CCB_FIELD_RELOCATED', `the control block's ${name} is changed by a relocation`, {
      offset: at,
    });
  }
  const actual = constant.sizeBytes === 8 ? block.file.u64(at) : BigInt(block.file.u32(at));
  if (actual === constant.value) return;
  const evidence = { offset: at, expected: hex(constant.value), actual: hex(actual) };
  refuse(code, `the control block's ${name} is ${hex(actual)}`, evidence);
}

function checkEntryPoint(block: Block, context: CcbContext, point: CcbEntryPoint): bigint {
  const { header, text } = context;
  const at = block.ccb.offset + point.offset;
  const target = block.ccb.address + BigInt(point.offset);
  const relocation = block.relocated.find(({ address }) => address === target);
  if (relocation === undefined && header.type === 'ET_DYN') {
    refuse('CCB_ENTRY_NOT_RELOCATED', `entry point ${point.name} is not relocated`, { offset: at });
  }
  const actual = relocation === undefined ? block.file.u64(at) : relocation.addend;
  if (!isInside(text, actual)) {
    refuse('CCB_ENTRY_OUTSIDE_TEXT', `entry point ${point.name} is ${hex(actual)}`, {
      offset: at,
      expected: `${hex(text.address)} to ${hex(text.address + BigInt(text.sizeBytes))}`,
      actual: hex(actual),
    });
  }
  if (point.isFileEntry && actual !== header.entry) {
    refuse('CCB_ENTRY_NOT_E_ENTRY', `entry point ${point.name} is ${hex(actual)}`, {
      offset: at,
      expected: hex(header.entry),
      actual: hex(actual),
    });
  }
  return actual;
}

/** e_entry must be an instruction of .text. @throws LoaderError ENTRY_OUTSIDE_TEXT */
export function checkEntry(header: Header, text: SectionHeader): void {
  if (isInside(text, header.entry)) return;
  refuse('ENTRY_OUTSIDE_TEXT', `e_entry is ${hex(header.entry)}`, {
    offset: 24,
    expected: `${hex(text.address)} to ${hex(text.address + BigInt(text.sizeBytes))}`,
    actual: hex(header.entry),
  });
}

function isInside(section: SectionHeader, address: bigint): boolean {
  return section.address <= address && address < section.address + BigInt(section.sizeBytes);
}
