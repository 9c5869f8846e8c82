/** `scenarios`: the built-in scenarios, one line each; `run` and --json have the whole description. */
import { defineCommand } from '../command.js';
import { EXIT } from '../exit-status.js';
import { jsonText } from '../output/json.js';

/** Less of a description tells nothing. */
const NARROWEST = 20;

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
    const longest = Math.max(...scenarios.map(({ name }) => name.length));
    const lines = scenarios.map(({ name, description }) => {
      const shown = beginningOf(description, terminal.columns - longest - 2, terminal.isUnicode);
      return `${terminal.style('bold', name.padEnd(longest))}  ${shown}`;
    });
    terminal.print(json ? jsonText(scenarios) : lines.join('\n'));
    return EXIT.OK;
  },
});

/** As many words as there is room for. */
function beginningOf(text: string, columns: number, isUnicode: boolean): string {
  if (text.length <= columns) return text;
  const more = isUnicode ? '…' : '...';
  const cut = text.lastIndexOf(' ', Math.max(NARROWEST, columns) - more.length);
  return `${text.slice(0, cut).replace(/[,;:.]$/, '')}${more}`;
}
