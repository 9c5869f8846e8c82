/** What the two halves of an ICR write ask for, as KVM and the invariants read a guest's. */
import { describe, expect, it } from 'vitest';
import { ICR, ICR_DELIVERY, ICR_SHORTHAND } from '../../../abi/x2apic.js';
import { requestOf, type IpiRequest } from '../../../emulator/vmx/root/ipi-destination.js';

const { FIXED, LOWEST_PRIORITY, SMI, NMI, INIT, STARTUP } = ICR_DELIVERY;
const { SELF, ALL_INCLUDING_SELF } = ICR_SHORTHAND;

const low = (delivery: number, vector: number, bits = ICR.LEVEL_ASSERT): number =>
  vector | (delivery << ICR.DELIVERY_SHIFT) | bits;
const by = (shorthand: number): number => (shorthand << ICR.SHORTHAND_SHIFT) | ICR.LEVEL_ASSERT;

describe('the request of an ICR write', () => {
  // prettier-ignore
  it.each<{ rule: string; icr: number; request: IpiRequest }>([
    { rule: 'fixed', icr: low(FIXED, 0x31), request: { kind: 'fixed', vector: 0x31 } },
    { rule: 'lowest priority', icr: low(LOWEST_PRIORITY, 0x31), request: { kind: 'lowest-priority', vector: 0x31 } },
    { rule: 'fixed: the trigger mode is ignored', icr: low(FIXED, 0x31, ICR.TRIGGER_LEVEL), request: { kind: 'fixed', vector: 0x31 } },
    { rule: 'a vector below 16 is illegal', icr: low(FIXED, 15), request: { kind: 'none' } },
    { rule: 'SMI', icr: low(SMI, 0), request: { kind: 'smi' } },
    { rule: 'NMI', icr: low(NMI, 0x30), request: { kind: 'nmi' } },
    { rule: 'INIT', icr: low(INIT, 0), request: { kind: 'init' } },
    { rule: 'INIT, level-triggered and asserted', icr: low(INIT, 0, ICR.LEVEL_ASSERT | ICR.TRIGGER_LEVEL), request: { kind: 'init' } },
    { rule: 'an INIT level de-assert has no effect', icr: low(INIT, 0, ICR.TRIGGER_LEVEL), request: { kind: 'none' } },
    { rule: 'STARTUP with its page', icr: low(STARTUP, 0x9a), request: { kind: 'startup', vector: 0x9a } },
    { rule: 'delivery mode 3 is reserved', icr: low(3, 0x31), request: { kind: 'none' } },
    { rule: 'fixed to itself by shorthand', icr: low(FIXED, 0x31, by(SELF)), request: { kind: 'fixed', vector: 0x31 } },
    { rule: 'NMI to itself by shorthand is invalid', icr: low(NMI, 0, by(SELF)), request: { kind: 'none' } },
    { rule: 'INIT to all and itself is invalid', icr: low(INIT, 0, by(ALL_INCLUDING_SELF)), request: { kind: 'none' } },
    { rule: 'a reserved bit raises #GP', icr: low(FIXED, 0x31) | (1 << 13), request: { kind: 'fault' } },
  ])('$rule', ({ icr, request }) => {
    expect(requestOf(icr, 0)).toEqual(request);
  });
});
