/** Executes one instruction, three bytes long, on a fresh pCPU: rows read `pre` => `post` and the outcome. */
import { expect, it } from 'vitest';
import type { Operand } from '../../../../emulator/cpu/decode.js';
import { REG, type RegisterName } from '../../../../emulator/cpu/registers.js';
import { executeInstruction } from '../../../../emulator/vmx/root/instructions/index.js';
import { fixture, instruction, reg, type Fixture, type FixtureOptions } from '../fixture.js';

export type Registers = Partial<Record<RegisterName, bigint>>;

export interface Arrangement {
  readonly pre?: Registers;
  readonly arrange?: (f: Fixture) => void;
  readonly options?: FixtureOptions;
}

export const NON_CANONICAL = 0x8000_0000_0000n;
export const RAX = reg(REG.RAX);
export const UD = { kind: 'fault', vector: 6, errorCode: null, address: null };
export const GP0 = { kind: 'fault', vector: 13, errorCode: 0, address: null };
export const NEXT = { kind: 'next' };
export const UNMODELLED = { kind: 'stop', reason: { kind: 'unmodelled' } };

export const control = (register: number): Operand => ({ kind: 'control', register });
export const debug = (register: number): Operand => ({ kind: 'debug', register });
export const segment = (register: number): Operand => ({ kind: 'segment', register });
export const gp = (errorCode: number): object => ({ ...GP0, errorCode });

export function execute(name: string, operands: readonly Operand[] = [], given: Arrangement = {}) {
  const f = fixture(given.options);
  for (const [register, value] of Object.entries(given.pre ?? {})) {
    f.pcpu.registers.set(register as RegisterName, value);
  }
  given.arrange?.(f);
  return { f, outcome: executeInstruction(f.pcpu, instruction(name, operands, 3)) };
}

/** Registers that a row does not name are not looked at. */
export interface Row extends Arrangement {
  readonly rule: string;
  readonly name: string;
  readonly operands?: readonly Operand[];
  readonly post?: Registers;
  /** Going on to the next instruction where a row does not say. */
  readonly outcome?: object;
}

export function rows(table: readonly Row[]): void {
  it.each(table)('$name: $rule', ({ name, operands, post, outcome, ...given }) => {
    const done = execute(name, operands ?? [], given);
    expect(done.outcome).toMatchObject(outcome ?? NEXT);
    const seen = Object.fromEntries(
      Object.keys(post ?? {}).map((key) => [key, done.f.pcpu.registers.get(key as RegisterName)]),
    );
    expect(seen).toEqual(post ?? {});
  });
}
