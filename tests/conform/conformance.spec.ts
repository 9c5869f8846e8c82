import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { conformance, unusedOf } from '../../emulator/conform/conformance.js';
import { packageRoot } from '../../emulator/machine/package-root.js';
import { PAYLOAD_PARTS } from '../../emulator/conform/payload/payload.js';
import { SecondMachine } from '../../emulator/conform/second-machine.js';
import { BOCHS, HAS_BOCHS } from './bochs-here.js';
import { countTables, shownTables } from './readme-counts.js';

const payloadFile = (): Uint8Array =>
  readFileSync(join(packageRoot(), 'caretaker-payload', 'build', 'caretaker.elf'));
/** For a machine that is busy with the other specs. */
const BUSY_MS = 900_000;
const quiet = { onProgress: () => undefined, goesOn: () => false };

describe('a known difference that is not met', () => {
  it('is named, so that a run fails for it', () => {
    const all = unusedOf([]);
    expect(all).toContain('host-cet-without-wp');
    expect(unusedOf(all.slice(1).map((known) => ({ known })))).toEqual(all.slice(0, 1));
  });
});

describe.skipIf(!HAS_BOCHS)(`the report of conform ${BOCHS}`, () => {
  it(
    'passes, accounts for everything that was tried, and is what the README says',
    () => {
      const report = conformance(new SecondMachine(), payloadFile(), { seed: 1, ...quiet });
      expect(report.result).toBe('pass');
      expect(report.payload.context).toEqual([]);
      const cases = PAYLOAD_PARTS.flatMap(({ attached, gap }) => [...attached, ...gap]);
      expect(report.payload.cases).toBe(cases.length);
      expect(report.payload.exits).toBeGreaterThan(300);
      expect(report.payload.instructions).toBeGreaterThan(90_000);
      expect(report.payload.writes).toBeGreaterThan(13_000);
      expect(report.payload.agree + report.payload.known).toBe(report.payload.values);
      const { rows, variants, exits, instructions, vmxInstructions, localApic, aborts } = report;
      for (const { tried, agree, known, notOffered, differs } of [rows, variants]) {
        expect(agree + known + notOffered + differs).toBe(tried);
      }
      for (const { tried, agree, known } of [
        exits,
        instructions,
        vmxInstructions,
        localApic,
        aborts,
      ]) {
        expect(agree + known).toBe(tried);
      }
      expect(rows.tried).toBeGreaterThan(250);
      expect(exits.tried).toBeGreaterThan(150);
      expect(instructions.tried).toBeGreaterThan(800);
      expect(report.differences.every(({ known }) => known !== null)).toBe(true);
      expect(report.unusedKnown).toEqual([]);
      for (const { rows: listed, held, known, notOffered } of Object.values(report.peers)) {
        expect(held + known + notOffered).toBe(listed);
      }
      const tables = countTables(report);
      expect(shownTables(tables), 'accept with: make golden').toBe(tables);
    },
    BUSY_MS,
  );
});
