/** Guest accesses through EPT structures in memory: one row a rule of the SDM, "The Extended Page Table Mechanism (EPT)". */
import { describe, expect, it } from 'vitest';
import { EXIT_REASON } from '../../../abi/exit-reasons.js';
import { SECONDARY } from '../../../abi/vmx-controls.js';
import { VMCS_SLOT } from '../../../abi/vmcs-fields.js';
import { PhysicalMemory } from '../../../emulator/memory/physical-memory.js';
import { DEFAULT_CAPABILITIES, EPT_VPID_CAP } from '../../../emulator/vmx/capabilities.js';
import { validVmcs } from '../../../emulator/vmx/description.js';
import {
  accessGuestMemory,
  type AccessKind,
  type AccessResult,
  type GuestAccess,
} from '../../../emulator/vmx/ept/guest-access.js';
import { EPTP_BITS } from '../../../emulator/vmx/ept/entries.js';
import { EptTlb } from '../../../emulator/vmx/ept/tlb.js';
import { eptLeaves, eptTables } from '../../../emulator/vmx/ept/walk.js';
import type { VmxPcpu } from '../../../emulator/vmx/ports.js';
import { execute } from '../../../emulator/vmx/vmx-instructions.js';
import { fakePcpu, inGuest } from '../fake-pcpu.js';
import { VmcsStore } from '../../../emulator/vmx/vmcs-store.js';
import { VMXON_REGION, VMCS_REGION } from '../fake-pcpu.js';

const PML4 = 0x10000n;
const PDPT = 0x11000n;
const PD = 0x12000n;
const PT = 0x13000n;
const LOG = 0x14000n;
const PAGE = 0x15000n;
const GPA = 0x5123n;
const SLOT = PT + 5n * 8n;
const ALL = 7n;
const WB = 6n << 3n;
const A = 0x100n;
const D = 0x200n;
const WITHOUT_AD = EPTP_BITS & ~0x40n;

interface Stand {
  readonly pcpu: VmxPcpu;
  readonly memory: PhysicalMemory;
  readonly access: (kind: AccessKind, gpa?: bigint, more?: Partial<GuestAccess>) => AccessResult;
  readonly low: (field: 'GUEST_PML_INDEX') => number;
}

/** A guest whose page 5 has the given leaf; `above` changes an entry on the way. */
function stand(
  leaf: bigint,
  options: {
    readonly above?: readonly [address: bigint, entry: bigint];
    readonly eptp?: bigint;
    readonly cap?: bigint;
    readonly pml?: number;
  } = {},
): Stand {
  const memory = new PhysicalMemory(new ArrayBuffer(0x4_0000));
  for (const region of [VMXON_REGION, VMCS_REGION])
    memory.writeU32(region, DEFAULT_CAPABILITIES.revision);
  const fake = fakePcpu({ memory, vmcsStore: new VmcsStore(memory) });
  const pcpu = {
    ...fake,
    capabilities: {
      ...DEFAULT_CAPABILITIES,
      eptVpidCap: options.cap ?? DEFAULT_CAPABILITIES.eptVpidCap,
    },
  };
  const valid = validVmcs();
  const pml = options.pml === undefined ? 0 : SECONDARY.ENABLE_PML;
  const vmcs = inGuest(fake, {
    ...valid,
    SECONDARY_VM_EXEC_CONTROL: BigInt(SECONDARY.ENABLE_EPT | pml),
    EPT_POINTER: PML4 | (options.eptp ?? EPTP_BITS),
    PML_ADDRESS: LOG,
    GUEST_PML_INDEX: BigInt(options.pml ?? 0),
  });
  memory.writeU64(PML4, PDPT | ALL);
  memory.writeU64(PDPT, PD | ALL);
  memory.writeU64(PD, PT | ALL);
  memory.writeU64(SLOT, leaf);
  if (options.above !== undefined) memory.writeU64(...options.above);
  return {
    pcpu,
    memory,
    access: (kind, gpa = GPA, more = {}) =>
      accessGuestMemory(pcpu, vmcs, { gpa, gla: 0xffff_8880_0000_5123n, kind, ...more }),
    low: (field) => vmcs.low(VMCS_SLOT[field]),
  };
}

const exitOf = (result: AccessResult): Extract<AccessResult, { kind: 'exit' }>['exit'] => {
  if (result.kind !== 'exit') throw new Error('it went through');
  return result.exit;
};
const reasonOf = (result: AccessResult): string =>
  result.kind === 'done'
    ? 'done'
    : Object.entries(EXIT_REASON).find(([, number]) => number === result.exit.basic)![0];

const VIOLATION = 'EXIT_REASON_EPT_VIOLATION';
const MISCONFIG = 'EXIT_REASON_EPT_MISCONFIG';
const NO_XO = DEFAULT_CAPABILITIES.eptVpidCap & ~EPT_VPID_CAP.EXECUTE_ONLY;
const NO_2M = DEFAULT_CAPABILITIES.eptVpidCap & ~EPT_VPID_CAP.PAGE_2M;
const PAGE_2M = 0x80n;

describe('a translation', () => {
  // prettier-ignore
  it.each<[rule: string, leaf: bigint, kind: AccessKind, outcome: string, options?: Parameters<typeof stand>[1]]>([
    ['bit 0 allows reads', PAGE | WB | 1n, 'read', 'done'],
    ['bits 0 and 1 allow writes', PAGE | WB | 3n, 'write', 'done'],
    ['bit 2 allows fetches', PAGE | WB | 5n, 'fetch', 'done'],
    ['a write without bit 1 is a violation', PAGE | WB | 5n, 'write', VIOLATION],
    ['a fetch without bit 2 is a violation', PAGE | WB | 3n, 'fetch', VIOLATION],
    ['execute-only pages are executed', PAGE | WB | 4n, 'fetch', 'done'],
    ['a read of an execute-only page is a violation', PAGE | WB | 4n, 'read', VIOLATION],
    ['rights are those that all entries leave', PAGE | WB | 7n, 'write', VIOLATION, { above: [PD, PT | 5n] }],
    ['bits 2:0 all clear: not present, whatever else is set', PAGE | 0xff8n, 'read', VIOLATION],
    ['not present above the leaf', PAGE | WB | 7n, 'read', VIOLATION, { above: [PDPT, PD] }],
    ['write without read is a misconfiguration', PAGE | WB | 2n, 'read', MISCONFIG],
    ['write and execute without read is one, as KVM has it for MMIO', PAGE | WB | 6n, 'fetch', MISCONFIG],
    ['execute-only is one where the processor has no such translations', PAGE | WB | 4n, 'fetch', MISCONFIG, { cap: NO_XO }],
    ['memory type 2', PAGE | (2n << 3n) | 7n, 'read', MISCONFIG],
    ['memory type 3', PAGE | (3n << 3n) | 7n, 'read', MISCONFIG],
    ['memory type 7', PAGE | (7n << 3n) | 7n, 'read', MISCONFIG],
    ['an address bit beyond MAXPHYADDR', PAGE | WB | 7n | (1n << 51n), 'read', MISCONFIG],
    ['a reserved bit of an entry that names a table', PAGE | WB | 7n, 'read', MISCONFIG, { above: [PD, PT | 7n | 0x20n] }],
    ['bit 7 of a PML4E', PAGE | WB | 7n, 'read', MISCONFIG, { above: [PML4, PDPT | 7n | 0x80n] }],
    ['a PDE that maps a 2-MiB page', 0n, 'read', 'done', { above: [PD, WB | PAGE_2M | 7n] }],
    ['an address bit below a 2-MiB page', 0n, 'read', MISCONFIG, { above: [PD, 0x1000n | WB | PAGE_2M | 7n] }],
    ['a 2-MiB page where the processor has none', 0n, 'read', MISCONFIG, { above: [PD, WB | PAGE_2M | 7n], cap: NO_2M }],
    ['an entry above is judged before what lies below', PAGE | WB | 2n, 'read', VIOLATION, { above: [PD, PT] }],
    ['rights are looked at behind a legal leaf', PAGE | WB | 2n, 'write', MISCONFIG, { above: [PD, PT | 1n] }],
    ['a walk of guest tables reads', PAGE | WB | 1n, 'walk', 'done', { eptp: WITHOUT_AD }],
    ['with accessed and dirty flags it counts as a write', PAGE | WB | 1n, 'walk', VIOLATION],
  ])('%s', (_rule, leaf, kind, outcome, options) => {
    expect(reasonOf(stand(leaf, options).access(kind))).toBe(outcome);
  });

  it('is the page of the leaf and the offset of the address', () => {
    expect(stand(PAGE | WB | 7n).access('read')).toEqual({
      kind: 'done',
      hpa: PAGE | 0x123n,
      isCached: false,
    });
    const large = stand(0n, { above: [PD, WB | PAGE_2M | 7n] });
    expect(large.access('read', 0x1_f123n)).toMatchObject({ hpa: 0x1_f123n });
  });

  it('is the address itself without EPT', () => {
    const { access, pcpu } = stand(0n);
    pcpu.vmx.current!.write('SECONDARY_VM_EXEC_CONTROL', 0n);
    expect(access('write')).toMatchObject({ kind: 'done', hpa: GPA });
  });
});

describe('the qualification of a violation', () => {
  // prettier-ignore
  it.each<[rule: string, leaf: bigint, kind: AccessKind, qualification: bigint, options?: Parameters<typeof stand>[1]]>([
    ['bit 0 is a read; 8:7 linear and translated, 11:10 the guest page', 0n, 'read', 0xd81n],
    ['bit 1 is a write', 0n, 'write', 0xd82n],
    ['bit 2 is a fetch', 0n, 'fetch', 0x184n],
    ['bits 5:3 are the rights of all entries', PAGE | WB | 5n, 'write', 0xd82n | (5n << 3n)],
    ['and 0 with one that is not present', PAGE | WB | 7n, 'write', 0xd82n, { above: [PDPT, PD] }],
    ['a walk of guest tables clears bit 8', 0n, 'walk', 0x81n, { eptp: WITHOUT_AD }],
    ['and with accessed and dirty flags sets bits 0 and 1', 0n, 'walk', 0x83n],
    ['bits 11:9 are there with advanced information alone', 0n, 'write', 0x182n, { cap: EPT_VPID_CAP.PAGE_WALK_4 }],
  ])('%s', (_rule, leaf, kind, qualification, options) => {
    const exit = exitOf(stand(leaf, options).access(kind));
    expect(exit).toMatchObject({ qualification, guestPhysicalAddress: GPA, instructionLength: undefined });
  });

  it('comes with the event whose delivery was broken off', () => {
    const event = { idtVectoringInfo: 0x8000_0b0e, idtVectoringErrorCode: 2 };
    expect(exitOf(stand(0n).access('write', GPA, event))).toMatchObject(event);
  });

  it('is not there for a misconfiguration, which has the guest-physical address alone', () => {
    const exit = exitOf(stand(PAGE | WB | 6n).access('write'));
    expect([exit.qualification, exit.guestLinearAddress, exit.guestPhysicalAddress]).toEqual([
      undefined,
      undefined,
      GPA,
    ]);
  });
});

describe('accessed and dirty flags', () => {
  it('a read sets the accessed flag of every entry it used', () => {
    const { access, memory } = stand(PAGE | WB | 7n);
    access('read');
    expect([PML4, PDPT, PD, SLOT].map((at) => memory.readU64(at) & (A | D))).toEqual([A, A, A, A]);
  });

  it('a write sets the dirty flag of the leaf', () => {
    const { access, memory } = stand(PAGE | WB | 7n);
    access('write');
    expect([PD, SLOT].map((at) => memory.readU64(at) & (A | D))).toEqual([A, A | D]);
  });

  it('a write behind a cached read sets it too', () => {
    const { access, memory } = stand(PAGE | WB | 7n);
    access('read');
    access('write');
    expect(memory.readU64(SLOT) & D).toBe(D);
  });

  it('none is set where the EPT pointer does not ask for them, and none by an access that exits', () => {
    const off = stand(PAGE | WB | 7n, { eptp: WITHOUT_AD });
    off.access('write');
    const refused = stand(PAGE | WB | 1n);
    refused.access('write');
    expect([off, refused].map(({ memory }) => memory.readU64(SLOT) & (A | D))).toEqual([0n, 0n]);
  });
});

describe('the page-modification log', () => {
  it('gets the page of a write that sets the dirty flag, and counts down', () => {
    const { access, memory, low } = stand(PAGE | WB | 7n, { pml: 511 });
    access('write');
    access('write');
    expect([memory.readU64(LOG + 511n * 8n), low('GUEST_PML_INDEX')]).toEqual([0x5000n, 510]);
  });

  it('gets nothing for reads', () => {
    const { access, low } = stand(PAGE | WB | 7n, { pml: 511 });
    access('read');
    expect(low('GUEST_PML_INDEX')).toBe(511);
  });

  it('wraps to 0xffff behind its last entry', () => {
    const { access, low } = stand(PAGE | WB | 7n, { pml: 0 });
    access('write');
    expect(low('GUEST_PML_INDEX')).toBe(0xffff);
  });

  it('is full with an index beyond 511: the write exits, and the page stays clean', () => {
    const { access, memory } = stand(PAGE | WB | 7n, { pml: 0xffff });
    const result = access('write');
    expect([reasonOf(result), memory.readU64(SLOT) & D]).toEqual(['EXIT_REASON_PML_FULL', 0n]);
    expect(reasonOf(access('read'))).toBe('done');
  });
});

describe('cached mappings', () => {
  it('stay in use when the tables change', () => {
    const { access, memory } = stand(PAGE | WB | 7n);
    access('read');
    memory.writeU64(SLOT, 0n);
    expect(access('read')).toEqual({ kind: 'done', hpa: PAGE | 0x123n, isCached: true });
  });

  it.each([
    ['of that EPT pointer', 1n, 0n, 'EXIT_REASON_EPT_VIOLATION'],
    ['of all', 2n, 0n, 'EXIT_REASON_EPT_VIOLATION'],
    ['of another EPT pointer', 1n, 0x2_0000n, 'done'],
  ])('are gone after an INVEPT %s, or not', (_what, type, other, outcome) => {
    const { access, memory, pcpu } = stand(PAGE | WB | 7n);
    access('read');
    memory.writeU64(SLOT, 0n);
    pcpu.vmx.mode = 'root';
    const eptp = other === 0n ? PML4 | EPTP_BITS : other | EPTP_BITS;
    execute(pcpu, { name: 'INVEPT', type, descriptor: [eptp, 0n] });
    expect(reasonOf(access('read'))).toBe(outcome);
  });

  it('are gone for the address of a violation', () => {
    const { access, memory } = stand(PAGE | WB | 5n);
    access('read');
    memory.writeU64(SLOT, 0n);
    access('write');
    expect(reasonOf(access('read'))).toBe('EXIT_REASON_EPT_VIOLATION');
  });

  it('come back with a snapshot', () => {
    const tlb = new EptTlb();
    const before = tlb.state();
    tlb.put(PML4, GPA, { hpa: PAGE, rights: 7n, isDirty: false });
    const after = tlb.state();
    tlb.restore(before);
    expect(tlb.find(PML4, GPA)).toBeUndefined();
    tlb.restore(after);
    expect(tlb.find(PML4, GPA)?.hpa).toBe(PAGE);
  });
});

describe('what tables hold', () => {
  it('is every table and every leaf, misconfigured ones too', () => {
    const { memory } = stand(PAGE | WB | 7n);
    memory.writeU64(PT, WB | 6n);
    const eptp = PML4 | EPTP_BITS;
    expect(eptTables(memory, eptp).map(({ table }) => table)).toEqual([PML4, PDPT, PD, PT]);
    expect([...eptLeaves(memory, eptp)].map(({ gpa }) => gpa)).toEqual([0n, 0x5000n]);
  });

  it('leaves out a table beyond memory, and a walk there finds no legal entry', () => {
    const { access, memory } = stand(0n, { above: [PD, 0x7f_f000n | ALL] });
    expect(eptTables(memory, PML4)).toHaveLength(3);
    expect(reasonOf(access('read'))).toBe(MISCONFIG);
  });
});
