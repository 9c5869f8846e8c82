/** KVM's nested page tables: what a violation maps, how dirty pages are learnt, what is taken back, and when pages run out. */
import { beforeEach, describe, expect, it } from 'vitest';
import { EPT_POOL_PAGES, KvmMmu } from '../../../emulator/host/kvm/mmu.js';
import type { KvmKernel, PageWish } from '../../../emulator/host/kvm/ports.js';
import { ok, refuse, type Result } from '../../../emulator/host/result.js';
import { PhysicalMemory } from '../../../emulator/memory/physical-memory.js';
import { DEFAULT_CAPABILITIES } from '../../../emulator/vmx/capabilities.js';
import { EPTE } from '../../../emulator/vmx/ept/entries.js';
import { eptLeaves, walkEpt, type EptWalk } from '../../../emulator/vmx/ept/walk.js';

const ROOT = 0x1000n;
const SLOT = { hpa: 0x10_0000n, sizeBytes: 16 * 4096 };

let memory: PhysicalMemory;
let allocated: PageWish[];
let hasMemory: boolean;
let mmu: KvmMmu;

beforeEach(() => {
  memory = new PhysicalMemory(new ArrayBuffer(0x20_0000));
  allocated = [];
  hasMemory = true;
  let next = 0x2_0000n;
  const allocate = (wish: PageWish): Result<bigint> => {
    if (!hasMemory) return refuse('ENOMEM');
    allocated.push(wish);
    const at = next;
    next += BigInt(wish.pages * 4096);
    return ok(at);
  };
  // SAFETY: the MMU asks its kernel for memory and pages alone.
  mmu = new KvmMmu({ memory, allocate } as unknown as KvmKernel, DEFAULT_CAPABILITIES, ROOT);
  mmu.slot = SLOT;
});

const walk = (gpa: bigint, needs: bigint = EPTE.R): EptWalk =>
  walkEpt(memory, DEFAULT_CAPABILITIES, mmu.eptp, gpa, needs);
const write = (gpa: bigint): void => {
  const { at } = [...eptLeaves(memory, mmu.eptp)].find((leaf) => leaf.gpa === gpa)!;
  memory.writeU64(at, memory.readU64(at) | EPTE.ACCESSED | EPTE.DIRTY);
};

describe('a violation', () => {
  it('in memory maps the page with all rights', () => {
    expect(mmu.fault(0x3123n, false)).toBe('mapped');
    expect(walk(0x3123n, EPTE.RWX)).toMatchObject({ kind: 'mapped', hpa: SLOT.hpa + 0x3123n });
    expect(walk(0x4000n).kind).toBe('violation');
  });

  it.each([0x1_0000n, 0xfe00_3000n])(
    'beyond memory, at %x, is a device: misconfigured from then on',
    (gpa) => {
      expect(mmu.fault(gpa, true)).toBe('mmio');
      expect(walk(gpa).kind).toBe('misconfiguration');
    },
  );

  it('of a page that is mapped changes nothing', () => {
    mmu.fault(0x3000n, true);
    write(0x3000n);
    const before = [...eptLeaves(memory, mmu.eptp)];
    mmu.fault(0x3000n, true);
    expect([...eptLeaves(memory, mmu.eptp)]).toEqual(before);
  });

  it('takes its tables from the pool, which is allocated once', () => {
    mmu.fault(0n, false);
    mmu.fault(0x8_0000_0000n, false);
    expect(allocated.map(({ pages }) => pages)).toEqual([EPT_POOL_PAGES]);
  });

  it('ends when the pool is used up, with what was mapped still there', () => {
    const outcomes = Array.from({ length: 16 }, (_, n) => mmu.fault(BigInt(n) << 39n, true));
    expect(outcomes.slice(0, 5)).toEqual(['mapped', 'mmio', 'mmio', 'mmio', 'mmio']);
    expect(outcomes.at(-1)).toBe('no-memory');
    expect(walk(0n).kind).toBe('mapped');
  });

  it('and when there is no memory for one', () => {
    hasMemory = false;
    expect([mmu.fault(0n, true), mmu.prefault()]).toEqual(['no-memory', null]);
  });
});

describe('prefaulting', () => {
  it('maps what is not mapped, and says how much that was', () => {
    mmu.fault(0x3000n, false);
    expect([mmu.prefault(), mmu.prefault()]).toEqual([15, 0]);
    expect(walk(0xf000n, EPTE.RWX).kind).toBe('mapped');
  });
});

describe('the dirty log', () => {
  it('has the pages whose first write came as a violation', () => {
    mmu.startLogging();
    mmu.fault(0x1000n, false);
    expect(walk(0x1000n, EPTE.W).kind).toBe('violation');
    mmu.fault(0x1000n, true);
    mmu.fault(0x9000n, true);
    expect(walk(0x1000n, EPTE.W).kind).toBe('mapped');
    expect(mmu.dirtyPages()).toEqual([0x1000n, 0x9000n]);
  });

  it('takes write access from pages that were mapped before', () => {
    mmu.prefault();
    mmu.startLogging();
    expect(walk(0x1000n, EPTE.W).kind).toBe('violation');
  });

  it('goes on by flags, which forget what was written before and let every write through', () => {
    mmu.startLogging();
    mmu.prefault();
    mmu.fault(0x1000n, true);
    write(0x1000n);
    mmu.logByFlags();
    expect(walk(0x2000n, EPTE.W).kind).toBe('mapped');
    write(0x2000n);
    expect(mmu.collectFlags()).toBe(1);
    expect(mmu.dirtyPages()).toEqual([0x1000n, 0x2000n]);
  });

  it('has a page that was written by flags and then taken back', () => {
    mmu.startLogging();
    mmu.prefault();
    mmu.logByFlags();
    write(0x2000n);
    mmu.zap(0x2000n, 4096);
    expect(mmu.dirtyPages()).toEqual([0x2000n]);
  });

  it('is empty without logging', () => {
    mmu.fault(0x1000n, true);
    mmu.logByFlags();
    expect([mmu.dirtyPages(), mmu.logging]).toEqual([[], 'off']);
  });
});

describe('taking pages back', () => {
  it('leaves no translation in the range, and every other', () => {
    mmu.prefault();
    expect(mmu.zap(0x2000n, 0x3000)).toBe(3);
    expect([0x1000n, 0x2000n, 0x4000n, 0x5000n].map((gpa) => walk(gpa).kind)).toEqual([
      'mapped',
      'violation',
      'violation',
      'mapped',
    ]);
  });

  it('leaves a device where it was', () => {
    mmu.fault(0x1_0000n, true);
    mmu.zap(0n, 0x2_0000);
    expect(walk(0x1_0000n).kind).toBe('misconfiguration');
  });
});
