/** Looking at memory: in a format, as bytes, and how an address is translated. */
import { examine, hexdump, parseFormat } from '../../source/memory/format.js';
import { pageView } from '../../source/memory/page-view.js';
import { hex, toIndex } from '../../../../abi/uint.js';
import { bad, type ReplCommand } from '../command.js';

/** Commands that look at memory. */
export const MEMORY: readonly ReplCommand[] = [
  {
    name: 'x',
    aliases: ['examine'],
    group: 'looking',
    usage: '[/COUNT FORMAT SIZE] ADDRESS',
    summary: 'memory in a format: x d u o t a c s i, of b h w g',
    example: 'x/4xg $gs_base',
    run: (repl, { text, slash }) => {
      const address = text === '' ? repl.core.register('RSP') : repl.number(text);
      const format = parseFormat(slash);
      const { lines, unmapped } = examine(repl.core, repl.level.disassembler, address, format);
      repl.print(...lines);
      if (unmapped !== null) bad(`${hex(unmapped)}: not mapped`);
    },
  },
  {
    name: 'hexdump',
    aliases: ['hd'],
    group: 'looking',
    usage: 'ADDRESS [BYTES]',
    summary: 'memory as bytes and letters',
    example: 'hexdump $gs_base 64',
    run: (repl, { words }) => {
      if (words.length === 0) bad('an address is missing');
      const hasSize = words.length > 1 && /^(0x[0-9a-f]+|\d+)$/i.test(words.at(-1)!);
      const address = repl.number((hasSize ? words.slice(0, -1) : words).join(' '));
      const size = hasSize ? repl.number(words.at(-1)!) : 64n;
      if (size < 1n || size > 65536n) bad(`1 to 65536 bytes, not ${size}`);
      if (repl.core.read(address, 1) === null) bad(`${hex(address)}: not mapped`);
      repl.print(...hexdump(repl.core, address, toIndex(size)));
    },
  },
  {
    name: 'page',
    group: 'looking',
    usage: 'ADDRESS',
    summary: 'the walk of the page tables, the owner of the page and its permissions',
    example: 'page $rip',
    run: (repl, { text }) => {
      if (text === '') bad('an address is missing');
      const { machine } = repl.session;
      const ownerOf = (physical: bigint): string => machine.regionName(physical);
      repl.print(...pageView(machine.memory, repl.core.cr3, repl.number(text), ownerOf));
    },
  },
];
