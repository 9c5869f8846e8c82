/**
 * target.xml: the registers of a pCPU as GDB reads them, and the other documents that qXfer hands out.
 *
 * Source: GDB manual, "Target Descriptions" (format, predefined types, "i386 Features"), "Memory Map Format",
 * "Thread List Format", "Library List Format".
 * Invariant: registers of a feature follow each other, so that their numbers are their places in the list.
 */
import { hex } from '../../abi/uint.js';
import type { GdbRegister, GdbTarget, GdbThread } from './target.js';

const HEADER = '<?xml version="1.0"?>';

/** Bits of a flags type, lowest first. */
type FlagRow = readonly [name: string, bit: number];

// prettier-ignore
const EFLAGS: readonly FlagRow[] = [
  ['CF', 0], ['', 1], ['PF', 2], ['AF', 4], ['ZF', 6], ['SF', 7], ['TF', 8], ['IF', 9], ['DF', 10], ['OF', 11],
  ['NT', 14], ['RF', 16], ['VM', 17], ['AC', 18], ['VIF', 19], ['VIP', 20], ['ID', 21],
];
// prettier-ignore
const MXCSR: readonly FlagRow[] = [
  ['IE', 0], ['DE', 1], ['ZE', 2], ['OE', 3], ['UE', 4], ['PE', 5], ['DAZ', 6], ['IM', 7], ['DM', 8], ['ZM', 9],
  ['OM', 10], ['UM', 11], ['PM', 12], ['FZ', 15],
];
// prettier-ignore
const CR0: readonly FlagRow[] = [
  ['PE', 0], ['MP', 1], ['EM', 2], ['TS', 3], ['ET', 4], ['NE', 5], ['WP', 16], ['AM', 18], ['NW', 29], ['CD', 30],
  ['PG', 31],
];
// prettier-ignore
const CR4: readonly FlagRow[] = [
  ['VME', 0], ['PVI', 1], ['TSD', 2], ['DE', 3], ['PSE', 4], ['PAE', 5], ['MCE', 6], ['PGE', 7], ['PCE', 8],
  ['OSFXSR', 9], ['OSXMMEXCPT', 10], ['UMIP', 11], ['LA57', 12], ['VMXE', 13], ['SMXE', 14], ['FSGSBASE', 16],
  ['PCIDE', 17], ['OSXSAVE', 18], ['SMEP', 20], ['SMAP', 21], ['PKE', 22], ['CET', 23], ['PKS', 24],
];
const EFER: readonly FlagRow[] = [
  ['SCE', 0],
  ['LME', 8],
  ['LMA', 10],
  ['NXE', 11],
];

function flagsType(id: string, sizeBytes: number, rows: readonly FlagRow[]): string {
  const fields = rows.map(
    ([name, bit]) => `<field name="${name}" start="${String(bit)}" end="${String(bit)}"/>`,
  );
  return `<flags id="${id}" size="${String(sizeBytes)}">${fields.join('')}</flags>`;
}

/** Types that GDB does not predefine; each feature defines those that it uses. */
const TYPES: Partial<Record<GdbRegister['type'], string>> = {
  i386_eflags: flagsType('i386_eflags', 4, EFLAGS),
  i386_mxcsr: flagsType('i386_mxcsr', 4, MXCSR),
  cr0_flags: flagsType('cr0_flags', 8, CR0),
  cr4_flags: flagsType('cr4_flags', 8, CR4),
  efer_flags: flagsType('efer_flags', 8, EFER),
  vec128: [
    ['v4_float', 'ieee_single', 4],
    ['v2_double', 'ieee_double', 2],
    ['v16_int8', 'int8', 16],
    ['v8_int16', 'int16', 8],
    ['v4_int32', 'int32', 4],
    ['v2_int64', 'int64', 2],
  ]
    .map(([id, type, count]) => `<vector id="${id!}" type="${type!}" count="${String(count)}"/>`)
    .concat(
      '<union id="vec128">',
      ...['v4_float', 'v2_double', 'v16_int8', 'v8_int16', 'v4_int32', 'v2_int64'].map(
        (id) => `<field name="${id}" type="${id}"/>`,
      ),
      '<field name="uint128" type="uint128"/></union>',
    )
    .join(''),
};

function registerElement({ name, bits, type, group }: GdbRegister, number: number): string {
  const attributes = [`name="${name}"`, `bitsize="${String(bits)}"`, `type="${type}"`];
  attributes.push(`regnum="${String(number)}"`);
  if (group !== null) attributes.push(`group="${group}"`);
  return `<reg ${attributes.join(' ')}/>`;
}

const descriptions = new WeakMap<readonly GdbRegister[], string>();

/** The target description of a list of registers, which is asked for in pieces. */
export function targetXml(registers: readonly GdbRegister[]): string {
  const xml = descriptions.get(registers) ?? describe(registers);
  descriptions.set(registers, xml);
  return xml;
}

function describe(registers: readonly GdbRegister[]): string {
  const numbers = new Map(registers.map((register, number) => [register, number]));
  const lines = [
    HEADER,
    '<!DOCTYPE target SYSTEM "gdb-target.dtd">',
    '<target version="1.0">',
    '<architecture>i386:x86-64</architecture>',
    '<osabi>none</osabi>',
  ];
  for (const feature of new Set(registers.map((register) => register.feature))) {
    const own = registers.filter((register) => register.feature === feature);
    lines.push(`<feature name="${feature}">`);
    for (const type of new Set(own.map((register) => register.type))) {
      const definition = TYPES[type];
      if (definition !== undefined) lines.push(definition);
    }
    for (const register of own) lines.push(registerElement(register, numbers.get(register)!));
    lines.push('</feature>');
  }
  lines.push('</target>', '');
  return lines.join('\n');
}

/** The thread list, with what each does as its extra information. */
export function threadsXml(threads: readonly GdbThread[]): string {
  const rows = threads.map(
    ({ id, name, state, core }) =>
      `<thread id="${id.toString(16)}" core="${String(core)}" name="${xmlText(name)}">${xmlText(state)}</thread>`,
  );
  return [HEADER, '<threads>', ...rows, '</threads>', ''].join('\n');
}

/** All of physical memory as RAM: outside it GDB need not ask. */
export function memoryMapXml(target: GdbTarget): string {
  const rows = target
    .memoryRanges()
    .map(
      ({ base, sizeBytes }) =>
        `<memory type="ram" start="${hex(base)}" length="${hex(sizeBytes)}"/>`,
    );
  return [
    HEADER,
    '<!DOCTYPE memory-map PUBLIC "+//IDN gnu.org//DTD GDB Memory Map V1.0//EN" "http://sourceware.org/gdb/gdb-memory-map.dtd">',
    '<memory-map>',
    ...rows,
    '</memory-map>',
    '',
  ].join('\n');
}

/** The instances other than the one at `main`, which qOffsets told, as the same file loaded elsewhere. */
export function librariesXml(target: GdbTarget, main: bigint): string {
  const name = xmlText(target.executable.path);
  const rows = target
    .images()
    .filter((base) => base !== main)
    .map((base) => `<library name="${name}"><segment address="${hex(base)}"/></library>`);
  return [HEADER, '<library-list version="1.0">', ...rows, '</library-list>', ''].join('\n');
}

// prettier-ignore
const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&apos;',
};

function xmlText(text: string): string {
  return text.replace(/[&<>"']/g, (one) => ENTITIES[one]!);
}
