/** Near branches under shadow stacks and indirect branch tracking, as the binding follows them. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { CetState } from '../../../emulator/cpu/port.js';
import { CODE, MAPPINGS, STACK_TOP, fixture, type Fixture } from './fixture.js';

const SHADOW = 0x40000n;
const SSP = SHADOW + 0x800n;
const ON: CetState = { shadowStacks: true, endbranch: false, noTrack: false, isWaiting: false };
const TRACKED: CetState = { ...ON, shadowStacks: false, endbranch: true };
const HLT = 'f4';
const ENDBR64 = 'f30f1efa';
/** call +2; jmp +1; ret. */
const CALL_AND_RETURN = 'e802000000 eb01 c3';

/** An engine about to run `code` with a shadow stack at SSP. */
function enforced(code: string, cet: CetState | null, ssp = SSP): Fixture {
  const mappings = [
    ...MAPPINGS,
    ...[
      {
        linear: SHADOW,
        physical: SHADOW,
        sizeBytes: 0x1000,
        writable: false,
        executable: false,
        shadowStack: true,
      },
    ],
  ];
  const made = fixture(code, mappings);
  made.engine.registers.set('SSP', ssp);
  made.engine.registers.set('RAX', CODE + 0x100n);
  made.memory.write(CODE + 0x100n, Buffer.from('90f4', 'hex'));
  made.engine.addInstructionStarts([CODE + 0x100n]);
  made.engine.setCet(cet);
  return made;
}

const at = ({ engine }: Fixture, offset: number, rsp = STACK_TOP, ssp = SSP): void => {
  const { registers } = engine;
  expect([registers.get('RIP'), registers.get('RSP'), registers.get('SSP')]).toEqual([
    CODE + BigInt(offset),
    rsp,
    ssp,
  ]);
};

export function controlFlow(): void {
  describe('shadow stacks', () => {
    it('CALL pushes its return address on both stacks and RET takes it from both', () => {
      const f = enforced(`${CALL_AND_RETURN} ${HLT}`, ON);
      expect(f.engine.run(1)).toEqual({ kind: 'limit' });
      at(f, 7, STACK_TOP - 8n, SSP - 8n);
      expect(f.memory.readU64(SSP - 8n)).toBe(CODE + 5n);
      expect(f.engine.run()).toMatchObject({ kind: 'site' });
      at(f, 8);
    });

    it('a CALL of the next instruction pushes nothing', () => {
      const f = enforced(`e800000000 58 ${HLT}`, ON);
      f.engine.run();
      at(f, 6);
      expect(f.memory.readU64(SSP - 8n)).toBe(0n);
    });

    it.each([
      ['c3', 'RET', 0],
      ['c20800', 'RET imm16', 8],
    ])('%s with another address is #CP(NEAR-RET) and has popped nothing', (ret) => {
      // call +2; jmp; then inc qword [rsp] before the RET
      const f = enforced(`e802000000 eb07 48ff0424 ${ret}`, ON);
      expect(f.engine.run()).toEqual({ kind: 'control-protection', errorCode: 1 });
      at(f, 11, STACK_TOP - 8n, SSP - 8n);
      expect(f.engine.counters.instructions).toBe(2);
    });

    it.each([
      ['CALL', 'e800010000', 'write', SHADOW, SHADOW - 8n],
      ['RET', 'c3', 'read', SHADOW + 0x1000n, SHADOW + 0x1000n],
      ['CALL across the end', 'e800010000', 'write', SHADOW + 4n, SHADOW - 4n],
    ] as const)(
      '%s without a shadow stack stops before anything',
      (_, code, access, ssp, address) => {
        const f = enforced(code, ON, ssp);
        f.engine.registers.set('RSP', STACK_TOP - 8n);
        expect(f.engine.run()).toEqual({ kind: 'shadow-stack', access, address });
        at(f, 0, STACK_TOP - 8n, ssp);
        expect(f.engine.counters).toMatchObject({ instructions: 0, stores: 0 });
      },
    );

    it('an ordinary store to a shadow stack is refused', () => {
      const f = enforced('4889042500000400', ON); // mov [SHADOW], rax
      expect(f.engine.run()).toMatchObject({
        kind: 'memory',
        access: 'write',
        reason: 'protection',
      });
    });

    it('with none on, nothing is pushed', () => {
      const f = enforced(`${CALL_AND_RETURN} ${HLT}`, null);
      f.engine.run();
      at(f, 8);
      expect(f.memory.readU64(SSP - 8n)).toBe(0n);
    });

    it('the page of a push is among those written', () => {
      const f = enforced(`${CALL_AND_RETURN} ${HLT}`, ON);
      f.engine.run();
      const pages = new Uint8Array(0x100);
      f.engine.takeDirtyPages(pages);
      expect(pages[Number(SHADOW >> 12n)]).toBe(1);
    });

    it('a run cut into pieces ends as a whole one', () => {
      // A loop of calls, nested, some of the next instruction.
      const code = `b903000000 e80a000000 e800000000 58 e2f3 ${HLT} 90 e802000000 c3 90 c3`;
      const whole = enforced(code, ON);
      whole.engine.run();
      fc.assert(
        fc.property(
          fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 40, maxLength: 40 }),
          (cuts) => {
            const cut = enforced(code, ON);
            for (const limit of cuts) cut.engine.run(limit);
            cut.engine.run();
            expect(cut.engine.registers.values).toEqual(whole.engine.registers.values);
            expect(cut.engine.counters.instructions).toBe(whole.engine.counters.instructions);
            expect(cut.memory.read(SHADOW, 0x1000)).toEqual(whole.memory.read(SHADOW, 0x1000));
          },
        ),
        { numRuns: 10 },
      );
    });
  });

  describe('indirect branch tracking', () => {
    it.each([
      ['jmp rax', 'ffe0'],
      ['call rax', 'ffd0'],
      ['jmp [rbx]', 'ff23'],
    ])('%s to something else than ENDBR64 is #CP(ENDBRANCH) there', (_, code) => {
      const f = enforced(code, TRACKED);
      f.engine.registers.set('RBX', 0x20000n);
      f.memory.writeU64(0x20000n, CODE + 0x100n);
      expect(f.engine.run()).toEqual({ kind: 'control-protection', errorCode: 3 });
      expect(f.engine.registers.get('RIP')).toBe(CODE + 0x100n);
      expect(f.engine.counters.instructions).toBe(1);
    });

    it.each([
      ['jmp rax to ENDBR64', 'ffe0', TRACKED, `${ENDBR64}f4`],
      ['a direct call', 'e8fb000000', TRACKED, '90f4'],
      [
        'jmp rax with a no-track prefix that counts',
        '3effe0',
        { ...TRACKED, noTrack: true },
        '90f4',
      ],
      ['jmp rax while branches are not tracked', 'ffe0', ON, '90f4'],
    ] as const)('%s goes on', (_, code, cet, target) => {
      const f = enforced(code, cet);
      f.memory.write(CODE + 0x100n, Buffer.from(target, 'hex'));
      f.engine.invalidateCode(CODE, 0x1000);
      expect(f.engine.run()).toMatchObject({ kind: 'site' });
    });

    it('a no-track prefix that does not count, or beside FS, is none', () => {
      for (const [code, noTrack] of [
        ['3effe0', false],
        ['3e64ffe0', true],
      ] as const) {
        const f = enforced(code, { ...TRACKED, noTrack });
        expect(f.engine.run()).toEqual({ kind: 'control-protection', errorCode: 3 });
      }
    });

    it('a run that ends at the branch says so, and the next one refuses its target', () => {
      const f = enforced('ffe0', TRACKED);
      expect(f.engine.run(1)).toEqual({ kind: 'limit' });
      expect(f.engine.isWaitingForEndbranch).toBe(true);
      f.engine.setBreakpoint(CODE + 0x100n);
      expect(f.engine.run()).toEqual({ kind: 'breakpoint' });
      expect(f.engine.run()).toEqual({ kind: 'control-protection', errorCode: 3 });
    });
  });
}
