/** What a snapshot of an engine holds beside registers and counters: vector and x87 state, watched accesses, breakpoints. */
import { describe, expect, it } from 'vitest';
import type { Engine } from '../../../emulator/cpu/engine.js';
import { CODE, DATA, fixture, mapping, reset } from './fixture.js';

/** Executes vector and x87 instructions natively, up to the first stop that is no site of theirs. */
function runNative(engine: Engine): void {
  for (;;) {
    const stop = engine.run();
    if (stop.kind !== 'site' || !stop.site.instruction.isFpu) return;
    expect(engine.stepOverNative()).toEqual({ kind: 'limit' });
  }
}

export function snapshots(): void {
  describe('a snapshot', () => {
    it('of an engine that has used no vector register gives back its first state', () => {
      const { engine } = fixture('66480f6ec0 d9e8 f4'); // movq xmm0,rax; fld1
      const taken = engine.snapshot();
      const before = engine.vectors();
      engine.registers.set('RAX', 7n);
      runNative(engine);
      expect(engine.vectors()).not.toEqual(before);
      engine.restore(taken);
      expect(engine.vectors()).toEqual(before);
    });

    it('holds the x87 stack, its control word, XMM and MXCSR', () => {
      // fld1; fldpi; movups xmm3,[rbx]; then fstp qword [rbx]; fstp qword [rbx+8]; fnstcw [rbx+16];
      // stmxcsr [rbx+20]; movups [rbx+32],xmm3
      const { engine, memory } = fixture(
        'd9e8 d9eb 0f101b 90 dd1b dd5b08 d97b10 0fae5b14 0f115b20 f4',
      );
      memory.fill(DATA, 16, 0x5a);
      engine.registers.set('RBX', DATA);
      for (let loads = 0; loads < 3; loads++) {
        engine.run();
        engine.stepOverNative();
      }
      const taken = engine.snapshot();
      memory.fill(DATA, 64, 0x11);
      runNative(engine);
      const first = memory.read(DATA, 64);
      expect(first.subarray(32, 48)).toEqual(new Uint8Array(16).fill(0x5a));
      memory.fill(DATA, 64, 0x11);
      engine.restore(taken);
      runNative(engine);
      expect(memory.read(DATA, 64)).toEqual(first);
    });

    it('holds the watched accesses that nobody has taken, and whether one was a write', () => {
      const { engine } = fixture('48890b 488b03 f4'); // mov [rbx],rcx; mov rax,[rbx]
      engine.watch.set(DATA, new Uint8Array(8).fill(1), new Uint8Array(8).fill(1));
      engine.registers.set('RBX', DATA);
      engine.run(1);
      const taken = engine.snapshot();
      const end = (): unknown => {
        engine.run(1);
        return [engine.watch.hasLoggedWrite, engine.watch.take()];
      };
      const first = end();
      expect(first).toMatchObject([true, [{ kind: 'write' }, { kind: 'read' }]]);
      engine.watch.forget();
      engine.restore(taken);
      expect(end()).toEqual(first);
    });

    it('at a breakpoint goes on behind it', () => {
      const { engine } = fixture('90 90 90 f4');
      engine.setBreakpoint(CODE + 1n);
      expect(engine.run().kind).toBe('breakpoint');
      const taken = engine.snapshot();
      reset(engine);
      engine.run();
      engine.restore(taken);
      expect(engine.run().kind).toBe('site');
      expect(engine.registers.get('RIP')).toBe(CODE + 3n);
    });

    it('counts no block twice when a run is split behind an in-line site', () => {
      const counts = (limit: number): number => {
        const { engine } = fixture('90 0f78d8 90 90 f4'); // vmread rax,rbx
        const words = new Uint16Array(65536);
        engine.setSlotTable(words);
        engine.bindVmcs({
          values: new BigUint64Array(1),
          flags: Uint8Array.of(1),
          written: new Uint16Array(1),
          writtenCount: new Uint32Array(1),
        });
        while (engine.run(limit).kind === 'limit');
        return engine.counters.blocks;
      };
      expect(counts(1)).toBe(counts(Infinity));
      expect(counts(2)).toBe(counts(Infinity));
    });

    it('counts no block before whose first instruction a breakpoint stops the run, swept or not', () => {
      const pages = [mapping(CODE, 0x1000, 'rx'), mapping(DATA, 0x1000, 'rx')];
      const { engine, memory } = fixture('ffe0', pages); // jmp rax
      memory.write(DATA, Uint8Array.of(0x90, 0xf4));
      engine.registers.set('RAX', DATA);
      engine.setBreakpoint(DATA);
      engine.invalidateCode(DATA, 4);
      const taken = engine.snapshot();
      const counts = (): number[] => {
        expect(engine.run().kind).toBe('breakpoint');
        const atBreakpoint = engine.counters.blocks;
        expect(engine.run().kind).toBe('site');
        return [atBreakpoint, engine.counters.blocks];
      };
      expect(counts()).toEqual([1, 2]);
      engine.restore(taken);
      expect(counts()).toEqual([1, 2]);
    });

    it('counts no block twice when its code is swept again in the middle of it', () => {
      const { engine } = fixture('90 90 90 f4');
      engine.run(1);
      const taken = engine.snapshot();
      engine.run();
      const { blocks } = engine.counters;
      engine.restore(taken);
      engine.invalidateCode(CODE, 4);
      expect(engine.run().kind).toBe('site');
      expect(engine.counters.blocks).toBe(blocks);
    });
  });
}
