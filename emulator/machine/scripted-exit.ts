/** What a line of a scenario's script has a guest do. */
import { unreachable } from '../../abi/errors.js';
import { low32 } from '../../abi/uint.js';
import * as exits from '../guest/exits.js';
import type { GuestAction, GuestExit } from '../guest/guest.js';
import { ICR, ICR_DELIVERY, ICR_SHORTHAND, X2APIC } from '../../abi/x2apic.js';
import type { ScriptedExit } from './scenario/script.js';

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

/** The guest does it at once. */
export function toAction(exit: ScriptedExit): GuestAction {
  if (exit.kind !== 'access') return { kind: 'exit', after: 0, exit: toExit(exit) };
  const access = exits.access(exit.gpa, exit.access, exit.delivering);
  return { kind: 'access', after: 0, access, pages: exit.pages };
}

function toExit(exit: Exclude<ScriptedExit, { kind: 'access' }>): GuestExit {
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
    case 'xsetbv':
      return exits.xsetbv(exit.value);
    default:
      return unreachable(exit);
  }
}
