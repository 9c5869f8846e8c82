/**
 * Values of the registers that VM entry and VM exit load under a control: EFER, PAT, IA32_PERF_GLOBAL_CTRL.
 *
 * Source: kvm-unit-tests x86/vmx_tests.c, test_efer(), test_pat() and test_perf_global_ctrl(), which try the host's and the
 * guest's in the same way.
 */
import { EFER } from '../../../abi/msrs.js';
import type { VmcsDescription } from '../../vmx/description.js';
import { withBits, withoutBits } from '../../vmx/entry-checks/values.js';
import { range, type PeerAttempt } from './peer-row.js';

type Controls = 'VM_EXIT_CONTROLS' | 'VM_ENTRY_CONTROLS';

const switched = (
  base: VmcsDescription,
  controls: Controls,
  bit: number,
  on: boolean,
): VmcsDescription => ({
  [controls]: on ? withBits(base, controls, bit) : withoutBits(base, controls, bit),
});

/** Every bit that a processor may not set, and LMA and LME turned over; `rule` names what refuses a bit. */
export function efers(
  base: VmcsDescription,
  field: 'HOST_IA32_EFER' | 'GUEST_IA32_EFER',
  controls: Controls,
  load: number,
  rule: (bit: bigint) => string,
): PeerAttempt[] {
  const bits = range(0, 63)
    .map((bit) => 1n << BigInt(bit))
    .filter((bit) => (bit & EFER.RESERVED) !== 0n || bit === EFER.LMA || bit === EFER.LME);
  return bits.flatMap((bit): PeerAttempt[] => {
    const value = { [field]: base[field]! ^ bit };
    return [
      { overrides: { ...switched(base, controls, load, false), ...value } },
      { overrides: { ...switched(base, controls, load, true), ...value }, refusedBy: rule(bit) },
    ];
  });
}

/** The types 0 to 7, and each higher bit, in each byte. */
export function patBytes(
  base: VmcsDescription,
  field: 'HOST_IA32_PAT' | 'GUEST_IA32_PAT',
  controls: Controls,
  load: number,
): PeerAttempt[] {
  const types = [...range(0, 7), 8, 16, 32, 64, 128];
  return types.flatMap((type) =>
    range(0, 7).flatMap((byte): PeerAttempt[] => {
      const value = { [field]: BigInt(type) << BigInt(8 * byte) };
      const loaded = { ...switched(base, controls, load, true), ...value };
      const isBad = type === 2 || type === 3 || type > 7;
      const refusedBy = 'if load IA32_PAT is 1, each of its bytes must be 0, 1, 4, 5, 6 or 7';
      return [
        { overrides: { ...switched(base, controls, load, false), ...value } },
        isBad ? { overrides: loaded, refusedBy } : { overrides: loaded },
      ];
    }),
  );
}

/** Each bit alone. */
export function performanceControls(
  base: VmcsDescription,
  allowed: bigint,
  field: 'HOST_IA32_PERF_GLOBAL_CTRL' | 'GUEST_IA32_PERF_GLOBAL_CTRL',
  controls: Controls,
  load: number,
): PeerAttempt[] {
  return range(0, 63).flatMap((at): PeerAttempt[] => {
    const value = { [field]: 1n << BigInt(at) };
    const loaded = { ...switched(base, controls, load, true), ...value };
    const refusedBy = 'if load IA32_PERF_GLOBAL_CTRL is 1, its reserved bits must be 0';
    return [
      { overrides: { ...switched(base, controls, load, false), ...value } },
      (allowed & (1n << BigInt(at))) === 0n
        ? { overrides: loaded, refusedBy }
        : { overrides: loaded },
    ];
  });
}
