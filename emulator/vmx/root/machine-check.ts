/**
 * Machine checks: what the processor logs in its banks, and how bad that is for whom it interrupted.
 *
 * Source: SDM, "Machine-Check Architecture": "Machine-Check MSRs", "IA32_MCi_STATUS MSRs", "UCR Error Classification",
 * "Machine-Check Exception Handler for Error Recovery", "Machine-Check Overwrite Rules".
 * Invariant: a bank that holds an uncorrected error keeps it; a later one sets OVER.
 * Not modelled: corrected errors, which raise no machine check; model-specific codes; LMCE and broadcast.
 */
import { MCG_CAP, MCG_STATUS, MCI_STATUS, mcBank } from '../../../abi/msrs.js';

/** What a machine check says beside RIPV: nothing, that the processor's context is corrupt, or that memory is. */
export type LoggedError = 'context-corrupt' | 'action-required';

/** What is left of what a machine check interrupted. */
export type Severity =
  /** It can go on. */
  | 'survivable'
  /** It can go on once somebody has dealt with the memory that it used. */
  | 'action-required'
  | 'lost';

/** Reads an MSR; undefined where there is none. */
type ReadMsr = (index: number) => bigint | undefined;

/** The bank of errors of the memory hierarchy that this processor reports. */
const BANK = 1;
const { VAL, OVER, UC, EN, ADDRV, PCC, S, AR } = MCI_STATUS;
/** SDM, "Architecturally Defined SRAR Errors": a data load. */
const DATA_LOAD = 0x134n;
/** The page whose error it is; which one does not matter to anybody here. */
const ADDRESS = 0x3000n;
const STATUS: Readonly<Record<LoggedError, bigint>> = {
  'context-corrupt': VAL | UC | EN | PCC | DATA_LOAD,
  'action-required': VAL | UC | EN | ADDRV | S | AR | DATA_LOAD,
};

/** Logs an error in its bank, past the rules of WRMSR. */
export function logError(
  file: { read: ReadMsr; load: (index: number, value: bigint) => boolean },
  error: LoggedError,
): void {
  const bank = mcBank(BANK);
  const before = file.read(bank.status) ?? 0n;
  if ((before & VAL) !== 0n) {
    file.load(bank.status, before | OVER);
    return;
  }
  file.load(bank.status, STATUS[error]);
  if (error === 'action-required') file.load(bank.address, ADDRESS);
}

/** The MSRs that logging an error changes. */
export const LOGGED_MSRS: readonly number[] = [mcBank(BANK).status, mcBank(BANK).address];

/** How bad the machine check with this IA32_MCG_STATUS is, by the banks that are valid. */
export function severityOf(mcgStatus: bigint, read: ReadMsr): Severity {
  if ((mcgStatus & MCG_STATUS.RIPV) === 0n) return 'lost';
  let severity: Severity = 'survivable';
  for (let n = 0; n < MCG_CAP.BANKS; n++) {
    const status = read(mcBank(n).status) ?? 0n;
    if ((status & (VAL | UC | EN)) !== (VAL | UC | EN)) continue;
    if ((status & PCC) !== 0n) return 'lost';
    const isOwn = (mcgStatus & MCG_STATUS.EIPV) !== 0n;
    if (isOwn && (status & (S | AR)) === (S | AR)) severity = 'action-required';
  }
  return severity;
}

/** What do_machine_check() does last: every bank is clear for the next error. */
export function clearBanks(write: (index: number, value: bigint) => boolean): void {
  for (let n = 0; n < MCG_CAP.BANKS; n++) write(mcBank(n).status, 0n);
}
