/**
 * A near branch to an address that is not canonical: the engine has taken it when it faults; hardware refuses it.
 *
 * Source: SDM, "CALL", "RET", "JMP": #GP(0) when the target is not canonical, before anything is changed.
 * Invariant: RIP, RSP and the count of instructions are as before the branch; the block trace says where to look for it.
 * Not modelled: the quadword below RSP, where the engine's CALL has put its return address.
 */
import { u64 } from '../../abi/uint.js';
import { readForm, type InstructionForm } from './instruction-format.js';
import { effectiveAddress } from './faulting-access.js';
import { REG, type RegisterFile } from './registers.js';

/** The most instructions of a block that are looked at. */
const LOOKED_AT = 4096;

/** A branch that was taken and must not have been: its address, and what RSP was before it. */
export interface RefusedBranch {
  readonly address: bigint;
  readonly rsp: bigint;
}

/**
 * Finds the branch that led to the non-canonical address in RIP, from the start of the block that ran last. Undefined when
 * nothing in the block can have branched there.
 */
export function refusedBranch(
  bytesAt: (address: bigint) => Uint8Array,
  block: bigint,
  registers: RegisterFile,
): RefusedBranch | undefined {
  let address = block;
  for (let looked = 0; looked < LOOKED_AT; looked++) {
    const bytes = bytesAt(address);
    const form = readForm(bytes, 0, bytes.length);
    if (form === null) return undefined;
    const moved = movedBy(form);
    const rsp = moved === null ? 0n : u64(registers.values[REG.RSP]! - moved);
    if (moved !== null && leadsTo(form, address, rsp, registers, bytesAt)) return { address, rsp };
    address = u64(address + u64(form.length));
  }
  return undefined;
}

/** By how much an indirect near branch moves RSP; null for any other instruction. */
function movedBy({ map, opcode, regBits, immediate }: InstructionForm): bigint | null {
  if (map !== 'one') return null;
  if (opcode === 0xff && regBits === 2) return -8n;
  if (opcode === 0xff && regBits === 4) return 0n;
  if (opcode === 0xc3) return 8n;
  return opcode === 0xc2 ? 8n + (immediate & 0xffffn) : null;
}

/** Whether the branch at `address`, executed with `rsp`, goes where RIP is. */
function leadsTo(
  form: InstructionForm,
  address: bigint,
  rsp: bigint,
  registers: RegisterFile,
  bytesAt: (address: bigint) => Uint8Array,
): boolean {
  const target = registers.values[REG.RIP]!;
  const read = (from: bigint): bigint | undefined => {
    const bytes = bytesAt(from);
    return bytes.length < 8
      ? undefined
      : new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
  };
  if (form.opcode !== 0xff) return read(rsp) === target;
  if (form.memory === null) {
    return (form.rm === REG.RSP ? rsp : registers.values[form.rm]) === target;
  }
  const after = registers.values[REG.RSP]!;
  registers.values[REG.RSP] = rsp;
  const operand = effectiveAddress(form.memory, registers, u64(address + u64(form.length)));
  registers.values[REG.RSP] = after;
  return read(operand) === target;
}
