/** APIC virtualization and interrupt posting, rule by rule: the virtual-APIC page, RVI and SVI before and after. */
import { describe, expect, it } from 'vitest';
import { PI_CONTROL, PI_NDST_SHIFT, PI_NV_SHIFT } from '../../abi/posted-interrupt.js';
import { apicPageOffset, X2APIC } from '../../abi/x2apic.js';
import { PIN, PRIMARY, SECONDARY } from '../../abi/vmx-controls.js';
import { PhysicalMemory } from '../../emulator/memory/physical-memory.js';
import {
  VALID_VMCS_PAGES,
  validVmcs,
  type VmcsDescription,
} from '../../emulator/vmx/description.js';
import { nextEvent, type PendingEvents } from '../../emulator/vmx/events.js';
import { remap, type RemappingEntry } from '../../emulator/vmx/interrupt-remapping.js';
import { VirtualApic } from '../../emulator/vmx/virtual-apic.js';
import type { Vmcs } from '../../emulator/vmx/vmcs.js';
import { looseVmcs } from './fake-pcpu.js';

const PAGE = VALID_VMCS_PAGES.virtualApic;
const DESCRIPTOR = VALID_VMCS_PAGES.spare;
const NV = 0xf1;
const valid = validVmcs();

/** A guest whose virtual interrupts the processor delivers, posted ones too. */
const CONTROLS: VmcsDescription = {
  PIN_BASED_VM_EXEC_CONTROL: valid.PIN_BASED_VM_EXEC_CONTROL! | BigInt(PIN.POSTED_INTR),
  SECONDARY_VM_EXEC_CONTROL:
    valid.SECONDARY_VM_EXEC_CONTROL! |
    BigInt(
      SECONDARY.VIRTUALIZE_X2APIC_MODE |
        SECONDARY.APIC_REGISTER_VIRT |
        SECONDARY.VIRTUAL_INTR_DELIVERY,
    ),
  POSTED_INTR_DESC_ADDR: DESCRIPTOR,
  POSTED_INTR_NV: BigInt(NV),
};

/** What a guest's virtual APIC holds; absent is empty. */
interface Apic {
  readonly rvi?: number;
  readonly svi?: number;
  readonly tpr?: number;
  readonly ppr?: number;
  readonly irr?: readonly number[];
  readonly isr?: readonly number[];
}

const NAMES = ['rvi', 'svi', 'tpr', 'ppr'] as const;

function guest(
  before: Apic,
  overrides: VmcsDescription = {},
): { memory: PhysicalMemory; vmcs: Vmcs } {
  const memory = new PhysicalMemory(new ArrayBuffer(1 << 20));
  const vmcs = looseVmcs({
    ...valid,
    ...CONTROLS,
    GUEST_INTR_STATUS: BigInt(((before.svi ?? 0) << 8) | (before.rvi ?? 0)),
    ...overrides,
  });
  const put = (index: number, value: number): void =>
    memory.writeU32(PAGE + BigInt(apicPageOffset(index)), value);
  put(X2APIC.TPR, before.tpr ?? 0);
  put(X2APIC.PPR, before.ppr ?? 0);
  for (const [first, set] of [
    [X2APIC.IRR0, before.irr],
    [X2APIC.ISR0, before.isr],
  ] as const) {
    for (const vector of set ?? []) {
      const at = PAGE + BigInt(apicPageOffset(first + (vector >>> 5)));
      memory.writeU32(at, (memory.readU32(at) | (1 << (vector & 31))) >>> 0);
    }
  }
  return { memory, vmcs };
}

function apicOf(memory: PhysicalMemory, vmcs: Vmcs): Required<Apic> {
  const apic = new VirtualApic(memory, vmcs);
  const word = (index: number): number => memory.readU32(PAGE + BigInt(apicPageOffset(index)));
  const all = Array.from({ length: 256 }, (_, vector) => vector);
  return {
    rvi: apic.rvi,
    svi: apic.svi,
    tpr: word(X2APIC.TPR),
    ppr: word(X2APIC.PPR),
    irr: all.filter((vector) => apic.isRequested(vector)),
    isr: all.filter((vector) => apic.isInService(vector)),
  };
}

type Row = readonly [
  rule: string,
  before: Apic,
  act: (apic: VirtualApic) => unknown,
  after: Apic,
  outcome?: unknown,
];

const write = (index: number, value: number) => (apic: VirtualApic) => apic.writeMsr(index, value);
const DONE = { kind: 'done' };

// prettier-ignore
const ROWS: readonly Row[] = [
  ['PPR virtualization: VTPR where its class is not below that of SVI', { tpr: 0x47, svi: 0x41 }, (apic) => { apic.entered(); }, { tpr: 0x47, svi: 0x41, ppr: 0x47 }],
  ['PPR virtualization: the class of SVI where that is higher', { tpr: 0x37, svi: 0x45 }, (apic) => { apic.entered(); }, { tpr: 0x37, svi: 0x45, ppr: 0x40 }],
  ['TPR virtualization with virtual-interrupt delivery virtualizes PPR', { svi: 0x31 }, write(X2APIC.TPR, 0x50), { tpr: 0x50, svi: 0x31, ppr: 0x50 }, DONE],
  ['EOI virtualization clears SVI in VISR; SVI is the highest that is left', { svi: 0x81, isr: [0x31, 0x81] }, write(X2APIC.EOI, 0), { svi: 0x31, isr: [0x31], ppr: 0x30 }, DONE],
  ['EOI virtualization: SVI is 0 when VISR is empty', { svi: 0x81, isr: [0x81] }, write(X2APIC.EOI, 0), {}, DONE],
  ['self-IPI virtualization sets VIRR, and RVI where the vector is higher', { rvi: 0x31, irr: [0x31] }, write(X2APIC.SELF_IPI, 0x61), { rvi: 0x61, irr: [0x31, 0x61] }, DONE],
  ['self-IPI virtualization leaves a higher RVI', { rvi: 0x81, irr: [0x81] }, write(X2APIC.SELF_IPI, 0x61), { rvi: 0x81, irr: [0x61, 0x81] }, DONE],
  ['a write of the ICR is not virtualized without IPI virtualization', {}, write(X2APIC.ICR, 0x61), {}, { kind: 'no' }],
  ['virtual-interrupt delivery: RVI goes to VISR and SVI, VPPR to its class, RVI to the highest that is left', { rvi: 0x61, irr: [0x31, 0x61], svi: 0x41, isr: [0x41] }, (apic) => apic.deliver(), { rvi: 0x31, irr: [0x31], svi: 0x61, isr: [0x41, 0x61], ppr: 0x60 }, 0x61],
  ['virtual-interrupt delivery: RVI is 0 when VIRR is empty', { rvi: 0x61, irr: [0x61] }, (apic) => apic.deliver(), { svi: 0x61, isr: [0x61], ppr: 0x60 }, 0x61],
];

describe('the processor changes the virtual APIC as the rule says', () => {
  it.each(ROWS.map((row) => [row[0], row] as const))('%s', (_rule, row) => {
    const [, before, act, after, outcome] = row;
    const { memory, vmcs } = guest(before);
    expect(act(new VirtualApic(memory, vmcs))).toEqual(outcome);
    const zero = Object.fromEntries(NAMES.map((name) => [name, 0]));
    expect(apicOf(memory, vmcs)).toEqual({ ...zero, irr: [], isr: [], ...after });
  });

  it('an EOI whose vector has its bit in the EOI-exit bitmap is a VM exit, after all of that', () => {
    const { memory, vmcs } = guest({ svi: 0x81, isr: [0x81] }, { EOI_EXIT_BITMAP2: 2n });
    const outcome = new VirtualApic(memory, vmcs).writeMsr(X2APIC.EOI, 0);
    expect([outcome, apicOf(memory, vmcs).isr]).toEqual([{ kind: 'eoi-exit', vector: 0x81 }, []]);
  });

  it('the MSR bitmap comes first: an access that it intercepts is not virtualized', () => {
    const { memory, vmcs } = guest({ svi: 0x81, isr: [0x81] });
    memory.writeU8(
      vmcs.read('MSR_BITMAP') + 2048n + BigInt(X2APIC.EOI >>> 3),
      1 << (X2APIC.EOI & 7),
    );
    expect(new VirtualApic(memory, vmcs).writeMsr(X2APIC.EOI, 0)).toEqual({ kind: 'no' });
  });

  it('reads are virtualized with APIC-register virtualization; without, of TPR alone', () => {
    const { memory, vmcs } = guest({ tpr: 0x20, ppr: 0x30 });
    const read = (): unknown[] =>
      [X2APIC.TPR, X2APIC.PPR].map((index) => new VirtualApic(memory, vmcs).readMsr(index));
    expect(read()).toEqual([0x20, 0x30]);
    const without = vmcs.read('SECONDARY_VM_EXEC_CONTROL') & ~BigInt(SECONDARY.APIC_REGISTER_VIRT);
    vmcs.write('SECONDARY_VM_EXEC_CONTROL', without);
    expect(read()).toEqual([0x20, undefined]);
  });
});

describe('a pending virtual interrupt is recognized when', () => {
  it.each<[string, Apic, VmcsDescription, boolean]>([
    ['the class of RVI is above that of VPPR', { rvi: 0x41, ppr: 0x3f }, {}, true],
    ['not: it is the same class', { rvi: 0x4f, ppr: 0x40 }, {}, false],
    ['not: RVI is 0', {}, {}, false],
    [
      'not: interrupt-window exiting is 1',
      { rvi: 0x41 },
      {
        CPU_BASED_VM_EXEC_CONTROL:
          valid.CPU_BASED_VM_EXEC_CONTROL! | BigInt(PRIMARY.INTR_WINDOW_EXITING),
      },
      false,
    ],
  ])('%s', (_rule, before, overrides, isPending) => {
    const { memory, vmcs } = guest(before, overrides);
    expect(new VirtualApic(memory, vmcs).isPending).toBe(isPending);
  });
});

describe('at an instruction boundary', () => {
  const kindOf = (overrides: VmcsDescription, pending: PendingEvents): string => {
    const next = nextEvent(guest({}, overrides).vmcs, pending);
    return next.kind === 'exit' ? `exit ${next.exit.basic}` : next.kind;
  };

  it.each<[string, VmcsDescription, PendingEvents, string]>([
    ['a recognized virtual interrupt is delivered', {}, { virtualInterrupt: true }, 'virtual'],
    [
      'before an external interrupt',
      {},
      { virtualInterrupt: true, externalInterrupt: 0x41 },
      'virtual',
    ],
    ['after an NMI', {}, { virtualInterrupt: true, nmi: true }, 'exit 0'],
    [
      'after the VMX-preemption timer',
      {},
      { virtualInterrupt: true, timerExpired: true },
      'exit 52',
    ],
    ['not while IF is 0', { GUEST_RFLAGS: 2n }, { virtualInterrupt: true }, 'none'],
    [
      'not in the shadow of STI',
      { GUEST_INTERRUPTIBILITY_INFO: 1n },
      { virtualInterrupt: true },
      'none',
    ],
    [
      'not in the shadow of MOV SS',
      { GUEST_INTERRUPTIBILITY_INFO: 2n },
      { virtualInterrupt: true },
      'none',
    ],
    [
      'in the HLT state, which it ends',
      { GUEST_ACTIVITY_STATE: 1n },
      { virtualInterrupt: true },
      'virtual',
    ],
    ['not in the shutdown state', { GUEST_ACTIVITY_STATE: 2n }, { virtualInterrupt: true }, 'none'],
    ['the notification vector is no VM exit', {}, { externalInterrupt: NV }, 'notification'],
    ['whatever IF is', { GUEST_RFLAGS: 2n }, { externalInterrupt: NV }, 'notification'],
    ['any other vector is', {}, { externalInterrupt: NV - 1 }, 'exit 1'],
    [
      'so is that one without process posted interrupts',
      { PIN_BASED_VM_EXEC_CONTROL: valid.PIN_BASED_VM_EXEC_CONTROL! },
      { externalInterrupt: NV },
      'exit 1',
    ],
  ])('%s', (_rule, overrides, pending, kind) => {
    expect(kindOf(overrides, pending)).toBe(kind);
  });
});

describe('posted-interrupt processing', () => {
  const post = (memory: PhysicalMemory, vector: number): void => {
    remap(memory, { kind: 'posted', descriptor: DESCRIPTOR, vector, isUrgent: false });
  };
  const control = (memory: PhysicalMemory): bigint => memory.readU64(DESCRIPTOR + 32n);

  it('clears ON alone, moves PIR to VIRR, and makes RVI the highest of both', () => {
    const { memory, vmcs } = guest({ rvi: 0x31, irr: [0x31] });
    const aim = (BigInt(NV) << PI_NV_SHIFT) | (3n << PI_NDST_SHIFT);
    memory.writeU64(DESCRIPTOR + 32n, aim);
    for (const vector of [0x21, 0x91, 0x61]) post(memory, vector);
    expect(control(memory)).toBe(aim | PI_CONTROL.ON);
    new VirtualApic(memory, vmcs).processPosted();
    expect(apicOf(memory, vmcs)).toMatchObject({ rvi: 0x91, irr: [0x21, 0x31, 0x61, 0x91] });
    expect(control(memory)).toBe(aim);
    expect(memory.read(DESCRIPTOR, 32).every((byte) => byte === 0)).toBe(true);
  });

  it('leaves RVI where PIR has nothing higher', () => {
    const { memory, vmcs } = guest({ rvi: 0x81, irr: [0x81] });
    new VirtualApic(memory, vmcs).processPosted();
    post(memory, 0x41);
    new VirtualApic(memory, vmcs).processPosted();
    expect(apicOf(memory, vmcs)).toMatchObject({ rvi: 0x81, irr: [0x41, 0x81] });
  });
});

describe('the IOMMU', () => {
  const entry = (isUrgent: boolean): RemappingEntry => ({
    kind: 'posted',
    descriptor: DESCRIPTOR,
    vector: 0x61,
    isUrgent,
  });
  const AIM = (BigInt(NV) << PI_NV_SHIFT) | (3n << PI_NDST_SHIFT);
  const NOTIFIES = { apicId: 3, vector: NV };

  it.each<[string, bigint, boolean, unknown]>([
    ['notifies NDST with NV when neither ON nor SN is set', 0n, false, NOTIFIES],
    ['does not while a notification is outstanding', PI_CONTROL.ON, false, null],
    ['does not while notifications are suppressed', PI_CONTROL.SN, false, null],
    ['does so all the same for an urgent interrupt', PI_CONTROL.SN, true, NOTIFIES],
    [
      'does not for an urgent one while another is outstanding',
      PI_CONTROL.ON | PI_CONTROL.SN,
      true,
      null,
    ],
  ])('%s, and posts the request in any case', (_rule, bits, isUrgent, outcome) => {
    const { memory } = guest({});
    memory.writeU64(DESCRIPTOR + 32n, AIM | bits);
    expect(remap(memory, entry(isUrgent))).toEqual(outcome);
    expect(memory.readU64(DESCRIPTOR + 8n)).toBe(1n << 0x21n);
    const isOn = outcome !== null || (bits & PI_CONTROL.ON) !== 0n;
    expect(memory.readU64(DESCRIPTOR + 32n)).toBe(AIM | bits | (isOn ? PI_CONTROL.ON : 0n));
  });

  it('sends what is remapped to the local APIC that the entry names', () => {
    const remapped = { kind: 'remapped', apicId: 2, vector: 0x41 } as const;
    expect(remap(guest({}).memory, remapped)).toEqual({ apicId: 2, vector: 0x41 });
  });
});
