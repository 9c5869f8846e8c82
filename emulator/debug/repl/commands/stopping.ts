/** Breakpoints, watchpoints and catchpoints: setting, listing, changing. */
import { didYouMean } from '../../../../abi/did-you-mean.js';
import { hex, u64 } from '../../../../abi/uint.js';
import type { Breakpoint, BreakpointSpec } from '../../breakpoints.js';
import { EVENTS, eventSpec, namesOf, type EventKind } from '../../events.js';
import { conditionOf } from '../../source/condition.js';
import { evaluate } from '../../source/expression/evaluate.js';
import { parseLocation, type Location } from '../../source/location.js';
import { watchSpec } from '../../source/watch.js';
import { bad, nothing, type Arguments, type ReplCommand } from '../command.js';
import type { Repl } from '../repl.js';

/** `LOCATION [vcpu N] [if CONDITION]` in its parts. */
function partsOf(
  repl: Repl,
  text: string,
): { what: string; vcpu: number | null; condition: string | null } {
  const [, before = '', asked] = /^(.*?)(?:(?:^|\s)if\s+(.*))?$/s.exec(text) ?? [];
  const [, what = '', number] = /^(.*?)(?:\s+(?:vcpu|thread)\s+(\d+))?\s*$/.exec(before) ?? [];
  const vcpu = number === undefined ? null : Number.parseInt(number, 10);
  if (vcpu !== null && !repl.session.machine.lanes.some(({ id }) => id === vcpu)) {
    bad(`there is no vCPU ${vcpu}`);
  }
  return { what, vcpu, condition: asked ?? null };
}

function set(
  repl: Repl,
  text: string,
  spec: BreakpointSpec,
  shown: string,
  { place = null, isTemporary = false }: { place?: Location | null; isTemporary?: boolean } = {},
): void {
  const { vcpu, condition: asked } = partsOf(repl, text);
  const { level, session } = repl;
  const condition = asked === null ? null : conditionOf(asked, level, session, place);
  const made = session.breakpoints.add(spec, { text: shown, vcpu, condition, isTemporary });
  repl.print(describe(made));
}

function breakAt(repl: Repl, { text }: Arguments, isTemporary: boolean): void {
  const { core } = repl;
  const { what } = partsOf(repl, text);
  const [event = '', ...rest] = what.split(/\s+/);
  if (rest.length > 0 && CATCHES.includes(event))
    bad(`"${what}" is an event, not a place: catch ${what}`);
  const wanted = what === '' ? `*${hex(core.register('RIP'))}` : what;
  const location = parseLocation(wanted, core);
  const spec: BreakpointSpec =
    location.kind === 'absolute'
      ? { kind: 'address', address: location.address }
      : { kind: 'code', address: location.addresses[0]!, more: location.addresses.slice(1) };
  checkCode(repl, spec);
  set(repl, text, spec, location.text, { place: location, isTemporary });
}

/** An address between two instructions would never be reached. */
function checkCode(repl: Repl, spec: Extract<BreakpointSpec, { kind: 'address' | 'code' }>): void {
  const { core, session } = repl;
  const address =
    spec.kind === 'address' ? spec.address : session.image.placed(session.lane, spec.address);
  const source = core.sourceOf(address);
  if (source?.hasCode(address) !== true) bad(`${hex(address)} is no code of the payload`);
  const symbol = source.symbolAt(address);
  if (symbol === null || symbol.offset > 0x4000) return;
  const start = u64(address - BigInt(symbol.offset));
  const bytes = core.read(start, symbol.offset + 1);
  if (bytes === null) return;
  const found = repl.level.disassembler.disassemble(
    core.read(start, symbol.offset + 16) ?? bytes,
    start,
  );
  if (!found.some((one) => one.address === address)) {
    bad(`no instruction begins at ${hex(address)} (${symbol.name}+${symbol.offset})`);
  }
}

function watch(repl: Repl, { text }: Arguments, on: 'write' | 'read' | 'access'): void {
  const { what } = partsOf(repl, text);
  if (what === '')
    bad('what to watch is missing: an expression in memory, a register, or vmcs.FIELD');
  set(repl, text, watchSpec(repl.core, evaluate(what, repl.scope), what, on), what);
}

const CATCHES = [...EVENTS, 'finding'];
const isEvent = (word: string): word is EventKind => (EVENTS as readonly string[]).includes(word);

function catchSpec([what = '', name]: readonly string[]): BreakpointSpec {
  if (isEvent(what)) return eventSpec(what, name ?? null);
  return bad(`what to catch: ${CATCHES.join(', ')}${didYouMean(what, CATCHES)}`);
}

function describe(one: Breakpoint): string {
  const parts = [
    `${one.id}`.padStart(3),
    one.isTemporary ? 'once' : one.isEnabled ? '    ' : 'off ',
    kindText(one.spec).padEnd(10),
    one.text,
    placeText(one.spec),
    one.vcpu === null ? '' : `vCPU ${one.vcpu}`,
    one.condition === null ? '' : `if ${one.condition.text}`,
    one.hits === 0 ? '' : one.hits === 1 ? 'hit once' : `hit ${one.hits} times`,
    one.ignore === 0 ? '' : `ignores ${one.ignore}`,
  ];
  return parts
    .filter((part) => part !== '')
    .join(' ')
    .trimEnd();
}

const kindText = (spec: BreakpointSpec): string =>
  spec.kind === 'address' || spec.kind === 'code'
    ? 'break'
    : ['watch', 'register', 'field'].includes(spec.kind)
      ? spec.kind === 'watch' && spec.on !== 'write'
        ? `watch ${spec.on}`
        : 'watch'
      : 'catch';

/** The code that a breakpoint is on; null for one that is on none. */
function placeOf(spec: BreakpointSpec): Location | null {
  if (spec.kind === 'address') return { kind: 'absolute', address: spec.address, text: '' };
  if (spec.kind !== 'code') return null;
  return { kind: 'linked', addresses: [spec.address, ...(spec.more ?? [])], text: '' };
}

function placeText(spec: BreakpointSpec): string {
  if (spec.kind === 'watch') return `${hex(spec.address)}, ${spec.sizeBytes} bytes`;
  if (spec.kind !== 'code') return '';
  const more = spec.more?.length ?? 0;
  return `${hex(spec.address)} in the image${more > 0 ? ` and ${more} more` : ''}`;
}

/** The breakpoints that words name, all without words. */
function named(repl: Repl, words: readonly string[]): readonly Breakpoint[] {
  const { breakpoints } = repl.session;
  if (words.length === 0) return breakpoints.all;
  return words.map((word) => {
    const found = /^\d+$/.test(word) ? breakpoints.get(Number.parseInt(word, 10)) : undefined;
    if (found !== undefined) return found;
    const ids = breakpoints.all.map(({ id }) => id).join(', ');
    return bad(`no breakpoint ${word}${ids === '' ? '; there is none' : `; there are: ${ids}`}`);
  });
}

const ids = (repl: Repl): string[] => repl.session.breakpoints.all.map(({ id }) => `${id}`);
const symbols = (repl: Repl): string[] =>
  repl.session.image.image.symbols
    .filter(({ kind }) => kind === 'function')
    .map(({ name }) => name);

/** Commands about where to stop. */
export const STOPPING: readonly ReplCommand[] = [
  {
    name: 'break',
    aliases: ['b'],
    group: 'stopping',
    usage: '[FILE:LINE | FUNCTION | SYMBOL+OFFSET | *ADDRESS] [vcpu N] [if CONDITION]',
    summary: 'stop before an instruction',
    example: 'break caretaker_dispatch vcpu 0 if telemetry.total.routed > 3',
    complete: symbols,
    run: (repl, args) => {
      breakAt(repl, args, false);
    },
  },
  {
    name: 'tbreak',
    aliases: ['tb'],
    group: 'stopping',
    usage: 'LOCATION [vcpu N] [if CONDITION]',
    summary: 'the same, once',
    example: 'tbreak dispatch.c:120',
    complete: symbols,
    run: (repl, args) => {
      breakAt(repl, args, true);
    },
  },
  {
    name: 'watch',
    aliases: ['w'],
    group: 'stopping',
    usage: 'EXPRESSION [vcpu N] [if CONDITION]',
    summary: 'stop behind what changes memory, a register or a VMCS field',
    example: 'watch ccb.attach_state',
    run: (repl, args) => {
      watch(repl, args, 'write');
    },
  },
  {
    name: 'rwatch',
    group: 'stopping',
    usage: 'EXPRESSION [vcpu N] [if CONDITION]',
    summary: 'stop behind an instruction that reads memory',
    example: 'rwatch ccb.attach_state',
    run: (repl, args) => {
      watch(repl, args, 'read');
    },
  },
  {
    name: 'awatch',
    group: 'stopping',
    usage: 'EXPRESSION [vcpu N] [if CONDITION]',
    summary: 'stop behind an instruction that reads or writes memory',
    example: 'awatch telemetry.stall_head',
    run: (repl, args) => {
      watch(repl, args, 'access');
    },
  },
  {
    name: 'catch',
    group: 'stopping',
    usage:
      'exit [REASON] | vmread [FIELD] | vmwrite [FIELD] | flip [attached|detached] | phase [preserve|kexec|next-kernel|retrieve] | finding [on|off]',
    summary: 'stop at an event',
    example: 'catch exit MSR_WRITE',
    complete: (_repl, words) => {
      const [what = ''] = words;
      if (isEvent(what)) return namesOf(what);
      return CATCHES;
    },
    run: (repl, args) => {
      const { what } = partsOf(repl, args.text);
      const words = what.split(/\s+/).filter((word) => word !== '');
      if (words.length > 2) bad(`there is more than one name: ${words.slice(1).join(' ')}`);
      if (words[0] === 'finding') {
        if (words[1] !== undefined && words[1] !== 'on' && words[1] !== 'off') bad('on or off');
        repl.session.pilot.stopsAtFindings = words[1] !== 'off';
        repl.print(`findings ${words[1] === 'off' ? 'do not ' : ''}stop the run`);
        return;
      }
      set(repl, args.text, catchSpec(words), what);
    },
  },
  {
    name: 'breakpoints',
    aliases: ['bl'],
    group: 'stopping',
    usage: '',
    summary: 'lists what stops the run',
    example: 'breakpoints',
    run: (repl, args) => {
      nothing(args);
      const { all } = repl.session.breakpoints;
      repl.print(...(all.length === 0 ? ['no breakpoints'] : all.map(describe)));
    },
  },
  {
    name: 'delete',
    aliases: ['d'],
    group: 'stopping',
    usage: '[NUMBER...]',
    summary: 'forgets breakpoints, all without a number',
    example: 'delete 2',
    complete: ids,
    run: (repl, { words }) => {
      for (const { id } of named(repl, words)) repl.session.breakpoints.remove(id);
    },
  },
  {
    name: 'enable',
    group: 'stopping',
    usage: '[NUMBER...]',
    summary: 'lets breakpoints stop again',
    example: 'enable 2',
    complete: ids,
    run: (repl, { words }) => {
      for (const { id } of named(repl, words)) repl.session.breakpoints.enable(id, true);
    },
  },
  {
    name: 'disable',
    group: 'stopping',
    usage: '[NUMBER...]',
    summary: 'keeps breakpoints, and passes them',
    example: 'disable 2',
    complete: ids,
    run: (repl, { words }) => {
      for (const { id } of named(repl, words)) repl.session.breakpoints.enable(id, false);
    },
  },
  {
    name: 'condition',
    group: 'stopping',
    usage: 'NUMBER [EXPRESSION]',
    summary: 'stops only where the expression is not 0; always without one',
    example: 'condition 1 $rcx == 0x6e0',
    complete: ids,
    run: (repl, { words }) => {
      const [one] = named(repl, [words[0] ?? bad('the number of a breakpoint is missing')]);
      const text = words.slice(1).join(' ');
      one!.condition =
        text === '' ? null : conditionOf(text, repl.level, repl.session, placeOf(one!.spec));
      repl.print(describe(one!));
    },
  },
  {
    name: 'ignore',
    group: 'stopping',
    usage: 'NUMBER COUNT',
    summary: 'passes a breakpoint so many times',
    example: 'ignore 1 10',
    complete: ids,
    run: (repl, { words }) => {
      const [one] = named(repl, [words[0] ?? bad('the number of a breakpoint is missing')]);
      const count = repl.number(words.slice(1).join(' '));
      if (count < 0n || count > 1_000_000_000n) bad(`a count is wanted, not ${count}`);
      one!.ignore = Number.parseInt(count.toString(), 10);
      repl.print(describe(one!));
    },
  },
];
