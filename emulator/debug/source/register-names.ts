/**
 * Registers as people write them: `rax`, `eax`, `ah`, `pc`, `eflags`, `cs`.
 *
 * Source: SDM, "General-Purpose Registers", "Register Operands"; gdb for `pc`, `sp` and `fp`.
 * Invariant: each name is a part of one slot of the register file.
 */
import { REG } from '../../cpu/registers.js';
import type { RegisterName } from '../../cpu/registers.js';

/** A register or a part of one. */
export interface RegisterPart {
  readonly register: RegisterName;
  readonly bitOffset: number;
  readonly bits: number;
}

const LEGACY = ['AX', 'CX', 'DX', 'BX', 'SP', 'BP', 'SI', 'DI'] as const;
const SELECTORS: readonly string[] = ['CS', 'SS', 'DS', 'ES', 'FS', 'GS', 'TR', 'LDTR'];

const PARTS = new Map<string, RegisterPart>();
const add = (name: string, register: RegisterName, bits: number, bitOffset = 0): void => {
  PARTS.set(name.toLowerCase(), { register, bits, bitOffset });
};
for (const name of Object.keys(REG) as RegisterName[]) {
  add(name, name, SELECTORS.includes(name) ? 16 : 64);
}
for (const name of LEGACY) {
  const register: RegisterName = `R${name}`;
  add(`e${name}`, register, 32);
  add(name, register, 16);
  const isLetter = name.endsWith('X');
  add(isLetter ? `${name[0]!}l` : `${name}l`, register, 8);
  if (isLetter) add(`${name[0]!}h`, register, 8, 8);
}
for (const number of [8, 9, 10, 11, 12, 13, 14, 15] as const) {
  const register: RegisterName = `R${number}`;
  add(`r${number}d`, register, 32);
  add(`r${number}w`, register, 16);
  add(`r${number}b`, register, 8);
}
add('pc', 'RIP', 64);
add('eip', 'RIP', 32);
add('fp', 'RBP', 64);
add('eflags', 'RFLAGS', 32);
add('flags', 'RFLAGS', 16);
// "SP" is 16 bits of RSP in the manual; a user of a debugger means the whole.
add('sp', 'RSP', 64);

/** The register that a name stands for; null when there is none. */
export function registerNamed(name: string): RegisterPart | null {
  return PARTS.get(name.toLowerCase()) ?? null;
}

/** All names that registerNamed() knows, in lower case. */
export const REGISTER_SPELLINGS: readonly string[] = [...PARTS.keys()];
