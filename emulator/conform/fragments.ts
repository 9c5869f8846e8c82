/**
 * Instructions of the kinds that a payload uses, encoded.
 *
 * Source: SDM, vol. 2 (encodings, and which flags an instruction leaves undefined); facts about payloads: integer, flags,
 * string, atomics, GS-relative, control and debug registers, descriptor tables, IRET, far RET, exceptions.
 * Invariant: RDI and RSI point to DATA between instructions.
 */
import { GUEST, GUEST_SELECTOR } from './guest-area.js';
import { AREA, AREA_SELECTOR } from './instruction-area.js';

/** One instruction, or a few that belong together. */
export interface Fragment {
  readonly name: string;
  /** Hexadecimal bytes. */
  readonly code: string;
  /** Flags that it leaves undefined. */
  readonly undefinedFlags?: bigint;
}

/** CF PF AF ZF SF OF. */
const FLAG = { CF: 1n, PF: 4n, AF: 0x10n, ZF: 0x40n, SF: 0x80n, OF: 0x800n } as const;
const AF_OF = FLAG.AF | FLAG.OF;
const NOT_CF_OF = FLAG.SF | FLAG.ZF | FLAG.AF | FLAG.PF;
const NOT_CF = NOT_CF_OF | FLAG.OF;
const NOT_ZF = FLAG.CF | FLAG.OF | FLAG.SF | FLAG.AF | FLAG.PF;
const ALL = NOT_CF | FLAG.CF;

const hexByte = (value: number): string => (value & 0xff).toString(16).padStart(2, '0');
const dword = (value: bigint): string =>
  [0n, 8n, 16n, 24n]
    .map((shift) => ((value >> shift) & 0xffn).toString(16).padStart(2, '0'))
    .join(' ');
/** MOV EDI, DATA and MOV ESI, DATA + 0x80. */
const POINTERS = `bf ${dword(GUEST.DATA)} be ${dword(GUEST.DATA + 0x80n)}`;
/** CMP RAX, RBX. */
export const COMPARE_RAX_RBX = '48 39 d8';

const plain = (
  rows: readonly (readonly [name: string, code: string, undefinedFlags?: bigint])[],
): Fragment[] =>
  rows.map(([name, code, undefinedFlags]) => ({
    name,
    code,
    ...(undefinedFlags === undefined ? {} : { undefinedFlags }),
  }));

const ALU = ['add', 'or', 'adc', 'sbb', 'and', 'sub', 'xor', 'cmp'] as const;
const LOGIC: ReadonlySet<string> = new Set(['or', 'and', 'xor']);
const SIZES = [
  ['8', '', -1],
  ['16', '66 ', 0],
  ['32', '', 0],
  ['64', '48 ', 0],
] as const;

/** The eight two-operand operations in every size: registers, memory, immediate, locked. */
const ARITHMETIC: readonly Fragment[] = ALU.flatMap((name, n) => {
  const undefinedFlags = LOGIC.has(name) ? FLAG.AF : 0n;
  return SIZES.flatMap(([bits, prefix, byte]): Fragment[] => {
    const op = n * 8 + 1 + byte;
    const rows: Fragment[] = [
      { name: `${name} ax, cx (${bits})`, code: `${prefix}${hexByte(op)} c8`, undefinedFlags },
      {
        name: `${name} [rdi+8], bx (${bits})`,
        code: `${prefix}${hexByte(op)} 5f 08`,
        undefinedFlags,
      },
      {
        name: `${name} dx, [rsi+16] (${bits})`,
        code: `${prefix}${hexByte(op + 2)} 56 10`,
        undefinedFlags,
      },
      {
        name: `${name} bx, -1 (${bits})`,
        code: `${prefix}${byte < 0 ? '80' : '83'} ${hexByte(0xc3 + n * 8)} ff`,
        undefinedFlags,
      },
    ];
    if (name !== 'cmp') {
      const code = `f0 ${prefix}${hexByte(op)} 4f 20`;
      rows.push({ name: `lock ${name} [rdi+32], cx (${bits})`, code, undefinedFlags });
    }
    return rows;
  });
});

/** CMPXCHG in every size, with what decides it made equal and made different, in memory and in a register. */
const COMPARE_AND_EXCHANGE = SIZES.flatMap(
  ([bits, prefix, byte]): [name: string, code: string][] => {
    const op = `0f ${hexByte(0xb1 + byte)}`;
    return [
      [`cmpxchg [rdi+8], rdx that finds RAX (${bits})`, `48 8b 47 08 f0 ${prefix}${op} 57 08`],
      [`cmpxchg [rdi+8], rdx that does not (${bits})`, `48 8b 47 08 fe c0 f0 ${prefix}${op} 57 08`],
      [`cmpxchg rcx, rdx that finds RAX (${bits})`, `48 89 c1 48 c1 e0 00 ${prefix}${op} d1`],
      [`cmpxchg rcx, rdx that does not (${bits})`, `48 89 c1 fe c1 ${prefix}${op} d1`],
    ];
  },
);
const PAIRS = '48 8b 47 20 48 8b 57 28'; // MOV RAX, [RDI + 32]; MOV RDX, [RDI + 40]
const SMALL_PAIRS = '8b 47 10 8b 57 14';
COMPARE_AND_EXCHANGE.push(
  ['cmpxchg8b that finds EDX:EAX', `${SMALL_PAIRS} f0 0f c7 4f 10`],
  ['cmpxchg8b that does not', `${SMALL_PAIRS} ff c2 0f c7 4f 10`],
  ['cmpxchg16b that finds RDX:RAX', `${PAIRS} f0 48 0f c7 4f 20`],
  ['cmpxchg16b that does not', `${PAIRS} 48 ff c0 48 0f c7 4f 20`],
);

// prettier-ignore
const INTEGER: readonly Fragment[] = plain([
  ['inc rax', '48 ff c0'], ['dec ecx', 'ff c9'], ['neg rbx', '48 f7 db'], ['not rdx', '48 f7 d2'],
  ['lock inc dword [rdi]', 'f0 ff 07'], ['lock dec qword [rdi+8]', 'f0 48 ff 4f 08'],
  ['test rax, rcx', '48 85 c8', FLAG.AF], ['test al, 0x80', 'a8 80', FLAG.AF],
  ['mov r8, rax', '49 89 c0'], ['mov [rdi+24], r9d', '44 89 4f 18'], ['mov r10, [rsi+8]', '4c 8b 56 08'],
  ['mov rax, imm64', '48 b8 88 77 66 55 44 33 22 91'], ['mov ecx, imm32', 'b9 ff ff ff 7f'],
  ['xchg rax, r11', '49 93'], ['xchg [rdi+40], rbx', '48 87 5f 28'], ['xadd [rdi], rax', '48 0f c1 07'],
  ['lock xadd [rdi+4], ecx', 'f0 0f c1 4f 04'], ['cmpxchg [rdi], rcx', '48 0f b1 0f'],
  ['lock cmpxchg [rdi+8], edx', 'f0 0f b1 57 08'], ['lock cmpxchg8b [rdi+16]', 'f0 0f c7 4f 10'],
  ['lock cmpxchg16b [rdi+32]', 'f0 48 0f c7 4f 20'], ['cmpxchg16b at an odd multiple of 8', '48 0f c7 4f 08'],
  ['shl rax, 1', '48 d1 e0', FLAG.AF], ['shl ecx, 5', 'c1 e1 05', AF_OF], ['shr rbx, 63', '48 c1 eb 3f', AF_OF],
  ['sar edx, 31', 'c1 fa 1f', AF_OF], ['shl rax, cl', '48 d3 e0', AF_OF | FLAG.CF], ['sar r8, 1', '49 d1 f8', FLAG.AF],
  ['rol rax, 13', '48 c1 c0 0d', FLAG.OF], ['ror ecx, 1', 'd1 c9'], ['rcl ebx, 1', 'd1 d3'], ['rcr rdx, 1', '48 d1 da'],
  ['shld rax, rcx, 17', '48 0f a4 c8 11', AF_OF], ['shrd rdx, rbx, 3', '48 0f ac da 03', AF_OF],
  ['imul rax, rcx', '48 0f af c1', NOT_CF_OF], ['imul ebx, edx, 100', '6b da 64', NOT_CF_OF],
  ['mul rcx', '48 f7 e1', NOT_CF_OF], ['imul r9', '49 f7 e9', NOT_CF_OF], ['div rcx', '48 f7 f1', ALL],
  ['xor edx, edx; div ebx', '31 d2 f7 f3', ALL], ['cqo; idiv rbx', '48 99 48 f7 fb', ALL],
  ['bt rax, 17', '48 0f ba e0 11', NOT_CF & ~FLAG.ZF], ['bts [rdi], 5', '0f ba 2f 05', NOT_CF & ~FLAG.ZF],
  ['lock btr dword [rdi], 3', 'f0 0f ba 37 03', NOT_CF & ~FLAG.ZF], ['lock bts [rdi], rcx within the page', '83 e1 7f f0 48 0f ab 0f', NOT_CF],
  ['btc rdx, rax', '48 0f bb c2', NOT_CF & ~FLAG.ZF], ['or eax, 16; bsf rcx, rax', '83 c8 10 48 0f bc c8', NOT_ZF],
  ['or ebx, 16; bsr edx, ebx', '83 cb 10 0f bd d3', NOT_ZF], ['popcnt rax, rcx', 'f3 48 0f b8 c1'],
  ['tzcnt rcx, rdx', 'f3 48 0f bc ca', NOT_CF & ~FLAG.ZF], ['lzcnt ebx, eax', 'f3 0f bd d8', NOT_CF & ~FLAG.ZF],
  ['movzx eax, cl', '0f b6 c1'], ['movzx rcx, word [rdi]', '48 0f b7 0f'], ['movsx rdx, bl', '48 0f be d3'],
  ['movsx eax, word [rsi]', '0f bf 06'], ['movsxd rbx, eax', '48 63 d8'], ['cwde', '98'], ['cdqe', '48 98'], ['cdq', '99'],
  ['lea rax, [rcx + rdx*8 + 0x12345678]', '48 8d 84 d1 78 56 34 12'], ['lea r8d, [rip + 16]', '44 8d 05 10 00 00 00'],
  ['lea eax, [ecx + ebx] with a 32-bit address', '67 8d 04 19'], ['bswap rax', '48 0f c8'], ['bswap ecx', '0f c9'],
  ['setb al', '0f 92 c0'], ['setg cl', '0f 9f c1'], ['setnp dl', '0f 9b c2'], ['sets [rdi+1]', '0f 98 47 01'],
  ['cmovz rax, rcx', '48 0f 44 c1'], ['cmovl edx, ebx', '0f 4c d3'], ['cmova rbx, [rdi]', '48 0f 47 1f'],
  ['ah to memory', '88 67 05'], ['add ah, ch', '00 ec'], ['movbe rax, [rdi]', '48 0f 38 f0 07'], ['xlat', '89 fb d7'],
  ['adc of a long sum', '48 01 c8 48 11 d3 48 83 d1 00'], ['andn rax, rcx, rdx', 'c4 e2 f0 f2 c2', FLAG.AF | FLAG.PF],
  ['rorx rbx, rax, 7', 'c4 e3 fb f0 d8 07'], ['shlx rcx, rdx, rax', 'c4 e2 f9 f7 ca'],
   ['crc32 eax, bl', 'f2 0f 38 f0 c3'],
  ...COMPARE_AND_EXCHANGE,
  ['nop [rax]', '0f 1f 00'], ['endbr64', 'f3 0f 1e fa'], ['pause', 'f3 90'], ['lfence', '0f ae e8'], ['mfence', '0f ae f0'],
  ['sfence', '0f ae f8'], ['clflush [rdi]', '0f ae 3f'], ['prefetcht0 [rdi]', '0f 18 0f'], ['prefetchw [rdi]', '0f 0d 0f'],
]);

// prettier-ignore
const FLAGS: readonly Fragment[] = plain([
  ['clc', 'f8'], ['stc', 'f9'], ['cmc', 'f5'], ['cld', 'fc'], ['std; cld', 'fd fc'], ['lahf', '9f'], ['sahf', '9e'],
  ['pushfq; pop rax', '9c 58'], ['push rcx; popfq with what may change', '51 48 81 24 24 d5 0c 20 00 9d fc'],
  ['pushfq under every settable flag', '68 d7 0c 24 00 9d 9c 58 fc 68 02 00 00 00 9d'],
  ['push rax; pop rcx', '50 59'], ['push imm8', '6a 80'], ['push imm32', '68 78 56 34 92'], ['push [rdi]; pop [rdi+48]', 'ff 37 8f 47 30'],
  ['push ax (16)', '66 50'], ['pop r8', '41 58'], ['enter 32, 0; leave', 'c8 20 00 00 c9'], ['push fs; pop gs', '0f a0 0f a9'],
  ['cli', 'fa'], ['sti; nop; cli', 'fb 90 fa'],
]);

// prettier-ignore
const STRINGS: readonly Fragment[] = plain([
  ['movsb', 'a4'], ['movsq', '48 a5'], ['stosd', 'ab'], ['lodsb', 'ac'], ['lodsq', '48 ad'], ['scasb', 'ae'], ['cmpsd', 'a7'],
  ['rep movsb of 13', 'b9 0d 00 00 00 f3 a4'], ['rep stosq of 5', 'b9 05 00 00 00 f3 48 ab'], ['rep movsw of 0', 'b9 00 00 00 00 f3 66 a5'],
  ['repe cmpsb of 20', 'b9 14 00 00 00 f3 a6'], ['repne scasb of 32', 'b9 20 00 00 00 b0 00 f2 ae'],
  ['std; rep movsb of 4; cld', 'fd b9 04 00 00 00 f3 a4 fc'], ['rep stosb that runs off the mapping', `bf ${dword(0x13_7ff8n)} b9 10 00 00 00 f3 aa`],
].map(([name, code]) => [name!, `${code!} ${POINTERS}`]));

// prettier-ignore
const TRANSFERS: readonly Fragment[] = plain([
  ['jmp over one', 'eb 03 48 ff c0'], ['jz over one', '74 03 48 ff c0'], ['jb over one', '72 03 48 ff c1'],
  ['jle far over one', '0f 8e 03 00 00 00 48 ff c3'], ['jrcxz', 'e3 03 48 ff c0'], ['loop 3 times', 'b9 03 00 00 00 48 01 c8 e2 fb'],
  ['loopne', 'b9 03 00 00 00 48 39 d8 e0 fb'], ['call next', 'e8 00 00 00 00'],
  ['call; ret', 'e8 02 00 00 00 eb 01 c3'], ['call rax', '48 8d 05 05 00 00 00 ff d0 eb 02 c3 90'],
  ['ret imm16', '48 8d 05 05 00 00 00 6a 00 50 c2 08 00'.replace('05 00 00 00 6a', '06 00 00 00 6a')],
  ['jmp [rdi+56] through memory', '48 8d 05 06 00 00 00 48 89 47 38 ff 67 38'.replace('05 06', '05 07')],
  ['int 0x30 and back', 'cd 30'], ['retfq', '6a 10 48 8d 05 05 00 00 00 50 48 cb'.replace('05 05', '05 03').replace('6a 10 48', '6a 10 48')],
  ['iretq to the same level', '48 89 e0 6a 18 50 68 02 00 00 00 6a 10 48 8d 05 03 00 00 00 50 48 cf'],
  ['iretq that sets flags', '48 89 e0 6a 18 50 68 d7 08 00 00 6a 10 48 8d 05 03 00 00 00 50 48 cf'],
]);

// prettier-ignore
const SYSTEM: readonly Fragment[] = plain([
  ['mov rax, cs', '48 8c c8'], ['mov [rdi], ss', '8c 17'], ['mov ds, 0', '31 c0 8e d8', 0x10n], ['mov fs, data', 'b8 18 00 00 00 8e e0'],
  ['mov ss, data; nop', 'b8 18 00 00 00 8e d0 90'], ['mov gs, data', 'b8 18 00 00 00 8e e8'], ['mov rax, gs:[8]', '65 48 8b 04 25 08 00 00 00'],
  ['mov gs:[16], rcx', '65 48 89 0c 25 10 00 00 00'], ['mov rdx, fs:[0]', '64 48 8b 14 25 00 00 00 00'], ['inc of gs:[24] through a register', '65 48 8b 04 25 18 00 00 00 48 ff c0 65 48 89 04 25 18 00 00 00'],
  ['rdgsbase rax', 'f3 48 0f ae c8'], ['wrfsbase rdi', 'f3 48 0f ae d7'], ['str ax', '66 0f 00 c8'], ['sldt ecx', '0f 00 c1'],
  ['verw ax of data', 'b8 18 00 00 00 0f 00 e8'], ['verw ax of code', 'b8 10 00 00 00 0f 00 e8'], ['verr ax of null', '31 c0 0f 00 e0', 0x10n],
  ['sgdt [rdi]', '0f 01 07'], ['sidt [rdi+16]', '0f 01 4f 10'], ['sgdt; lgdt', '0f 01 07 0f 01 17'], ['sidt; lidt', '0f 01 4f 10 0f 01 5f 10'],
  ['smsw eax', '0f 01 e0'], ['mov rax, cr0', '0f 20 c0'], ['mov rcx, cr3', '0f 20 d9'], ['mov rdx, cr4', '0f 20 e2'],
  ['mov cr2, rcx; mov rax, cr2', '0f 22 d1 0f 20 d0'], ['mov cr3, the same', '0f 20 d8 0f 22 d8'], ['clts', '0f 06'],
  ['mov cr4 without PGE', '0f 20 e0 48 0f ba f0 07 0f 22 e0', FLAG.OF | FLAG.SF | FLAG.AF | FLAG.PF], ['mov dr0, rcx; mov rax, dr0', '0f 23 c1 0f 21 c0'],
  ['mov rax, dr7', '0f 21 f8'], ['mov rcx, dr6', '0f 21 f1'], ['swapgs; swapgs', '0f 01 f8 0f 01 f8'], ['invlpg [rdi]', '0f 01 3f'],
  ['ltr of an available segment; str', 'b8 30 00 00 00 0f 00 d8 0f 00 c8'], 
  ['mov ds, user data', 'b8 78 00 00 00 8e d8'], ['mov es, read-only', 'b8 80 00 00 00 8e c0'],
  ['mov ds, conforming code', 'b8 70 00 00 00 8e d8'], ['mov fs, with RPL 3', 'b8 7b 00 00 00 8e e0'],
  ['verr of conforming code', 'b8 70 00 00 00 0f 00 e0'], ['verr of code that cannot be read', 'b8 88 00 00 00 0f 00 e0'], ['verw of read-only', 'b8 80 00 00 00 0f 00 e8'],
  ['verr of a task', 'b8 30 00 00 00 0f 00 e0'], ['verr past the table', 'b8 00 01 00 00 0f 00 e0'],
  ['int 0x41 through a trap gate', 'cd 41'], ['int 0x48 to conforming code', 'cd 48'],
  ['lidt with a small limit; sidt', '66 c7 07 ff 00 48 c7 47 02 00 80 10 00 0f 01 1f 0f 01 4f 10'], ['lgdt; push fs; pop fs', '0f 01 07 0f 01 17 0f a0 0f a1'],
  ['lmsw ax', '0f 01 f0'], ['smsw [rdi]', '0f 01 27'], ['str [rdi]', '0f 00 0f'], ['sldt [rdi]', '0f 00 07'], ['mov [rdi], gs', '8c 2f'], ['mov gs, [rdi] of data', 'c7 07 18 00 00 00 8e 2f'],
  
  
  ['ltr of a busy segment', 'b8 40 00 00 00 0f 00 d8'], ['lldt of null', '31 c0 0f 00 d0', 0x10n],
]);

/** MOV [RDI], RAX; MOV WORD [RDI + 8], selector: a far pointer to what RAX holds. */
const farPointer = (selector: number): string =>
  `48 89 07 66 c7 47 08 ${hexByte(selector)} ${hexByte(selector >> 8)}`;
/** LEA RAX, [RIP + length of the rest]; a far pointer to it; the transfer. */
const farTo = (selector: number, transfer: string): string => {
  const rest = `${farPointer(selector)} ${transfer}`;
  return `48 8d 05 ${hexByte(rest.split(' ').length)} 00 00 00 ${rest}`;
};
const FAR_JMP = '48 ff 2f';
const FAR_CALL = '48 ff 1f';
const [CODE, CONFORMING_CODE] = [GUEST_SELECTOR.CODE, AREA_SELECTOR.CONFORMING];
/** MOV ECX, selector; then LAR or LSL of it. */
const ofSelector = (selector: number, opcode: string): string =>
  `b9 ${hexByte(selector)} ${hexByte(selector >> 8)} 00 00 ${opcode}`;
const DESCRIPTORS = [
  ['null', 0],
  ['null with RPL 3', 3],
  ['code', CODE],
  ['conforming code', CONFORMING_CODE],
  ['data', GUEST_SELECTOR.DATA],
  ['data with RPL 3', GUEST_SELECTOR.DATA | 3],
  ['user data with RPL 3', AREA_SELECTOR.USER_DATA | 3],
  ['conforming code with RPL 3', CONFORMING_CODE | 3],
  ['what is not present', GUEST_SELECTOR.NOT_PRESENT],
  ['an available task', GUEST_SELECTOR.TASK],
  ['the busy task', GUEST_SELECTOR.TR],
  ['an LDT', AREA_SELECTOR.LDT],
  ['what is past the table', 0x100],
  ['an entry of the LDT', CODE | 4],
] as const;

// prettier-ignore
const FAR: readonly Fragment[] = plain([
  ['jmp far', farTo(CODE, FAR_JMP)], ['jmp far to conforming code', farTo(CONFORMING_CODE, `${FAR_JMP} 90`)], ['jmp far with a 32-bit offset', `48 8d 05 0c 00 00 00 89 07 66 c7 47 04 10 00 ff 2f 90 90 90`],
  ['call far', farTo(CODE, FAR_CALL)], ['call far; retfq', `${farTo(CODE, `${FAR_CALL} eb 02`)} 48 cb`], ['call far with 32-bit slots', `48 8d 05 0c 00 00 00 89 07 66 c7 47 04 10 00 ff 1f 90 90 90`],
  ['lfs rax, [rdi]', `${farPointer(0x18)} 48 0f b4 07`], ['lgs ecx, [rdi]', 'c7 47 04 18 00 00 00 0f b5 0f'], ['lss rdx, [rdi]', `${farPointer(0x18)} 48 0f b2 17`],
  ...DESCRIPTORS.flatMap(([what, selector]): [string, string][] => [
    [`lar eax of ${what}`, ofSelector(selector, '0f 02 c1')], [`lsl edx of ${what}`, ofSelector(selector, '0f 03 d1')],
  ]),
  ['lar rax, [rdi]', 'c7 07 18 00 00 00 48 0f 02 07'], ['lsl rbx, [rdi]', 'c7 07 40 00 00 00 48 0f 03 1f'],
]);

// prettier-ignore
/** Ends of a sequence: each raises an exception that a handler takes. */
export const FAULTS: readonly Fragment[] = plain([
  ['ud2', '0f 0b'], ['int3', 'cc'], ['int1', 'f1'], ['int 0x81', 'cd 81'], ['int 13 through an IST', 'cd 0d'], ['div by zero', '31 c9 f7 f1', ALL],
  ['load from an unmapped page', `8b 04 25 ${dword(GUEST.UNMAPPED)}`], ['store to an unmapped page', `89 04 25 ${dword(GUEST.UNMAPPED)}`],
  ['store to a read-only page', `89 04 25 ${dword(AREA.READ_ONLY)}`], ['load across into an unmapped page', `48 8b 04 25 ${dword(0x13_7ffcn)}`],
  ['store across into an unmapped page', `48 89 04 25 ${dword(0x13_7ffcn)}`], ['fetch from data', 'ff e7'], ['jump to an unmapped page', `b8 ${dword(GUEST.UNMAPPED)} ff e0`],
  ['load from a non-canonical address', '48 b8 00 00 00 00 00 80 00 00 8b 00'], ['push with a non-canonical stack', '48 bc 00 00 00 00 00 80 00 00 50'],
  
  ['mov ds, past the table', 'b8 00 01 00 00 8e d8'], ['mov es, code not readable as stack: mov ss, code', 'b8 10 00 00 00 8e d0'], ['mov ss, 0', '31 c0 8e d0', 0x10n],
  ['mov fs, not present', 'b8 28 00 00 00 8e e0'], ['mov cr4 with a reserved bit', '48 b8 00 00 00 00 01 00 00 00 0f 22 e0'],
  ['mov cr0 with PG and not PE', 'b8 20 00 00 80 0f 22 c0'], ['mov cr3 with a reserved bit', '48 b8 00 00 00 00 00 00 00 10 0f 22 d8'],
  ['mov dr7 with a high bit', '48 b8 00 00 00 00 01 00 00 00 0f 23 f8'], ['lgdt of a non-canonical base', '48 b8 00 00 00 00 00 80 00 00 48 89 47 02 0f 01 17'],
  ['iretq to a null CS', '48 89 e0 6a 18 50 6a 02 6a 00 6a 00 48 cf'], ['iretq to a data segment', '48 89 e0 6a 18 50 6a 02 6a 18 6a 00 48 cf'], ['retfq to a segment past the table', '68 00 01 00 00 6a 00 48 cb'],
  ['cmpxchg16b that is not aligned', '48 0f c7 4f 08'],
  ['lock inc on an unmapped page', `f0 ff 04 25 ${dword(GUEST.UNMAPPED)}`], ['add on an unmapped page', `01 04 25 ${dword(GUEST.UNMAPPED)}`],
  ['add on a read-only page', `01 04 25 ${dword(AREA.READ_ONLY)}`], ['cmp on an unmapped page', `39 04 25 ${dword(GUEST.UNMAPPED)}`],
  ['xchg on an unmapped page', `87 04 25 ${dword(GUEST.UNMAPPED)}`], ['bts across into an unmapped page', `b8 00 80 00 00 0f ab 04 25 ${dword(0x13_7000n)}`],
  ['cmpxchg on an unmapped page', `0f b1 04 25 ${dword(GUEST.UNMAPPED)}`], ['cmpxchg of 64 bits on a read-only page', `48 0f b1 0c 25 ${dword(AREA.READ_ONLY)}`],
  ['cmpxchg8b on an unmapped page', `0f c7 0c 25 ${dword(GUEST.UNMAPPED)}`], ['cmpxchg16b on a read-only page', `48 0f c7 0c 25 ${dword(AREA.READ_ONLY)}`],
  ['cmpxchg16b that is not aligned on an unmapped page', `48 0f c7 0c 25 ${dword(GUEST.UNMAPPED + 8n)}`], ['cmpxchg8b at a non-canonical address', '48 bf 00 00 00 00 00 80 00 00 0f c7 0f'],
  ['push from an unmapped page', `ff 34 25 ${dword(GUEST.UNMAPPED)}`], ['pop to an unmapped page', `8f 04 25 ${dword(GUEST.UNMAPPED)}`],
  ['movsq from an unmapped page', `be ${dword(GUEST.UNMAPPED)} 48 a5`], ['movsq to a read-only page', `bf ${dword(AREA.READ_ONLY)} 48 a5`],
  ['not on a read-only page', `f7 14 25 ${dword(AREA.READ_ONLY)}`], ['shl on an unmapped page', `d1 24 25 ${dword(GUEST.UNMAPPED)}`], ['setb on a read-only page', `0f 92 04 25 ${dword(AREA.READ_ONLY)}`],
  ['lock mov', 'f0 89 07'], ['lock cmp', 'f0 39 07'], ['lock add of registers', 'f0 01 c8'], ['lock nop', 'f0 90'], ['lock bt', 'f0 0f a3 07'], ['lock cpuid', 'f0 0f a2'],
  ['call to a non-canonical address', '48 b8 00 00 00 00 00 80 00 00 ff d0'], ['ret to a non-canonical address', '48 b8 00 00 00 00 00 80 00 00 50 c3'],
  ['jmp to a non-canonical address', '48 b8 00 00 00 00 00 80 00 00 ff e0'], ['jmp through memory to a non-canonical address', '48 b8 00 00 00 00 00 80 00 00 48 89 07 ff 27'],
  ['call through memory to a non-canonical address', '48 b8 00 00 00 00 00 80 00 00 48 89 07 ff 17'],
  ['ret imm16 to a non-canonical address', '48 b8 00 00 00 00 00 80 00 00 50 50 c2 08 00'],
  ['int through a gate that is not present', 'cd 40'], ['int to a null code segment', 'cd 42'], ['int to a data segment', 'cd 43'], ['int to a non-canonical address', 'cd 44'],
  ['int to code that is not present', 'cd 45'], ['int through a task gate', 'cd 46'], ['int to a segment past the table', 'cd 47'],
  ['ud2 on an unmapped stack', `bc ${dword(GUEST.UNMAPPED)} 0f 0b`], ['ud2 on a read-only stack', `bc ${dword(AREA.READ_ONLY + 0x800n)} 0f 0b`], ['ud2 on a non-canonical stack', '48 bc 00 00 00 00 00 80 00 00 0f 0b'],
  ['a page fault on an unmapped stack', `bc ${dword(GUEST.UNMAPPED)} a1 00 00 60 01 00 00 00 00`],
  ['int past the limit of the IDT', '66 c7 07 ff 00 48 c7 47 02 00 80 10 00 0f 01 1f cd 30'], ['ud2 with an empty IDT', '66 c7 07 00 00 48 c7 47 02 00 80 10 00 0f 01 1f 0f 0b'],
  
  ['ltr of null', '31 c0 0f 00 d8', 0x10n], ['ltr of data', 'b8 18 00 00 00 0f 00 d8'], ['ltr that is not present', 'b8 90 00 00 00 0f 00 d8'], ['ltr twice', 'b8 30 00 00 00 0f 00 d8 0f 00 d8'],
  ['ltr; a fault through an IST that it has not', 'b8 30 00 00 00 0f 00 d8 cd 0d'],
  ['mov ds, execute-only', 'b8 88 00 00 00 8e d8'], ['mov ss, with RPL 3', 'b8 7b 00 00 00 8e d0'], ['mov ss, user data', 'b8 78 00 00 00 8e d0'], ['mov ss, read-only', 'b8 80 00 00 00 8e d0'], ['mov ss, not present', 'b8 28 00 00 00 8e d0'], ['mov ds, of a task', 'b8 30 00 00 00 8e d8'], ['mov ds, with TI and no LDT', 'b8 1c 00 00 00 8e d8'],
  
  ['iretq to code that is not present', '48 89 e0 6a 18 50 6a 02 6a 68 6a 00 48 cf'], ['iretq to a non-canonical address', '48 b9 00 00 00 00 00 80 00 00 48 89 e0 6a 18 50 6a 02 6a 10 51 48 cf'], 
  ['retfq to data', '6a 18 6a 00 48 cb'], ['retfq to a non-canonical address', '48 b9 00 00 00 00 00 80 00 00 6a 10 51 48 cb'],
  ['mov cr4 without PAE', '31 c0 0f 22 e0', 0x10n], ['mov cr0 with NW and not CD', 'b8 33 00 05 a0 0f 22 c0'], ['mov cr8 with a reserved bit', 'b8 10 00 00 00 44 0f 22 c0'], ['mov dr6 with a high bit', '48 b8 00 00 00 00 01 00 00 00 0f 23 f0'], ['mov dr4 with CR4.DE', '0f 21 e0'], ['mov cr1', '0f 20 c8'], ['mov to cs', '8e c8'],
  ...([['data', GUEST_SELECTOR.DATA], ['null', 0], ['code that is not present', AREA_SELECTOR.ABSENT_CODE], ['code with RPL 3', CODE | 3], ['a task', GUEST_SELECTOR.TASK], ['what is past the table', 0x100], ['an entry of the LDT', CODE | 4]] as const)
    .flatMap(([what, selector]): [string, string][] => [[`jmp far to ${what}`, farTo(selector, FAR_JMP)], [`call far to ${what}`, farTo(selector, FAR_CALL)]]),
  ['jmp far to a non-canonical address', `48 b8 00 00 00 00 00 80 00 00 ${farPointer(CODE)} ${FAR_JMP}`], ['call far to a non-canonical address', `48 b8 00 00 00 00 00 80 00 00 ${farPointer(CODE)} ${FAR_CALL}`],
  ['call far on an unmapped stack', `bc ${dword(GUEST.UNMAPPED)} ${farTo(CODE, FAR_CALL)}`], ['jmp far through an unmapped page', `48 ff 2c 25 ${dword(GUEST.UNMAPPED)}`],
  ['lfs of what is not present', `${farPointer(GUEST_SELECTOR.NOT_PRESENT)} 48 0f b4 07`], ['lss of null with RPL 3', `${farPointer(3)} 48 0f b2 07`], ['lss of code', `${farPointer(CODE)} 48 0f b2 07`],
  ['lar from an unmapped page', `0f 02 04 25 ${dword(GUEST.UNMAPPED)}`],
  ['a 15-byte nop', '66 66 66 66 66 66 66 66 66 66 66 66 66 66 90'],
  
]);

// prettier-ignore
/** What the engine is known to do otherwise: tried on its own and in no mixture. */
export const PROBES: readonly Fragment[] = plain([
  ['lldt of an LDT; sldt', 'b8 58 00 00 00 0f 00 d0 0f 00 c0'],
  ['lldt from memory', 'c7 07 58 00 00 00 0f 00 17 0f 00 c0'],
  ['lldt of code', 'b8 10 00 00 00 0f 00 d0'],
  ['lldt past the table', 'b8 00 01 00 00 0f 00 d0'],
  ['lldt that is not present', 'b8 a0 00 00 00 0f 00 d0'],
  ['lldt with TI', 'b8 5c 00 00 00 0f 00 d0'],
  ['lldt of a non-canonical base', 'b8 b0 00 00 00 0f 00 d0'],
  ['iretq to 32-bit code', '48 89 e0 6a 18 50 6a 02 6a 50 68 00 00 11 00 48 cf'],
  ['jmp far to 32-bit code', farTo(GUEST_SELECTOR.CODE32, FAR_JMP)], ['jmp far to a call gate', farTo(AREA_SELECTOR.CALL_GATE, FAR_JMP)],
  ['jmp far with a 16-bit offset', '66 ff 2f'], ['lar of 16 bits', ofSelector(GUEST_SELECTOR.DATA, '66 0f 02 c1')],
  ['adcx rax, rcx', '66 48 0f 38 f6 c1'],
  ['adox rbx, rdx', 'f3 48 0f 38 f6 da'],
  ['push es of 32-bit mode', '06'],
  ['sysret', '48 0f 07'],
  ['a 16-byte instruction', '66 66 66 66 66 66 66 66 66 66 66 66 66 66 66 90'],
  ['nop under a single step', '9c 81 0c 24 00 01 00 00 9d 90 90'],
]);

/** Every fragment that execution goes on behind. */
export const FRAGMENTS: readonly Fragment[] = [
  ...ARITHMETIC,
  ...INTEGER,
  ...FLAGS,
  ...STRINGS,
  ...TRANSFERS,
  ...SYSTEM,
  ...FAR,
];
