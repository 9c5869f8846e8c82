/**
 * What of control-flow enforcement is on in root operation, and the state of indirect branch tracking.
 *
 * Source: SDM, "Shadow Stacks", "Indirect Branch Tracking", "Indirect Branch Tracking State Machine"; CR4.CET,
 * IA32_S_CET.
 * Invariant: IA32_S_CET.TRACKER is the one home of the tracker; the engine has it only while it runs.
 * Not modelled: the legacy code page bitmap and SUPPRESS, which only that treatment sets: a run that needs them stops.
 */
import { CET, MSR } from '../../../abi/msrs.js';
import type { CetState } from '../../cpu/port.js';
import { REG } from '../../cpu/registers.js';
import type { RootCpu } from './root-cpu.js';

/** The part of a pCPU that says what is on. */
export type EnforcingCpu = Pick<RootCpu, 'registers' | 'msrs'>;

const CR4_CET = 1 << 23;

/** CR4.CET. */
export function isCetOn({ registers }: Pick<EnforcingCpu, 'registers'>): boolean {
  return (registers.words[2 * REG.CR4]! & CR4_CET) !== 0;
}

/** IA32_S_CET where CR4.CET makes it count, else 0. */
export function supervisorCet(cpu: EnforcingCpu): bigint {
  return isCetOn(cpu) ? (cpu.msrs.file.read(MSR.IA32_S_CET) ?? 0n) : 0n;
}

/** Whether supervisor shadow stacks are on. */
export function isShadowStackOn(cpu: EnforcingCpu): boolean {
  return (supervisorCet(cpu) & CET.SH_STK_EN) !== 0n;
}

/** What the engine has to enforce, null for nothing; a text says why it cannot. */
export function enforcedBy(cpu: EnforcingCpu): CetState | null | string {
  const cet = supervisorCet(cpu);
  if ((cet & (CET.SH_STK_EN | CET.ENDBR_EN)) === 0n) return null;
  const endbranch = (cet & CET.ENDBR_EN) !== 0n;
  if (endbranch && (cet & (CET.LEG_IW_EN | CET.SUPPRESS)) !== 0n) {
    return 'the legacy code page bitmap of indirect branch tracking';
  }
  return {
    shadowStacks: (cet & CET.SH_STK_EN) !== 0n,
    endbranch,
    noTrack: (cet & CET.NO_TRACK_EN) !== 0n,
    isWaiting: (cet & CET.TRACKER) !== 0n,
  };
}

/** Sets the tracker as the engine left it. */
export function setTracker({ msrs }: EnforcingCpu, isWaiting: boolean): void {
  const cet = msrs.file.read(MSR.IA32_S_CET) ?? 0n;
  msrs.file.load(MSR.IA32_S_CET, isWaiting ? cet | CET.TRACKER : cet & ~CET.TRACKER);
}

/** An event was delivered or a far CALL or JMP made: where branches are tracked its target must be an ENDBR64. */
export function trackFarTransfer(cpu: EnforcingCpu): void {
  const cet = supervisorCet(cpu);
  if ((cet & CET.ENDBR_EN) === 0n) return;
  cpu.msrs.file.load(MSR.IA32_S_CET, (cet & ~CET.SUPPRESS) | CET.TRACKER);
}
