/**
 * Scenario files: YAML text to a checked scenario, and the built-in ones by name.
 *
 * Source: CLI ("run --scenario NAME-or-FILE", "scenarios").
 * Invariant: integers of any size stay exact; aliases cannot blow a small file up; a bad file is a ScenarioError.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { parseDocument, type YAMLError } from 'yaml';
import { packageRoot } from '../package-root.js';
import { ScenarioError, toScenario, type Scenario } from './schema.js';
import { outOfOrder } from './step-order.js';

const MAX_FILE_BYTES = 1 << 20;

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
  if (!/[./\\]/.test(nameOrFile)) {
    throw new ScenarioError('SCENARIO_UNKNOWN', `no scenario is named "${nameOrFile}"`, {
      name: nameOrFile,
      known: names,
    });
  }
  return parseScenario(readScenarioFile(nameOrFile), nameOrFile);
}

function readScenarioFile(file: string): string {
  try {
    const { size } = statSync(file);
    if (size > MAX_FILE_BYTES) throw new Error(`${size} bytes; at most ${MAX_FILE_BYTES} are read`);
    return readFileSync(file, 'utf8');
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
  try {
    const scenario = toScenario(document.toJS({ maxAliasCount: 10 }), file);
    refuseOrder(scenario, file);
    return scenario;
  } catch (cause) {
    if (cause instanceof ScenarioError) throw cause;
    throw new ScenarioError(
      'SCENARIO_YAML',
      `${file}: aliases expand too far`,
      { file },
      { cause },
    );
  }
}

/** What the parser has against a document, without the place, which the message has in front. */
function yamlRule({ message }: YAMLError): string {
  // The parser is recursive and reports where its own stack ended.
  if (message.startsWith('Maximum call stack')) return 'collections are nested too deep';
  return message.split('\n')[0]!.replace(/ at line \d+, column \d+:?$/, '');
}

function refuseOrder({ steps }: Scenario, file: string): void {
  const found = outOfOrder(steps);
  if (found === null) return;
  const { index, step, rule } = found;
  throw new ScenarioError('SCENARIO_SCHEMA', `${file}: steps.${index}.${step}: ${rule}`, {
    file,
    field: `steps.${index}.${step}`,
    rule,
  });
}
