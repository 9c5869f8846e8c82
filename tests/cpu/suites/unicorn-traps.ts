/** What Unicorn gets wrong or tells late, one test a trap; each title is the behaviour that the engine owes instead. */
import { describe, expect, it } from 'vitest';
import { Engine, engineVersion } from '../../../emulator/cpu/engine.js';
import { EngineMemory } from '../../../emulator/cpu/engine-memory.js';
import { EngineError } from '../../../emulator/cpu/engine-error.js';
import type { EngineStop } from '../../../emulator/cpu/port.js';
import { PhysicalMemory } from '../../../emulator/memory/physical-memory.js';
import {
  CODE,
  CODE_BYTES,
  DATA,
  MAPPINGS,
  MEMORY_BYTES,
  STACK_TOP,
  bytesOf,
  fixture,
  mapping,
  reset,
} from './fixture.js';

const LOAD_RBX = '488b03 f4'; // mov rax,[rbx]; hlt
const STORE_RBX = '488903 f4'; // mov [rbx],rax; hlt
const JUMP_RBX = '90 ffe3'; // nop; jmp rbx

const siteName = (stop: EngineStop): string | null =>
  stop.kind === 'site' ? stop.site.instruction.name : null;

/** Runs `engine` from CODE with RBX. */
function runWith(engine: Engine, rbx: bigint): EngineStop {
  reset(engine);
  engine.registers.set('RBX', rbx);
  return engine.run();
}

export function unicornTraps(): void {
  describe('traps 1, 20 to 22: translation', () => {
    it('refuses a mapping that is not identity', () => {
      const { engine } = fixture('f4');
      const shifted = { ...mapping(DATA, 0x1000, 'rw'), physical: DATA + 0x1000n };
      expect(() => engine.createAddressSpace([shifted])).toThrow(
        expect.objectContaining({ code: 'MAPPING_NOT_IDENTITY' }),
      );
      expect(() => engine.createAddressSpace([shifted])).toThrow(EngineError);
    });

    const rows = [
      { what: 'memory that this address space leaves out', address: 0x50000n },
      { what: 'an address above memory', address: 0x2000_0000n },
      { what: 'where the engine keeps its own tables', address: 0xf000_0000n },
      { what: 'an address of the upper half', address: 0xffff_8000_0000_0000n },
      { what: 'page 0', address: 0x8n },
    ];
    it.each(rows)(
      'a load from $what is a read of an unmapped address, RIP at it',
      ({ address }) => {
        const { engine } = fixture(LOAD_RBX);
        expect(runWith(engine, address)).toEqual({
          kind: 'memory',
          access: 'read',
          reason: 'unmapped',
          address,
          sizeBytes: 8,
        });
        expect(engine.registers.get('RIP')).toBe(CODE);
        expect(engine.counters.instructions).toBe(0);
      },
    );
    it.each(rows)('a store to $what is a write of an unmapped address', ({ address }) => {
      const { engine } = fixture(STORE_RBX);
      expect(runWith(engine, address)).toMatchObject({
        access: 'write',
        reason: 'unmapped',
        address,
      });
    });
    it.each(rows)(
      'a jump to $what is a fetch of an unmapped address, RIP its target',
      ({ address }) => {
        const { engine } = fixture(JUMP_RBX);
        expect(runWith(engine, address)).toMatchObject({
          access: 'fetch',
          reason: 'unmapped',
          address,
        });
        expect(engine.registers.get('RIP')).toBe(address);
        expect(engine.counters.instructions).toBe(2);
      },
    );
    it('a store to a page that is mapped read-only is a protection fault', () => {
      const { engine, memory } = fixture(STORE_RBX);
      const before = memory.readU64(CODE);
      expect(runWith(engine, CODE)).toMatchObject({
        access: 'write',
        reason: 'protection',
        address: CODE,
      });
      expect(memory.readU64(CODE)).toBe(before);
    });
    it('an access over the end of a mapping faults at the first byte outside', () => {
      const { engine } = fixture(STORE_RBX);
      const end = DATA + 0x4000n;
      expect(runWith(engine, end - 4n)).toMatchObject({
        access: 'write',
        reason: 'unmapped',
        address: end,
      });
    });
  });

  describe('trap 2: no-execute and accessed bits', () => {
    it('a fetch from a data page is a protection fault', () => {
      const { engine } = fixture(JUMP_RBX);
      expect(runWith(engine, DATA)).toMatchObject({
        access: 'fetch',
        reason: 'protection',
        address: DATA,
      });
    });
    it('a run writes nothing to memory but what the payload stores', () => {
      const { engine, memory } = fixture(STORE_RBX);
      const before = memory.bytes.slice();
      reset(engine);
      engine.registers.set('RBX', DATA);
      engine.registers.set('RAX', 0x1122n);
      engine.run();
      before.set([0x22, 0x11], Number(DATA));
      expect(Buffer.compare(before, memory.bytes)).toBe(0);
    });
  });

  describe('trap 3: the pending exception', () => {
    it('each of many contributory faults in a row arrives as itself', () => {
      const { engine } = fixture('f7f1 f4'); // div ecx
      for (let round = 0; round < 4; round++) {
        reset(engine);
        expect(engine.run()).toEqual({ kind: 'exception', vector: 0 });
        expect(engine.registers.get('RIP')).toBe(CODE);
      }
    });
    it('page faults and divide errors alternate without a double fault', () => {
      const { engine } = fixture('488b03 f7f1 f4'); // mov rax,[rbx]; div ecx
      for (let round = 0; round < 3; round++) {
        expect(runWith(engine, 0x50000n)).toMatchObject({ kind: 'memory', access: 'read' });
        expect(runWith(engine, DATA)).toEqual({ kind: 'exception', vector: 0 });
      }
    });
    it('a fault leaves vector registers as they were', () => {
      const { engine } = fixture(LOAD_RBX);
      const vectors = Uint8Array.from({ length: 256 }, (_, index) => index);
      engine.setVectors(vectors);
      runWith(engine, 0x50000n);
      expect(engine.vectors()).toEqual(vectors);
    });
  });

  describe('traps 4, 19 and 23: exceptions come out with RIP at the instruction', () => {
    it.each([
      { what: 'UD2', code: '0f0b', vector: 6 },
      { what: 'a divide error', code: 'f7f1', vector: 0 },
    ])('$what', ({ code, vector }) => {
      const { engine } = fixture(`90${code}`);
      expect(engine.run()).toEqual({ kind: 'exception', vector });
      expect(engine.registers.get('RIP')).toBe(CODE + 1n);
      expect(engine.counters.instructions).toBe(1);
    });
    it.each([
      { name: 'INT3', code: 'cc' },
      { name: 'INT', code: 'cd02' },
      { name: 'IRETQ', code: '48cf' },
      { name: 'MOV_TO_CR', code: '440f22c0' },
      { name: 'MOV_FROM_CR', code: '440f20c0' },
    ])('$name is a site', ({ name, code }) => {
      const { engine } = fixture(`90${code}`);
      expect(siteName(engine.run())).toBe(name);
      expect(engine.registers.get('RIP')).toBe(CODE + 1n);
    });
    it('bytes that are no instruction stop the run, which goes on from another RIP', () => {
      const { engine } = fixture('06 90 f4');
      expect(engine.run()).toEqual({ kind: 'invalid-instruction' });
      expect(engine.registers.get('RIP')).toBe(CODE);
      engine.registers.set('RIP', CODE + 1n);
      expect(siteName(engine.run())).toBe('HLT');
    });
  });

  describe('traps 5 and 17: translations outlive what they were made from', () => {
    it('a breakpoint set after the code has run stops it', () => {
      const { engine } = fixture('90 90 90 f4');
      engine.run();
      engine.setBreakpoint(CODE + 1n);
      reset(engine);
      expect(engine.run()).toEqual({ kind: 'breakpoint' });
      expect(engine.registers.get('RIP')).toBe(CODE + 1n);
    });
    it('code that the host replaced is swept and translated again', () => {
      const { engine, memory } = fixture('b801000000 f4'); // mov eax,1
      engine.run();
      memory.write(CODE, bytesOf('b802000000 90 0fa2'));
      engine.invalidateCode(CODE, 8);
      reset(engine);
      expect(siteName(engine.run())).toBe('CPUID');
      expect(engine.registers.get('RAX')).toBe(2n);
    });
    it('code is swept as it is when something first runs there, whatever has run elsewhere', () => {
      const far = 0x40000n;
      const { engine, memory } = fixture('b800000400 ffe0', [
        MAPPINGS[0]!,
        mapping(far, 0x1000, 'rx'),
      ]); // mov eax,far; jmp rax
      memory.write(far, bytesOf('90 f4'));
      engine.step();
      const before = engine.counters.instructions;
      memory.write(far, bytesOf('90 90 0fa2'));
      engine.registers.set('RAX', far);
      expect(siteName(engine.run())).toBe('CPUID');
      expect(engine.registers.get('RIP')).toBe(far + 2n);
      expect(engine.counters.instructions - before).toBe(3);
    });
    it('code replaced in one address space is not run as it was from another', () => {
      const { engine, memory } = fixture('b801000000 f4');
      const other = engine.createAddressSpace(MAPPINGS.slice(1));
      const first = engine.active!;
      engine.run();
      engine.activate(other);
      memory.write(CODE, bytesOf('b802000000 f4'));
      engine.invalidateCode(CODE, 8);
      engine.activate(first);
      reset(engine);
      engine.run();
      expect(engine.registers.get('RAX')).toBe(2n);
    });
    it('a page that was just used faults in an address space that leaves it out', () => {
      const { engine } = fixture(LOAD_RBX);
      const first = engine.active!;
      const without = engine.createAddressSpace([MAPPINGS[0]!]);
      for (let round = 0; round < 3; round++) {
        engine.activate(first);
        expect(siteName(runWith(engine, DATA))).toBe('HLT');
        engine.activate(without);
        expect(runWith(engine, DATA)).toMatchObject({ access: 'read', reason: 'unmapped' });
      }
    });
    it('a page that was just executed cannot be in an address space that maps it as data', () => {
      const { engine } = fixture('f4');
      expect(siteName(engine.run())).toBe('HLT');
      engine.activate(
        engine.createAddressSpace([mapping(CODE, CODE_BYTES, 'r'), mapping(DATA, 0x1000, 'rx')]),
      );
      reset(engine);
      expect(engine.run()).toMatchObject({ access: 'fetch', reason: 'protection', address: CODE });
    });
    it('what one engine stores into code, another runs after invalidateCode()', () => {
      const backing = new EngineMemory(MEMORY_BYTES);
      const memory = new PhysicalMemory(backing.buffer);
      const [writer, runner] = [new Engine(backing), new Engine(backing)];
      memory.write(CODE, bytesOf('b801000000 f4'));
      memory.write(CODE + 0x1000n, bytesOf('c603b8 c6430102 f4')); // mov byte [rbx],0xb8; mov byte [rbx+1],2
      writer.activate(
        writer.createAddressSpace([
          mapping(CODE, 0x1000, 'rw'),
          mapping(CODE + 0x1000n, 0x1000, 'rx'),
        ]),
      );
      runner.activate(runner.createAddressSpace([mapping(CODE, 0x1000, 'rx')]));
      reset(runner);
      runner.run();
      reset(writer);
      writer.registers.set('RIP', CODE + 0x1000n);
      writer.registers.set('RBX', CODE);
      expect(siteName(writer.run())).toBe('HLT');
      runner.invalidateCode(CODE, 2);
      reset(runner);
      runner.run();
      expect(runner.registers.get('RAX')).toBe(2n);
    });
    it('pages that become data again run and hold what was written', () => {
      const { engine, memory } = fixture('f4');
      const writing = engine.createAddressSpace([
        mapping(CODE, 0x1000, 'rw'),
        mapping(DATA, 0x1000, 'rx'),
      ]);
      memory.write(DATA, bytesOf(STORE_RBX));
      const first = engine.active!;
      engine.run();
      engine.activate(writing);
      engine.disposeAddressSpace(first);
      reset(engine);
      engine.registers.set('RIP', DATA);
      engine.registers.set('RBX', CODE);
      engine.registers.set('RAX', 0xabcdn);
      expect(siteName(engine.run())).toBe('HLT');
      expect(memory.readU64(CODE)).toBe(0xabcdn);
    });
  });

  describe('traps 6 and 8: the end of a run', () => {
    it('many runs in a row each end at their first stop', () => {
      const { engine } = fixture('48ffc0 f4'); // inc rax
      for (let round = 1; round <= 5; round++) {
        engine.registers.set('RIP', CODE);
        expect(siteName(engine.run())).toBe('HLT');
        expect(engine.registers.get('RAX')).toBe(BigInt(round));
      }
    });
    it('HLT stops before it', () => {
      const { engine } = fixture('f4');
      expect(siteName(engine.run())).toBe('HLT');
      expect(engine.registers.get('RIP')).toBe(CODE);
      expect(engine.counters.instructions).toBe(0);
    });
  });

  describe('traps 9 and 14: exact counts', () => {
    it('a limit inside a block stops there', () => {
      const { engine } = fixture(`${'48ffc0'.repeat(100)} f4`);
      expect(engine.run(37)).toEqual({ kind: 'limit' });
      expect(engine.registers.get('RAX')).toBe(37n);
      expect(engine.counters.instructions).toBe(37);
    });
    it('a repeated string instruction is one instruction', () => {
      const { engine } = fixture('f3aa f4'); // rep stosb
      reset(engine);
      engine.registers.set('RDI', DATA);
      engine.registers.set('RCX', 100n);
      expect(siteName(engine.run())).toBe('HLT');
      expect(engine.counters.instructions).toBe(1);
      expect(engine.counters.stores).toBe(1);
    });
    it('a repeated string instruction that faults has not been executed', () => {
      const { engine } = fixture('90 f3aa f4');
      reset(engine);
      engine.registers.set('RDI', DATA + 0x3ff0n);
      engine.registers.set('RCX', 100n);
      expect(engine.run()).toMatchObject({ access: 'write', address: DATA + 0x4000n });
      expect(engine.registers.get('RCX')).toBe(84n);
      expect(engine.registers.get('RIP')).toBe(CODE + 1n);
      expect(engine.counters.instructions).toBe(1);
    });
    it('a step over PUSHF leaves no trap flag on the stack', () => {
      const { engine, memory } = fixture('9c f4');
      reset(engine);
      engine.step();
      expect(memory.readU64(STACK_TOP - 8n)).toBe(2n);
      expect(engine.registers.get('RFLAGS')).toBe(2n);
    });
  });

  describe('traps 10 and 11: nothing comes from the host, nothing is accepted silently', () => {
    it('RDTSC is the base plus the instructions executed before it', () => {
      const { engine } = fixture('90 90 90 0f31 f4');
      reset(engine);
      engine.tscBase = 0x1_0000_0000;
      engine.run();
      expect(engine.registers.get('RAX')).toBe(3n);
      expect(engine.registers.get('RDX')).toBe(1n);
      expect(engine.counters.instructions).toBe(4);
    });
    it.each([
      ['RDRAND', '0fc7f0'],
      ['RDSEED', '0fc7f8'],
      ['RDPID', 'f30fc7f8'],
      ['RDTSCP', '0f01f9'],
      ['RDPMC', '0f33'],
      ['CPUID', '0fa2'],
      ['RDSSPQ', 'f3480f1ec8'],
      ['INCSSPQ', 'f3480faee8'],
      ['TPAUSE', '660faef0'],
      ['UMWAIT', 'f20faef0'],
      ['RDMSR', '0f32'],
      ['WRMSR', '0f30'],
      ['PAUSE', 'f390'],
      ['SWAPGS', '0f01f8'],
      ['XGETBV', '0f01d0'],
      ['VMCALL', '0f01c1'],
      ['SYSCALL', '0f05'],
      ['WRGSBASE', 'f3480faed8'],
      ['MOVAPS', '0f28c1'],
    ])('%s is a site', (name, code) => {
      const { engine } = fixture(`90${code}90f4`);
      const stop = engine.run();
      expect(siteName(stop)).toBe(name);
      expect(engine.registers.get('RIP')).toBe(CODE + 1n);
      if (stop.kind === 'site') engine.retire(stop.site);
      expect(siteName(engine.run())).toBe('HLT');
      expect(engine.counters.instructions).toBe(3);
    });
  });

  describe('an instruction that reads and then writes', () => {
    it.each([
      ['ADD', '0103', 'write'],
      ['LOCK INC', 'f0ff03', 'write'],
      ['XCHG', '8703', 'write'],
      ['XADD', '0fc103', 'write'],
      ['BTS beyond its operand', '480fab03', 'write'],
      ['CMP', '3903', 'read'],
      ['PUSH from memory', 'ff33', 'read'],
      ['ADD from memory', '0303', 'read'],
      ['POP to memory', '8f03', 'write'],
    ])('%s is refused as hardware calls it', (_name, code, access) => {
      const { engine } = fixture(`${code} f4`);
      reset(engine);
      engine.registers.set('RBX', 0x50000n);
      engine.registers.set('RAX', 0x1000n);
      engine.registers.set('RSP', STACK_TOP - 8n);
      expect(engine.run()).toMatchObject({ kind: 'memory', access, reason: 'unmapped' });
    });
  });

  describe('traps 12 and 21: addresses that are not canonical', () => {
    const address = 0x8000_0000_0000_0000n;
    it.each([
      { what: 'a load', code: LOAD_RBX, access: 'read' },
      { what: 'a store', code: STORE_RBX, access: 'write' },
      { what: 'a jump', code: JUMP_RBX, access: 'fetch' },
    ])('$what is refused as such', ({ code, access }) => {
      const { engine } = fixture(code);
      expect(runWith(engine, address)).toMatchObject({ access, reason: 'non-canonical', address });
    });
    it('a push with RSP outside is refused as such', () => {
      const { engine } = fixture('50');
      reset(engine);
      engine.registers.set('RSP', address);
      expect(engine.run()).toMatchObject({
        access: 'write',
        reason: 'non-canonical',
        address: address - 8n,
      });
    });
    it.each([
      { what: 'a jump', code: '90 ffe3', branch: 1n },
      { what: 'a call', code: '90 ffd3', branch: 1n },
      { what: 'a call through memory', code: '90 50 ff5424f0', branch: 2n, rsp: -8n },
      { what: 'a return', code: '53 c3', branch: 1n, rsp: -8n },
      { what: 'a return that releases more', code: '50 53 c21000', branch: 2n, rsp: -16n },
      { what: 'a jump behind another block', code: '90 eb00 ffe3', branch: 3n },
    ])('$what is taken back: RIP, RSP and the count are as before it', (row) => {
      const { engine, memory } = fixture(row.code);
      memory.writeU64(STACK_TOP - 24n, address);
      expect(runWith(engine, address)).toMatchObject({ access: 'fetch', reason: 'non-canonical' });
      expect(engine.registers.get('RIP')).toBe(CODE + row.branch);
      expect(engine.registers.get('RSP')).toBe(STACK_TOP + (row.rsp ?? 0n));
      expect(BigInt(engine.counters.instructions)).toBe(
        row.code.includes('eb00') ? 2n : row.branch,
      );
    });
    it('RIP itself is refused as such', () => {
      const { engine } = fixture('f4');
      engine.registers.set('RIP', address);
      expect(engine.run()).toMatchObject({ access: 'fetch', reason: 'non-canonical', address });
    });
  });

  describe('trap 13: what was written is known by page', () => {
    it('each written page is told once', () => {
      const { engine } = fixture(STORE_RBX);
      const dirty = (): number[] => {
        const pages = new Uint8Array(MEMORY_BYTES / 4096);
        engine.takeDirtyPages(pages);
        return [...pages.keys()].filter((page) => pages[page] !== 0);
      };
      runWith(engine, DATA);
      runWith(engine, DATA + 0x2000n);
      expect(dirty()).toEqual([0x20, 0x22]);
      expect(dirty()).toEqual([]);
      runWith(engine, DATA);
      expect(dirty()).toEqual([0x20]);
      runWith(engine, DATA + 0x1000n);
      engine.disposeAddressSpace(engine.active!);
      expect(dirty()).toEqual([0x21]);
    });
  });

  describe('trap 16: the library of a run', () => {
    it('its version is known', () => {
      expect(engineVersion()).toMatch(/^2\.\d+\.\d+$/);
    });
  });

  describe('code that writes itself', () => {
    it('sees its own change, and so does memory', () => {
      const code = 'c6430a07 90 b801000000 b901000000 f4'; // mov byte [rbx+10],7: the immediate of mov ecx
      const { engine, memory } = fixture(code, [mapping(CODE, CODE_BYTES, 'rwx')]);
      reset(engine);
      engine.registers.set('RBX', CODE + 1n);
      expect(siteName(engine.run())).toBe('HLT');
      expect(engine.registers.get('RCX')).toBe(7n);
      expect(memory.readU8(CODE + 11n)).toBe(7);
      expect(engine.counters.instructions).toBe(4);
    });
    it('finds a site that it wrote', () => {
      const code = 'c6430ff4 90 90'; // mov byte [rbx+15],0xf4
      const { engine } = fixture(`${code}${'90'.repeat(16)}0fa2`, [
        mapping(CODE, CODE_BYTES, 'rwx'),
      ]);
      reset(engine);
      engine.registers.set('RBX', CODE);
      expect(siteName(engine.run())).toBe('HLT');
      expect(engine.registers.get('RIP')).toBe(CODE + 15n);
    });
  });

  describe('overlapping code', () => {
    it('a jump into the middle of an instruction stops the run', () => {
      const { engine } = fixture('eb01 b8f4909090 f4'); // jmp +1: into the MOV's immediate
      expect(engine.run()).toEqual({ kind: 'invalid-instruction' });
      expect(engine.registers.get('RIP')).toBe(CODE + 3n);
    });
    it('and into the middle of a replaced site too', () => {
      const { engine } = fixture('0f78c3 f4 ebfc'); // vmread rbx,rax; hlt; jmp to its third byte
      reset(engine);
      engine.registers.set('RIP', CODE + 4n);
      expect(engine.run()).toEqual({ kind: 'invalid-instruction' });
      expect(engine.registers.get('RIP')).toBe(CODE + 2n);
    });
  });
}
