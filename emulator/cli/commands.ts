/**
 * The list of commands. A name may have two words; its module is loaded only when it is named, because start-up time
 * is part of every use.
 */
import type { CommandEntry } from './command.js';

/** In the order of `--help`. */
export const COMMANDS: readonly CommandEntry[] = [
  {
    name: 'run',
    describe: 'takes a payload through a scenario, end to end',
    load: async () => (await import('./commands/run.js')).command,
  },
  {
    name: 'scenarios',
    describe: 'lists the built-in scenarios',
    load: async () => (await import('./commands/scenarios.js')).command,
  },
  {
    name: 'debug',
    describe: 'steps through a payload, forwards and backwards',
    load: async () => (await import('./commands/debug.js')).command,
  },
  {
    name: 'gdbserver',
    describe: 'lets gdb step through a payload, forwards and backwards',
    load: async () => (await import('./commands/gdbserver.js')).command,
  },
  {
    name: 'load',
    describe: 'parses, validates and plans payload files without running them',
    load: async () => (await import('./commands/load.js')).command,
  },
  {
    name: 'dap',
    describe: 'debugs a payload for VS Code: a debug adapter on stdio',
    load: async () => (await import('./commands/dap.js')).command,
  },
  {
    name: 'fuzz',
    describe: 'looks for exit sequences that the payload answers wrongly',
    load: async () => (await import('./commands/fuzz.js')).command,
  },
  {
    name: 'explore',
    describe: 'tries each event at every instruction of every handler',
    load: async () => (await import('./commands/explore.js')).command,
  },
  {
    name: 'replay',
    describe: 'shows a finding of fuzz or explore again',
    load: async () => (await import('./commands/replay.js')).command,
  },
  {
    name: 'conform',
    describe: 'holds the models against a second machine with real VMX (Bochs)',
    load: async () => (await import('./commands/conform.js')).command,
  },
  {
    name: 'abi check',
    describe: 'holds a payload against the contract',
    load: async () => (await import('./commands/abi-check.js')).command,
  },
  {
    name: 'abi diff',
    describe: 'tells whether one payload may replace another across a live update',
    load: async () => (await import('./commands/abi-diff.js')).command,
  },
  {
    name: 'abi dump',
    describe: 'shows the layouts that a binary has',
    load: async () => (await import('./commands/abi-dump.js')).command,
  },
  {
    name: 'bench',
    describe: 'measures the figures of the README on this machine',
    load: async () => (await import('./commands/bench.js')).command,
  },
];
