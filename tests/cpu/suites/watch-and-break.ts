/** Watched bytes, breakpoints, native steps: what the invariants and the debugger see. */
import { describe, expect, it } from 'vitest';
import { engineVersion } from '../../../emulator/cpu/engine.js';
import { CODE, DATA, MAPPINGS, STACK_TOP, fixture, mapping, reset } from './fixture.js';

const ONE = Uint8Array.of(1);
const NONE = new Uint8Array(0);
/** Before 2.1 the engine knows the block alone, and not every instruction. */
const isExact = !engineVersion().startsWith('2.0.');

export function watchAndBreak(): void {
  describe.runIf(isExact)('setStopWatch()', () => {
    const WRITES = { read: false, write: true };
    const READS = { read: true, write: false };
    const OFF = { read: false, write: false };

    it('ends the run behind the store, in the middle of its block, with all counted', () => {
      const { engine, memory } = fixture('90 48c70341000000 48ffc0 48ffc0 f4'); // nop; mov [rbx],0x41; inc; inc
      engine.watch.stopAt(DATA, 8, WRITES);
      engine.registers.set('RBX', DATA);
      const rip = CODE + 1n;
      const access = { access: 'write', address: DATA, sizeBytes: 8, rip };
      expect(engine.run()).toEqual({ kind: 'watch', ...access });
      expect(engine.registers.get('RIP')).toBe(CODE + 8n);
      expect(engine.registers.get('RAX')).toBe(0n);
      expect(engine.counters.instructions).toBe(2);
      expect(engine.counters.stores).toBe(1);
      expect(memory.readU64(DATA)).toBe(0x41n);
      expect(engine.run().kind).toBe('site');
      expect(engine.registers.get('RAX')).toBe(2n);
      expect(engine.counters.instructions).toBe(4);
    });

    it('reads stop only where reads are asked for', () => {
      const { engine } = fixture('488b03 90 f4');
      engine.registers.set('RBX', DATA);
      engine.watch.stopAt(DATA, 8, WRITES);
      expect(engine.run().kind).toBe('site');
      engine.registers.set('RIP', CODE);
      engine.watch.stopAt(DATA, 8, READS);
      expect(engine.run()).toMatchObject({ kind: 'watch', access: 'read' });
      expect(engine.registers.get('RIP')).toBe(CODE + 3n);
    });

    it('one read-modify-write instruction is executed once', () => {
      const { engine, memory } = fixture('f048ff03 90 f4'); // lock inc qword [rbx]
      memory.writeU64(DATA, 7n);
      engine.registers.set('RBX', DATA);
      engine.watch.stopAt(DATA, 1, { read: true, write: true });
      expect(engine.run().kind).toBe('watch');
      expect(memory.readU64(DATA)).toBe(8n);
      expect(engine.counters.instructions).toBe(1);
      expect(engine.run().kind).toBe('site');
    });

    it('logs of the same page are as they would be without, and stay when it is taken back', () => {
      const { engine } = fixture('90 488b03 488903 f4 488b03 488903 f4');
      engine.registers.set('RBX', DATA);
      engine.watch.set(DATA, ONE, ONE, 'exact');
      engine.watch.stopAt(DATA, 1, WRITES);
      expect(engine.run().kind).toBe('watch');
      expect(engine.watch.take().map(({ kind, rip }) => [kind, rip])).toEqual([
        ['read', CODE + 1n],
        ['write', CODE + 4n],
      ]);
      engine.watch.stopAt(DATA, 1, OFF);
      engine.registers.set('RIP', CODE + 8n);
      expect(engine.run().kind).toBe('site');
      expect(engine.watch.take().map(({ kind }) => kind)).toEqual(['read', 'write']);
    });

    it('bytes beside a watched one do not stop, an access across its edge does', () => {
      const { engine } = fixture('c6430100 c6430f00 48c743fc00000000 90 f4');
      engine.registers.set('RBX', DATA + 0x100n);
      engine.watch.stopAt(DATA + 0x100n, 1, WRITES);
      expect(engine.run()).toMatchObject({ kind: 'watch', address: DATA + 0xfcn });
      expect(engine.counters.instructions).toBe(3);
    });

    it('a push onto a watched stack slot stops behind the push', () => {
      const { engine } = fixture('50 90 f4');
      engine.watch.stopAt(STACK_TOP - 8n, 8, WRITES);
      expect(engine.run()).toMatchObject({ kind: 'watch', address: STACK_TOP - 8n });
      expect(engine.registers.get('RSP')).toBe(STACK_TOP - 8n);
      expect(engine.registers.get('RIP')).toBe(CODE + 1n);
    });
  });

  describe('setWatch()', () => {
    it('logs a read and a store of a watched byte with address, size and value', () => {
      const { engine, memory } = fixture('488b03 48ffc0 488903 f4'); // mov rax,[rbx]; inc rax; mov [rbx],rax
      memory.writeU64(DATA, 0x41n);
      engine.watch.set(DATA, ONE, ONE);
      engine.registers.set('RBX', DATA);
      engine.run();
      expect(memory.readU64(DATA)).toBe(0x42n);
      expect(engine.watch.take()).toEqual([
        { kind: 'read', address: DATA, sizeBytes: 8, value: 0x41n, rip: CODE },
        {
          kind: 'write',
          address: DATA,
          sizeBytes: 8,
          value: 0x42n,
          rip: isExact ? CODE + 6n : CODE,
        },
      ]);
      expect(engine.watch.take()).toEqual([]);
    });

    it('reads that need only their block are logged the same but for RIP, stores with their own', () => {
      const { engine, memory } = fixture('90 90 8b03 48ffc0 488903 f4');
      memory.writeU64(DATA, 0x41n);
      engine.watch.set(DATA, ONE, ONE, 'block');
      engine.registers.set('RBX', DATA);
      engine.run();
      expect(engine.watch.hasLoggedWrite).toBe(true);
      expect(engine.watch.take()).toEqual([
        { kind: 'read', address: DATA, sizeBytes: 4, value: 0x41n, rip: CODE },
        {
          kind: 'write',
          address: DATA,
          sizeBytes: 8,
          value: 0x42n,
          rip: isExact ? CODE + 7n : CODE,
        },
      ]);
    });

    it('a page asked for exactly and by block is exact, whichever came first', () => {
      for (const wishes of [
        ['block', 'exact'],
        ['exact', 'block'],
      ] as const) {
        const { engine } = fixture('90 488b03 f4');
        for (const wish of wishes) engine.watch.set(DATA, ONE, NONE, wish);
        engine.registers.set('RBX', DATA);
        engine.run();
        expect(engine.watch.take().map(({ rip }) => rip)).toEqual([isExact ? CODE + 1n : CODE]);
      }
    });

    it('forgetAccesses() empties the log and what comes next is logged anew', () => {
      const { engine } = fixture('488903 f4 488b03 f4');
      engine.watch.set(DATA, ONE, ONE);
      engine.registers.set('RBX', DATA);
      engine.run();
      engine.watch.forget();
      expect(engine.watch.hasLoggedWrite).toBe(false);
      expect(engine.watch.take()).toEqual([]);
      engine.registers.set('RIP', CODE + 4n);
      engine.run();
      expect(engine.watch.take().map(({ kind }) => kind)).toEqual(['read']);
    });

    it.each([
      { what: 'a read', code: '8a03', kind: 'read' }, // mov al,[rbx]
      { what: 'a store', code: '8803', kind: 'write' }, // mov [rbx],al
    ])('a mask for the other kind does not log $what', ({ code, kind }) => {
      const { engine } = fixture(`${code} f4`);
      engine.watch.set(DATA, kind === 'read' ? NONE : ONE, kind === 'read' ? ONE : NONE);
      engine.registers.set('RBX', DATA);
      engine.run();
      expect(engine.watch.take()).toEqual([]);
    });

    it('bytes beside a watched one are accessed and not logged', () => {
      const { engine, memory } = fixture('884301 8a4301 88430f f4');
      engine.watch.set(DATA, ONE, ONE);
      engine.registers.set('RBX', DATA);
      engine.registers.set('RAX', 0x77n);
      engine.run();
      expect(engine.watch.take()).toEqual([]);
      expect(memory.readU8(DATA + 1n)).toBe(0x77);
      expect(memory.readU8(DATA + 15n)).toBe(0x77);
    });

    it('a locked operation is logged as a read and a store, and done (trap 18)', () => {
      const { engine, memory } = fixture('90 f0480fb10b f4'); // lock cmpxchg [rbx],rcx
      memory.writeU64(DATA, 5n);
      engine.watch.set(DATA, ONE, ONE);
      engine.registers.set('RBX', DATA);
      engine.registers.set('RAX', 5n);
      engine.registers.set('RCX', 9n);
      engine.run();
      expect(memory.readU64(DATA)).toBe(9n);
      const accesses = engine.watch.take();
      expect(accesses.map(({ kind, value }) => [kind, value])).toEqual([
        ['read', 5n],
        ['write', 9n],
      ]);
      if (isExact) expect(accesses.every(({ rip }) => rip === CODE + 1n)).toBe(true);
    });

    it('an access that is not aligned is one record, and reads and writes the right bytes', () => {
      const { engine, memory } = fixture('488943 03 488b4b 03 f4'); // mov [rbx+3],rax; mov rcx,[rbx+3]
      engine.watch.set(DATA + 4n, ONE, ONE);
      engine.registers.set('RBX', DATA);
      engine.registers.set('RAX', 0x1122334455667788n);
      engine.run();
      expect(memory.readU64(DATA + 3n)).toBe(0x1122334455667788n);
      expect(engine.registers.get('RCX')).toBe(0x1122334455667788n);
      const value = 0x1122334455667788n;
      expect(engine.watch.take()).toMatchObject([
        { kind: 'write', address: DATA + 3n, sizeBytes: 8, value },
        { kind: 'read', address: DATA + 3n, sizeBytes: 8, value },
      ]);
    });

    it('a watched page is still dirty when it is written, and protected when it is not writable', () => {
      const { engine } = fixture('8803 f4', [
        MAPPINGS[0]!,
        mapping(DATA, 0x1000, 'rw'),
        mapping(DATA + 0x1000n, 0x1000, 'r'),
      ]);
      engine.watch.set(DATA, ONE, ONE);
      engine.watch.set(DATA + 0x1000n, ONE, ONE);
      engine.registers.set('RBX', DATA);
      engine.run();
      const pages = new Uint8Array(256);
      engine.takeDirtyPages(pages);
      expect(pages[Number(DATA / 4096n)]).toBe(1);
      reset(engine);
      engine.registers.set('RBX', DATA + 0x1000n);
      expect(engine.run()).toMatchObject({ access: 'write', reason: 'protection' });
    });

    it('a cleared watch logs nothing more', () => {
      const { engine } = fixture('8a03 f4');
      engine.watch.set(DATA, ONE, ONE);
      engine.watch.clear(DATA, 1);
      engine.registers.set('RBX', DATA);
      engine.run();
      expect(engine.watch.take()).toEqual([]);
    });

    it('is refused on code and outside memory', () => {
      const { engine } = fixture('f4');
      expect(() => engine.watch.set(CODE, ONE, ONE)).toThrow(
        expect.objectContaining({ code: 'WATCH_ON_CODE' }),
      );
      expect(() => engine.watch.set(0x100000n, ONE, ONE)).toThrow(
        expect.objectContaining({ code: 'WATCH_OUTSIDE_MEMORY' }),
      );
    });
  });

  describe('setBreakpoint()', () => {
    it('stops before the instruction, each time it is reached', () => {
      const { engine } = fixture('b903000000 48ffc0 ffc9 75f9 f4'); // three times inc rax
      engine.setBreakpoint(CODE + 5n);
      for (let round = 0n; round < 3n; round++) {
        expect(engine.run()).toEqual({ kind: 'breakpoint' });
        expect(engine.registers.get('RAX')).toBe(round);
        expect(engine.registers.get('RIP')).toBe(CODE + 5n);
      }
      expect(engine.run()).toMatchObject({ kind: 'site', site: { instruction: { name: 'HLT' } } });
      expect(engine.counters.instructions).toBe(10);
    });
    it('on a site stops first as a breakpoint, then as the site', () => {
      const { engine } = fixture('90 0fa2 f4');
      engine.setBreakpoint(CODE + 1n);
      expect(engine.run()).toEqual({ kind: 'breakpoint' });
      expect(engine.run()).toMatchObject({
        kind: 'site',
        site: { instruction: { name: 'CPUID' } },
      });
    });
    it('on a site answered in line stops, then is answered in line', () => {
      const { engine } = fixture('90 0f31 f4');
      engine.setBreakpoint(CODE + 1n);
      expect(engine.run()).toEqual({ kind: 'breakpoint' });
      expect(engine.run()).toMatchObject({ kind: 'site', site: { instruction: { name: 'HLT' } } });
      expect(engine.counters.inlineRdtscs).toBe(1);
      expect(engine.counters.instructions).toBe(2);
    });
    it('is seen by a step that would pass it', () => {
      const { engine } = fixture('90 90 90 f4');
      engine.setBreakpoint(CODE + 2n);
      expect(engine.run(5)).toEqual({ kind: 'breakpoint' });
      expect(engine.counters.instructions).toBe(2);
    });
    it('that was cleared does not stop', () => {
      const { engine } = fixture('90 90 f4');
      engine.setBreakpoint(CODE + 1n);
      engine.run();
      engine.clearBreakpoint(CODE + 1n);
      engine.registers.set('RIP', CODE);
      expect(engine.run()).toMatchObject({ kind: 'site' });
    });
    it('is refused where no instruction begins', () => {
      const { engine } = fixture('b801000000 f4');
      expect(() => engine.setBreakpoint(CODE + 1n)).toThrow(
        expect.objectContaining({ code: 'NO_INSTRUCTION_THERE' }),
      );
      expect(() => engine.setBreakpoint(0x90000n)).toThrow(
        expect.objectContaining({ code: 'NO_INSTRUCTION_THERE' }),
      );
    });
  });

  describe('stepOverNative()', () => {
    it('executes one vector instruction at its site, and the site stays one', () => {
      const { engine } = fixture('66480f6ec0 f4'); // movq xmm0,rax
      for (const value of [0x1234n, 0x5678n]) {
        reset(engine);
        engine.registers.set('RAX', value);
        expect(engine.run()).toMatchObject({
          site: { instruction: { name: 'MOVD', isFpu: true } },
        });
        expect(engine.stepOverNative()).toEqual({ kind: 'limit' });
        expect(engine.registers.get('RIP')).toBe(CODE + 5n);
        expect(new DataView(engine.vectors().buffer).getBigUint64(0, true)).toBe(value);
      }
      expect(engine.counters.instructions).toBe(2);
    });
    it('an x87 instruction runs too, and a fault in one comes out', () => {
      const { engine } = fixture('d9e8 d91b f4'); // fld1; fstp dword [rbx]
      engine.run();
      expect(engine.stepOverNative()).toEqual({ kind: 'limit' });
      engine.registers.set('RBX', 0x50000n);
      expect(engine.stepOverNative()).toMatchObject({
        kind: 'memory',
        access: 'write',
        address: 0x50000n,
      });
      engine.registers.set('RBX', DATA);
      expect(engine.stepOverNative()).toEqual({ kind: 'limit' });
    });
  });

  describe('addInstructionStarts()', () => {
    it('finds the instructions behind data in the code', () => {
      const { engine } = fixture('eb01 b8 90 90 0fa2'); // jmp +1 over a byte that begins a MOV
      expect(engine.run()).toEqual({ kind: 'invalid-instruction' });
      engine.addInstructionStarts([CODE + 3n]);
      reset(engine);
      expect(engine.run()).toMatchObject({ site: { instruction: { name: 'CPUID' } } });
    });
  });

  describe('integer extensions that compilers emit run natively (2.0 lacks POPCNT and MOVBE)', () => {
    it.runIf(isExact).each([
      { what: 'POPCNT', code: 'f3480fb8c1', rcx: 0xffn, rax: 8n },
      { what: 'MOVBE', code: '480f38f003', rcx: 0n, rax: 0x0807060504030201n },
      { what: 'TZCNT', code: 'f3480fbcc1', rcx: 0x100n, rax: 8n },
    ])('$what', ({ code, rcx, rax }) => {
      const { engine, memory } = fixture(`${code} f4`);
      memory.writeU64(DATA, 0x0102030405060708n);
      reset(engine);
      engine.registers.set('RBX', DATA);
      engine.registers.set('RCX', rcx);
      expect(engine.run()).toMatchObject({ kind: 'site', site: { instruction: { name: 'HLT' } } });
      expect(engine.registers.get('RAX')).toBe(rax);
    });
  });
}
