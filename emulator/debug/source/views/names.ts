/**
 * Addresses in words, for every view.
 *
 * Invariant: the form is `symbol+0x1c`; another core's instance is said.
 */
import { msrName } from '../../../../abi/msrs.js';
import { hex } from '../../../../abi/uint.js';
import { x2apicName } from '../../../../abi/x2apic.js';
import { SHARED_STRUCTURES } from '../contract-types.js';
import type { SharedName } from '../contract-types.js';
import type { CoreView } from '../core-view.js';
import { ExpressionScope } from '../expression/scope.js';
import { isThere } from '../values/value.js';

/** `caretaker_dispatch+0x1c`, `ccb.state`, `stack+0x7f8`; null where nothing is known. */
export function addressName(core: CoreView, address: bigint): string | null {
  const shared = sharedField(core, address);
  if (shared !== null) return shared;
  const symbol = core.sourceOf(address)?.symbolAt(address) ?? null;
  if (symbol === null) return null;
  return symbol.offset === 0 ? symbol.name : `${symbol.name}+${hex(symbol.offset)}`;
}

/** `telemetry.total`: the field of a shared structure that an address lies in. */
function sharedField(core: CoreView, address: bigint): string | null {
  if (core.ccbAddress === null) return null;
  const scope = new ExpressionScope(core);
  for (const name of Object.keys(SHARED_STRUCTURES) as SharedName[]) {
    const value = scope.shared(name);
    if (!isThere(value) || value.place.kind !== 'memory') continue;
    const offset = address - value.place.address;
    if (offset < 0n || offset >= BigInt(value.type.sizeBytes)) continue;
    const field = SHARED_STRUCTURES[name].fields.findLast((one) => BigInt(one.offset) <= offset);
    if (field === undefined) continue;
    const rest = offset - BigInt(field.offset);
    return `${name}.${field.name}${rest === 0n ? '' : `+${hex(rest)}`}`;
  }
  return null;
}

/** `IA32_TSC_DEADLINE`, `IA32_X2APIC_EOI`, or `MSR 0x1234`. */
export function msrLabel(index: number): string {
  return msrName(index) ?? x2apicName(index) ?? `MSR ${hex(index)}`;
}

/** `dispatch.c:103`: the end of a path and a line. */
export function placeText(file: string, line: number): string {
  const name = file.replace(/^.*\//, '');
  return line === 0 ? name : `${name}:${line}`;
}
