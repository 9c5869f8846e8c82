/** How bad a machine check is, by IA32_MCG_STATUS and the banks. */
import { expect, it } from 'vitest';
import { MCG_STATUS, MCI_STATUS, mcBank } from '../../../abi/msrs.js';
import { logError, severityOf, type Severity } from '../../../emulator/vmx/root/machine-check.js';

const { RIPV, EIPV, MCIP } = MCG_STATUS;
const { VAL, OVER, UC, EN, PCC, S, AR } = MCI_STATUS;
const RESTARTABLE = RIPV | MCIP;

// prettier-ignore
const ROWS: readonly (readonly [rule: string, mcgStatus: bigint, bank: bigint, severity: Severity])[] = [
  ['nothing is logged, and RIPV says that the program can be restarted', RESTARTABLE, 0n, 'survivable'],
  ['RIPV clear: it cannot', MCIP, 0n, 'lost'],
  ['PCC: the state of the processor may be corrupt, and no restart is possible', RESTARTABLE, VAL | UC | EN | PCC, 'lost'],
  ['S and AR: a recovery action is required', RESTARTABLE | EIPV, VAL | UC | EN | S | AR, 'action-required'],
  ['without EIPV the error is not this processor\'s', RESTARTABLE, VAL | UC | EN | S | AR, 'survivable'],
  ['S without AR: an action is optional', RESTARTABLE | EIPV, VAL | UC | EN | S, 'survivable'],
  ['a corrected error needs nothing', RESTARTABLE | EIPV, VAL | EN | PCC | S | AR, 'survivable'],
  ['a bank that is not valid says nothing', RESTARTABLE | EIPV, UC | EN | PCC | S | AR, 'survivable'],
  ['EN clear: the error has not raised this machine check', RESTARTABLE | EIPV, VAL | UC | PCC | S | AR, 'survivable'],
];

it.each(ROWS)('%s', (_rule, mcgStatus, bank, severity) => {
  expect(severityOf(mcgStatus, (index) => (index === mcBank(3).status ? bank : 0n))).toBe(severity);
});

it('an uncorrected error is not overwritten by another: OVER tells of it', () => {
  const values = new Map<number, bigint>();
  const file = {
    read: (index: number) => values.get(index),
    load: (index: number, value: bigint) => values.set(index, value).size > 0,
  };
  logError(file, 'action-required');
  const first = values.get(mcBank(1).status)!;
  logError(file, 'context-corrupt');
  expect(values.get(mcBank(1).status)).toBe(first | OVER);
});
