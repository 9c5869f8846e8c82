/**
 * The current VMCS as text: fields by area, controls and exit information with their bits by name.
 *
 * Source: SDM, "Field Encoding in VMCS", "VM-Execution Control Fields", "Basic VM-Exit Information".
 * Invariant: a field whose value the architecture leaves undefined is shown as that.
 */
import { decodeExitReason, printExitReason } from '../../../../abi/exit-reasons.js';
import { didYouMean } from '../../../../abi/did-you-mean.js';
import { hex, low32 } from '../../../../abi/uint.js';
import { VMCS_FIELDS } from '../../../../abi/vmcs-fields.js';
import type { FieldName, VmcsArea, VmcsField } from '../../../../abi/vmcs-fields.js';
import {
  controlNames,
  ENTRY_CONTROL,
  EXIT_CONTROL,
  PIN,
  PRIMARY,
  SECONDARY,
} from '../../../../abi/vmx-controls.js';
import type { CoreView } from '../core-view.js';
import { SourceError } from '../errors.js';
import { addressName } from './names.js';
import type { Canvas } from './paint.js';
import { clipped } from './paint.js';
import { flagNames } from './registers.js';

const CONTROLS: Readonly<Partial<Record<FieldName, Readonly<Record<string, number>>>>> = {
  PIN_BASED_VM_EXEC_CONTROL: PIN,
  CPU_BASED_VM_EXEC_CONTROL: PRIMARY,
  SECONDARY_VM_EXEC_CONTROL: SECONDARY,
  VM_EXIT_CONTROLS: EXIT_CONTROL,
  VM_ENTRY_CONTROLS: ENTRY_CONTROL,
};
const AREAS: readonly VmcsArea[] = ['control', 'exit-info', 'guest', 'host'];

/** Fields of the current VMCS whose name contains `pattern`, by area. @throws SourceError when none does. */
export function vmcsView(core: CoreView, pattern: string, canvas: Canvas): readonly string[] {
  const wanted = pattern.toUpperCase();
  const area = AREAS.find((one) => one.toUpperCase() === wanted);
  const fields = VMCS_FIELDS.filter((field) =>
    area === undefined ? field.name.includes(wanted) : field.type === area,
  );
  if (fields.length === 0) {
    const hint = didYouMean(
      wanted,
      VMCS_FIELDS.map(({ name }) => name),
    );
    throw new SourceError('EXPRESSION_NAME', `no VMCS field has "${pattern}" in its name${hint}`);
  }
  return AREAS.flatMap((one) => {
    const own = fields.filter((field) => field.type === one);
    if (own.length === 0) return [];
    const lines = own.map((field) => clipped(fieldLine(core, field), canvas.cutAt));
    return fields.length === own.length ? lines : [canvas.paint('title', `${one}:`), ...lines];
  });
}

function fieldLine(core: CoreView, { name, encoding }: VmcsField): string {
  const value = core.vmcsField(name);
  const text = value === null ? 'undefined' : hex(value);
  const note = value === null ? '' : fieldNote(core, name, value);
  return `  ${name.padEnd(30)} ${hex(encoding, 4)}  ${text}${note === '' ? '' : `  ${note}`}`;
}

/** What a field's value says. */
export function fieldNote(core: CoreView, name: FieldName, value: bigint): string {
  const table = CONTROLS[name];
  if (table !== undefined) {
    // Bits without a name are those that must be 1.
    const names = controlNames(table, low32(value)).filter((one) => !one.startsWith('bit '));
    return `[${names.join(' ')}]`;
  }
  if (name === 'VM_EXIT_REASON') return exitReasonText(low32(value));
  if (name === 'GUEST_RFLAGS') return `[${flagNames(value)}]`;
  return (value >= 0x1000n ? addressName(core, value) : null) ?? '';
}

/** `HLT`, with the bits above the basic reason. */
export function exitReasonText(word: number): string {
  const { basic, failedVmentry, busLock, pendingMtf } = decodeExitReason(word);
  const more = [
    failedVmentry ? 'VM-entry failure' : '',
    busLock ? 'bus lock' : '',
    pendingMtf ? 'pending MTF' : '',
  ].filter((one) => one !== '');
  return [printExitReason(basic), ...more].join(', ');
}
