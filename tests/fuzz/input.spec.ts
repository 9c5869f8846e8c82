/** A fuzzer's inputs: their binary form, what mutations make of them, and that hardware could have made the exits. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { EXIT_REASON } from '../../abi/exit-reasons.js';
import { INTERRUPTIBILITY } from '../../abi/interruption.js';
import type { FieldName } from '../../abi/vmcs-fields.js';
import { Random } from '../../emulator/clock/random.js';
import { decode, encode } from '../../emulator/fuzz/codec.js';
import { MAX_EXPONENT, MAX_OPS, type ExitOp, type Op } from '../../emulator/stage/input.js';
import { legalExit } from '../../emulator/stage/legal.js';
import { MeasuredGuest } from '../../emulator/fuzz/measured.js';
import { ALL, generate, mutate } from '../../emulator/fuzz/mutate.js';
import { validVmcs } from '../../emulator/vmx/description.js';
import { brokenRules } from '../../emulator/vmx/entry-checks/evaluate.js';
import { fakePcpu, looseVmcs } from '../vmx/fake-pcpu.js';

const u8 = fc.nat(255);
const u32 = fc.nat(0xffff_ffff);
const u64 = fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn });
const exitOp: fc.Arbitrary<ExitOp> = fc.record(
  {
    kind: fc.constant('exit'),
    basic: u8,
    modifiers: u8,
    instructionLength: u8,
    interruptibility: u8,
    mode: u8,
    qualification: u64,
    interruption: fc.tuple(u32, u32),
    vectoring: fc.tuple(u32, u32),
    registers: fc.tuple(u64, u64, u64),
    rip: u64,
    guestPhysicalAddress: u64,
  },
  {
    requiredKeys: ['kind', 'basic', 'modifiers', 'instructionLength', 'interruptibility', 'mode'],
  },
);
const anyOp: fc.Arbitrary<Op> = fc.oneof(
  exitOp,
  fc.record({ kind: fc.constant('interrupt' as const), vector: u8 }),
  fc.constant({ kind: 'nmi' as const }),
  fc.record({ kind: fc.constant('machine-check' as const), status: u8 }),
  fc.record({ kind: fc.constant('time' as const), exponent: fc.nat(MAX_EXPONENT), mantissa: u8 }),
  fc.record({ kind: fc.constant('flip' as const), attached: fc.boolean() }),
  fc.constant({ kind: 'stop' as const }),
  fc.record({ kind: fc.constant('configure' as const), what: u8, index: u8, value: u8 }),
);

describe('the binary form', () => {
  it('gives back what was encoded', () => {
    fc.assert(
      fc.property(u8, fc.array(anyOp, { maxLength: MAX_OPS }), (base, ops) => {
        expect(decode(encode({ base, ops }))).toEqual({ base, ops });
      }),
    );
  });

  it('decodes any bytes, and what it decoded is a fixed point', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
        const once = decode(bytes);
        expect(once.ops.length).toBeLessThanOrEqual(MAX_OPS);
        expect(decode(encode(once))).toEqual(once);
      }),
    );
  });

  it('reads what was cut off as zeros', () => {
    const whole = encode({ base: 3, ops: [{ kind: 'configure', what: 1, index: 2, value: 9 }] });
    expect(decode(whole.subarray(0, 3))).toEqual({
      base: 3,
      ops: [{ kind: 'configure', what: 1, index: 0, value: 0 }],
    });
  });
});

describe('an exit as hardware could have made it', () => {
  it('leaves a guest state that VM entry accepts, whatever a mutation asked for', () => {
    fc.assert(
      fc.property(exitOp, (op) => {
        const fields = Object.fromEntries(Object.entries(legalExit(op).fields!)) as Partial<
          Record<FieldName, bigint>
        >;
        const vmcs = looseVmcs({ ...validVmcs(), ...fields });
        expect(brokenRules(vmcs, fakePcpu()).map(({ rule }) => rule)).toEqual([]);
      }),
    );
  });

  it.each([
    [
      'a length for an instruction exit',
      { basic: 10, instructionLength: 14 },
      { instructionLength: 15 },
    ],
    ['no length for an EPT violation', { basic: 48 }, { instructionLength: undefined }],
    [
      'no interruption information but for reasons 0 and 1',
      { basic: 10, interruption: [0x8000_0202, 0] },
      { interruptionInfo: undefined },
    ],
    [
      'an acknowledged vector with every external interrupt',
      { basic: 1 },
      { interruptionInfo: 0x8000_0020 },
    ],
    [
      'vector 2 with every NMI',
      { basic: 0, interruption: [0x8000_02ff, 0] },
      { interruptionInfo: 0x8000_0202 },
    ],
    [
      'no event in delivery at an NMI, which comes at a boundary',
      { basic: 0, interruption: [0x8000_0202, 0], vectoring: [0x8000_030e, 0] },
      { idtVectoringInfo: undefined },
    ],
    [
      'an event in delivery at an EPT violation, with its error code',
      { basic: 48, vectoring: [0x8000_030e, 2] },
      { idtVectoringInfo: 0x8000_0b0e, idtVectoringErrorCode: 2 },
    ],
    [
      'a reason of its own for a failed VM entry',
      { basic: 10, modifiers: 0x80 },
      { basic: 34, reasonBits: 0x8000_0000 },
    ],
  ] as const)('has %s', (_rule, op, expected) => {
    const whole: ExitOp = {
      kind: 'exit',
      modifiers: 0,
      instructionLength: 1,
      interruptibility: 0,
      mode: 2,
      ...op,
    };
    expect(legalExit(whole)).toMatchObject(
      Object.fromEntries(Object.entries(expected).filter(([, value]) => value !== undefined)),
    );
    for (const [name, value] of Object.entries(expected))
      if (value === undefined) expect(legalExit(whole)).toHaveProperty(name, undefined);
  });

  it('has no STI shadow without RFLAGS.IF', () => {
    fc.assert(
      fc.property(exitOp, (op) => {
        const { GUEST_RFLAGS, GUEST_INTERRUPTIBILITY_INFO } = legalExit(op).fields!;
        const hasShadow = (GUEST_INTERRUPTIBILITY_INFO! & BigInt(INTERRUPTIBILITY.STI)) !== 0n;
        expect(hasShadow && (GUEST_RFLAGS! & 0x200n) === 0n).toBe(false);
      }),
    );
  });
});

describe('mutations', () => {
  it('are a function of the seed', () => {
    const campaign = (seed: number): readonly Uint8Array[] => {
      const random = new Random(seed);
      let input = generate(random, ALL);
      return Array.from({ length: 200 }, () => {
        input = mutate(random, input, generate(random, ALL), ALL);
        return encode(input);
      });
    };
    expect(campaign(7)).toEqual(campaign(7));
    expect(campaign(7)).not.toEqual(campaign(8));
  });

  it('on the measured mix draw the exits of a busy guest, each as often as it makes them', () => {
    const guest = new MeasuredGuest(new Random(3), 4_000_000_000);
    const drawn = new Map<number, number>();
    for (let n = 0; n < 10_000; n++) {
      const { basic } = guest.exit();
      drawn.set(basic, (drawn.get(basic) ?? 0) + 1);
    }
    const share = (basic: number): number => drawn.get(basic)! / 10_000;
    expect(share(EXIT_REASON.EXIT_REASON_MSR_WRITE)).toBeCloseTo(0.69, 1);
    expect(share(EXIT_REASON.EXIT_REASON_HLT)).toBeCloseTo(0.28, 1);
    expect(share(EXIT_REASON.EXIT_REASON_EPT_MISCONFIG)).toBeCloseTo(0.017, 2);
    expect([...drawn.keys()]).toContain(EXIT_REASON.EXIT_REASON_CPUID);
  });

  it('reach every basic reason and every other kind of op', () => {
    const random = new Random(1);
    const reasons = new Set<number>();
    const kinds = new Set<Op['kind']>();
    let input = generate(random, ALL);
    for (let n = 0; n < 20_000; n++) {
      input =
        n % 50 === 0 ? generate(random, ALL) : mutate(random, input, generate(random, ALL), ALL);
      for (const op of input.ops) {
        kinds.add(op.kind);
        if (op.kind === 'exit') reasons.add(op.basic);
      }
    }
    expect(kinds.size).toBe(8);
    for (const reason of Object.values(EXIT_REASON)) expect(reasons).toContain(reason);
    expect(reasons.size).toBeGreaterThan(Object.values(EXIT_REASON).length + 50);
  });
});
