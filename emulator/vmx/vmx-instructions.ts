/**
 * The VMX instructions as VMX root operation executes them: operands in, result and flags out.
 *
 * Source: SDM, "VMX Instruction Reference" (each instruction's operation), "Conventions" (VMsucceed, VMfail).
 * Invariant: RFLAGS changes only for an instruction that completes; an exception changes nothing. The caller has
 * read the memory operand and advances RIP.
 * Not modelled: execution in VMX non-root operation (those exits come from the guest model), SMM, what INVVPID does to
 * translations (those of linear addresses are not cached), compatibility mode.
 */
import { HarnessBug, unreachable } from '../../abi/errors.js';
import { VECTOR } from '../../abi/interruption.js';
import { FEATURE_CONTROL, MSR } from '../../abi/msrs.js';
import { hex, isCanonical } from '../../abi/uint.js';
import { VMXERR, type VmInstructionError } from '../../abi/vm-errors.js';
import {
  VMCS_SLOT,
  accessOf,
  fieldAt,
  slotBits,
  type FieldName,
  type VmcsField,
} from '../../abi/vmcs-fields.js';
import { SECONDARY } from '../../abi/vmx-controls.js';
import { RFLAGS, RFLAGS_ARITHMETIC } from '../cpu/registers.js';
import { CR, EPT_VPID_CAP, isPhysicalAddress } from './capabilities.js';
import { NO_VMCS } from './description.js';
import type { VmxPcpu } from './ports.js';
import { VMCS_REGION_BYTES } from './vmcs-store.js';
import { vmEntry, type VmEntry } from './vm-entry.js';
import type { Vmcs } from './vmcs.js';

/** A VMX instruction with its operand values; memory operands have been read. */
export type VmxInstruction =
  | { readonly name: 'VMXON'; readonly pointer: bigint }
  | { readonly name: 'VMPTRLD' | 'VMCLEAR'; readonly pointer: bigint }
  | { readonly name: 'VMXOFF' | 'VMLAUNCH' | 'VMRESUME' | 'VMCALL' | 'VMPTRST' }
  | { readonly name: 'VMREAD'; readonly encoding: bigint }
  | { readonly name: 'VMWRITE'; readonly encoding: bigint; readonly value: bigint }
  | {
      readonly name: 'INVEPT' | 'INVVPID';
      readonly type: bigint;
      /** The 128-bit descriptor, low half first. */
      readonly descriptor: readonly [bigint, bigint];
    };

/** The mnemonic of a VMX instruction. */
export type VmxInstructionName = VmxInstruction['name'];

/** How a VMX instruction ended; RFLAGS and the VM-instruction error field are written already. */
export type VmxResult =
  /** `value` is what VMREAD or VMPTRST delivers; `poison` names a field whose value is undefined. */
  | { readonly kind: 'succeed'; readonly value?: bigint; readonly poison?: FieldName }
  | { readonly kind: 'vmfail-invalid' }
  | { readonly kind: 'vmfail-valid'; readonly error: number; readonly rule?: string }
  | { readonly kind: 'exception'; readonly vector: number; readonly errorCode: number | null }
  /** VMLAUNCH or VMRESUME got past VMfail: the guest runs, or the host state is loaded again. */
  | { readonly kind: 'entry'; readonly entry: Exclude<VmEntry, { kind: 'vmfail' }> };

const INVALID_OPCODE: VmxResult = { kind: 'exception', vector: VECTOR.UD, errorCode: null };
const GENERAL_PROTECTION: VmxResult = { kind: 'exception', vector: VECTOR.GP, errorCode: 0 };

/** Executes one VMX instruction in VMX root operation or outside VMX operation. */
export function execute(pcpu: VmxPcpu, instruction: VmxInstruction): VmxResult {
  const { mode } = pcpu.vmx;
  if (mode === 'non-root' || mode === 'aborted') {
    throw new HarnessBug(`${instruction.name} given to the root model in mode ${mode}`);
  }
  if (instruction.name === 'VMXON') return vmxon(pcpu, instruction.pointer);
  if (mode === 'off') return INVALID_OPCODE;
  if (currentPrivilege(pcpu) !== 0) return GENERAL_PROTECTION;
  switch (instruction.name) {
    case 'VMXOFF':
      return vmxoff(pcpu);
    case 'VMPTRLD':
      return vmptrld(pcpu, instruction.pointer);
    case 'VMPTRST':
      return succeed(pcpu, { value: pcpu.vmx.current?.regionPa ?? NO_VMCS });
    case 'VMCLEAR':
      return vmclear(pcpu, instruction.pointer);
    case 'VMREAD':
      return vmread(pcpu, instruction.encoding);
    case 'VMWRITE':
      return vmwrite(pcpu, instruction.encoding, instruction.value);
    case 'VMLAUNCH':
    case 'VMRESUME':
      return enter(pcpu, instruction.name === 'VMLAUNCH' ? 'launch' : 'resume');
    case 'VMCALL':
      return vmfail(pcpu, VMXERR.VMXERR_VMCALL_IN_VMX_ROOT_OPERATION);
    case 'INVEPT':
      return invept(pcpu, instruction.type, instruction.descriptor);
    case 'INVVPID':
      return invvpid(pcpu, instruction.type, instruction.descriptor);
    default:
      return unreachable(instruction);
  }
}

function currentPrivilege(pcpu: VmxPcpu): number {
  return pcpu.registers.get('CS') % 4n === 0n ? 0 : 3;
}

function setFlags(pcpu: VmxPcpu, set: bigint): void {
  const flags = pcpu.registers.get('RFLAGS') & ~RFLAGS_ARITHMETIC;
  pcpu.registers.set('RFLAGS', flags | set);
}

function succeed(pcpu: VmxPcpu, delivers: { value?: bigint; poison?: FieldName } = {}): VmxResult {
  setFlags(pcpu, 0n);
  return { kind: 'succeed', ...delivers };
}

/** VMfailValid where there is a current VMCS to hold the number, else VMfailInvalid. */
function vmfail(pcpu: VmxPcpu, error: number, rule?: string): VmxResult {
  const { current } = pcpu.vmx;
  if (current === null) {
    setFlags(pcpu, RFLAGS.CF);
    return { kind: 'vmfail-invalid' };
  }
  setFlags(pcpu, RFLAGS.ZF);
  current.record(VMCS_SLOT.VM_INSTRUCTION_ERROR, error);
  return rule === undefined
    ? { kind: 'vmfail-valid', error }
    : { kind: 'vmfail-valid', error, rule };
}

function vmfailInvalid(pcpu: VmxPcpu): VmxResult {
  setFlags(pcpu, RFLAGS.CF);
  return { kind: 'vmfail-invalid' };
}

/** Whether a pointer operand is page aligned and within the physical-address width. */
function isRegionAddress(pcpu: VmxPcpu, pointer: bigint): boolean {
  return (
    pointer % BigInt(VMCS_REGION_BYTES) === 0n && isPhysicalAddress(pcpu.capabilities, pointer)
  );
}

/** Whether the region begins with this processor's revision identifier, and with no bit of `besides` above it. */
function hasRevision(pcpu: VmxPcpu, pointer: bigint, besides = 0): boolean {
  // DEVIATION: an address without memory reads as all ones instead of whatever the bus delivers.
  if (pointer + BigInt(VMCS_REGION_BYTES) > BigInt(pcpu.memory.sizeBytes)) return false;
  return (pcpu.memory.readU32(pointer) & ~besides) >>> 0 === pcpu.capabilities.revision;
}

/** Bit 31 of a region's first word, which makes it a shadow VMCS where the processor has VMCS shadowing. */
const SHADOW_INDICATOR = 0x8000_0000 | 0;

function offersShadowing({ capabilities }: VmxPcpu): boolean {
  return (capabilities.secondary.allowed1 & SECONDARY.SHADOW_VMCS) !== 0;
}

function vmxon(pcpu: VmxPcpu, pointer: bigint): VmxResult {
  const { registers, capabilities } = pcpu;
  const cr4 = registers.get('CR4');
  if ((cr4 & BigInt(CR.CR4_VMXE)) === 0n) return INVALID_OPCODE;
  if (pcpu.vmx.mode === 'root') {
    if (currentPrivilege(pcpu) !== 0) return GENERAL_PROTECTION;
    return vmfail(pcpu, VMXERR.VMXERR_VMXON_IN_VMX_ROOT_OPERATION);
  }
  const control = pcpu.msrs.read(MSR.IA32_FEATURE_CONTROL) ?? 0n;
  const enabled = FEATURE_CONTROL.LOCK | FEATURE_CONTROL.VMX_OUTSIDE_SMX;
  if (
    currentPrivilege(pcpu) !== 0 ||
    !isFixed(registers.get('CR0'), capabilities.cr0Fixed0, capabilities.cr0Fixed1) ||
    !isFixed(cr4, capabilities.cr4Fixed0, capabilities.cr4Fixed1) ||
    (control & enabled) !== enabled
  ) {
    return GENERAL_PROTECTION;
  }
  if (!isRegionAddress(pcpu, pointer) || !hasRevision(pcpu, pointer)) return vmfailInvalid(pcpu);
  pcpu.vmx.vmxonPointer = pointer;
  pcpu.vmx.current = null;
  pcpu.vmx.mode = 'root';
  return succeed(pcpu);
}

function isFixed(value: bigint, fixed0: bigint, fixed1: bigint): boolean {
  return (fixed0 & ~value) === 0n && (value & ~fixed1) === 0n;
}

function vmxoff(pcpu: VmxPcpu): VmxResult {
  pcpu.vmcsStore.dropAll(pcpu.id);
  pcpu.vmx.vmxonPointer = null;
  pcpu.vmx.current = null;
  pcpu.vmx.mode = 'off';
  return succeed(pcpu);
}

function vmptrld(pcpu: VmxPcpu, pointer: bigint): VmxResult {
  if (!isRegionAddress(pcpu, pointer)) {
    return vmfail(pcpu, VMXERR.VMXERR_VMPTRLD_INVALID_ADDRESS);
  }
  if (pointer === pcpu.vmx.vmxonPointer) return vmfail(pcpu, VMXERR.VMXERR_VMPTRLD_VMXON_POINTER);
  if (!hasRevision(pcpu, pointer, offersShadowing(pcpu) ? SHADOW_INDICATOR : 0)) {
    return vmfail(pcpu, VMXERR.VMXERR_VMPTRLD_INCORRECT_VMCS_REVISION_ID);
  }
  pcpu.vmx.current = pcpu.vmcsStore.activate(pcpu.id, pointer, pcpu.capabilities.revision);
  return succeed(pcpu);
}

function vmclear(pcpu: VmxPcpu, pointer: bigint): VmxResult {
  if (!isRegionAddress(pcpu, pointer)) {
    return vmfail(pcpu, VMXERR.VMXERR_VMCLEAR_INVALID_ADDRESS);
  }
  if (pointer === pcpu.vmx.vmxonPointer) return vmfail(pcpu, VMXERR.VMXERR_VMCLEAR_VMXON_POINTER);
  if (pointer + BigInt(VMCS_REGION_BYTES) <= BigInt(pcpu.memory.sizeBytes)) {
    pcpu.vmcsStore.clear(pcpu.id, pointer);
  }
  if (pcpu.vmx.current?.regionPa === pointer) pcpu.vmx.current = null;
  return succeed(pcpu);
}

function vmread(pcpu: VmxPcpu, encoding: bigint): VmxResult {
  const { current } = pcpu.vmx;
  if (current === null) return vmfailInvalid(pcpu);
  const access = accessOf(encoding);
  if (access === undefined) return vmfail(pcpu, VMXERR.VMXERR_UNSUPPORTED_VMCS_COMPONENT);
  const value = access.high ? BigInt(current.high(access.slot)) : current.get(access.slot);
  return current.isPoison(access.slot)
    ? succeed(pcpu, { value, poison: fieldAt(access.slot).name })
    : succeed(pcpu, { value });
}

function vmwrite(pcpu: VmxPcpu, encoding: bigint, value: bigint): VmxResult {
  const { current } = pcpu.vmx;
  if (current === null) return vmfailInvalid(pcpu);
  const access = accessOf(encoding);
  if (access === undefined) return vmfail(pcpu, VMXERR.VMXERR_UNSUPPORTED_VMCS_COMPONENT);
  if (fieldAt(access.slot).readOnly && !pcpu.capabilities.writesExitInformation) {
    return vmfail(pcpu, VMXERR.VMXERR_VMWRITE_READ_ONLY_VMCS_COMPONENT);
  }
  if (access.high) {
    const low = BigInt(current.low(access.slot));
    current.set(access.slot, ((value & 0xffff_ffffn) << 32n) | low);
  } else {
    current.set(access.slot, value);
  }
  return succeed(pcpu);
}

function isShadow({ memory }: VmxPcpu, { regionPa }: Vmcs): boolean {
  return (memory.readU32(regionPa) & SHADOW_INDICATOR) !== 0;
}

function enter(pcpu: VmxPcpu, how: 'launch' | 'resume'): VmxResult {
  const { current } = pcpu.vmx;
  if (current === null || isShadow(pcpu, current)) return vmfailInvalid(pcpu);
  const entry = vmEntry(pcpu, current, how);
  if (entry.kind === 'vmfail') return vmfail(pcpu, entry.error, entry.rule ?? undefined);
  return { kind: 'entry', entry };
}

const OPERAND_ERROR: VmInstructionError = VMXERR.VMXERR_INVALID_OPERAND_TO_INVEPT_INVVPID;

function invept(pcpu: VmxPcpu, type: bigint, descriptor: readonly [bigint, bigint]): VmxResult {
  const cap = pcpu.capabilities.eptVpidCap;
  if ((cap & EPT_VPID_CAP.INVEPT) === 0n) return INVALID_OPCODE;
  const offered =
    (type === 1n && (cap & EPT_VPID_CAP.INVEPT_SINGLE) !== 0n) ||
    (type === 2n && (cap & EPT_VPID_CAP.INVEPT_ALL) !== 0n);
  // The high half is to be zero, and no check of the instruction's operation says so.
  const isLegal = offered && (type !== 1n || isEptp(pcpu, descriptor[0]));
  if (!isLegal) return vmfail(pcpu, OPERAND_ERROR);
  pcpu.eptTlb.invalidate(type === 1n ? descriptor[0] : null);
  return succeed(pcpu);
}

/** Whether VM entry would accept the value as EPTP. */
function isEptp(pcpu: VmxPcpu, eptp: bigint): boolean {
  const type = eptp & 7n;
  return (
    (type === 0n || type === 6n) &&
    ((eptp >> 3n) & 7n) === 3n &&
    (eptp & 0xf00n) === 0n &&
    isPhysicalAddress(pcpu.capabilities, eptp)
  );
}

function invvpid(pcpu: VmxPcpu, type: bigint, descriptor: readonly [bigint, bigint]): VmxResult {
  const cap = pcpu.capabilities.eptVpidCap;
  if ((cap & EPT_VPID_CAP.INVVPID) === 0n) return INVALID_OPCODE;
  const offered = type <= 3n && (cap & (EPT_VPID_CAP.INVVPID_ADDRESS << type)) !== 0n;
  const [low, linear] = descriptor;
  const vpid = low & 0xffffn;
  const isLegal =
    offered &&
    low >> 16n === 0n &&
    (type === 2n || vpid !== 0n) &&
    (type !== 0n || isCanonical(linear));
  return isLegal ? succeed(pcpu) : vmfail(pcpu, OPERAND_ERROR);
}

/** The field that an encoding names, for reports; undefined for an unsupported component. */
export function fieldOfEncoding(encoding: bigint): VmcsField | undefined {
  const access = accessOf(encoding);
  return access === undefined ? undefined : fieldAt(access.slot);
}

/** A line for reports: `GUEST_RIP = 0x1234`, poison and width included. */
export function printField(vmcs: Vmcs, name: FieldName): string {
  const slot = VMCS_SLOT[name];
  if (vmcs.isPoison(slot)) return `${name} undefined`;
  return `${name} = ${hex(vmcs.get(slot), slotBits[slot]! / 4)}`;
}
