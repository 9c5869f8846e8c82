/**
 * Which instructions are the models' to execute, by what name and with what operands.
 *
 * Source: SDM, "Instruction Set Reference"; opcodes 0FAE/6, 0FC7/6 and 0FC7/7 mean three things each, by prefix and by
 * whether ModRM names a register.
 * Invariant: a form that is not named here is an integer instruction that the engine executes right.
 */
import type { Instruction, Operand } from './decode.js';
import { fpuName } from './fpu-instructions.js';
import type { InstructionForm } from './instruction-format.js';

/** How the operands of a form are read; the SDM's letters where it has one. */
type Shape =
  | 'none'
  | 'm' // memory
  | 'r' // ModRM.rm as a register
  | 'rm' // register or memory
  | 'reg,rm'
  | 'rm,reg'
  | 'reg,m'
  | 'm,reg';

interface Row {
  readonly name: string;
  readonly shape: Shape;
  /** Size of a register operand: 4 or 8 by REX.W, 8 always in 64-bit mode, 2 for selectors. */
  readonly size: 'y' | 8 | 2;
  /** The name ends in `64` or `Q` with REX.W. */
  readonly wide?: '64' | 'Q';
}

const row = (name: string, shape: Shape = 'none', size: Row['size'] = 8, wide?: '64' | 'Q'): Row =>
  wide === undefined ? { name, shape, size } : { name, shape, size, wide };

type Table = Readonly<Record<string, Row>>;

// Key: opcode, then the mandatory prefix where it matters, `/reg` and `m` or `r`. The most exact key wins.
// prettier-ignore
const ONE_BYTE: Table = {
  'f4': row('HLT'), 'fa': row('CLI'), 'fb': row('STI'), '9d': row('POPF'), 'cc': row('INT3'), 'f1': row('INT1'),
  '8c': row('MOV_FROM_SEG'), '8e': row('MOV_TO_SEG'),
  '6c': row('INSB'), '6d': row('INSD'), '6e': row('OUTSB'), '6f': row('OUTSD'),
};

// prettier-ignore
const TWO_BYTE: Table = {
  '00/0': row('SLDT', 'rm', 'y'), '00/1': row('STR', 'rm', 'y'), '00/2': row('LLDT', 'rm', 2),
  '00/3': row('LTR', 'rm', 2), '00/4': row('VERR', 'rm', 2), '00/5': row('VERW', 'rm', 2),
  '01/0m': row('SGDT', 'm'), '01/1m': row('SIDT', 'm'), '01/2m': row('LGDT', 'm'), '01/3m': row('LIDT', 'm'),
  '01/4': row('SMSW', 'rm', 'y'), '01/6': row('LMSW', 'rm', 2), '01/7m': row('INVLPG', 'm'),
  '01 f3/5m': row('RSTORSSP', 'm'),
  '02': row('LAR', 'reg,rm', 'y'), '03': row('LSL', 'reg,rm', 'y'),
  '05': row('SYSCALL'), '06': row('CLTS'), '07': row('SYSRET', 'none', 8, 'Q'), '08': row('INVD'),
  '09': row('WBINVD'), '09 f3': row('WBNOINVD'),
  '30': row('WRMSR'), '31': row('RDTSC'), '32': row('RDMSR'), '33': row('RDPMC'),
  '34': row('SYSENTER'), '35': row('SYSEXIT', 'none', 8, 'Q'), '37': row('GETSEC'),
  '78 np': row('VMREAD', 'rm,reg'), '79 np': row('VMWRITE', 'reg,rm'),
  'a2': row('CPUID'), 'aa': row('RSM'), 'b2': row('LSS', 'reg,m', 'y'), 'b4': row('LFS', 'reg,m', 'y'),
  'b5': row('LGS', 'reg,m', 'y'),
  '1e f3/1r': row('RDSSPD', 'r', 'y', 'Q'),
  'ae np/0m': row('FXSAVE', 'm', 8, '64'), 'ae np/1m': row('FXRSTOR', 'm', 8, '64'),
  'ae np/2m': row('LDMXCSR', 'm'), 'ae np/3m': row('STMXCSR', 'm'),
  'ae np/4m': row('XSAVE', 'm', 8, '64'), 'ae np/5m': row('XRSTOR', 'm', 8, '64'),
  'ae np/6m': row('XSAVEOPT', 'm', 8, '64'),
  'ae 66/6m': row('CLWB', 'm'), 'ae 66/7m': row('CLFLUSHOPT', 'm'),
  'ae f3/0r': row('RDFSBASE', 'r', 'y'), 'ae f3/1r': row('RDGSBASE', 'r', 'y'),
  'ae f3/2r': row('WRFSBASE', 'r', 'y'), 'ae f3/3r': row('WRGSBASE', 'r', 'y'),
  'ae f3/4': row('PTWRITE', 'rm', 'y'), 'ae f3/5r': row('INCSSPD', 'r', 'y', 'Q'),
  'ae f3/6r': row('UMONITOR', 'r'), 'ae f3/6m': row('CLRSSBSY', 'm'),
  'ae f2/6r': row('UMWAIT', 'r', 'y'), 'ae 66/6r': row('TPAUSE', 'r', 'y'),
  'c7/3m': row('XRSTORS', 'm', 8, '64'), 'c7/4m': row('XSAVEC', 'm', 8, '64'), 'c7/5m': row('XSAVES', 'm', 8, '64'),
  'c7 np/6m': row('VMPTRLD', 'm'), 'c7 66/6m': row('VMCLEAR', 'm'), 'c7 f3/6m': row('VMXON', 'm'),
  'c7 np/7m': row('VMPTRST', 'm'),
  'c7 np/6r': row('RDRAND', 'r', 'y'), 'c7 66/6r': row('RDRAND', 'r', 'y'), 'c7 f3/6r': row('SENDUIPI', 'r'),
  'c7 np/7r': row('RDSEED', 'r', 'y'), 'c7 66/7r': row('RDSEED', 'r', 'y'), 'c7 f3/7r': row('RDPID', 'r'),
};

/** 0F01 with a register ModRM: the whole byte is the opcode. */
// prettier-ignore
const GROUP_7: Readonly<Record<string, string>> = {
  'c0': 'ENCLV', 'c1': 'VMCALL', 'c2': 'VMLAUNCH', 'c3': 'VMRESUME', 'c4': 'VMXOFF', 'c5': 'PCONFIG',
  'c6': 'WRMSRNS', 'c6 f2': 'RDMSRLIST', 'c6 f3': 'WRMSRLIST', 'c8': 'MONITOR', 'c9': 'MWAIT',
  'ca': 'CLAC', 'ca f2': 'ERETS', 'ca f3': 'ERETU', 'cb': 'STAC', 'cc 66': 'TDCALL', 'cd 66': 'SEAMRET',
  'ce 66': 'SEAMOPS', 'cf': 'ENCLS', 'cf 66': 'SEAMCALL',
  'd0': 'XGETBV', 'd1': 'XSETBV', 'd4': 'VMFUNC', 'd5': 'XEND', 'd6': 'XTEST', 'd7': 'ENCLU',
  'd8': 'VMRUN', 'd9': 'VMMCALL', 'da': 'VMLOAD', 'db': 'VMSAVE', 'dc': 'STGI', 'dd': 'CLGI', 'de': 'SKINIT', 'df': 'INVLPGA',
  'e8': 'SERIALIZE', 'e8 f3': 'SETSSBSY', 'e8 f2': 'XSUSLDTRK', 'e9 f2': 'XRESLDTRK', 'ea f3': 'SAVEPREVSSP',
  'ec f3': 'UIRET', 'ed f3': 'TESTUI', 'ee': 'RDPKRU', 'ee f3': 'CLUI', 'ef': 'WRPKRU', 'ef f3': 'STUI',
  'f8': 'SWAPGS', 'f9': 'RDTSCP', 'fa': 'MONITORX', 'fb': 'MWAITX', 'fc': 'CLZERO', 'fd': 'RDPRU', 'fe': 'INVLPGB', 'ff': 'TLBSYNC',
};

// prettier-ignore
const THREE_BYTE_38: Table = {
  '80 66': row('INVEPT', 'reg,m'), '81 66': row('INVVPID', 'reg,m'), '82 66': row('INVPCID', 'reg,m'),
  'f5 66': row('WRUSSD', 'm,reg', 'y', 'Q'), 'f6 np': row('WRSSD', 'm,reg', 'y', 'Q'),
  'f8 66': row('MOVDIR64B', 'reg,m'), 'f8 f2': row('ENQCMD', 'reg,m'), 'f8 f3': row('ENQCMDS', 'reg,m'),
  'f9 np': row('MOVDIRI', 'm,reg', 'y'),
};

const IS_FPU = new Set([
  'FXSAVE',
  'FXRSTOR',
  'LDMXCSR',
  'STMXCSR',
  'XSAVE',
  'XRSTOR',
  'XSAVEOPT',
  'XSAVEC',
  'XSAVES',
  'XRSTORS',
]);

const PREFIX_NAMES = { 0: 'np', 0x66: '66', 0xf2: 'f2', 0xf3: 'f3' } as const;

/** The instruction that a model executes, or null where the engine does it alone. */
export function systemInstruction(form: InstructionForm): Instruction | null {
  if (form.hasLock && !takesLock(form)) return instruction(form, LOCKED_NAME, []);
  const made = form.encoding === 'legacy' ? (special(form) ?? tabled(form)) : null;
  if (made !== null) return made;
  const name = fpuName(form);
  return name === null
    ? null
    : instruction(form, name, operandsOf(form, form.hasModrm ? 'rm' : 'none', 'y'), true);
}

/** What bytes that are no instruction become: a site of one byte whose stop is an invalid instruction. */
export const UNDEFINED_NAME = 'UNDEFINED';

/** An instruction with a LOCK prefix that it does not take, which the engine would ignore. */
export const LOCKED_NAME = 'LOCKED';

/** Whether LOCK may stand before the instruction: the read-modify-write instructions on memory that the SDM lists. */
function takesLock({ map, opcode, regBits, memory, encoding }: InstructionForm): boolean {
  if (memory === null || encoding !== 'legacy') return false;
  if (map === '0f') {
    if (opcode === 0xba) return regBits >= 5;
    if (opcode === 0xc7) return regBits === 1;
    return [0xab, 0xb0, 0xb1, 0xb3, 0xbb, 0xc0, 0xc1].includes(opcode);
  }
  if (map !== 'one') return false;
  if (opcode < 0x34) return (opcode & 7) < 2; // ADD to XOR with the destination in memory
  if (opcode >= 0x80 && opcode <= 0x83) return regBits !== 7;
  if (opcode === 0xf6 || opcode === 0xf7) return regBits === 2 || regBits === 3;
  return opcode === 0x86 || opcode === 0x87 || ((opcode & 0xfe) === 0xfe && regBits < 2);
}

function tabled(form: InstructionForm): Instruction | null {
  if (form.map === '0f' && form.opcode === 0x01 && form.mod === 3 && !isSmswOrLmsw(form)) {
    return groupSeven(form);
  }
  const table =
    form.map === 'one'
      ? ONE_BYTE
      : form.map === '0f'
        ? TWO_BYTE
        : form.map === '0f38'
          ? THREE_BYTE_38
          : null;
  if (table === null) return null;
  const found = lookUp(table, form);
  if (found === undefined) return null;
  const name =
    found.wide === undefined || !form.rexW
      ? found.name
      : found.wide === 'Q' && found.name.endsWith('D')
        ? `${found.name.slice(0, -1)}Q`
        : `${found.name}${found.wide}`;
  return instruction(form, name, operandsOf(form, found.shape, found.size), IS_FPU.has(found.name));
}

// Most instructions are no site: one look at a byte says so.
const OPCODES = new Map(
  [ONE_BYTE, TWO_BYTE, THREE_BYTE_38].map((table) => {
    const present = new Uint8Array(256);
    for (const key of Object.keys(table)) present[Number.parseInt(key.slice(0, 2), 16)] = 1;
    return [table, present] as const;
  }),
);

function lookUp(table: Table, form: InstructionForm): Row | undefined {
  if (OPCODES.get(table)![form.opcode] === 0) return undefined;
  const opcode = form.opcode.toString(16).padStart(2, '0');
  const withPrefix = `${opcode} ${PREFIX_NAMES[form.mandatory]}`;
  if (!form.hasModrm) return table[withPrefix] ?? table[opcode];
  const digit = `/${form.regBits.toString()}`;
  const where = form.mod === 3 ? 'r' : 'm';
  for (const head of [withPrefix, opcode]) {
    const found = table[`${head}${digit}${where}`] ?? table[`${head}${digit}`] ?? table[head];
    if (found !== undefined) return fits(found, form) ? found : undefined;
  }
  return undefined;
}

function fits(found: Row, form: InstructionForm): boolean {
  return found.shape === 'm' || found.shape.includes('m,') || found.shape === 'reg,m'
    ? form.mod !== 3 || found.shape === 'rm,reg'
    : true;
}

function isSmswOrLmsw(form: InstructionForm): boolean {
  return form.regBits === 4 || form.regBits === 6;
}

function groupSeven(form: InstructionForm): Instruction | null {
  const modrm = (0xc0 | (form.regBits << 3) | form.rmBits).toString(16);
  const prefix = PREFIX_NAMES[form.mandatory];
  const name = GROUP_7[`${modrm} ${prefix}`] ?? (prefix === 'np' ? GROUP_7[modrm] : undefined);
  return name === undefined ? null : instruction(form, name, []);
}

/** Two-byte opcodes whose 16-bit forms have names of their own, which no model has. */
const DESCRIPTOR_READERS: ReadonlyMap<number, string> = new Map([
  [0x02, 'LAR'],
  [0x03, 'LSL'],
  [0xb2, 'LSS'],
  [0xb4, 'LFS'],
  [0xb5, 'LGS'],
]);

/** Forms whose name or operands no table row can say. */
function special(form: InstructionForm): Instruction | null {
  const { opcode } = form;
  if (form.map === '0f') {
    if (opcode >= 0x20 && opcode <= 0x23) {
      const general = register(form.rm, 8);
      const kind = (opcode & 1) === 0 ? ('control' as const) : ('debug' as const);
      const system: Operand = { kind, register: form.reg };
      const short = kind === 'control' ? 'CR' : 'DR';
      return opcode >= 0x22
        ? instruction(form, `MOV_TO_${short}`, [system, general])
        : instruction(form, `MOV_FROM_${short}`, [general, system]);
    }
    if (opcode === 0xb1 && !form.rexW && !form.hasOperandSize) {
      return instruction(form, 'CMPXCHG', operandsOf(form, 'rm,reg', 'y'));
    }
    if (opcode === 0xc7 && form.regBits === 1 && form.memory !== null) {
      return instruction(form, form.rexW ? 'CMPXCHG16B' : 'CMPXCHG8B', [form.memory]);
    }
    if (form.hasOperandSize && !form.rexW && DESCRIPTOR_READERS.has(opcode)) {
      return instruction(form, `${DESCRIPTOR_READERS.get(opcode)!}W`, []);
    }
    if (opcode === 0xa0 || opcode === 0xa8) return instruction(form, 'PUSH_SEG', [segment(opcode)]);
    if (opcode === 0xa1 || opcode === 0xa9) return instruction(form, 'POP_SEG', [segment(opcode)]);
    return null;
  }
  if (form.map !== 'one') return null;
  const wide = form.rexW ? 'Q' : form.hasOperandSize ? 'W' : 'D';
  switch (opcode) {
    case 0x90:
      return form.mandatory === 0xf3 && !form.rexB ? instruction(form, 'PAUSE', []) : null;
    case 0x8c:
    case 0x8e: {
      const selector: Operand = { kind: 'segment', register: form.regBits };
      const other = form.memory ?? register(form.rm, form.rexW ? 8 : form.hasOperandSize ? 2 : 4);
      return opcode === 0x8e
        ? instruction(form, 'MOV_TO_SEG', [selector, other])
        : instruction(form, 'MOV_FROM_SEG', [other, selector]);
    }
    case 0xcf:
      return instruction(form, `IRET${wide}`, []);
    case 0xca:
    case 0xcb: {
      const released: readonly Operand[] = opcode === 0xca ? [unsigned(form, 0xffffn)] : [];
      return instruction(form, `RETF${wide}`, released);
    }
    case 0xff:
      if (form.memory === null || (form.regBits !== 3 && form.regBits !== 5)) return null;
      return instruction(form, `${form.regBits === 3 ? 'CALL' : 'JMP'}_FAR${wide}`, [form.memory]);
    case 0xcd:
      return instruction(form, 'INT', [unsigned(form, 0xffn)]);
    case 0xc6:
    case 0xc7:
      if (form.mod !== 3 || form.regBits !== 7 || form.rmBits !== 0) return null;
      return instruction(form, opcode === 0xc6 ? 'XABORT' : 'XBEGIN', [
        { kind: 'immediate', value: form.immediate },
      ]);
    case 0xe4:
    case 0xe5:
    case 0xec:
    case 0xed:
      return instruction(form, 'IN', [register(0, portSize(form)), port(form)]);
    case 0xe6:
    case 0xe7:
    case 0xee:
    case 0xef:
      return instruction(form, 'OUT', [port(form), register(0, portSize(form))]);
    case 0x6d:
    case 0x6f:
      return instruction(
        form,
        `${opcode === 0x6d ? 'INS' : 'OUTS'}${form.hasOperandSize ? 'W' : 'D'}`,
        [],
      );
    default:
      return null;
  }
}

function instruction(
  form: InstructionForm,
  name: string,
  operands: readonly Operand[],
  isFpu = false,
): Instruction {
  // An operand with 32-bit addresses has another meaning: no model knows the name, so that the run stops and says it.
  const isOdd = form.hasAddressSize && form.memory !== null;
  return { name: isOdd ? `ADDR32_${name}` : name, length: form.length, operands, isFpu };
}

function operandsOf(form: InstructionForm, shape: Shape, size: Row['size']): readonly Operand[] {
  const bytes = size === 'y' ? (form.rexW ? 8 : form.hasOperandSize ? 2 : 4) : size;
  const either = (): Operand => form.memory ?? register(form.rm, bytes);
  const reg = (): Operand => register(form.reg, bytes);
  switch (shape) {
    case 'none':
      return [];
    case 'm':
    case 'r':
    case 'rm':
      return [either()];
    case 'reg,rm':
    case 'reg,m':
      return [reg(), either()];
    case 'rm,reg':
    case 'm,reg':
      return [either(), reg()];
  }
}

function register(number: number, sizeBytes: number): Operand {
  return { kind: 'register', register: number, sizeBytes };
}

function segment(opcode: number): Operand {
  return { kind: 'segment', register: opcode < 0xa8 ? 4 : 5 };
}

function unsigned(form: InstructionForm, mask: bigint): Operand {
  return { kind: 'immediate', value: form.immediate & mask };
}

function portSize(form: InstructionForm): number {
  return (form.opcode & 1) === 0 ? 1 : form.hasOperandSize ? 2 : 4;
}

function port(form: InstructionForm): Operand {
  return form.opcode < 0xe8 ? unsigned(form, 0xffn) : register(2, 2);
}
