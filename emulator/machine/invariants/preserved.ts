/**
 * preserved: what is serialized is deserialized field by field, and a kernel that takes a vCPU over changes nothing that
 * the guest could see.
 *
 * Source: CONTRACT ("Reachable and preserved", "Soft state", "Stop and serialize").
 * Invariant: the next kernel's idea of a vCPU is compared when it is retrieved, guest memory and the payload's text with
 * what they were when the gap began, and everything else just before and just after the VMCS is replaced, with the exit
 * at hand answered already: so nothing need be left out.
 */
import { CARETAKER_CCB } from '../../../abi/ccb.js';
import { elementBytes, fieldOf, type StructLayout } from '../../../abi/layout.js';
import { CARETAKER_SOFT_STATE } from '../../../abi/soft-state.js';
import { CARETAKER_TELEMETRY } from '../../../abi/telemetry.js';
import { hex } from '../../../abi/uint.js';
import { VMCS_FIELDS, type FieldName } from '../../../abi/vmcs-fields.js';
import { PAGE_SIZE } from '../../memory/physical-memory.js';
import type { KvmVcpu } from '../../host/kvm/vcpu.js';
import type { PagesName } from '../../host/kvm/vcpu-memory.js';
import type { RegisterName } from '../../cpu/registers.js';
import type { Lane } from '../lane.js';
import type { Ledger } from '../ledger.js';
import type { Invariant } from './invariant.js';

const ID = 'preserved';

/** Controls that a guest would notice; the addresses of KVM's own pages among them have not moved either. */
// prettier-ignore
const CONTROLS = new Set<FieldName>([
  'PIN_BASED_VM_EXEC_CONTROL', 'CPU_BASED_VM_EXEC_CONTROL', 'SECONDARY_VM_EXEC_CONTROL', 'EXCEPTION_BITMAP',
  'CR0_GUEST_HOST_MASK', 'CR4_GUEST_HOST_MASK', 'CR0_READ_SHADOW', 'CR4_READ_SHADOW', 'TSC_OFFSET', 'EPT_POINTER',
  'MSR_BITMAP', 'VIRTUAL_PROCESSOR_ID', 'VM_ENTRY_INTR_INFO_FIELD', 'VM_ENTRY_EXCEPTION_ERROR_CODE',
  'VM_ENTRY_INSTRUCTION_LEN',
]);
const COMPARED = VMCS_FIELDS.filter(({ name, type }) => type === 'guest' || CONTROLS.has(name));

/** What VM exit leaves in the core for the guest. */
// prettier-ignore
const KEPT = ['CR2', 'DR0', 'DR1', 'DR2', 'DR3', 'DR6', 'XCR0'] as const satisfies readonly RegisterName[];

/** Pages that stay where they are; the VMCS of the next kernel is a new one. */
// prettier-ignore
const PAGES: readonly PagesName[] = [
  'instance', 'stack', 'config', 'telemetry', 'softState', 'vmcs', 'vmxon', 'msrBitmap', 'virtualApic', 'tables',
  'shadowStack',
];

/** Every value that must come through, by its name. */
type Facts = ReadonlyMap<string, bigint>;

export function preserved(): Invariant {
  const taken = new Map<number, Facts>();
  const unchanging = new Map<number, readonly Stretch[]>();
  return {
    id: ID,
    holdsWhen: 'what is serialized is deserialized field by field',

    atStop: vmcsIsInMemory,
    atPark: vmcsIsInMemory,

    atGap(lane: Lane): void {
      unchanging.set(lane.id, bytesThatStay(lane));
    },

    atAdopt(lane: Lane, ledger: Ledger, before: KvmVcpu): void {
      for (const { what, base, sizeBytes, digest } of unchanging.get(lane.id) ?? []) {
        ledger.expect(
          ID,
          digestOf(lane, base, sizeBytes) === digest,
          BigInt(base),
          () => `vCPU ${lane.id}: ${what} at ${hex(base)} changed in the gap`,
        );
      }
      if (before === lane.vcpu) return;
      compare(lane, ledger, identityOf(before), identityOf(lane.vcpu), 'in the next kernel');
    },

    beforeTakeOver(lane: Lane): void {
      taken.set(lane.id, factsOf(lane));
    },

    atTakeOver(lane: Lane, ledger: Ledger): void {
      const before = taken.get(lane.id);
      taken.delete(lane.id);
      if (before !== undefined) compare(lane, ledger, before, factsOf(lane), 'after the take-over');
    },
  };
}

/** Nobody can read the guest out of a core that keeps its VMCS. */
function vmcsIsInMemory(lane: Lane, ledger: Ledger): void {
  const { pcpu, vcpu } = lane;
  ledger.expect(
    ID,
    pcpu.vmcsStore.isInMemory(vcpu.vmcsRegion),
    lane.rip,
    () => `${lane.describeExit()}: says ${vcpu.payloadState} without VMCLEAR of its VMCS`,
  );
}

function compare(lane: Lane, ledger: Ledger, before: Facts, after: Facts, when: string): void {
  for (const [name, value] of before) {
    const now = after.get(name);
    ledger.expect(
      ID,
      now === value,
      lane.rip,
      () =>
        `vCPU ${lane.id}: ${name} was ${hex(value)}, is ${now === undefined ? 'gone' : hex(now)} ${when}`,
    );
  }
}

/** The vCPU as its kernel has it. */
function identityOf(vcpu: KvmVcpu): Facts {
  const there = PAGES.filter((what) => vcpu.memory.has(what));
  const pages = there.map((what) => [`the address of ${what}`, vcpu.memory.at(what)] as const);
  return new Map<string, bigint>([
    ...pages,
    ['the APIC id', BigInt(vcpu.apicId)],
    ['the core', BigInt(vcpu.pcpu)],
    ['the CCB', vcpu.ccb],
    ["the root of the payload's tables", vcpu.isolatedCr3],
    ['the VMCS region', vcpu.vmcsRegion],
    ['the number of mapped ranges', BigInt(vcpu.ranges.length)],
  ]);
}

/** Guest state in the VMCS, in the core, in the save area and in soft state; and what the payload has counted. */
function factsOf(lane: Lane): Facts {
  const { pcpu, vcpu } = lane;
  const vmcs = pcpu.vmx.current;
  const facts = new Map<string, bigint>();
  for (const { name, slot } of COMPARED)
    if (vmcs?.isPoison(slot) === false) facts.set(name, vmcs.get(slot));
  for (const name of KEPT) facts.set(name, pcpu.registers.get(name));
  const vectors = lane.engine.vectors();
  const view = new DataView(vectors.buffer, vectors.byteOffset, vectors.byteLength);
  for (let at = 0; at < vectors.length; at += 8)
    facts.set(`XMM${at >>> 4}${(at & 8) === 0 ? '' : ' (high)'}`, view.getBigUint64(at, true));
  for (const [name, value] of pcpu.apic.configuration())
    facts.set(`the local APIC's ${name}`, value);
  addStruct(facts, lane, CARETAKER_SOFT_STATE, vcpu.memory.at('softState'), 'soft state');
  addStruct(facts, lane, CARETAKER_TELEMETRY, vcpu.memory.at('telemetry'), 'telemetry');
  const sizeBytes = SAVE_AREA.count * elementBytes(SAVE_AREA);
  addWords(facts, lane, vcpu.ccb + BigInt(SAVE_AREA.offset), sizeBytes, () => 'the save area');
  return facts;
}

const SAVE_AREA = fieldOf(CARETAKER_CCB, 'registers');

function addStruct(
  facts: Map<string, bigint>,
  lane: Lane,
  layout: StructLayout,
  base: bigint,
  what: string,
): void {
  const nameAt = (offset: number): string =>
    `${what}.${layout.fields.findLast((field) => field.offset <= offset)!.name}`;
  addWords(facts, lane, base, layout.sizeBytes, nameAt);
}

/** 64 bits at a time, by the name of the field that they lie in. */
function addWords(
  facts: Map<string, bigint>,
  lane: Lane,
  base: bigint,
  sizeBytes: number,
  nameAt: (offset: number) => string,
): void {
  for (let offset = 0; offset < sizeBytes; offset += 8) {
    const value = lane.memory.bytes.readU64(base + BigInt(offset));
    facts.set(`${nameAt(offset)} at offset ${hex(offset)}`, value);
  }
}

/** Bytes that nobody writes while the vCPU runs alone. */
interface Stretch {
  readonly what: string;
  readonly base: number;
  readonly sizeBytes: number;
  readonly digest: number;
}

/** The payload's text, and, once for all vCPUs, guest memory: the guest executes nothing here. */
function bytesThatStay(lane: Lane): readonly Stretch[] {
  const text = lane.vcpu.ranges
    .filter(({ executable }) => executable)
    .map(({ base, sizeBytes }) => ({
      what: 'the text',
      base: lane.memory.offset(base),
      sizeBytes,
    }));
  const guest = lane.memory.bytes
    .regions()
    .filter(({ owner }) => owner === 'guest' && lane.id === 0)
    .flatMap(({ label, base, sizeBytes }) => withoutDma(lane, { what: label, base, sizeBytes }));
  return [...text, ...guest].map((stretch) => ({
    ...stretch,
    digest: digestOf(lane, stretch.base, stretch.sizeBytes),
  }));
}

/** What a device writes is not the update's to keep. */
function withoutDma(
  lane: Lane,
  whole: Omit<Stretch, 'digest'>,
): readonly Omit<Stretch, 'digest'>[] {
  const dma = lane.dmaPage();
  const end = whole.base + whole.sizeBytes;
  if (dma === null || dma < whole.base || dma >= end) return [whole];
  return [
    { ...whole, sizeBytes: dma - whole.base },
    { ...whole, base: dma + PAGE_SIZE, sizeBytes: end - dma - PAGE_SIZE },
  ];
}

/** FNV-1a over 32-bit words. */
function digestOf(lane: Lane, base: number, sizeBytes: number): number {
  const { words } = lane.memory;
  const end = (base + sizeBytes) >>> 2;
  let hash = 0x811c_9dc5;
  for (let at = base >>> 2; at < end; at++) hash = Math.imul(hash ^ words[at]!, 0x0100_0193);
  return hash;
}
