/**
 * VMX instructions with good and bad operands, from VMX root operation with a fresh current VMCS.
 *
 * Source: SDM, "VMX Instruction Reference": each title is a condition of an instruction's operation.
 * Invariant: a case ends in VMX operation.
 * Not here: VMCALL in root operation, at which Bochs stops itself; what VM entries check, which is entry-rows.ts'.
 */
import { u64 } from '../../abi/uint.js';
import { VECTOR, encodeInterruption } from '../../abi/interruption.js';
import { VMCS_ENCODING, type FieldName } from '../../abi/vmcs-fields.js';
import { VALID_VMCS_PAGES } from '../vmx/description.js';
import type { VmxInstruction } from '../vmx/vmx-instructions.js';
import { LAYOUT } from './layout.js';

/** An entry that comes back with an exit: the guest's first fetch has no translation, or the entry fails after its checks. */
export interface Enter {
  readonly name: 'ENTER';
  readonly how: 'launch' | 'resume';
}

/** Something that a later instruction looks at: a control register outside VMX operation, or a region's first word. */
export type Precondition =
  | { readonly name: 'CR0' | 'CR4'; readonly value: bigint }
  /** The processor's revision identifier and these bits. */
  | { readonly name: 'REVISION'; readonly region: bigint; readonly bits: number };

/** One step: an instruction that goes on behind itself, an entry, or what answers nothing. */
export type VmxStep = VmxInstruction | Enter | Precondition;

/** Steps in their order; what each answers is compared. */
export interface VmxInstructionCase {
  readonly title: string;
  readonly steps: readonly VmxStep[];
}

const { VMXON_REGION, VMCS_REGION } = LAYOUT;
const OTHER_REGION = VALID_VMCS_PAGES.otherSpare;
const BEYOND = 1n << 51n;
const NO_FIELD = 0x6c40n;
const UD = encodeInterruption('HARD_EXCEPTION', VECTOR.UD);

const vmxon = (pointer: bigint = VMXON_REGION): VmxInstruction => ({ name: 'VMXON', pointer });
const vmclear = (pointer: bigint): VmxInstruction => ({ name: 'VMCLEAR', pointer });
const vmptrld = (pointer: bigint): VmxInstruction => ({ name: 'VMPTRLD', pointer });
const vmread = (encoding: bigint): VmxInstruction => ({ name: 'VMREAD', encoding });
const vmwrite = (encoding: bigint, value: bigint): VmxInstruction => ({
  name: 'VMWRITE',
  encoding,
  value,
});
const field = (name: FieldName): bigint => BigInt(VMCS_ENCODING[name]);
const invept = (type: bigint, low: bigint, high = 0n): VmxInstruction => ({
  name: 'INVEPT',
  type,
  descriptor: [low, high],
});
const invvpid = (type: bigint, low: bigint, linear = 0n): VmxInstruction => ({
  name: 'INVVPID',
  type,
  descriptor: [low, linear],
});
const VMXOFF: VmxInstruction = { name: 'VMXOFF' };
const VMPTRST: VmxInstruction = { name: 'VMPTRST' };
const VMLAUNCH: VmxInstruction = { name: 'VMLAUNCH' };
const VMRESUME: VmxInstruction = { name: 'VMRESUME' };

const cr0 = (value: bigint): Precondition => ({ name: 'CR0', value });
const cr4 = (value: bigint): Precondition => ({ name: 'CR4', value });
const revision = (region: bigint, bits: number): Precondition => ({
  name: 'REVISION',
  region,
  bits,
});
/** The monitor's own, and what the next cases leave out of them. */
const CR0_HOST = 0x8005_0033n;
const CR0_NE = 0x20n;
const CR4_HOST = 0x0005_2660n & ~0x2000n;
const CR4_VMX = CR4_HOST | 0x2000n;

const LAUNCH: Enter = { name: 'ENTER', how: 'launch' };
const RESUME: Enter = { name: 'ENTER', how: 'resume' };

const one = (title: string, ...steps: readonly VmxStep[]): VmxInstructionCase => ({
  title,
  steps,
});

const POINTERS: readonly VmxInstructionCase[] = [
  one('VMXON in root operation fails with 15', vmxon()),
  one('VMXON in root operation fails with 15 whatever its operand', vmxon(VMXON_REGION + 8n)),
  one('VMCLEAR of an address that is not aligned', vmclear(OTHER_REGION + 0x800n)),
  one('VMCLEAR beyond the physical width', vmclear(BEYOND)),
  one('VMCLEAR of the VMXON pointer', vmclear(VMXON_REGION)),
  one('VMCLEAR of the current VMCS leaves none', vmclear(VMCS_REGION), VMPTRST),
  one('VMCLEAR of another region leaves the current one', vmclear(OTHER_REGION), VMPTRST),
  one('VMPTRLD of an address that is not aligned', vmptrld(OTHER_REGION + 1n)),
  one('VMPTRLD beyond the physical width', vmptrld(BEYOND)),
  one('VMPTRLD of the VMXON pointer', vmptrld(VMXON_REGION)),
  one('VMPTRLD of a region with another revision', vmptrld(VALID_VMCS_PAGES.spare)),
  one('VMPTRLD that fails keeps the current VMCS', vmptrld(BEYOND), VMPTRST),
  one('VMPTRLD of the current VMCS', vmptrld(VMCS_REGION), VMPTRST),
  one('VMPTRST after VMCLEAR stores all ones', vmclear(VMCS_REGION), VMPTRST),
];

const FIELDS: readonly VmxInstructionCase[] = [
  one(
    'VMWRITE and VMREAD',
    vmwrite(field('GUEST_RIP'), 0x1234_5678_9abcn),
    vmread(field('GUEST_RIP')),
  ),
  one(
    'a 16-bit field keeps 16 bits',
    vmwrite(field('GUEST_CS_SELECTOR'), 0x1234_5678n),
    vmread(field('GUEST_CS_SELECTOR')),
  ),
  one(
    'a 32-bit field keeps 32 bits',
    vmwrite(field('GUEST_CS_LIMIT'), 0x1_2345_6789n),
    vmread(field('GUEST_CS_LIMIT')),
  ),
  one(
    'a natural-width field keeps 64 bits',
    vmwrite(field('HOST_RSP'), u64(-2n)),
    vmread(field('HOST_RSP')),
  ),
  one(
    'the high half of a 64-bit field',
    vmwrite(field('TSC_OFFSET'), 0x1111_2222_3333_4444n),
    vmwrite(field('TSC_OFFSET') + 1n, 0xaaaa_bbbb_cccc_ddddn),
    vmread(field('TSC_OFFSET')),
    vmread(field('TSC_OFFSET') + 1n),
  ),
  one('VMREAD of a component that is not supported', vmread(NO_FIELD)),
  one('VMWRITE of a component that is not supported', vmwrite(NO_FIELD, 1n)),
  one('VMREAD of an encoding beyond 32 bits', vmread(0x1_0000_681en)),
  one('VMREAD of the high half of a natural-width field', vmread(field('GUEST_RIP') + 1n)),
  one(
    'VMWRITE of a read-only component, as IA32_VMX_MISC says',
    vmwrite(field('EXIT_QUALIFICATION'), 7n),
  ),
  one(
    'a failed instruction leaves its number',
    vmptrld(BEYOND),
    vmread(field('VM_INSTRUCTION_ERROR')),
  ),
  one('VMREAD without a current VMCS', vmclear(VMCS_REGION), vmread(field('GUEST_RIP'))),
  one('VMWRITE without a current VMCS', vmclear(VMCS_REGION), vmwrite(field('GUEST_RIP'), 1n)),
  one('VMREAD of no field without a current VMCS', vmclear(VMCS_REGION), vmread(NO_FIELD)),
];

const ENTRIES: readonly VmxInstructionCase[] = [
  one('VMLAUNCH without a current VMCS', vmclear(VMCS_REGION), VMLAUNCH),
  one('VMRESUME without a current VMCS', vmclear(VMCS_REGION), VMRESUME),
  one('VMRESUME of a VMCS that is not launched', VMRESUME),
  one('VMLAUNCH of a VMCS that is launched', LAUNCH, VMLAUNCH),
  one('VMRESUME of a VMCS that is launched', LAUNCH, RESUME, VMLAUNCH),
  one(
    'VMCLEAR makes a launched VMCS clear',
    LAUNCH,
    vmclear(VMCS_REGION),
    vmptrld(VMCS_REGION),
    VMRESUME,
    LAUNCH,
  ),
  one(
    'an entry that fails on guest state leaves the VMCS clear',
    vmwrite(field('GUEST_RFLAGS'), 0n),
    LAUNCH,
    VMRESUME,
  ),
  one(
    'an entry that fails on guest state leaves the event to inject valid',
    vmwrite(field('VM_ENTRY_INTR_INFO_FIELD'), BigInt(UD)),
    vmwrite(field('GUEST_RFLAGS'), 0n),
    LAUNCH,
    vmread(field('VM_ENTRY_INTR_INFO_FIELD')),
  ),
  one(
    'an exit takes the valid bit from the event that was injected',
    vmwrite(field('VM_ENTRY_INTR_INFO_FIELD'), BigInt(UD)),
    LAUNCH,
    vmread(field('VM_ENTRY_INTR_INFO_FIELD')),
  ),
  one(
    'a VMCS that is current again keeps its state',
    vmwrite(field('HOST_RIP'), 0x77n),
    vmptrld(VMCS_REGION),
    vmread(field('HOST_RIP')),
    VMRESUME,
  ),
];

const MODES: readonly VmxInstructionCase[] = [
  one(
    'behind VMXOFF nothing but VMXON is there',
    VMXOFF,
    vmread(0x681en),
    VMPTRST,
    vmclear(VMCS_REGION),
    vmxon(),
  ),
  one('VMXOFF outside VMX operation', VMXOFF, VMXOFF, vmxon()),
  one('VMXON makes no VMCS current', VMXOFF, vmxon(), VMPTRST),
  one('VMXON of an address that is not aligned', VMXOFF, vmxon(VMXON_REGION + 0x10n), vmxon()),
  one('VMXON beyond the physical width', VMXOFF, vmxon(BEYOND), vmxon()),
  one('VMXON of a region with another revision', VMXOFF, vmxon(VALID_VMCS_PAGES.spare), vmxon()),
  one('VMPTRLD that fails without a current VMCS', VMXOFF, vmxon(), vmptrld(BEYOND)),
  one('VMXON with CR4.VMXE clear is #UD', VMXOFF, cr4(CR4_HOST), vmxon(), cr4(CR4_VMX), vmxon()),
  one(
    'VMXON with a bit of CR0 clear that VMX operation fixes is #GP',
    VMXOFF,
    cr0(CR0_HOST & ~CR0_NE),
    vmxon(),
    cr0(CR0_HOST),
    vmxon(),
  ),
];

const SHADOW = 0x8000_0000 | 0;
const SHADOWS: readonly VmxInstructionCase[] = [
  one('VMPTRLD of a shadow VMCS', revision(OTHER_REGION, SHADOW), vmptrld(OTHER_REGION), VMPTRST),
  one(
    'VMLAUNCH and VMRESUME of a shadow VMCS',
    revision(OTHER_REGION, SHADOW),
    vmptrld(OTHER_REGION),
    VMLAUNCH,
    VMRESUME,
  ),
  one(
    'VMXON of a region with bit 31 of its revision',
    VMXOFF,
    revision(OTHER_REGION, SHADOW),
    vmxon(OTHER_REGION),
    vmxon(),
  ),
  one(
    'VMPTRLD of a region with another bit of the revision',
    revision(OTHER_REGION, 1 << 30),
    vmptrld(OTHER_REGION),
  ),
];

const VPID = 1n;
const EPTP = VALID_VMCS_PAGES.eptPml4 | 0x1en;

const INVALIDATIONS: readonly VmxInstructionCase[] = [
  ...[0n, 1n, 2n, 3n, 1n << 32n].map((type) =>
    one(`INVEPT of type ${type.toString()}`, invept(type, EPTP)),
  ),
  one('INVEPT of one context with a memory type that is none', invept(1n, (EPTP & ~7n) | 3n)),
  one('INVEPT of one context with another walk length', invept(1n, EPTP & ~0x38n)),
  one('INVEPT of one context with reserved bits in the EPTP', invept(1n, EPTP | 0x100n)),
  one('INVEPT of all contexts takes any EPTP', invept(2n, 0xfffn)),
  one('INVEPT does not look at the high half of its descriptor', invept(2n, EPTP, 1n)),
  ...[0n, 1n, 2n, 3n, 4n].map((type) =>
    one(`INVVPID of type ${type.toString()}`, invvpid(type, VPID, 0x1000n)),
  ),
  ...[0n, 1n, 2n, 3n].map((type) =>
    one(`INVVPID of type ${type.toString()} with VPID 0`, invvpid(type, 0n)),
  ),
  ...[0n, 1n, 2n, 3n].map((type) =>
    one(
      `INVVPID of type ${type.toString()} with reserved bits in its descriptor`,
      invvpid(type, VPID | 0x1_0000n),
    ),
  ),
  ...[0n, 1n].map((type) =>
    one(
      `INVVPID of type ${type.toString()} with an address that is not canonical`,
      invvpid(type, VPID, 1n << 63n),
    ),
  ),
];

/** Every case. */
export const VMX_INSTRUCTION_CASES: readonly VmxInstructionCase[] = [
  ...POINTERS,
  ...FIELDS,
  ...ENTRIES,
  ...MODES,
  ...SHADOWS,
  ...INVALIDATIONS,
];
