import { describe, expect, it } from 'vitest';
import { parseElf } from '../../loader/elf.js';
import type { SecondParser } from '../../loader/elf.js';
import { LOADER_ERROR_CODES, LOADER_RULES, LoaderError } from '../../loader/errors.js';
import type { LoaderErrorCode } from '../../loader/errors.js';
import { place } from '../../loader/place.js';
import { writeImage } from '../../loader/write.js';
import { PhysicalMemory } from '../../emulator/memory/physical-memory.js';
import { TEST_CCB_RULE, assemble, minimalExec, minimalPayload } from '../support/elf-builder.js';
import { REFUSALS, specOf } from './refusal-rows.js';

/** What `act` throws, which must be a LoaderError. */
function refusal(act: () => unknown): LoaderError {
  try {
    act();
  } catch (error) {
    if (error instanceof LoaderError) return error;
    throw error;
  }
  throw new Error('nothing was refused');
}

describe('a payload file is refused', () => {
  it.each(REFUSALS)('with $code when $when', (row) => {
    const elf = assemble(specOf(row));
    row.bytes?.(elf);
    const error = refusal(() => parseElf(elf.bytes, TEST_CCB_RULE));
    expect(error.code).toBe(row.code);
    expect(error.details.rule).toBe(LOADER_RULES[row.code]);
    const { offset } = error.details;
    expect(offset === undefined || (offset >= 0 && offset <= elf.bytes.length)).toBe(true);
  });

  const payload = assemble(minimalPayload()).bytes;
  const image = parseElf(payload, TEST_CCB_RULE);
  const exec = parseElf(assemble(minimalExec()).bytes, TEST_CCB_RULE);
  const broken: SecondParser = () => {
    throw new Error('elfy is broken');
  };

  // prettier-ignore
  const others: readonly (readonly [code: LoaderErrorCode, when: string, act: () => unknown])[] = [
    ['PARSERS_DISAGREE', 'the second parser throws', () => parseElf(payload, TEST_CCB_RULE, broken)],
    ['PLACE_UNALIGNED', 'its place is inside a page', () => place(image, 0x10_0010n)],
    ['PLACE_OUTSIDE_MEMORY', 'there is no guard page before its place', () => place(image, 0n)],
    ['PLACE_OUTSIDE_MEMORY', 'its place is at 2^64', () => place(image, 0xffff_ffff_ffff_f000n)],
    ['PLACE_OUTSIDE_MEMORY', 'the guard page after it is beyond memory', () => { writeImage(place(image, 0x1000n), new PhysicalMemory(new ArrayBuffer(0x5000))); }],
    ['PLACE_NOT_RELOCATABLE', 'an ET_EXEC is placed elsewhere', () => place(exec, 0x50_0000n)],
  ];

  it.each(others)('with %s when %s', (code, _when, act) => {
    expect(refusal(act).code).toBe(code);
  });

  it('with a code that has a row: every code of the union is provoked', () => {
    const provoked = new Set([...REFUSALS.map((row) => row.code), ...others.map(([code]) => code)]);
    expect(LOADER_ERROR_CODES.filter((code) => !provoked.has(code))).toEqual([]);
  });

  it('when the second parser reads a segment elsewhere', async () => {
    const { default: elfy } = await import('elfy');
    const lying: SecondParser = (file) => {
      const read = elfy.parse(file);
      const programs = read.body.programs.map((p) => ({ ...p, offset: p.offset + 1 }));
      return { ...read, body: { ...read.body, programs } };
    };
    expect(refusal(() => parseElf(payload, TEST_CCB_RULE, lying)).code).toBe('PARSERS_DISAGREE');
  });
});
