import { describe, expect, it } from 'vitest';
import type { Operand } from '../../emulator/cpu/decode.js';
import { readForm } from '../../emulator/cpu/instruction-format.js';
import { systemInstruction } from '../../emulator/cpu/system-instructions.js';
import { bytesOf } from './suites/fixture.js';

const decode = (code: string): ReturnType<typeof systemInstruction> => {
  const bytes = bytesOf(code);
  const form = readForm(bytes, 0, bytes.length);
  return form === null ? null : systemInstruction(form);
};

const r = (register: number, sizeBytes = 8): Operand => ({ kind: 'register', register, sizeBytes });
const m = (base: number | 'rip' | null, displacement = 0n): Operand => ({
  kind: 'memory',
  base,
  index: null,
  scale: 1,
  displacement,
  segment: null,
});
const rbx = m(3);

// One row an encoding that a handler in root mode uses.
// prettier-ignore
const ROWS: [code: string, name: string, ...operands: Operand[]][] = [
  ['0f01c1', 'VMCALL'], ['0f01c2', 'VMLAUNCH'], ['0f01c3', 'VMRESUME'], ['0f01c4', 'VMXOFF'], ['0f01d4', 'VMFUNC'],
  ['0f78c3', 'VMREAD', r(3), r(0)], ['0f7803', 'VMREAD', rbx, r(0)], ['450f78d1', 'VMREAD', r(9), r(10)],
  ['0f79c3', 'VMWRITE', r(0), r(3)], ['0f7903', 'VMWRITE', r(0), rbx],
  ['0fc733', 'VMPTRLD', rbx], ['0fc73b', 'VMPTRST', rbx], ['660fc733', 'VMCLEAR', rbx], ['f30fc733', 'VMXON', rbx],
  ['660f388003', 'INVEPT', r(0), rbx], ['660f388103', 'INVVPID', r(0), rbx], ['660f388203', 'INVPCID', r(0), rbx],
  ['f4', 'HLT'], ['f390', 'PAUSE'], ['fa', 'CLI'], ['fb', 'STI'], ['0fa2', 'CPUID'],
  ['0f31', 'RDTSC'], ['0f01f9', 'RDTSCP'], ['0f33', 'RDPMC'], ['0f32', 'RDMSR'], ['0f30', 'WRMSR'], ['0f01c6', 'WRMSRNS'],
  ['f30fc7f8', 'RDPID', r(0)], ['0fc7f0', 'RDRAND', r(0, 4)], ['480fc7f0', 'RDRAND', r(0)], ['0fc7f8', 'RDSEED', r(0, 4)],
  ['0f01e8', 'SERIALIZE'],
  ['0f20d8', 'MOV_FROM_CR', r(0), { kind: 'control', register: 3 }], ['0f22d8', 'MOV_TO_CR', { kind: 'control', register: 3 }, r(0)],
  ['440f22c0', 'MOV_TO_CR', { kind: 'control', register: 8 }, r(0)], ['440f20c1', 'MOV_FROM_CR', r(1), { kind: 'control', register: 8 }],
  ['0f21f8', 'MOV_FROM_DR', r(0), { kind: 'debug', register: 7 }], ['0f23f8', 'MOV_TO_DR', { kind: 'debug', register: 7 }, r(0)],
  ['0f06', 'CLTS'], ['0f0113', 'LGDT', rbx], ['0f011b', 'LIDT', rbx], ['0f0103', 'SGDT', rbx], ['0f010b', 'SIDT', rbx], ['0f013b', 'INVLPG', rbx],
  ['0f00d8', 'LTR', r(0, 2)], ['0f00c8', 'STR', r(0, 4)], ['0f00d0', 'LLDT', r(0, 2)], ['0f00c0', 'SLDT', r(0, 4)],
  ['0f00e0', 'VERR', r(0, 2)], ['0f00e8', 'VERW', r(0, 2)], ['0f002b', 'VERW', rbx], ['0f00 2d 10000000', 'VERW', m('rip', 0x10n)],
  ['0f01e0', 'SMSW', r(0, 4)], ['0f01f0', 'LMSW', r(0, 2)], ['0f02c3', 'LAR', r(0, 4), r(3, 4)], ['0f03c3', 'LSL', r(0, 4), r(3, 4)],
  ['0f01f8', 'SWAPGS'],
  ['f30faec0', 'RDFSBASE', r(0, 4)], ['f3480faec8', 'RDGSBASE', r(0)], ['f30faed0', 'WRFSBASE', r(0, 4)], ['f3480faed8', 'WRGSBASE', r(0)],
  ['0f01d0', 'XGETBV'], ['0f01d1', 'XSETBV'],
  ['0fae23', 'XSAVE', rbx], ['480fae23', 'XSAVE64', rbx], ['0fae2b', 'XRSTOR', rbx], ['0fae33', 'XSAVEOPT', rbx],
  ['0fc723', 'XSAVEC', rbx], ['0fc72b', 'XSAVES', rbx], ['480fc71b', 'XRSTORS64', rbx], ['0fae03', 'FXSAVE', rbx], ['480fae0b', 'FXRSTOR64', rbx],
  ['f30f1ec8', 'RDSSPD', r(0, 4)], ['f3480f1ec8', 'RDSSPQ', r(0)], ['f3480faee8', 'INCSSPQ', r(0)], ['f30f01ea', 'SAVEPREVSSP'],
  ['f30f012b', 'RSTORSSP', rbx], ['f30f01e8', 'SETSSBSY'], ['f30fae33', 'CLRSSBSY', rbx],
  ['480f38f603', 'WRSSQ', rbx, r(0)], ['0f38f603', 'WRSSD', rbx, r(0, 4)], ['66480f38f503', 'WRUSSQ', rbx, r(0)],
  ['0f01c8', 'MONITOR'], ['0f01c9', 'MWAIT'], ['f30faef0', 'UMONITOR', r(0)], ['f20faef0', 'UMWAIT', r(0, 4)], ['660faef0', 'TPAUSE', r(0, 2)],
  ['9d', 'POPF'], ['48cf', 'IRETQ'], ['cf', 'IRETD'], ['66cf', 'IRETW'], ['cb', 'RETFD'], ['48cb', 'RETFQ'],
  ['ca0800', 'RETFD', { kind: 'immediate', value: 8n }], ['cc', 'INT3'], ['cd80', 'INT', { kind: 'immediate', value: 0x80n }], ['f1', 'INT1'],
  ['ff1b', 'CALL_FARD', rbx], ['48ff2b', 'JMP_FARQ', rbx], ['66ff2b', 'JMP_FARW', rbx],
  ['660f02c3', 'LARW'], ['660fb403', 'LFSW'],
  ['0f08', 'INVD'], ['0f09', 'WBINVD'], ['f30f09', 'WBNOINVD'], ['660fae3b', 'CLFLUSHOPT', rbx], ['660fae33', 'CLWB', rbx],
  ['0f01cb', 'STAC'], ['0f01ca', 'CLAC'],
  ['ec', 'IN', r(0, 1), r(2, 2)], ['ed', 'IN', r(0, 4), r(2, 2)], ['e4ff', 'IN', r(0, 1), { kind: 'immediate', value: 0xffn }],
  ['ee', 'OUT', r(2, 2), r(0, 1)], ['66ef', 'OUT', r(2, 2), r(0, 2)], ['e680', 'OUT', { kind: 'immediate', value: 0x80n }, r(0, 1)],
  ['6c', 'INSB'], ['f36f', 'OUTSD'],
  ['0f05', 'SYSCALL'], ['480f07', 'SYSRETQ'], ['0f34', 'SYSENTER'], ['0f35', 'SYSEXIT'],
  ['8ed8', 'MOV_TO_SEG', { kind: 'segment', register: 3 }, r(0, 4)], ['8ccb', 'MOV_FROM_SEG', r(3, 4), { kind: 'segment', register: 1 }],
  ['0fa0', 'PUSH_SEG', { kind: 'segment', register: 4 }], ['0fa9', 'POP_SEG', { kind: 'segment', register: 5 }],
  ['f00fb10b', 'CMPXCHG', rbx, r(1, 4)], ['0fb1cb', 'CMPXCHG', r(3, 4), r(1, 4)],
  ['f00fc70b', 'CMPXCHG8B', rbx], ['f0480fc70b', 'CMPXCHG16B', rbx],
  ['c7f800000000', 'XBEGIN', { kind: 'immediate', value: 0n }],
];

describe('systemInstruction()', () => {
  it.each(ROWS)('%s is %s', (code, name, ...operands) => {
    const decoded = decode(code);
    expect(decoded).toMatchObject({ name, operands, length: bytesOf(code).length });
  });

  it.each([
    ['0f1103', 'MOVUPS'],
    ['660fefc0', 'PXOR'],
    ['f20f10c1', 'MOVSD'],
    ['0f77', 'EMMS'],
    ['d9e8', 'X87_D9_5'],
    ['9b', 'FWAIT'],
    ['c5f877', 'VEMMS'],
    ['c5fc28c1', 'VMOVAPS'],
    ['62f17c4828c1', 'EVEX_0F_28'],
    ['0fae13', 'LDMXCSR'],
    ['0fae23', 'XSAVE'],
    ['660f3800c1', 'PSHUFB'],
    ['660f3a0fc108', 'SSE_0F3A_0F'],
  ])('%s touches the vector state: %s', (code, name) => {
    expect(decode(code)).toMatchObject({ name, isFpu: true });
  });

  it.each([
    ['add', '0103'],
    ['adc', '1103'],
    ['and', '2103'],
    ['or', '0903'],
    ['sbb', '1903'],
    ['sub', '2903'],
    ['xor', '3103'],
    ['add of an immediate', '830301'],
    ['xchg', '8703'],
    ['xadd', '0fc103'],
    ['inc', 'ff03'],
    ['dec', 'fe0b'],
    ['neg', 'f71b'],
    ['not', 'f613'],
    ['bts', '0fab03'],
    ['btr', '0fb303'],
    ['btc', '0fbb03'],
    ['bts of an immediate', '0fba2b05'],
    ['cmpxchg of 64 bits', '480fb10b'],
  ])('LOCK stands before %s on memory, and before nothing on registers', (_name, code) => {
    expect(decode(`f0${code}`)).toBeNull();
    const modrm = /(03|0b|1b|13|2b)/.exec(code.slice(2))!;
    const at = 2 + modrm.index;
    const onRegister = (parseInt(code.slice(at, at + 2), 16) | 0xc0).toString(16);
    const register = `${code.slice(0, at)}${onRegister}${code.slice(at + 2)}`;
    expect(decode(`f0${register}`)).toMatchObject({ name: 'LOCKED' });
  });

  it.each([
    ['mov', '8903'],
    ['cmp', '3903'],
    ['cmp of an immediate', '833b01'],
    ['add from memory', '0303'],
    ['test', '8503'],
    ['bt', '0fa303'],
    ['bt of an immediate', '0fba2305'],
    ['nop', '90'],
    ['cpuid', '0fa2'],
    ['mov from CR0', '0f20c0'],
  ])('LOCK before %s is a site that raises #UD', (_name, code) => {
    expect(decode(`f0${code}`)).toMatchObject({ name: 'LOCKED', length: code.length / 2 + 1 });
  });

  // What the engine executes right must not stop: the payload would crawl.
  it.each([
    '4889d8',
    '488b03',
    '9c',
    'fc',
    '0faee8',
    '0faef0',
    '0faef8',
    'f30f1efa',
    'f0480fb10b',
    '660fb10b',
    '0fb00b',
    '0fc10b',
    '870b',
    'ff03',
    'c3',
    'e800000000',
    'ff13',
    '0f0b',
    '0fae3b',
    '0f1f4000',
    '90',
    'f3a4',
    'c4e2f8f2c1',
    'c4e3fbf0c108',
    'f3480fb8c1',
    '0f38f003',
    'f20f38f1c1',
    '0fc3 03',
    '65488b042510000000',
  ])('%s is no site', (code) => {
    expect(readForm(bytesOf(code), 0, 15)?.length).toBe(bytesOf(code).length);
    expect(decode(code)).toBeNull();
  });

  it('reads base, index, scale, displacement and segment of a memory operand', () => {
    expect(decode('65 43 0f c7 74 8c f0')?.operands).toEqual([
      { kind: 'memory', base: 12, index: 9, scale: 4, displacement: -16n, segment: 'gs' },
    ]);
    expect(decode('64 0f c7 34 25 00100000')?.operands).toEqual([
      { kind: 'memory', base: null, index: null, scale: 1, displacement: 0x1000n, segment: 'fs' },
    ]);
  });

  it('an operand with 32-bit addresses keeps its name from the models', () => {
    expect(decode('67 0f c7 33')?.name).toBe('ADDR32_VMPTRLD');
  });

  it.each([
    '06',
    '62',
    'c4',
    '0f',
    '0f04',
    'd4',
    'ea',
    '9a',
    '8fc8',
    '660f78c00102',
    '66e800000000',
    '',
  ])('"%s" is no instruction of 64-bit mode', (code) => {
    expect(readForm(bytesOf(code), 0, bytesOf(code).length)).toBeNull();
  });

  it('an instruction of more than 15 bytes is none', () => {
    const bytes = bytesOf('66'.repeat(14) + '90');
    expect(readForm(bytes, 0, bytes.length)?.length).toBe(15);
    const longer = bytesOf('66'.repeat(15) + '90');
    expect(readForm(longer, 0, longer.length)).toBeNull();
  });
});
