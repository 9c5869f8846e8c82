/** The session itself: positions with names, states to come back to, recordings, and its end. */
import { printPosition } from '../../position.js';
import { readRecording, writeRecording } from '../../recording.js';
import { atMost, bad, nothing, type ReplCommand } from '../command.js';
import { positionOf } from './going.js';

const NAME = /^[A-Za-z_][\w.-]*$/;

/** Commands about the session. */
export const SESSION: readonly ReplCommand[] = [
  {
    name: 'name',
    group: 'the session',
    usage: 'NAME [POSITION]',
    summary: 'gives a position a name for seek',
    example: 'name before-flip',
    run: (repl, args) => {
      const [name, position] = atMost(args, 2);
      if (name === undefined || !NAME.test(name)) return bad('a name begins with a letter');
      const where = position === undefined ? repl.session.position : positionOf(repl, position);
      repl.session.names.set(name, where);
      repl.print(`${name} is ${printPosition(where)}`);
    },
  },
  {
    name: 'names',
    group: 'the session',
    usage: '',
    summary: 'lists named positions and saved states',
    example: 'names',
    run: (repl, args) => {
      nothing(args);
      const { names, saved } = repl.session;
      if (names.size + saved.size === 0) repl.print('none');
      for (const [name, position] of names) repl.print(`${name} ${printPosition(position)}`);
      for (const [name, { position }] of saved) {
        repl.print(`${name} ${printPosition(position)} (saved)`);
      }
    },
  },
  {
    name: 'save',
    group: 'the session',
    usage: '[NAME]',
    summary: 'keeps the state of the machine here, with all that was changed',
    example: 'save good',
    run: (repl, args) => {
      const [name = 'saved'] = atMost(args, 1);
      if (!NAME.test(name)) bad('a name begins with a letter');
      repl.session.save(name);
      repl.print(`${name} is the state at ${printPosition(repl.session.position)}`);
    },
  },
  {
    name: 'restore',
    group: 'the session',
    usage: '[NAME]',
    summary: 'goes back to a saved state; what was changed since then never happened',
    example: 'restore good',
    complete: (repl) => [...repl.session.saved.keys()],
    run: (repl, args) => {
      const [name = 'saved'] = atMost(args, 1);
      const saved = repl.session.saved.get(name);
      if (saved !== undefined) return { kind: 'restore', name };
      const known = [...repl.session.saved.keys()].join(', ');
      return bad(
        `no state is named "${name}"${known === '' ? '; save keeps one' : `; there are: ${known}`}`,
      );
    },
  },
  {
    name: 'record',
    group: 'the session',
    usage: 'FILE',
    summary: 'writes scenario, seed, what was changed and this position to a file',
    example: 'record finding.json',
    run: (repl, { text }) => {
      if (text === '') bad('the name of a file is missing');
      repl.files.write(text, writeRecording(repl.session));
      const count = repl.session.tape.entries.length;
      repl.print(
        `${text}: ${count} ${count === 1 ? 'change' : 'changes'} up to ${printPosition(repl.session.position)}`,
      );
    },
  },
  {
    name: 'replay',
    group: 'the session',
    usage: 'FILE',
    summary: 'makes the changes of a recording again and goes to its position',
    example: 'replay finding.json',
    run: (repl, { text }) => {
      if (text === '') bad('the name of a file is missing');
      const recording = readRecording(repl.files.read(text), text, repl.session);
      return { kind: 'replay', entries: recording.entries, position: recording.position };
    },
  },
  {
    name: 'quit',
    aliases: ['q', 'exit'],
    group: 'the session',
    usage: '',
    summary: 'ends the session',
    example: 'quit',
    run: (_repl, args) => {
      nothing(args);
      return { kind: 'quit' };
    },
  },
];
