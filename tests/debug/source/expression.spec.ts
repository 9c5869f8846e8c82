/** Expressions: C's precedence over the names of a stopped core, and a caret where one is wrong. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SourceError } from '../../../emulator/debug/source/errors.js';
import { evaluate, evaluateNumber } from '../../../emulator/debug/source/expression/evaluate.js';
import { ExpressionScope } from '../../../emulator/debug/source/expression/scope.js';
import { render } from '../../../emulator/debug/source/values/render.js';
import { FakeCore } from './fake-core.js';

const core = new FakeCore();
const ccb = core.ccbAddress!;
core.registers.RAX = 0x1122_3344_8877_66f5n;
core.registers.RFLAGS = 0x246n;
core.fields.GUEST_RIP = 0xffff_8000_1000_0059n;
core.fields.VM_EXIT_REASON = 12n;
core.msrs.set(0xc000_0080, 0xd01n);
core.write(ccb + 128n, 2n, 4);
core.write(ccb + 4096n, 1n, 4);
core.write(ccb + 192n + 8n, 0x77n);
const scope = new ExpressionScope(core);
const number = (text: string): bigint => evaluateNumber(text, scope);

describe('a number', () => {
  // prettier-ignore
  it.each([
    ['1 + 2 * 3', 7n], ['(1 + 2) * 3', 9n], ['-1', -1n], ['10 - 4 - 3', 3n], ['0x10 | 1 << 2', 0x14n],
    ['1 ? 2 : 3 ? 4 : 5', 2n], ['!0 && !!7', 1n], ['0 && 1 / 0', 0n], ['1 || 1 / 0', 1n], ['7 / 2', 3n], ['-7 / 2', -3n],
    ['-7 % 3', -1n], ['~0', -1n], ['0b101', 5n], ['1_000', 1000n], ["'A'", 65n], ["'\\n'", 10n], ['-1 < 0', 1n],
    ['5 & 6 == 6', 1n], ['1 << 40', 1n << 40n], ['sizeof(u32)', 4n], ['sizeof(struct caretaker_ccb)', 8192n],
  ])('%s is %s', (text, expected) => {
    expect(number(text)).toBe(expected);
  });

  it("agrees with the same arithmetic over 64-bit two's complement", () => {
    const leaf = fc.bigInt({ min: 0n, max: (1n << 62n) - 1n });
    const operator = fc.constantFrom('+', '-', '*', '&', '|', '^');
    fc.assert(
      fc.property(leaf, operator, leaf, operator, leaf, (a, f, b, g, c) => {
        const apply = (x: bigint, how: string, y: bigint): bigint =>
          BigInt.asIntN(
            64,
            how === '+'
              ? x + y
              : how === '-'
                ? x - y
                : how === '*'
                  ? x * y
                  : how === '&'
                    ? x & y
                    : how === '|'
                      ? x | y
                      : x ^ y,
          );
        expect(number(`(${a} ${f} ${b}) ${g} ${c}`)).toBe(apply(apply(a, f, b), g, c));
      }),
    );
  });
});

describe('a name', () => {
  // prettier-ignore
  it.each([
    ['$rax', 0x1122_3344_8877_66f5n], ['$eax', 0x8877_66f5n], ['$ax', 0x66f5n], ['$al', 0xf5n], ['$ah', 0x66n],
    ['$RAX == $rax', 1n], ['$eflags & 0x40', 0x40n], ['$rax < 0', 0n], ['$exit', 7n],
    ['vmcs.GUEST_RIP', 0xffff_8000_1000_0059n], ['vmcs.guest_rip > 0', 1n],
    ['vmcs.VM_EXIT_REASON == EXIT_REASON_HLT', 1n], ['msr.IA32_EFER', 0xd01n], ['msr[0xc0000080]', 0xd01n],
    ['ccb.state', 2n], ['ccb.attach_state == KVM_ATTACHED', 1n], ['ccb.registers[1]', 0x77n], ['&ccb == &caretaker_ccb', 1n],
    ['caretaker_ccb.state == ccb.state', 1n], ['(&caretaker_ccb)->state', 2n], ['*(u32 *)(&ccb.state)', 2n],
    ['*&ccb.registers[1]', 0x77n], ['&ccb.registers[1] - &ccb.registers[0]', 8n], ['(u8)$rax', 0xf5n],
    ['*(ccb.registers + 1)', 0x77n], ['sizeof ccb', 8192n], ['*$rsp == 0 || 1', 1n],
  ])('%s is %s', (text, expected) => {
    if (text.includes('$rsp')) core.registers.RSP = 0x8_0000n;
    expect(number(text)).toBe(expected);
  });

  it('that is a symbol is its address', () => {
    expect(number('caretaker_dispatch')).toBe(core.source.addressOf('caretaker_dispatch'));
  });

  it('that is a structure is shown field by field', () => {
    const text = render(evaluate('ccb', scope));
    expect(text).toContain('state = 2 (SPINNING)');
    expect(text).toContain('attach_state = 1 (KVM_ATTACHED)');
    expect(text).toContain(
      'reserved_image = {0 <repeats 3 times>}'.replace('0 <repeats 3 times>', '0, 0, 0'),
    );
  });
});

describe('a mistake is shown by a caret', () => {
  // prettier-ignore
  it.each([
    ['1 +', 3, 'a value is missing at the end'], ['ccb.stat', 4, 'no field "stat"; did you mean "state"?'],
    ['$raz', 0, 'no register $raz; did you mean "rax"?'], ['vmcs.GUEST_RIB', 5, 'did you mean "GUEST_RIP"?'],
    ['1 = 1', 2, '"=" assigns'], ['f(1)', 1, 'functions are not called'],
    ['1 / 0', 2, 'division by 0'], ['ccb + 1', 0, 'is no number'], ['(1', 2, '")" is missing at the end'],
    ['0x', 0, 'is no number'], ['12ab', 0, 'is no number'], ['1 @ 2', 2, '"@" begins nothing'],
    ['ccb.registers[15]', 14, 'index 15 is outside'], ['vmcs.GUEST_RSP', 0, ''], ['&1', 0, 'has no address'],
    ['0x1ffffffffffffffff', 0, 'does not fit in 64 bits'], ['1 << 64', 2, 'a shift by 64 bits'],
    ['vmcs', 0, 'vmcs wants a name'], ['*(struct nothing *)1', 1, 'no type "struct nothing"'],
    ['nowhere', 0, 'no name "nowhere"'], ['ccb.state.x', 10, 'has no fields'], ['*0xffff00000000', 0, 'no memory at'],
  ])('%s', (text, column, message) => {
    let error: unknown;
    try {
      evaluateNumber(text, scope);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(SourceError);
    const { message: said, details } = error as SourceError;
    if (message !== '') {
      expect(said).toContain(message);
      expect(details['column']).toBe(column);
      expect(said.split('\n').at(-1)!.indexOf('^')).toBe(column + 2);
    }
  });

  it('whatever the text is', () => {
    const word = fc.constantFrom(
      '$rax',
      'ccb',
      '.',
      '->',
      '(',
      ')',
      '[',
      ']',
      '*',
      '&',
      '-',
      '1',
      '?',
      ':',
      ' ',
      'state',
      'vmcs',
      'GUEST_RIP',
      'sizeof',
      '(u8)',
      '/',
      '<<',
      "'",
      '=',
      'struct',
    );
    fc.assert(
      fc.property(fc.array(word, { maxLength: 12 }), (words) => {
        try {
          evaluate(words.join(''), scope);
        } catch (error) {
          expect(error).toBeInstanceOf(SourceError);
        }
      }),
    );
    for (const text of [
      '('.repeat(10_000),
      '-'.repeat(10_000),
      '1+'.repeat(10_000),
      'a['.repeat(5000),
    ]) {
      expect(() => evaluate(text, scope)).toThrow(SourceError);
    }
  });
});
