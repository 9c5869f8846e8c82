/**
 * Which access of an instruction faulted: the engine tells a page fault's address but not its size, and of a
 * non-canonical access nothing at all.
 *
 * Source: SDM, "Instruction Format"; "Canonical Addressing".
 * Invariant: only integer instructions reach this; the models compute the operands of theirs themselves.
 */
import { isCanonical, u64 } from '../../abi/uint.js';
import type { MemoryOperand } from './decode.js';
import { readForm, type InstructionForm } from './instruction-format.js';
import type { MemoryAccess } from './port.js';
import { REG, type RegisterFile } from './registers.js';
import { writesMemory, writesStack } from './sweep.js';

export interface FaultingAccess {
  readonly access: MemoryAccess;
  readonly address: bigint;
  readonly sizeBytes: number;
}

/** The linear address of a memory operand; `next` is the address of the following instruction. */
export function effectiveAddress(
  operand: MemoryOperand,
  registers: RegisterFile,
  next: bigint,
): bigint {
  const { values } = registers;
  const base = operand.base === null ? 0n : operand.base === 'rip' ? next : values[operand.base]!;
  const index = operand.index === null ? 0n : values[operand.index]! * BigInt(operand.scale);
  const segment =
    operand.segment === null ? 0n : values[operand.segment === 'fs' ? REG.FS_BASE : REG.GS_BASE]!;
  return u64(base + index + operand.displacement + segment);
}

/** The accesses that the instruction in `bytes` makes at RIP, in the order in which it makes them. */
export function accessesOf(bytes: Uint8Array, registers: RegisterFile): FaultingAccess[] {
  const form = readForm(bytes, 0, bytes.length);
  if (form === null) return [];
  const rip = registers.get('RIP');
  const sizeBytes = operandSize(form);
  const found: FaultingAccess[] = [];
  const add = (access: MemoryAccess, address: bigint, size = sizeBytes): void => {
    found.push({ access, address: u64(address), sizeBytes: size });
  };
  const isString =
    form.map === 'one' &&
    form.opcode >= 0xa4 &&
    form.opcode <= 0xaf &&
    (form.opcode & 0xfe) !== 0xa8;
  if (isString) {
    const kind = form.opcode & 0xfe;
    // MOVS, CMPS and LODS read RSI; MOVS and STOS write RDI, CMPS and SCAS read it.
    if (kind === 0xa4 || kind === 0xa6 || kind === 0xac) add('read', registers.get('RSI'));
    if (kind === 0xa4 || kind === 0xaa) add('write', registers.get('RDI'));
    if (kind === 0xa6 || kind === 0xae) add('read', registers.get('RDI'));
    return found;
  }
  if (form.memory !== null) {
    const address = effectiveAddress(form.memory, registers, u64(rip + BigInt(form.length)));
    add(writesMemory(form) && !writesStack(form) ? 'write' : 'read', address);
  }
  if (writesStack(form)) add('write', registers.get('RSP') - 8n, 8);
  else if (readsStack(form))
    add('read', form.opcode === 0xc9 ? registers.get('RBP') : registers.get('RSP'), 8);
  return found;
}

/** The access that a general-protection fault is about, when one of the instruction's is not canonical. */
export function nonCanonicalAccess(
  bytes: Uint8Array,
  registers: RegisterFile,
): FaultingAccess | undefined {
  return accessesOf(bytes, registers).find(({ address }) => !isCanonical(address));
}

/** The access of the instruction that touches `address`, a read before a write; undefined when it does not tell. */
export function accessAt(
  bytes: Uint8Array,
  registers: RegisterFile,
  address: bigint,
): FaultingAccess | undefined {
  const touching = accessesOf(bytes, registers).filter(
    (access) => address >= access.address && address - access.address < BigInt(access.sizeBytes),
  );
  return touching.find(({ access }) => access === 'read') ?? touching[0];
}

/** Whether an instruction that the engine refused a read writes there too: hardware then calls the access a write. */
export function readsToWrite(bytes: Uint8Array, registers: RegisterFile, address: bigint): boolean {
  const form = readForm(bytes, 0, bytes.length);
  if (form === null || form.memory === null) return false;
  if (!writesMemory(form) || writesStack(form)) return false;
  // BT and its kind reach beyond their operand.
  const found = accessAt(bytes, registers, address);
  return found === undefined || found.access === 'write';
}

function readsStack(form: InstructionForm): boolean {
  if (form.map !== 'one') return false;
  const { opcode } = form;
  return (
    (opcode >= 0x58 && opcode <= 0x5f) ||
    opcode === 0x8f ||
    opcode === 0xc2 ||
    opcode === 0xc3 ||
    opcode === 0xc9
  );
}

function operandSize(form: InstructionForm): number {
  const { map, opcode } = form;
  const full = form.rexW ? 8 : form.hasOperandSize ? 2 : 4;
  if (map === '0f') {
    if (opcode === 0xc7) return form.rexW ? 16 : 8;
    if (opcode === 0xb6 || opcode === 0xbe || opcode === 0xb0 || opcode === 0xc0) return 1;
    if (opcode === 0xb7 || opcode === 0xbf) return 2;
    return opcode >= 0x90 && opcode <= 0x9f ? 1 : full;
  }
  if (map !== 'one') return full;
  // Near CALL, JMP and PUSH take 64 bits; bit 0 clear means bytes in most of the map.
  if (opcode === 0xff) return form.regBits >= 2 ? 8 : full;
  if (opcode === 0x8f) return 8;
  if (opcode === 0x63) return 4;
  if (opcode === 0x69 || opcode === 0x6b) return full;
  return (opcode & 1) === 0 ? 1 : full;
}
