import { describe, expect, it } from 'vitest';
import { Disassembler } from '../../emulator/cpu/disassembler.js';
import { readForm, type InstructionForm } from '../../emulator/cpu/instruction-format.js';
import { bytesOf } from './suites/fixture.js';

const disassembler = await Disassembler.create();

describe('disassembler', () => {
  it.each([
    ['488b03', 'mov rax, qword ptr [rbx]'],
    ['0f78c3', 'vmread rbx, rax'],
    ['f30f01e8', 'setssbsy'],
    ['0f01e8', 'serialize'],
    ['06', '.byte 0x06'],
  ])('%s is %s', (code, text) => {
    expect(disassembler.disassemble(bytesOf(code), 0n).map((one) => one.text)).toEqual([text]);
  });

  it('gives addresses of the upper half unsigned', () => {
    const address = 0xffff_8000_0000_0000n;
    const found = disassembler.disassemble(bytesOf('90 ebfd'), address);
    expect(found.map((one) => one.address)).toEqual([address, address + 1n]);
    expect(found[1]!.text).toBe('jmp 0xffff800000000000');
  });

  it('stops at the count', () => {
    expect(disassembler.disassemble(bytesOf('90 90 90'), 0n, 2)).toHaveLength(2);
  });

  it('goes on after bytes that are no instruction', () => {
    expect(disassembler.disassemble(bytesOf('0606 f4'), 0n).map((one) => one.text)).toEqual([
      '.byte 0x06',
      '.byte 0x06',
      'hlt',
    ]);
  });
});

/** Capstone reads UD0 and UD1 as the oldest CPUs do, without the ModRM that the SDM gives them. */
const lacksModrmThere = (form: InstructionForm): boolean =>
  form.map === '0f' && form.encoding === 'legacy' && (form.opcode === 0xb9 || form.opcode === 0xff);

// Capstone is the oracle of our own lengths wherever both know an instruction.
describe('instruction lengths', () => {
  it.each([0, 1, 2, 3])(
    'agree with capstone over every opcode of every map (ModRM form %i)',
    (mod) => {
      const modrms = [mod << 6, (mod << 6) | 0x0d, (mod << 6) | 0x34, (mod << 6) | 0x2a];
      const prefixes = ['', '66', 'f2', 'f3', '48', '6641', 'f045', '6548'];
      const maps = ['', '0f', '0f38', '0f3a', 'c5f8', 'c4e279', 'c4e37d'];
      const differing: string[] = [];
      let compared = 0;
      for (const map of maps) {
        for (const prefix of map.startsWith('c') ? [''] : prefixes) {
          for (let opcode = 0; opcode < 256; opcode++) {
            for (const modrm of modrms) {
              const head = bytesOf(`${prefix}${map}`);
              const bytes = Uint8Array.from([
                ...head,
                opcode,
                modrm,
                0x25,
                0x11,
                0x22,
                0x33,
                0x44,
                0x55,
                0x66,
                0x77,
                0x08,
              ]);
              const own = readForm(bytes, 0, bytes.length);
              const other = disassembler.libraryLength(bytes);
              if (own === null || other === null || lacksModrmThere(own)) continue;
              compared++;
              if (other !== own.length) {
                differing.push(
                  `${Buffer.from(bytes).toString('hex')} ${String(own.length)}, not ${String(other)}`,
                );
              }
            }
          }
        }
      }
      expect(differing).toEqual([]);
      expect(compared).toBeGreaterThan(3000);
    },
  );
});
