/**
 * RDMSR and WRMSR of a pCPU: the MSR file, and the MSRs that are another model's state.
 *
 * Source: SDM, "Model-Specific Registers (MSRs)", "x2APIC Register Address Space", "Extended Feature Enable Register".
 * Invariant: each MSR has one home: the register file, the local APIC, the clock, or the MSR file.
 * Not modelled: a write that would part the TSC from virtual time; isUnmodelledWrite() says which, and the site stops.
 */
import { EFER, MSR } from '../../../abi/msrs.js';
import { X2APIC, X2APIC_FIRST } from '../../../abi/x2apic.js';
import { isCanonical, u64 } from '../../../abi/uint.js';
import { REG, type RegisterFile } from '../../cpu/registers.js';
import type { MsrPort } from '../ports.js';
import type { LocalApic } from './local-apic.js';
import type { MsrFile } from './msr-file.js';

/** Indices 0x800 to 0x8ff belong to the x2APIC, whether or not a register is there. */
const X2APIC_END = 0x900;

/** The MSRs that have no row in the file because their value is somebody else's state. */
export class RootMsrs implements MsrPort {
  readonly file: MsrFile;
  readonly #registers: RegisterFile;
  readonly #apic: LocalApic;
  readonly #now: () => number;

  constructor(file: MsrFile, registers: RegisterFile, apic: LocalApic, now: () => number) {
    this.file = file;
    this.#registers = registers;
    this.#apic = apic;
    this.#now = now;
  }

  get changes(): number {
    return this.file.mark();
  }

  read(index: number): bigint | undefined {
    if (isX2apic(index)) return this.#apic.read(index);
    switch (index) {
      case MSR.IA32_TIME_STAMP_COUNTER:
        return u64(this.#now());
      case MSR.IA32_TSC_DEADLINE:
        return this.#apic.deadline;
      case MSR.IA32_EFER:
        return this.#registers.values[REG.EFER];
      case MSR.IA32_FS_BASE:
        return this.#registers.values[REG.FS_BASE];
      case MSR.IA32_GS_BASE:
        return this.#registers.values[REG.GS_BASE];
      default:
        return this.file.read(index);
    }
  }

  write(index: number, value: bigint): boolean {
    if (isX2apic(index)) return this.#writeApic(index, value);
    switch (index) {
      case MSR.IA32_TIME_STAMP_COUNTER:
        return !this.isUnmodelledWrite(index, value);
      case MSR.IA32_TSC_DEADLINE:
        this.#apic.deadline = value;
        return true;
      case MSR.IA32_EFER:
        return this.#writeEfer(value);
      case MSR.IA32_FS_BASE:
        return this.#writeBase(REG.FS_BASE, value);
      case MSR.IA32_GS_BASE:
        return this.#writeBase(REG.GS_BASE, value);
      default:
        return this.file.write(index, value);
    }
  }

  /**
   * Sets a value past the rules of WRMSR, but for the local APIC's, which take a WRMSR; false where there is nothing to
   * set: no such MSR, or the TSC, which is the run's time.
   */
  load(index: number, value: bigint): boolean {
    if (isX2apic(index)) return this.#writeApic(index, value);
    switch (index) {
      case MSR.IA32_TIME_STAMP_COUNTER:
        return false;
      case MSR.IA32_TSC_DEADLINE:
        this.#apic.deadline = value;
        // Outside TSC-deadline mode the timer takes none.
        return this.#apic.deadline === value;
      case MSR.IA32_EFER:
        this.#registers.values[REG.EFER] = value;
        return true;
      case MSR.IA32_FS_BASE:
        this.#registers.values[REG.FS_BASE] = value;
        return true;
      case MSR.IA32_GS_BASE:
        this.#registers.values[REG.GS_BASE] = value;
        return true;
      default:
        return this.file.load(index, value);
    }
  }

  /** Whether hardware accepts a write that the model cannot carry out. */
  isUnmodelledWrite(index: number, value: bigint): boolean {
    if (index === MSR.IA32_TIME_STAMP_COUNTER) return value !== u64(this.#now());
    return index === MSR.IA32_TSC_ADJUST && value !== 0n;
  }

  #writeApic(index: number, value: bigint): boolean {
    const isWritten = this.#apic.write(index, value);
    if (index === X2APIC.TPR && isWritten) {
      this.#registers.values[REG.CR8] = u64(this.#apic.tpr >>> 4);
    }
    return isWritten;
  }

  /** LMA is read-only, and LME cannot change while paging is on, which in root operation it always is. */
  #writeEfer(value: bigint): boolean {
    const before = this.#registers.values[REG.EFER]!;
    if ((value & EFER.RESERVED) !== 0n || ((value ^ before) & EFER.LME) !== 0n) return false;
    this.#registers.values[REG.EFER] = (value & ~EFER.LMA) | (before & EFER.LMA);
    return true;
  }

  #writeBase(slot: number, value: bigint): boolean {
    if (!isCanonical(value)) return false;
    this.#registers.values[slot] = value;
    return true;
  }
}

function isX2apic(index: number): boolean {
  return index >= X2APIC_FIRST && index < X2APIC_END;
}
