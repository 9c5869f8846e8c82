/** The exit that a line of a scenario's script describes, as a guest makes it. */
import { unreachable } from '../../abi/errors.js';
import { low32 } from '../../abi/uint.js';
import * as exits from '../guest/exits.js';
import type { GuestExit } from '../guest/guest.js';
import type { ScriptedExit } from './scenario/schema.js';

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
