/** The exit that a line of a scenario's script describes, as a guest makes it. */
import { unreachable } from '../../abi/errors.js';
import { low32 } from '../../abi/uint.js';
import * as exits from '../guest/exits.js';
import type { GuestExit } from '../guest/guest.js';
import { ICR, ICR_DELIVERY, ICR_SHORTHAND, X2APIC } from '../../abi/x2apic.js';
import type { ScriptedExit } from './scenario/schema.js';

const MODE = {
  fixed: ICR_DELIVERY.FIXED,
  'lowest-priority': ICR_DELIVERY.LOWEST_PRIORITY,
  nmi: ICR_DELIVERY.NMI,
  init: ICR_DELIVERY.INIT,
  startup: ICR_DELIVERY.STARTUP,
} as const;
const SHORTHAND = {
  none: ICR_SHORTHAND.NONE,
  self: ICR_SHORTHAND.SELF,
  all: ICR_SHORTHAND.ALL_INCLUDING_SELF,
  others: ICR_SHORTHAND.ALL_EXCLUDING_SELF,
} as const;

function icrOf(ipi: Extract<ScriptedExit, { kind: 'ipi' }>): bigint {
  const low =
    ipi.vector |
    (MODE[ipi.mode] << ICR.DELIVERY_SHIFT) |
    (ipi.logical ? ICR.LOGICAL : 0) |
    (SHORTHAND[ipi.shorthand] << ICR.SHORTHAND_SHIFT);
  return (ipi.destination << 32n) | BigInt(low);
}

/** The exit that a scenario file describes. */
export function toExit(exit: ScriptedExit): GuestExit {
  switch (exit.kind) {
    case 'cpuid':
      return exits.cpuid(low32(exit.leaf), low32(exit.subleaf));
    case 'hlt':
      return exits.hlt();
    case 'pause':
      return exits.pause();
    case 'rdtsc':
      return exits.rdtsc();
    case 'vmcall':
      return exits.vmcall();
    case 'rdmsr':
      return exits.rdmsr(low32(exit.index));
    case 'wrmsr':
      return exits.wrmsr(low32(exit.index), exit.value);
    case 'ipi':
      return exits.wrmsr(X2APIC.ICR, icrOf(exit));
    case 'out':
      return exits.out(exit.port);
    case 'doorbell':
      return exits.doorbell(exit.gpa);
    case 'ept-violation':
      return exits.eptViolation(
        exit.gpa,
        0xffff_8880_0000_0000n + exit.gpa,
        exit.access,
        exit.delivering,
      );
    case 'xsetbv':
      return exits.xsetbv(exit.value);
    default:
      return unreachable(exit);
  }
}
