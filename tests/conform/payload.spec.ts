import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { comparePayload, type PayloadResult } from '../../emulator/conform/payload/payload.js';
import { SecondMachine } from '../../emulator/conform/second-machine.js';
import { packageRoot } from '../../emulator/machine/package-root.js';
import { BOCHS, HAS_BOCHS } from './bochs-here.js';

const payload = (): Uint8Array =>
  readFileSync(join(packageRoot(), 'caretaker-payload', 'build', 'caretaker.elf'));

const unexplained = ({ differences }: PayloadResult): string[] =>
  differences
    .filter(({ known }) => known === null)
    .map(({ title, what, model, second }) => `${title}: ${what}: ${model} ${second}`);

afterEach(() => {
  vi.restoreAllMocks();
});

describe.skipIf(!HAS_BOCHS)(`the payload as exit handler ${BOCHS}`, () => {
  const machine = HAS_BOCHS ? new SecondMachine() : undefined;

  it('executes the same instructions and makes the same writes in the same order', () => {
    const result = comparePayload(machine!, payload());
    expect(unexplained(result)).toEqual([]);
    expect(result.context).toEqual([]);
    expect(result.exits).toBeGreaterThan(150);
    expect(result.instructions).toBeGreaterThan(30_000);
    expect(result.writes).toBeGreaterThan(5_000);
  });
});
