/**
 * Scenario files: YAML text to a checked scenario, and the built-in ones by name.
 *
 * Source: CLI ("run --scenario NAME-or-FILE", "scenarios").
 * Invariant: integers of any size stay exact; aliases cannot blow a small file up; a bad file is a ScenarioError.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { parseDocument, type Document, type YAMLError } from 'yaml';
import { packageRoot } from '../package-root.js';
import { readFileUpTo } from '../read-file.js';
import { contradictionIn, type Contradiction } from './consistency.js';
import { ScenarioError, toScenario, type Scenario } from './schema.js';
import { outOfOrder } from './step-order.js';

const MAX_FILE_BYTES = 1 << 20;
/** Aliases share what they stand for; each is checked again. */
const MAX_ALIASES = 100;

/** Where the built-in scenarios are, one YAML file each. */
const directory = (): string => join(packageRoot(), 'emulator', 'machine', 'scenarios');

/** Names of the built-in scenarios, `live-update` first. */
export function builtinScenarioNames(): readonly string[] {
  const names = readdirSync(directory())
    .filter((file) => file.endsWith('.yaml'))
    .map((file) => basename(file, '.yaml'))
    .sort();
  return ['live-update', ...names.filter((name) => name !== 'live-update')];
}

/** A built-in scenario by name, or any scenario file. @throws ScenarioError. */
export function loadScenario(nameOrFile: string): Scenario {
  const names = builtinScenarioNames();
  if (names.includes(nameOrFile)) {
    const file = join(directory(), `${nameOrFile}.yaml`);
    return parseScenario(readFileSync(file, 'utf8'), `${nameOrFile}.yaml`);
  }
  if (!/[./\\]/.test(nameOrFile) && !existsSync(nameOrFile)) {
    throw new ScenarioError('SCENARIO_UNKNOWN', `no scenario is named "${nameOrFile}"`, {
      name: nameOrFile,
      known: names,
    });
  }
  return parseScenario(readScenarioFile(nameOrFile), nameOrFile);
}

function readScenarioFile(file: string): string {
  try {
    const bytes = readFileUpTo(file, MAX_FILE_BYTES + 1);
    if (bytes.length > MAX_FILE_BYTES) throw new Error(`at most ${MAX_FILE_BYTES} bytes are read`);
    return Buffer.from(bytes).toString('utf8');
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : 'unreadable';
    throw new ScenarioError('SCENARIO_UNREADABLE', `${file}: ${reason}`, { file }, { cause });
  }
}

/** Parses and checks the text of a scenario. @throws ScenarioError. */
export function parseScenario(text: string, file: string): Scenario {
  const document = parseDocument(text, {
    intAsBigInt: true,
    uniqueKeys: true,
    logLevel: 'error',
  });
  const error = document.errors[0];
  if (error !== undefined) {
    const line = error.linePos?.[0].line ?? 0;
    throw new ScenarioError('SCENARIO_YAML', `${file}:${line}: ${yamlRule(error)}`, { file, line });
  }
  const scenario = toScenario(plainOf(document, file), file);
  const found = contradictionIn(scenario) ?? disorderIn(scenario);
  if (found === null) return scenario;
  const { field, rule } = found;
  throw new ScenarioError('SCENARIO_SCHEMA', `${file}: ${field}: ${rule}`, { file, field, rule });
}

/** @throws ScenarioError SCENARIO_YAML when aliases would make much of a small file. */
function plainOf(document: Document.Parsed, file: string): unknown {
  try {
    return document.toJS({ maxAliasCount: MAX_ALIASES });
  } catch (cause) {
    if (!(cause instanceof ReferenceError)) throw cause;
    const rule = `at most ${MAX_ALIASES} uses of anchors are followed`;
    throw new ScenarioError('SCENARIO_YAML', `${file}: ${rule}`, { file, rule }, { cause });
  }
}

/** What the parser has against a document, without the place, which the message has in front. */
function yamlRule({ code, message }: YAMLError): string {
  if (code === 'MULTIPLE_DOCS') return 'a scenario is one document, and another begins here';
  // The parser is recursive and reports where its own stack ended.
  if (message.startsWith('Maximum call stack')) return 'collections are nested too deep';
  return message.split('\n')[0]!.replace(/ at line \d+, column \d+:?$/, '');
}

function disorderIn({ steps }: Scenario): Contradiction | null {
  const found = outOfOrder(steps);
  return found && { field: `steps.${found.index}.${found.step}`, rule: found.rule };
}
