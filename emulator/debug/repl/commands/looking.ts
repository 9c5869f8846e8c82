/** Looking at a core and its code: context, registers, VMCS, shared structures, frames, source, symbols, values. */
import { hex } from '../../../../abi/uint.js';
import { VMCS_FIELDS } from '../../../../abi/vmcs-fields.js';
import { MSR } from '../../../../abi/msrs.js';
import { backtraceOf, framesOf } from '../../source/backtrace.js';
import { evaluate } from '../../source/expression/evaluate.js';
import type { SharedName } from '../../source/contract-types.js';
import { addressesIn, parseLocation } from '../../source/location.js';
import { isThere } from '../../source/values/value.js';
import { render, type Radix } from '../../source/values/render.js';
import {
  backtraceView,
  instructionLines,
  sourceView,
  variablesView,
} from '../../source/views/code.js';
import { disassembleAt, disassembleAround } from '../../source/views/disassembly.js';
import { addressName } from '../../source/views/names.js';
import { controlView, generalView, msrView, segmentView } from '../../source/views/registers.js';
import { structureView } from '../../source/views/structure.js';
import { vmcsView } from '../../source/views/vmcs.js';
import { registerNamed } from '../../source/register-names.js';
import { didYouMean } from '../../../../abi/did-you-mean.js';
import { atMost, bad, nothing, type Arguments, type ReplCommand } from '../command.js';
import type { Repl } from '../repl.js';

const VIEWS = ['general', 'control', 'segment', 'msr', 'ssp', 'all'];

function registers(repl: Repl, { words }: Arguments): void {
  const { core, canvas } = repl;
  const [what = 'general', pattern = ''] = words;
  const general = (): readonly string[] => generalView(core, null, canvas);
  switch (what) {
    case 'general':
      repl.print(...general());
      return;
    case 'control':
      repl.print(...controlView(core));
      return;
    case 'segment':
    case 'segments':
      repl.print(...segmentView(core));
      return;
    case 'msr': {
      const lines = msrView(core, pattern);
      if (lines.length === 0)
        bad(`no MSR is named "${pattern}"${didYouMean(pattern, Object.keys(MSR))}`);
      repl.print(...lines);
      return;
    }
    case 'ssp':
      repl.print(`SSP   ${hex(core.register('SSP'))}`);
      return;
    case 'all':
      repl.print(...general(), ...controlView(core), ...segmentView(core), ...msrView(core));
      return;
    default:
      for (const word of words) {
        const part = registerNamed(word.replace(/^\$/, '').toLowerCase()) ?? registerNamed(word);
        if (part === null) {
          bad(
            `no register or group is named "${word}"${didYouMean(word, [...VIEWS, 'rax', 'rip', 'cr3'])}`,
          );
        }
        const value = repl.number(`$${word.replace(/^\$/, '').toLowerCase()}`);
        const name = addressName(core, value);
        repl.print(`${word.replace(/^\$/, '')} ${hex(value)}${name === null ? '' : ` <${name}>`}`);
      }
  }
}

const RADIX: Readonly<Record<string, Radix>> = {
  x: 'hex',
  d: 'decimal',
  u: 'unsigned',
  t: 'binary',
  o: 'octal',
  c: 'character',
};

function print(repl: Repl, { text, slash }: Arguments): void {
  if (text === '') bad('an expression is missing, for instance ccb.state or $rax + 8');
  const radix =
    slash === '' ? 'natural' : (RADIX[slash] ?? bad(`/${slash}: formats are x d u t o c`));
  const value = evaluate(text, repl.scope);
  const { core } = repl;
  repl.print(
    ...render(value, { radix, sourceOf: (address) => core.sourceOf(address) }).split('\n'),
  );
}

/** The first address of a place, or RIP. */
function addressOf(repl: Repl, text: string): bigint {
  if (text === '') return repl.core.register('RIP');
  const location = parseLocation(text, repl.core);
  return addressesIn(location, repl.session.image.bias(repl.session.lane))[0]!;
}

const structure = (name: SharedName, summary: string): ReplCommand => ({
  name: name === 'soft' ? 'soft-state' : name,
  group: 'looking',
  usage: '[FIELD]',
  summary,
  example: name === 'ccb' ? 'ccb attach_state' : name === 'soft' ? 'soft-state' : name,
  run: (repl, { text }) => {
    if (text === '') repl.print(...structureView(repl.core, name, repl.canvas));
    else print(repl, { text: `${name}.${text}`, words: [], slash: '' });
  },
});

/** Commands that look at a core and its code. */
export const LOOKING: readonly ReplCommand[] = [
  {
    name: 'context',
    aliases: ['ctx'],
    group: 'looking',
    usage: '[on | off]',
    summary:
      'registers, source, code and stack on one screen; on or off says whether each stop shows it',
    example: 'context off',
    complete: () => ['on', 'off'],
    run: (repl, { text }) => {
      if (text === 'on' || text === 'off') repl.showsContext = text === 'on';
      else if (text !== '') bad(`on or off, not "${text}"`);
      else repl.print(...repl.level.context(repl.session, repl.canvas));
    },
  },
  {
    name: 'where',
    aliases: ['position', 'pos'],
    group: 'looking',
    usage: '',
    summary: 'position, vCPU, address, function and line',
    example: 'where',
    run: (repl, args) => {
      nothing(args);
      repl.print(repl.where());
    },
  },
  {
    name: 'registers',
    aliases: ['r', 'regs'],
    group: 'looking',
    usage: '[general | control | segment | msr [NAME] | ssp | all | REGISTER...]',
    summary: 'registers of the core',
    example: 'registers control',
    complete: () => VIEWS,
    run: (repl, args) => {
      registers(repl, args);
    },
  },
  {
    name: 'vmcs',
    aliases: ['v'],
    group: 'looking',
    usage: '[FIELD | PART OF A NAME | guest | host | control | exit-info]',
    summary: 'fields of the current VMCS',
    example: 'vmcs GUEST_RIP',
    complete: () => VMCS_FIELDS.map(({ name }) => name),
    run: (repl, { text }) => {
      repl.print(...vmcsView(repl.core, text, repl.canvas));
    },
  },
  structure('ccb', "the control block, with each field's writer"),
  structure('config', 'what KVM told the payload in the shared configuration'),
  structure('telemetry', "the payload's counters and stalls"),
  structure('soft', 'the virtual APIC and MSRs that the payload keeps'),
  {
    name: 'print',
    aliases: ['p'],
    group: 'looking',
    usage: '[/x|d|u|t|o|c] EXPRESSION',
    summary: 'the value of an expression',
    example: 'print ccb.state',
    run: (repl, args) => {
      print(repl, args);
    },
  },
  {
    name: 'backtrace',
    aliases: ['bt'],
    group: 'looking',
    usage: '',
    summary: 'the calls that led here, inlined ones too',
    example: 'backtrace',
    run: (repl, args) => {
      nothing(args);
      repl.print(...backtraceView(repl.core, backtraceOf(repl.core), repl.canvas, repl.frame));
    },
  },
  {
    name: 'frame',
    aliases: ['f'],
    group: 'looking',
    usage: '[NUMBER]',
    summary: 'whose variables are meant: 0 is the innermost',
    example: 'frame 1',
    run: (repl, args) => {
      const [word] = atMost(args, 1);
      const frames = framesOf(repl.core);
      const wanted =
        word === undefined ? repl.frame : /^\d+$/.test(word) ? Number.parseInt(word, 10) : -1;
      const frame = frames[wanted];
      if (frame === undefined) return bad(`frames are 0 to ${frames.length - 1}, not ${word!}`);
      repl.frame = wanted;
      repl.print(...sourceView(repl.core, repl.level.text, frame.lookup, repl.canvas));
    },
  },
  {
    name: 'locals',
    aliases: ['variables'],
    group: 'looking',
    usage: '',
    summary: 'variables and parameters of the frame',
    example: 'locals',
    run: (repl, args) => {
      nothing(args);
      const frame = framesOf(repl.core)[repl.frame];
      if (frame === undefined) return bad('there is no frame here');
      repl.print(...variablesView(repl.core, frame, repl.canvas));
    },
  },
  {
    name: 'list',
    aliases: ['l', 'source'],
    group: 'looking',
    usage: '[LOCATION]',
    summary: 'the source around a place',
    example: 'list caretaker_dispatch',
    run: (repl, { text }) => {
      repl.print(
        ...sourceView(repl.core, repl.level.text, addressOf(repl, text), repl.canvas, 5, 10),
      );
    },
  },
  {
    name: 'disassemble',
    aliases: ['dis'],
    group: 'looking',
    usage: '[LOCATION] [COUNT]',
    summary: 'instructions with symbols, VMCS fields and MSRs by name',
    example: 'disassemble caretaker_vmexit 12',
    run: (repl, { words, text }) => {
      const last = words.at(-1) ?? '';
      const hasCount = /^\d+$/.test(last);
      const count = hasCount ? Math.min(1000, Math.max(1, Number.parseInt(last, 10))) : 16;
      const place = hasCount ? words.slice(0, -1).join(' ') : text;
      const { core, canvas } = repl;
      const { disassembler } = repl.level;
      const address = addressOf(repl, place);
      const found =
        place === ''
          ? disassembleAround(core, disassembler, address, 3, count)
          : disassembleAt(core, disassembler, address, count);
      if (found.length === 0) bad(`${hex(address)}: not mapped`);
      repl.print(...instructionLines(found, canvas));
    },
  },
  {
    name: 'symbol',
    aliases: ['sym'],
    group: 'looking',
    usage: 'ADDRESS | PART OF A NAME',
    summary: 'what lies at an address, or the symbols of a name',
    example: 'symbol dispatch',
    run: (repl, { text }) => {
      const { core } = repl;
      if (text === '') bad('an address or a part of a name is missing');
      const { symbols } = repl.session.image.image;
      const found = symbols.filter(({ name }) => name.includes(text));
      if (found.length > 0) {
        for (const { name, address, sizeBytes, kind } of found.slice(0, 100)) {
          const placed = hex(repl.session.image.placed(repl.session.lane, address));
          repl.print(`${placed} ${kind.padEnd(8)} ${sizeBytes.toString().padStart(6)} ${name}`);
        }
        return;
      }
      const value = evaluate(text, repl.scope);
      const address = isThere(value) ? repl.number(text) : 0n;
      const name = addressName(core, address);
      repl.print(`${hex(address)} ${name ?? repl.session.machine.regionName(address)}`);
    },
  },
];
