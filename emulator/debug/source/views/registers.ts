/**
 * The registers of a core: general ones with what they point to, and the others with their bits by name.
 *
 * Source: SDM, "EFLAGS Register", "Control Registers", "Segment Descriptors", "Extended Feature Enable Register".
 * Invariant: a register whose value differs from the last stop's has a star before it.
 */
import { controlNames } from '../../../../abi/vmx-controls.js';
import { EFER, MSR } from '../../../../abi/msrs.js';
import { hex, low32 } from '../../../../abi/uint.js';
import type { RegisterName } from '../../../cpu/registers.js';
import type { CoreView } from '../core-view.js';
import type { Canvas } from './paint.js';
import { clipped } from './paint.js';
import { telescope } from './telescope.js';

/** Values at the last stop; null at the first. */
export type EarlierRegisters = ReadonlyMap<RegisterName, bigint> | null;

// prettier-ignore
/** The registers of the context view, in the order in which it shows them. */
export const GENERAL_ORDER = [
  'RAX', 'RBX', 'RCX', 'RDX', 'RSI', 'RDI', 'RBP', 'RSP', 'R8', 'R9', 'R10', 'R11', 'R12', 'R13', 'R14', 'R15', 'RIP',
] as const satisfies readonly RegisterName[];
// prettier-ignore
const FLAGS: readonly (readonly [bigint, string])[] = [
  [0x1n, 'CF'], [0x4n, 'PF'], [0x10n, 'AF'], [0x40n, 'ZF'], [0x80n, 'SF'], [0x100n, 'TF'], [0x200n, 'IF'],
  [0x400n, 'DF'], [0x800n, 'OF'], [0x10000n, 'RF'], [0x20000n, 'VM'],
];
// prettier-ignore
const CR0_BITS = { PE: 1, MP: 2, EM: 4, TS: 8, ET: 16, NE: 32, WP: 0x1_0000, AM: 0x4_0000, NW: 0x2000_0000,
  CD: 0x4000_0000, PG: 0x8000_0000 } as const;
// prettier-ignore
const CR4_BITS = { VME: 1, PVI: 2, TSD: 4, DE: 8, PSE: 16, PAE: 32, MCE: 64, PGE: 128, PCE: 256, OSFXSR: 512,
  OSXMMEXCPT: 1024, UMIP: 2048, LA57: 4096, VMXE: 8192, SMXE: 0x4000, FSGSBASE: 0x1_0000, PCIDE: 0x2_0000,
  OSXSAVE: 0x4_0000, SMEP: 0x10_0000, SMAP: 0x20_0000, PKE: 0x40_0000, CET: 0x80_0000 } as const;
const EFER_BITS = { SCE: 1, LME: 0x100, LMA: 0x400, NXE: 0x800 } as const satisfies Partial<
  Record<keyof typeof EFER, number>
>;

/** Values to compare the next stop with. */
export function registersOf(core: CoreView): ReadonlyMap<RegisterName, bigint> {
  return new Map(
    [...GENERAL_ORDER, 'RFLAGS' as const].map((name) => [name, core.register(name)] as const),
  );
}

/** `ZF PF IF`, the flags that are set. */
export function flagNames(rflags: bigint): string {
  return FLAGS.filter(([bit]) => (rflags & bit) !== 0n)
    .map(([, name]) => name)
    .join(' ');
}

/** General registers, one a line, each with what it points to. */
export function generalView(
  core: CoreView,
  earlier: EarlierRegisters,
  canvas: Canvas,
): readonly string[] {
  const lines = GENERAL_ORDER.map((name) =>
    line(core, name, telescope(core, core.register(name), canvas), earlier, canvas),
  );
  const rflags = core.register('RFLAGS');
  const flags = `${hex(rflags)} [${flagNames(rflags)}]`;
  return [...lines, line(core, 'RFLAGS', flags, earlier, canvas)];
}

function line(
  core: CoreView,
  name: RegisterName,
  text: string,
  earlier: EarlierRegisters,
  canvas: Canvas,
): string {
  const isChanged = earlier !== null && earlier.get(name) !== core.register(name);
  const label = `${isChanged ? '*' : ' '}${name.padEnd(6)}`;
  return clipped(`${isChanged ? canvas.paint('changed', label) : label} ${text}`, canvas.cutAt);
}

/** CR0 to CR8, EFER, XCR0 and the debug registers, with their bits. */
export function controlView(core: CoreView): readonly string[] {
  const bits = (name: RegisterName, table: Readonly<Record<string, number>>): string => {
    const value = core.register(name);
    return `${name.padEnd(5)} ${hex(value)} [${controlNames(table, low32(value)).join(' ')}]`;
  };
  const value = (name: RegisterName): string => `${name.padEnd(5)} ${hex(core.register(name))}`;
  return [
    bits('CR0', CR0_BITS),
    value('CR2'),
    value('CR3'),
    bits('CR4', CR4_BITS),
    value('CR8'),
    bits('EFER', EFER_BITS),
    value('XCR0'),
    ...(['DR0', 'DR1', 'DR2', 'DR3', 'DR6', 'DR7'] as const).map(value),
    value('SSP'),
  ];
}

/** Selectors, bases and limits of the segments and tables. */
export function segmentView(core: CoreView): readonly string[] {
  const register = (name: RegisterName): string => hex(core.register(name));
  const selectors = (['CS', 'SS', 'DS', 'ES', 'FS', 'GS'] as const).map((name) => {
    const hasBase = name === 'FS' || name === 'GS';
    return `${name.padEnd(5)} ${register(name)}${hasBase ? `  base ${register(`${name}_BASE`)}` : ''}`;
  });
  return [
    ...selectors,
    `TR    ${register('TR')}  base ${register('TR_BASE')}  limit ${register('TR_LIMIT')}`,
    `LDTR  ${register('LDTR')}`,
    `GDTR  base ${register('GDTR_BASE')}  limit ${register('GDTR_LIMIT')}`,
    `IDTR  base ${register('IDTR_BASE')}  limit ${register('IDTR_LIMIT')}`,
  ];
}

/** The MSRs that the core has, by name. */
export function msrView(core: CoreView, pattern = ''): readonly string[] {
  return Object.entries(MSR)
    .filter(([name]) => name.toLowerCase().includes(pattern.toLowerCase()))
    .flatMap(([name, index]) => {
      const value = core.msr(index);
      return value === null ? [] : [`${name.padEnd(30)} ${hex(index, 8)}  ${hex(value)}`];
    });
}
