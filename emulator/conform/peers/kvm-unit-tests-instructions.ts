/**
 * kvm-unit-tests' cases on VMX instructions in root operation, each with our own cases that hold it on both machines.
 *
 * Source: kvm-unit-tests x86/vmx.c: main(); SDM, "VMX Instruction Reference".
 */
import { MSR } from '../../../abi/msrs.js';
import { hex, high32, low32 } from '../../../abi/uint.js';
import { CR, DEFAULT_CAPABILITIES, capabilityMsrs } from '../../vmx/capabilities.js';
import { execute } from '../../vmx/vmx-instructions.js';
import { ConformError } from '../errors.js';
import { LAYOUT } from '../layout.js';
import { modelPcpu } from '../model.js';
import { VMX_INSTRUCTION_CASES } from '../vmx-instruction-cases.js';
import type { PeerRow } from './peer-row.js';

const SOURCE = 'kvm-unit-tests x86/vmx.c';

/** Held by each of our cases whose title has one of the words. */
function held(test: string, what: string, ...words: readonly string[]): PeerRow {
  const titles = VMX_INSTRUCTION_CASES.map(({ title }) => title).filter((title) =>
    words.some((word) => title.includes(word)),
  );
  return { source: SOURCE, test, what, holder: { kind: 'cases', titles } };
}

function notOffered(test: string, what: string, why: string): PeerRow {
  return { source: SOURCE, test, what, holder: { kind: 'not-offered', why } };
}

const FLAGS_OF_A_FAULT =
  'the monitor of the second machine maps all memory, so nothing faults; on the model tests/vmx/root holds it';

/** VMXON is #GP(0) unless the MSR is locked and allows VMX outside SMX. */
function featureControl(): void {
  for (const value of [0n, 1n, 4n, 5n]) {
    const pcpu = modelPcpu(DEFAULT_CAPABILITIES);
    pcpu.registers.set('CR4', pcpu.registers.get('CR4') | BigInt(CR.CR4_VMXE));
    pcpu.msrs.load(MSR.IA32_FEATURE_CONTROL, value);
    const { kind } = execute(pcpu, { name: 'VMXON', pointer: LAYOUT.VMXON_REGION });
    const wanted = value === 5n ? 'succeed' : 'exception';
    if (kind !== wanted) throw new ConformError('PEER_CASE', `${hex(value)}: ${kind}`);
  }
}

/** What may be 0 and 1 fits together, and the TRUE MSRs only allow more. */
function consistentCapabilities(): void {
  const msrs = capabilityMsrs(DEFAULT_CAPABILITIES);
  const must = (holds: boolean, what: string): void => {
    if (!holds) throw new ConformError('PEER_CASE', what);
  };
  const halves = (index: number): readonly [low: number, high: number] => {
    const value = msrs.get(index)!;
    return [low32(value), high32(value)];
  };
  const pairs = [
    [MSR.IA32_VMX_PINBASED_CTLS, MSR.IA32_VMX_TRUE_PINBASED_CTLS],
    [MSR.IA32_VMX_PROCBASED_CTLS, MSR.IA32_VMX_TRUE_PROCBASED_CTLS],
    [MSR.IA32_VMX_EXIT_CTLS, MSR.IA32_VMX_TRUE_EXIT_CTLS],
    [MSR.IA32_VMX_ENTRY_CTLS, MSR.IA32_VMX_TRUE_ENTRY_CTLS],
  ] as const;
  for (const [plain, exact] of pairs) {
    const [must1, may1] = halves(plain);
    const [trueMust1, trueMay1] = halves(exact);
    must((must1 & ~may1) === 0, `${hex(plain)}: what must be 1 may be 1`);
    must((trueMust1 & ~must1) === 0, `${hex(exact)} asks for no more`);
    must(may1 === trueMay1, `${hex(exact)} allows the same`);
  }
  for (const [fixed0, fixed1] of [
    [MSR.IA32_VMX_CR0_FIXED0, MSR.IA32_VMX_CR0_FIXED1],
    [MSR.IA32_VMX_CR4_FIXED0, MSR.IA32_VMX_CR4_FIXED1],
  ] as const) {
    must((msrs.get(fixed0)! & ~msrs.get(fixed1)!) === 0n, `${hex(fixed0)} fits its pair`);
  }
  must((msrs.get(MSR.IA32_VMX_BASIC)! & 0x8000_0000n) === 0n, 'the revision has 31 bits');
}

const run = (test: string, what: string, holds: () => void): PeerRow => ({
  source: SOURCE,
  test,
  what,
  holder: { kind: 'run', run: holds },
});

/** The cases. */
export const VMX_INSTRUCTION_ROWS: readonly PeerRow[] = [
  held('test_vmxon', 'pointers that VMXON refuses, and a second VMXON', 'VMXON'),
  held('test_vmptrld', 'pointers that VMPTRLD refuses', 'VMPTRLD'),
  held('test_vmclear', 'pointers that VMCLEAR refuses', 'VMCLEAR'),
  held(
    'test_vmptrst',
    'VMPTRST stores the current pointer',
    'VMCLEAR of',
    'VMPTRLD of the current',
  ),
  held(
    'test_vmwrite_vmread',
    'fields keep what is written, as wide as they are',
    'VMWRITE',
    'field keeps',
  ),
  held('test_vmcs_high', 'the high halves of 64-bit fields', 'high half'),
  held(
    'test_vmcs_lifecycle',
    'a VMCS keeps its fields while another is cleared or current',
    'current again',
    'leaves the current one',
  ),
  run('test_vmx_feature_control', 'VMXON looks at IA32_FEATURE_CONTROL', featureControl),
  run('test_vmx_caps', 'the capability MSRs agree with each other', consistentCapabilities),
  notOffered('test_vmread_flags_touch', 'RFLAGS of a VMREAD that page-faults', FLAGS_OF_A_FAULT),
  notOffered('test_vmwrite_flags_touch', 'RFLAGS of a VMWRITE that page-faults', FLAGS_OF_A_FAULT),
];
