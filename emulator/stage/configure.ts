/**
 * Changes of the shared configuration that KVM may make while the vCPU is stopped.
 *
 * Source: CONTRACT ("Shared configuration", "Exit policy per reason"); abi/config.ts.
 * Invariant: what results is a configuration that KVM could have written: actions and policies are enumerators, tables
 * keep their order and length.
 */
import {
  CARETAKER_CONFIG,
  CARETAKER_EXIT_POLICY_MAX,
  CARETAKER_HLT_POLICY,
  CARETAKER_MSR_ACTION,
} from '../../abi/config.js';
import { StructView } from '../../abi/layout.js';
import type { KvmVcpu } from '../host/kvm/vcpu.js';
import type { PhysicalMemory } from '../memory/physical-memory.js';
import type { Op } from './input.js';

type Configure = Extract<Op, { kind: 'configure' }>;

/** Applies one change to a vCPU's configuration; any numbers mean something. */
export function changeConfiguration(
  memory: PhysicalMemory,
  vcpu: KvmVcpu,
  { what, index, value }: Configure,
): void {
  const view = new StructView(CARETAKER_CONFIG, memory, vcpu.memory.at('config'));
  const row = (count: string): number => index % Math.max(1, view.number(count));
  switch (what % 5) {
    case 0:
      view.set(`exit_policy[${index % CARETAKER_EXIT_POLICY_MAX}]`, value & 3);
      return;
    case 1:
      view.set(
        'hlt_policy',
        (value & 1) !== 0 ? CARETAKER_HLT_POLICY.ROOT : CARETAKER_HLT_POLICY.ACTIVITY,
      );
      return;
    case 2: {
      // A field of the VMCS stays one: the action would have no field to name.
      const at = `msr[${row('msr_count')}]`;
      if (view.number(`${at}.vmcs_field`) !== 0) return;
      const field = (value & 0x80) === 0 ? 'read_action' : 'write_action';
      view.set(`${at}.${field}`, ACTIONS[value % ACTIONS.length]!);
      return;
    }
    case 3:
      view.set(`msr[${row('msr_count')}].writable`, WRITABLE[value % WRITABLE.length]!);
      return;
    default:
      view.set(`cpuid[${row('cpuid_count')}].${OUTPUTS[value & 3]!}`, value * 0x0101_0101);
  }
}

const { ROUTE, VALUE, IGNORE, FAULT } = CARETAKER_MSR_ACTION;
const ACTIONS = [ROUTE, VALUE, IGNORE, FAULT] as const;
const WRITABLE = [0n, 0xffn, 0xffff_ffffn, 0xffff_ffff_ffff_ffffn] as const;
const OUTPUTS = ['eax', 'ebx', 'ecx', 'edx'] as const;
