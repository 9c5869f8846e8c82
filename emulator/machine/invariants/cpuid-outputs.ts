/**
 * What CPUID must give the guest: the leaf and subleaf that KVM computed, with the bits that follow CR4 and XCR0.
 *
 * Source: CONTRACT ("What the payload handles"); SDM, "CPUID": a leaf past the highest answers as the highest basic one.
 * Invariant: judged by the shared configuration, which KVM alone writes.
 */
import {
  CARETAKER_CONFIG,
  CARETAKER_CPUID,
  CARETAKER_CPUID_FLAGS,
  CARETAKER_CPUID_MAX,
} from '../../../abi/config.js';
import { offsetsOf } from '../../../abi/layout.js';
import { VMCS_SLOT } from '../../../abi/vmcs-fields.js';
import { REG, type RegisterName } from '../../cpu/registers.js';
import type { Lane } from '../lane.js';

const CONFIG = offsetsOf<
  'cpuid' | 'cpuid_count' | 'cpuid_max_basic' | 'cpuid_max_extended' | 'xsave_size'
>(CARETAKER_CONFIG);
const ROW = offsetsOf<'leaf' | 'subleaf' | 'flags' | 'eax' | 'ebx' | 'ecx' | 'edx'>(
  CARETAKER_CPUID,
);
const FIRST_EXTENDED = 0x8000_0000;
const ECX_OSXSAVE = 1 << 27;
const ECX_OSPKE = 1 << 4;
const CR4_OSXSAVE = 1 << 18;
const CR4_PKE = 1 << 22;

/** The four outputs, in the order of `OUTPUTS`. */
type Answer = readonly [eax: number, ebx: number, ecx: number, edx: number];
const NOTHING: Answer = [0, 0, 0, 0];
const OUTPUTS = ['RAX', 'RBX', 'RCX', 'RDX'] as const satisfies readonly RegisterName[];

/** The first output of a CPUID exit that is not what KVM computed: which, and what it should be. */
export function wrongCpuidOutput(
  lane: Lane,
): { readonly register: RegisterName; readonly wanted: number } | null {
  const { registers } = lane.exit;
  const answer = answerTo(lane, registers[2 * REG.RAX]!, registers[2 * REG.RCX]!);
  const { words } = lane.pcpu.registers;
  for (const [index, register] of OUTPUTS.entries()) {
    const wanted = answer[index]! >>> 0;
    if (words[2 * REG[register]] !== wanted || words[2 * REG[register] + 1] !== 0)
      return { register, wanted };
  }
  return null;
}

function answerTo(lane: Lane, leaf: number, subleaf: number): Answer {
  const { words } = lane.memory;
  const at = (offset: number): number => words[(lane.config + offset) >>> 2]!;
  const highest = at(leaf < FIRST_EXTENDED ? CONFIG.cpuid_max_basic : CONFIG.cpuid_max_extended);
  const row = find(at, leaf, subleaf);
  if (row !== null) return follow(lane, at, row);
  if (leaf <= highest) return NOTHING;
  const last = find(at, at(CONFIG.cpuid_max_basic), subleaf);
  return last === null ? NOTHING : follow(lane, at, last);
}

/** The offset of a leaf's row; a row without CARETAKER_CPUID_SUBLEAF answers for all subleaves. */
function find(at: (offset: number) => number, leaf: number, subleaf: number): number | null {
  const count = Math.min(at(CONFIG.cpuid_count), CARETAKER_CPUID_MAX);
  for (let index = 0; index < count; index++) {
    const row = CONFIG.cpuid + index * CARETAKER_CPUID.sizeBytes;
    if (at(row + ROW.leaf) !== leaf) continue;
    const isExact = at(row + ROW.subleaf) === subleaf;
    if (isExact || (at(row + ROW.flags) & CARETAKER_CPUID_FLAGS.SUBLEAF) === 0) return row;
  }
  return null;
}

function follow(lane: Lane, at: (offset: number) => number, row: number): Answer {
  const flags = at(row + ROW.flags);
  const cr4 = lane.vmcs.words[2 * VMCS_SLOT.GUEST_CR4]!;
  const bit = (ecx: number, flag: number, ecxBit: number, cr4Bit: number): number =>
    (flags & flag) === 0 ? ecx : (cr4 & cr4Bit) === 0 ? ecx & ~ecxBit : ecx | ecxBit;
  let ecx = at(row + ROW.ecx);
  ecx = bit(ecx, CARETAKER_CPUID_FLAGS.OSXSAVE, ECX_OSXSAVE, CR4_OSXSAVE);
  ecx = bit(ecx, CARETAKER_CPUID_FLAGS.OSPKE, ECX_OSPKE, CR4_PKE);
  const isSize = (flags & CARETAKER_CPUID_FLAGS.XSAVE_SIZE) !== 0;
  const ebx = at(isSize ? CONFIG.xsave_size : row + ROW.ebx);
  return [at(row + ROW.eax), ebx, ecx, at(row + ROW.edx)];
}
