/** `scenarios`: the built-in scenarios, one line each. */
import { defineCommand } from '../command.js';
import { EXIT } from '../exit-status.js';
import { jsonText } from '../output/json.js';
import { columnsOf } from '../output/table.js';

/** The command. */
export const command = defineCommand({
  usage: '',
  positionals: {},
  options: {},
  examples: [
    ['caretaker-emu scenarios', 'what `run --scenario` takes'],
    ['caretaker-emu scenarios --json', 'the same for programs'],
  ],
  run: async ({ json }, terminal) => {
    // Here and not above: --help needs none of it.
    const { builtinScenarioNames, loadScenario } = await import('../../machine/scenario/load.js');
    const scenarios = builtinScenarioNames().map((name) => {
      const { description } = loadScenario(name);
      return { name, description };
    });
    const rows = scenarios.map(({ name, description }) => [
      terminal.style('bold', name),
      description.trim(),
    ]);
    terminal.print(json ? jsonText(scenarios) : columnsOf(rows, terminal.columns));
    return EXIT.OK;
  },
});
