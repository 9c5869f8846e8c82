/** The pCPU over the real engine: what holds only if both agree about sites, counts and exact points. */
import { describe, expect, it } from 'vitest';
import { LVT, X2APIC } from '../../../abi/x2apic.js';
import { MSR } from '../../../abi/msrs.js';
import { u64 } from '../../../abi/uint.js';
import { Engine } from '../../../emulator/cpu/engine.js';
import { EngineMemory } from '../../../emulator/cpu/engine-memory.js';
import type { Mapping } from '../../../emulator/cpu/port.js';
import { PhysicalMemory } from '../../../emulator/memory/physical-memory.js';
import type { AddressSpacePort } from '../../../emulator/vmx/root/linear-memory.js';
import {
  CODE,
  CS,
  DATA,
  HANDLERS,
  SS,
  STACK,
  handlerOf,
  makePcpu,
  stackOf,
  writeGate,
  writeTables,
  type FixtureOptions,
} from './fixture.js';

const range = (
  start: number,
  sizeBytes: number,
  writable: boolean,
  executable: boolean,
): Mapping => ({
  linear: u64(start),
  physical: u64(start),
  sizeBytes,
  writable,
  executable,
});
const MAPPINGS: readonly Mapping[] = [
  range(0x1000, 0xf000, true, false),
  range(CODE, 0x1000, false, true),
  range(HANDLERS, 0x1000, false, true),
];

const IRETQ = '48cf';
const VMRESUME = '0f01c3';

/** `code` at CODE, `handlers` by vector, all hexadecimal. */
function machine(
  code: string,
  handlers: Readonly<Record<number, string>> = {},
  options: FixtureOptions = {},
) {
  const backing = new EngineMemory(0x40000);
  const memory = new PhysicalMemory(backing.buffer);
  writeTables(memory);
  const put = (address: number, text: string): void =>
    memory.write(u64(address), Buffer.from(text.replaceAll(' ', ''), 'hex'));
  put(CODE, code);
  for (const [vector, text] of Object.entries(handlers)) put(handlerOf(Number(vector)), text);
  const engine = new Engine(backing);
  const mapped = engine.createAddressSpace(MAPPINGS);
  const space: AddressSpacePort = {
    activate: () => {
      engine.activate(mapped);
      return null;
    },
    check: (linear, sizeBytes, access) => {
      const mapping = MAPPINGS.find(
        (m) => linear >= m.linear && linear + u64(sizeBytes) <= m.linear + u64(m.sizeBytes),
      );
      const isAllowed =
        mapping !== undefined &&
        (access !== 'write' || mapping.writable) &&
        (access !== 'fetch' || mapping.executable);
      if (isAllowed) return null;
      const kind = {
        read: 0,
        write: 2,
        fetch: 16,
        'shadow-stack-read': 0,
        'shadow-stack-write': 2,
      };
      const bits = (mapping === undefined ? 0 : 1) | kind[access];
      return { kind: 'page-fault', errorCode: bits, address: linear };
    },
    invalidate: () => undefined,
  };
  return { pcpu: makePcpu(engine, memory, space, options), memory, engine };
}

/** Native code, sites that go on, a loop, a store and a load: 22 instructions until VMRESUME. */
const PROGRAM = [
  'b805000000', // mov eax, 5
  'bb00500000', // mov ebx, 0x5000
  'fa', //         cli
  '8903', //       mov [rbx], eax
  '0f23c0', //     mov dr0, rax
  'ffc8', //       dec eax         <- loop
  '75fc', //       jnz loop
  '0f20d9', //     mov rcx, cr3
  '53', //         push rbx
  '5a', //         pop rdx
  '8b33', //       mov esi, [rbx]
  '0f01f8', //     swapgs
  VMRESUME,
].join('');

describe('over the real engine', () => {
  it('a handler runs to its VMRESUME with native code and sites counted alike', () => {
    const { pcpu } = machine(PROGRAM);
    expect(pcpu.run(1000).kind).toBe('vmresume');
    const { registers } = pcpu;
    expect([registers.get('RCX'), registers.get('RSI'), registers.get('RDX')]).toEqual([
      0x7000n,
      5n,
      0x5000n,
    ]);
    expect([pcpu.retired, pcpu.now()]).toEqual([20, 20]);
  });

  it('every limit stops at the boundary that single steps reach', () => {
    const stepped = machine(PROGRAM).pcpu;
    for (let count = 0; count <= 20; count++) {
      const { pcpu } = machine(PROGRAM);
      pcpu.run(count);
      expect(pcpu.registers.values).toEqual(stepped.registers.values);
      stepped.run(1);
    }
  });

  it('an NMI at any boundary changes nothing but time', () => {
    const undisturbed = machine(PROGRAM).pcpu;
    undisturbed.run(1000);
    for (let at = 0; at <= 20; at++) {
      const { pcpu, memory } = machine(PROGRAM, { 2: `50 58 ${IRETQ}` });
      writeGate(memory, 2, { ist: 1 });
      pcpu.run(at);
      pcpu.pendingNmi = true;
      expect(pcpu.run(1000).kind).toBe('vmresume');
      expect(pcpu.registers.values).toEqual(undisturbed.registers.values);
      expect([pcpu.retired, pcpu.blocking.nmi]).toEqual([23, false]);
    }
  });

  it('the TSC deadline interrupts a native loop at its TSC', () => {
    const { pcpu, memory } = machine('fb ebfe', { 0x70: '90' }); // sti; jmp $
    pcpu.apic.write(X2APIC.LVT_TIMER, u64(LVT.TIMER_TSC_DEADLINE | 0x70));
    pcpu.msrs.write(MSR.IA32_TSC_DEADLINE, 777n);
    pcpu.run(777);
    expect(pcpu.registers.get('RIP')).toBe(u64(CODE + 1));
    expect(pcpu.apic.isInService(0x70)).toBe(false);
    pcpu.run(1);
    expect([pcpu.apic.isInService(0x70), stackOf({ pcpu, memory }, 1)[0]]).toEqual([
      true,
      u64(CODE + 1),
    ]);
  });

  it.each([
    {
      rule: 'a store to a read-only page is #PF',
      code: 'c604250000010001',
      vector: 14,
      top: [3, CODE],
    },
    {
      rule: 'a load from an unmapped page is #PF',
      code: '8a042500000300',
      vector: 14,
      top: [0, CODE],
    },
    {
      rule: 'a jump to data is #PF with the fetch bit',
      code: 'b800500000 ffe0',
      vector: 14,
      top: [0x11, DATA],
    },
    { rule: 'a division by zero is #DE', code: '31c9 f7f1', vector: 0, top: [CODE + 2, CS] },
    { rule: 'UD2 is #UD', code: '0f0b', vector: 6, top: [CODE, CS] },
    { rule: 'INT3 saves the address after itself', code: 'cc', vector: 3, top: [CODE + 1, CS] },
    {
      rule: 'INT n saves the address after itself',
      code: 'cd80',
      vector: 0x80,
      top: [CODE + 2, CS],
    },
    {
      rule: 'a non-canonical load is #GP(0)',
      code: '48b80000000000008000 488b00',
      vector: 13,
      top: [0, CODE + 10],
    },
  ])('$rule', ({ code, vector, top }) => {
    const m = machine(code, { [vector]: VMRESUME });
    expect(m.pcpu.run(10)).toEqual({ kind: 'vmresume', address: u64(handlerOf(vector)) });
    expect(stackOf(m, 2)).toEqual(top.map(BigInt));
  });

  it('a handler that repairs nothing faults for ever, and each #PF arrives as #PF', () => {
    const { pcpu, memory } = machine('c604250000010001', { 14: `4883c408 ${IRETQ}` });
    expect(pcpu.run(50).kind).toBe('instruction-limit');
    expect([memory.readU64(u64(STACK - 48)), pcpu.registers.get('RSP') % 8n]).toEqual([3n, 0n]);
  });

  it('a vector instruction is a finding and the engine executes it', () => {
    const findings: string[] = [];
    const { pcpu } = machine(
      `0f57c0 ${VMRESUME}`,
      {},
      {
        events: { onFinding: ({ message }) => (findings.push(message), 'continue') },
      },
    );
    expect(pcpu.run(10)).toEqual({ kind: 'vmresume', address: u64(CODE + 3) });
    expect([findings.length, pcpu.retired]).toEqual([1, 1]);
  });

  it('IRETQ returns with the frame that a program pushed', () => {
    const push = (value: number): string =>
      `68${Buffer.from(Uint32Array.of(value).buffer).toString('hex')}`;
    const target = HANDLERS + 0x800;
    const { pcpu } = machine([SS, STACK - 0x100, 0x202, CS, target].map(push).join('') + IRETQ);
    pcpu.run(6);
    const { registers } = pcpu;
    expect([registers.get('RIP'), registers.get('RSP'), registers.get('RFLAGS')]).toEqual([
      u64(target),
      u64(STACK - 0x100),
      0x202n,
    ]);
  });
});
