/**
 * Checks of VM entry on the VM-exit control fields.
 *
 * Source: SDM, "Checks on VMX Controls" > "VM-Exit Control Fields".
 * Not modelled: secondary VM-exit controls (the processor does not offer them).
 */
import { VMCS_SLOT, type FieldName } from '../../../abi/vmcs-fields.js';
import { EXIT_CONTROL, PIN } from '../../../abi/vmx-controls.js';
import { VALID_VMCS_PAGES } from '../description.js';
import { controlRules, type RuleRow } from './rule.js';
import { exit, isAllowed, pin, pinBits, withBits, withoutBits } from './values.js';

const F = VMCS_SLOT;
const { VM_EXIT_CONTROLS } = VMCS_SLOT;
const { spare } = VALID_VMCS_PAGES;

/** The rules of an MSR area: its count and address fields. */
export function msrAreaRows(area: string, count: FieldName, address: FieldName): RuleRow[] {
  const countSlot = F[count];
  const addressSlot = F[address];
  return [
    {
      rule: `if the ${area} count is not 0, bits 3:0 of the address must be 0`,
      reads: [count, address],
      holds: (v) => v.low(countSlot) === 0 || (v.low(addressSlot) & 0xf) === 0,
      breaks: () => ({ [count]: 1n, [address]: spare | 8n }),
    },
    {
      rule: `if the ${area} count is not 0, neither its first nor its last byte may lie beyond the physical-address width`,
      reads: [count, address],
      holds: (v, cpu) => {
        if (v.low(countSlot) === 0) return true;
        const last = v.get(addressSlot) + 16n * BigInt(v.low(countSlot)) - 1n;
        return last >> BigInt(cpu.capabilities.physicalAddressBits) === 0n;
      },
      breaks: () => ({ [count]: 2n, [address]: (1n << 46n) - 16n }),
    },
  ];
}

export const EXIT_CONTROL_RULES = controlRules([
  {
    rule: 'reserved bits in the VM-exit controls must be set as IA32_VMX_(TRUE_)EXIT_CTLS says',
    reads: ['VM_EXIT_CONTROLS'],
    holds: (v, cpu) => isAllowed(v.low(VM_EXIT_CONTROLS), cpu.capabilities.exit),
    breaks: (valid) => ({ VM_EXIT_CONTROLS: withoutBits(valid, 'VM_EXIT_CONTROLS', 1) }),
  },
  {
    rule: 'if activate VMX-preemption timer is 0, save VMX-preemption timer value must be 0',
    reads: [pinBits(PIN.PREEMPTION_TIMER), 'VM_EXIT_CONTROLS'],
    holds: (v) => pin(v, PIN.PREEMPTION_TIMER) || !exit(v, EXIT_CONTROL.SAVE_VMX_PREEMPTION_TIMER),
    breaks: (valid) => ({
      PIN_BASED_VM_EXEC_CONTROL: withoutBits(
        valid,
        'PIN_BASED_VM_EXEC_CONTROL',
        PIN.PREEMPTION_TIMER,
      ),
      VM_EXIT_CONTROLS: withBits(valid, 'VM_EXIT_CONTROLS', EXIT_CONTROL.SAVE_VMX_PREEMPTION_TIMER),
    }),
  },
  ...msrAreaRows('VM-exit MSR-store', 'VM_EXIT_MSR_STORE_COUNT', 'VM_EXIT_MSR_STORE_ADDR'),
  ...msrAreaRows('VM-exit MSR-load', 'VM_EXIT_MSR_LOAD_COUNT', 'VM_EXIT_MSR_LOAD_ADDR'),
]);
