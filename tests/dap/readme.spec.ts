/** The launch configuration in the README works, and the workspace extension starts the command that is here. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { DapClient } from './client.js';

const root = new URL('../..', import.meta.url).pathname;
const readme = readFileSync(join(root, 'README.md'), 'utf8');
const block = /```json\n(\{\n {2}"version": "0\.2\.0",[\s\S]*?)```/.exec(readme)![1]!;
const launch = JSON.parse(block) as { configurations: Record<string, unknown>[] };
const folder = join(root, '.vscode/extensions/caretaker-debug');
const extension = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as {
  contributes: {
    debuggers: {
      type: string;
      program: string;
      args: string[];
      configurationAttributes: { launch: { properties: Record<string, unknown> } };
    }[];
  };
};

describe('the launch configuration of the README', () => {
  const [configuration] = launch.configurations;
  const [adapter] = extension.contributes.debuggers;

  it('is of the type that the extension brings, with attributes that it names', () => {
    expect(configuration!['type']).toBe(adapter!.type);
    expect(existsSync(join(folder, adapter!.program))).toBe(true);
    expect(adapter!.args).toEqual(['dap']);
    const known = Object.keys(adapter!.configurationAttributes.launch.properties);
    const own = Object.keys(configuration!).filter(
      (name) => !['name', 'type', 'request'].includes(name),
    );
    expect(known).toEqual(expect.arrayContaining(own));
  });

  it('starts a session that stops at the first VM exit', async () => {
    const client = new DapClient();
    await client.body('initialize', {});
    const filled = JSON.stringify(configuration).replaceAll('${workspaceFolder}', root);
    await client.body('launch', JSON.parse(filled));
    await client.event('initialized');
    await client.body('configurationDone');
    expect(await client.event('stopped')).toMatchObject({ reason: 'entry' });
    await client.body('disconnect');
    expect(await client.ended).toBe(0);
  });
});
