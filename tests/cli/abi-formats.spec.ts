/** The formats of `abi check` and `abi diff`: what the tools that read them ask for. */
import { createRequire } from 'node:module';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Ajv from 'ajv';
import { afterAll, describe, expect, it } from 'vitest';
import { RULES } from '../../abi/compat/rules.js';
import type { Finding, RuleId } from '../../abi/compat/rules.js';
import { SHARED } from '../../abi/compat/shape.js';
import { FORMATS, report } from '../../emulator/cli/output/abi/report.js';
import type { Format } from '../../emulator/cli/output/abi/report.js';
import { COMMANDS } from '../../emulator/cli/commands.js';
import { referencePayload } from '../support/reference-payload.js';
import { bufferTerminal, runWith } from './buffers.js';

const folder = mkdtempSync(join(tmpdir(), 'formats-'));
afterAll(() => rmSync(folder, { recursive: true }));

const require = createRequire(import.meta.url);
const read = (path: string): Record<string, unknown> =>
  JSON.parse(readFileSync(require.resolve(path), 'utf8')) as Record<string, unknown>;

/** The schema of OASIS, as Microsoft's package carries it; it names draft 4 and is valid in draft 7 as well. */
function sarifErrors(text: string): unknown {
  const schema = read('@microsoft/jest-sarif/lib/schemas/sarif-2.1.0-rtm.5.json');
  delete schema['$schema'];
  delete schema['id'];
  const ajv = new Ajv({ unknownFormats: 'ignore', logger: false });
  const validate = ajv.compile(schema);
  return validate(JSON.parse(text)) === true ? [] : validate.errors;
}

/** A finding of each rule, in fields, code and files. */
const everyFinding: Finding[] = (Object.keys(RULES) as RuleId[]).map((rule, n) => ({
  rule,
  severity: RULES[rule].severity,
  struct: n % 3 === 0 ? 'caretaker_ccb' : n % 3 === 1 ? 'caretaker_cpuid+0x12' : '',
  field: n % 3 === 0 ? 'epoch' : '',
  expected: 'a & b < c, "d": 100%\nnext',
  actual: 'e\u0001',
  ...(n % 3 === 1 ? { address: '0x1000', source: { file: 'src/a b.c', line: 7 } } : {}),
}));

function textOf(format: Format, findings: readonly Finding[], columns = 80): string {
  const { terminal, stdout } = bufferTerminal(columns);
  const sides = ['contract', 'binary'] as const;
  const verdict = { title: 'a.elf against rfc', findings, before: SHARED, now: SHARED, sides };
  report({ ...verdict, looked: [], evidence: {} }, format, terminal);
  return stdout();
}

describe('SARIF', () => {
  it('is valid against the schema with no finding and with one of every rule', () => {
    for (const findings of [[], everyFinding]) {
      expect(sarifErrors(textOf('sarif', findings))).toEqual([]);
    }
  });

  it('would not be valid with a level that SARIF does not know', () => {
    const text = textOf('sarif', everyFinding).replace('"level": "error"', '"level": "fatal"');
    expect(sarifErrors(text)).not.toEqual([]);
  });

  it('has what GitHub asks for beyond the schema: a rule and a location for each result', () => {
    const { runs } = JSON.parse(textOf('sarif', everyFinding)) as {
      runs: [
        {
          tool: { driver: { rules: { id: string; shortDescription: { text: string } }[] } };
          results: {
            ruleIndex: number;
            ruleId: string;
            locations: {
              physicalLocation: {
                artifactLocation: { uri: string };
                region: { startLine: number };
              };
            }[];
          }[];
        },
      ];
    };
    const [{ tool, results }] = runs;
    expect(results).toHaveLength(everyFinding.length);
    for (const { ruleIndex, ruleId, locations } of results) {
      expect(tool.driver.rules[ruleIndex]!.id).toBe(ruleId);
      expect(locations).toHaveLength(1);
      const { artifactLocation, region } = locations[0]!.physicalLocation;
      expect(artifactLocation.uri).toMatch(/^(abi\/include\/caretaker\/\w+\.h|src\/a%20b\.c)$/);
      expect(region.startLine).toBeGreaterThan(0);
    }
  });
});

describe('JUnit', () => {
  it('counts the rules that failed, and escapes what XML does not take', () => {
    const text = textOf('junit', everyFinding);
    const errors = everyFinding.filter(({ severity }) => severity === 'error').length;
    expect(text).toContain(`failures="${errors}"`);
    expect(text.match(/<failure /g)).toHaveLength(errors);
    expect(text).toContain('a &amp; b &lt; c, &quot;d&quot;');
    expect(text).not.toContain('\u0001');
  });
});

describe('annotations', () => {
  it('are one line a finding, at the line of the source or of the header', () => {
    const lines = textOf('github', everyFinding).trimEnd().split('\n');
    expect(lines).toHaveLength(everyFinding.length);
    for (const line of lines)
      expect(line).toMatch(/^::(error|warning|notice) file=[^,]+,line=\d+,title=[\w-]+::/);
    expect(lines[1]).toContain('file=src/a b.c,line=7');
    expect(lines[0]).toContain('100%25%0Anext');
  });
});

describe('text', () => {
  it.each([80, 132])('keeps to %i columns', (columns) => {
    const vector = SHARED[0]!;
    const moved = {
      ...vector,
      fields: vector.fields.map((f) => (f.name === 'epoch' ? { ...f, offset: 4112 } : f)),
    };
    const { terminal, stdout } = bufferTerminal(columns);
    const sides = ['contract', 'binary'] as const;
    const findings = everyFinding
      .slice(6)
      .map((one) => ({ ...one, expected: 'u64 at 4104', actual: 'u64 at 4112' }));
    report(
      { title: 'a.elf', findings, before: SHARED, now: [moved], sides, looked: [], evidence: {} },
      'text',
      terminal,
    );
    const lines = stdout().split('\n');
    expect(lines.filter((line) => line.length > columns)).toEqual([]);
    expect(lines).toContainEqual(expect.stringMatching(/^ {2}! +4104 u64 epoch +\|$/));
    expect(lines).toContainEqual(expect.stringMatching(/^ {2}! +\| +4112 u64 epoch$/));
  });
});

describe('a payload that the loader refuses', () => {
  it.each(FORMATS)('has a report as any other: %s', async (format) => {
    const file = join(folder, 'refused.elf');
    const bytes = referencePayload().slice();
    bytes[18] = 3;
    writeFileSync(file, bytes);
    const { status, stdout } = await runWith(COMMANDS, 'abi', 'check', file, '--format', format);
    expect(status).toBe(1);
    expect(stdout).toContain('image-refused');
    if (format === 'json') {
      expect(JSON.parse(stdout)).toMatchObject({
        compatible: false,
        error: { code: 'ELF_BAD_MACHINE', file, offset: 18 },
      });
    }
  });
});
