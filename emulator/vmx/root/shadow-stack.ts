/**
 * The supervisor shadow stack as events and far transfers use it: frames of CS, LIP and SSP, and the tokens of the
 * interrupt SSP table.
 *
 * Source: SDM, "Shadow Stacks", "Supervisor Shadow Stack Token", "INT n/INTO/INT3/INT1", "IRET/IRETD/IRETQ", "RET".
 * Invariant: a frame is three quadwords below SSP aligned to 8 bytes, SSP lowest. A token is its own address; bit 0 is
 * its busy bit. A token is looked at when an event is delivered through an IST, never when HOST_SSP is loaded.
 * Not modelled: user shadow stacks, and so IA32_PL3_SSP; changes of privilege level.
 */
import { MSR } from '../../../abi/msrs.js';
import { VECTOR } from '../../../abi/interruption.js';
import { isCanonical, u64 } from '../../../abi/uint.js';
import { REG } from '../../cpu/registers.js';
import { isShadowStackOn, type EnforcingCpu } from './control-flow.js';
import { GENERAL_PROTECTION, fault, type Failure } from './outcome.js';
import type { RootCpu } from './root-cpu.js';

/** Error codes of #CP (SDM, "Interrupt 21—Control Protection Exception (#CP)"). */
export const CONTROL_PROTECTION = {
  NEAR_RET: 1,
  FAR_RET_IRET: 2,
  ENDBRANCH: 3,
  RSTORSSP: 4,
  SETSSBSY: 5,
} as const;

/** Bit 0 of a token: a logical processor is on this shadow stack. */
export const TOKEN_BUSY = 1n;

const FRAME_BYTES = 24;
const TOKEN_BYTES = 8;
/** A token and the frame below it lie in one naturally aligned region of this size. */
const TOKEN_REGION = 32n;

type ShadowStackCpu = EnforcingCpu & Pick<RootCpu, 'linear'>;

/** #CP. */
export function controlProtection(error: keyof typeof CONTROL_PROTECTION): Failure {
  return fault(VECTOR.CP, CONTROL_PROTECTION[error]);
}

/** SSP for the handler of a gate before anything is pushed: the entry of the interrupt SSP table, or SSP as it is. */
export function shadowStackOfGate(cpu: ShadowStackCpu, ist: number): bigint | Failure {
  const { registers, linear, msrs } = cpu;
  if (ist === 0 || !isShadowStackOn(cpu)) return registers.values[REG.SSP]!;
  const table = msrs.file.read(MSR.IA32_INTERRUPT_SSP_TABLE_ADDR) ?? 0n;
  const entry = u64(table + u64(ist * TOKEN_BYTES));
  return (
    linear.openImplicit('ssp-table', entry, TOKEN_BYTES, 'read') ?? linear.bytes.readU64(entry)
  );
}

/** Pushes CS, LIP and SSP of the interrupted program; with an IST the token of the stack at `top` becomes busy first. */
export function pushInterrupted(
  cpu: ShadowStackCpu,
  top: bigint,
  ist: number,
  cs: bigint,
  lip: bigint,
): Failure | null {
  if (!isShadowStackOn(cpu)) return null;
  if (ist === 0) return pushFrame(cpu, top, cs, lip);
  const isContained = (top & ~(TOKEN_REGION - 1n)) === ((top - 24n) & ~(TOKEN_REGION - 1n));
  if ((top & 7n) !== 0n || !isContained) return GENERAL_PROTECTION;
  const isTaken = exchangeToken(cpu, top, top, top | TOKEN_BUSY);
  if (isTaken === false) return GENERAL_PROTECTION;
  return isTaken === true ? pushFrame(cpu, top, cs, lip) : isTaken;
}

/** Pushes CS, LIP and SSP below `top`, the hole below it filled with 0 where it is not aligned to 8 bytes. */
export function pushFrame(
  { registers, linear }: ShadowStackCpu,
  top: bigint,
  cs: bigint,
  lip: bigint,
): Failure | null {
  const hasHole = (top & 7n) !== 0n;
  const aligned = top & ~7n;
  const ssp = u64(aligned - u64(FRAME_BYTES));
  const places = [u64(aligned - 8n), u64(aligned - 16n), ssp];
  // What is refused is refused at the first push, which is the highest.
  for (const place of places) {
    const failure = linear.explainShadowStack(place, 8, 'write');
    if (failure !== null) return failure;
  }
  const failure = linear.openShadowStack(ssp, FRAME_BYTES + (hasHole ? 4 : 0), 'write');
  if (failure !== null) return failure;
  if (hasHole) linear.bytes.writeU32(aligned, 0);
  const values = [cs, lip, registers.values[REG.SSP]!];
  places.forEach((place, index) => linear.bytes.writeU64(place, values[index]!));
  registers.values[REG.SSP] = ssp;
  return null;
}

/** Where a far return leads on the shadow stack: SSP behind its frame, and the SSP that the frame holds. */
export interface ReturnFrame {
  readonly kind: 'frame';
  readonly behind: bigint;
  readonly previous: bigint;
}

/** Holds a return to `cs`:`lip` against the frame at SSP; null while shadow stacks are off. */
export function checkReturnFrame(
  cpu: ShadowStackCpu,
  cs: number,
  lip: bigint,
): ReturnFrame | Failure | null {
  if (!isShadowStackOn(cpu)) return null;
  const { linear } = cpu;
  const ssp = cpu.registers.values[REG.SSP]!;
  if ((ssp & 7n) !== 0n) return controlProtection('FAR_RET_IRET');
  const failure = linear.openShadowStack(ssp, FRAME_BYTES, 'read');
  if (failure !== null) return failure;
  const previous = linear.bytes.readU64(ssp);
  const isSame =
    linear.bytes.readU64(ssp + 16n) === u64(cs) && linear.bytes.readU64(ssp + 8n) === lip;
  if (!isSame || (previous & 3n) !== 0n) return controlProtection('FAR_RET_IRET');
  if (!isCanonical(previous)) return GENERAL_PROTECTION;
  return { kind: 'frame', behind: u64(ssp + u64(FRAME_BYTES)), previous };
}

/** IRET: takes the frame off, and frees the token behind it when the interrupted program ran on another stack. */
export function popInterrupted(cpu: ShadowStackCpu, frame: ReturnFrame): Failure | null {
  if (frame.previous !== frame.behind) {
    const { behind } = frame;
    const freed = exchangeToken(cpu, behind, behind | TOKEN_BUSY, behind);
    if (typeof freed !== 'boolean') return freed;
  }
  cpu.registers.values[REG.SSP] = frame.previous;
  return null;
}

/** Compares a token and exchanges it, as one locked access; false when it was another. */
export function exchangeToken(
  { linear }: Pick<RootCpu, 'linear'>,
  address: bigint,
  expected: bigint,
  next: bigint,
): boolean | Failure {
  const failure = linear.openShadowStack(address, TOKEN_BYTES, 'write');
  if (failure !== null) return failure;
  if (linear.bytes.readU64(address) !== expected) return false;
  linear.bytes.writeU64(address, next);
  return true;
}
