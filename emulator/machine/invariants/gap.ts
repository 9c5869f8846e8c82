/**
 * The invariants of a vCPU that runs alone: isolation, reachable-preserved, w-xor-x.
 *
 * Source: CONTRACT ("Reachable and preserved", "CR3 policies"); DESIGN ("Invariants").
 * Invariant: isolation holds by mapping: an access outside is a fault of the engine's, and the machine reports it. Here
 * the tables are proved to map registered pages only when the gap begins, and each exit in it to end on those tables.
 */
import { leafMappings, tablePages } from '../../memory/page-tables.js';
import { VMCS_FIELDS, VMCS_SLOT, type FieldName } from '../../../abi/vmcs-fields.js';
import { hex, toIndex } from '../../../abi/uint.js';
import { REG } from '../../cpu/registers.js';
import { EPTE, misconfiguration } from '../../vmx/ept/entries.js';
import { eptLeaves, eptTables } from '../../vmx/ept/walk.js';
import type { Lane } from '../lane.js';
import { rowOf, type Ledger } from '../ledger.js';
import type { Invariant } from './invariant.js';

const ROW = rowOf('isolation');

/** Fields that hold an address which the processor or the payload follows, and the bits that are no address. */
const POINTERS: readonly (readonly [FieldName, bigint])[] = [
  ['MSR_BITMAP', 0n],
  ['VIRTUAL_APIC_PAGE_ADDR', 0n],
  ['APIC_ACCESS_ADDR', 0n],
  ['POSTED_INTR_DESC_ADDR', 0n],
  ['VM_EXIT_MSR_STORE_ADDR', 0n],
  ['VM_EXIT_MSR_LOAD_ADDR', 0n],
  ['VM_ENTRY_MSR_LOAD_ADDR', 0n],
  ['EPT_POINTER', 0xfffn],
  ['HOST_CR3', 0xfffn],
  ['HOST_GDTR_BASE', 0n],
  ['HOST_IDTR_BASE', 0n],
  ['HOST_TR_BASE', 0n],
  ['HOST_RIP', 0n],
  ['HOST_GS_BASE', 0n],
];

const POINTER_MASK = new Map(POINTERS.map(([name, mask]) => [VMCS_SLOT[name], { name, mask }]));
const isPointer = new Uint8Array(VMCS_FIELDS.length);
for (const slot of POINTER_MASK.keys()) isPointer[slot] = 1;

const isolation: Invariant = {
  id: 'isolation',
  holdsWhen:
    'while detached, no access leaves the registered list, and never a byte of the old kernel after kexec',
  atResume: (lane, ledger) => {
    if (lane.exit.wasAttached || lane.vcpu.isAttached) return;
    ledger.count(ROW);
    const { words } = lane.pcpu.registers;
    if (words[2 * REG.CR3] === lane.memory.offset(lane.vcpu.isolatedCr3)) return;
    ledger.fail(
      'isolation',
      lane.rip,
      `${lane.describeExit()}: VM entry comes from the tables at ${hex(lane.pcpu.registers.get('CR3'))}, the instance's own are at ${hex(lane.vcpu.isolatedCr3)}`,
    );
  },
  atGap: (lane, ledger) => {
    for (const mapping of leafMappings(lane.memory.bytes, lane.vcpu.isolatedCr3)) {
      const region = lane.memory.bytes.regionAt(toIndex(mapping.physical));
      const isRegistered = region?.owner === 'payload' || region?.owner === 'shared-metadata';
      ledger.expect(
        'isolation',
        isRegistered,
        mapping.linear,
        () =>
          `vCPU ${lane.id}: the payload's tables map ${hex(mapping.physical)}, which is ${region?.label ?? 'free'}`,
      );
    }
  },
};

const reachablePreserved: Invariant = {
  id: 'reachable-preserved',
  holdsWhen:
    'everything reachable is KHO-preserved and outside scratch when the gap begins, and stays so',
  holdsForRun: true,
  atResume: (lane: Lane, ledger: Ledger) => {
    if (lane.exit.wasAttached) return;
    const { written, writtenCount } = lane.vmcs;
    for (let i = 0; i < writtenCount[0]!; i++) {
      const slot = written[i]!;
      if (isPointer[slot] === 0) continue;
      const { name, mask } = POINTER_MASK.get(slot)!;
      const value = lane.vmcs.get(slot) & ~mask;
      ledger.expect(
        'reachable-preserved',
        value === 0n || lane.isPreserved(value),
        lane.rip,
        () => `${lane.describeExit()}: ${name} was set to ${hex(value)}, which is not preserved`,
      );
    }
  },
  atGap: (lane: Lane, ledger: Ledger) => {
    const check = (address: bigint, what: string): void =>
      ledger.expect(
        'reachable-preserved',
        lane.isPreserved(address),
        address,
        () => `vCPU ${lane.id}: ${what} at ${hex(address)} is not preserved`,
      );
    for (const mapping of leafMappings(lane.memory.bytes, lane.vcpu.isolatedCr3)) {
      for (let at = 0; at < mapping.sizeBytes; at += 4096)
        check(mapping.physical + BigInt(at), 'a mapped page');
    }
    for (const page of tablePages(lane.memory.bytes, lane.vcpu.isolatedCr3))
      check(page, 'a page table');
    check(lane.vcpu.vmcsRegion, 'the VMCS region');
    check(lane.pcpu.vmx.vmxonPointer ?? 0n, 'the VMXON region');
    const { vmcs } = lane;
    const eptp = vmcs.get(VMCS_SLOT.EPT_POINTER);
    for (const { table } of eptTables(lane.memory.bytes, eptp)) check(table, 'an EPT table');
    for (const { entry, level } of eptLeaves(lane.memory.bytes, eptp)) {
      const isMemory = misconfiguration(entry, level, lane.pcpu.capabilities) === null;
      if (isMemory) check(entry & EPTE.ADDRESS, 'a page of the guest');
    }
    for (const [name, mask] of POINTERS) {
      const value = vmcs.get(VMCS_SLOT[name]) & ~mask;
      if (value !== 0n) check(value, name);
    }
  },
};

const CR0_WP = 1n << 16n;

const wXorX: Invariant = {
  id: 'w-xor-x',
  holdsWhen:
    'no mapping is writable and executable, no executable page has a writable alias, CR0.WP = 1',
  atGap: (lane: Lane, ledger: Ledger) => {
    const mappings = leafMappings(lane.memory.bytes, lane.vcpu.isolatedCr3);
    const executable = mappings.filter((m) => m.executable);
    for (const mapping of mappings) {
      const aliased = executable.some(
        (x) =>
          mapping.writable &&
          x.physical < mapping.physical + BigInt(mapping.sizeBytes) &&
          mapping.physical < x.physical + BigInt(x.sizeBytes),
      );
      ledger.expect(
        'w-xor-x',
        !aliased,
        mapping.linear,
        () => `vCPU ${lane.id}: ${hex(mapping.linear)} is writable and executable`,
      );
    }
    const { vmcs } = lane;
    const cr0 = vmcs.get(VMCS_SLOT.HOST_CR0);
    ledger.expect(
      'w-xor-x',
      (cr0 & CR0_WP) !== 0n,
      vmcs.get(VMCS_SLOT.HOST_RIP),
      () => `vCPU ${lane.id}: HOST_CR0.WP is 0`,
    );
  },
};

/** Fresh ones for a machine; they keep no state. */
export function gapInvariants(): readonly Invariant[] {
  return [isolation, reachablePreserved, wXorX];
}
