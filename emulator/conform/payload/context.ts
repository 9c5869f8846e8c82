/**
 * A difference with everything around it, for people: both machines side by side, 80 columns wide.
 *
 * Invariant: the value that differs is marked, and nothing that is equal on both machines is printed twice.
 */
import { printExitReason } from '../../../abi/exit-reasons.js';
import { hex, toIndex } from '../../../abi/uint.js';
import { VMCS_FIELDS } from '../../../abi/vmcs-fields.js';
import { symboliseAt, type LoadedImage } from '../../../loader/place.js';
import { effectText, type PayloadDifference } from './compare.js';
import { RECORDED_REGISTERS } from './on-model.js';
import type { Passage, Recording, Stop } from './recording.js';

const NAME_WIDTH = 30;
const VALUE_WIDTH = 21;
/** Instructions and writes that are shown before a difference. */
const SHOWN = 6;

/** The passage of a difference on both machines, as lines of at most 80 columns. */
export function contextOf(
  difference: PayloadDifference,
  title: string,
  model: Recording,
  second: Recording,
  loaded: LoadedImage,
): string[] {
  const { passage, what } = difference;
  const lines = [`first difference: ${what}`, `  case: ${title}`.slice(0, 80)];
  if (passage === null) {
    return [
      ...lines,
      row('', 'model', 'Bochs'),
      row('', difference.model, difference.second, true),
    ];
  }
  const here = model.passages[passage];
  const there = second.passages[passage];
  if (here === undefined || there === undefined) {
    return [...lines, `  passage ${passage + 1} is there on one machine only`];
  }
  const reason = here.from.vmcs.get('VM_EXIT_REASON');
  const exit = here.from.kind === 'run' ? 'run entry' : printExitReason(toIndex(reason ?? 0n));
  return [
    ...lines,
    `  passage ${passage + 1}: ${exit}, ${here.path.length} and ${there.path.length} instructions`,
    '',
    row('', 'model', 'Bochs'),
    row(`  ${short(what)}`, difference.model, difference.second, true),
    ...stopRows('begins', here.from, there.from),
    ...pathRows(here, there, loaded),
    ...effectRows(here, there),
    ...stopRows('ends', here.to, there.to),
  ];
}

function short(what: string): string {
  return what.replace(/ at (HOST_RIP|vmresume|vmlaunch|handler)$/, '').slice(0, NAME_WIDTH - 3);
}

/** Values longer than their column go to lines of their own. */
function row(name: string, model: string, second: string, isMarked = false): string {
  const mark = isMarked ? ' <--' : '';
  if (Math.max(model.length, second.length) >= VALUE_WIDTH) {
    return `${name}${mark}\n    model ${model}`.concat(`\n    Bochs ${second}`);
  }
  return `${name.padEnd(NAME_WIDTH)}${model.padEnd(VALUE_WIDTH)}${second}${mark}`.trimEnd();
}

/** Registers and VMCS fields: those that differ marked, of the others the ones that are not 0. */
function stopRows(verb: string, model: Stop, second: Stop): string[] {
  const lines = ['', `${verb} at ${model.kind} | ${second.kind}, TSC ${model.tsc} | ${second.tsc}`];
  const add = (name: string, here: bigint | undefined, there: bigint | undefined): void => {
    if (here === undefined || there === undefined) return;
    if (here === 0n && there === 0n) return;
    lines.push(row(`  ${name}`, hex(here), here === there ? '=' : hex(there), here !== there));
  };
  for (const name of RECORDED_REGISTERS) {
    add(name, model.registers.get(name), second.registers.get(name));
  }
  for (const { name, type } of VMCS_FIELDS) {
    const [here, there] = [model.vmcs.get(name), second.vmcs.get(name)];
    if (type === 'exit-info' || name === 'GUEST_RIP' || here !== there) add(name, here, there);
  }
  return lines;
}

function pathRows(model: Passage, second: Passage, loaded: LoadedImage): string[] {
  const at = model.path.findIndex((rip, i) => rip !== second.path[i]);
  const end = at < 0 ? Math.min(model.path.length, second.path.length) - 1 : at;
  const lines = ['', at < 0 ? 'the same path; its last instructions' : 'the paths part'];
  for (let i = Math.max(0, end - SHOWN); i <= end; i++) {
    const [here, there] = [model.path[i], second.path[i]];
    const name = place(loaded, here);
    if (here === there) lines.push(`  ${name}`);
    else lines.push(`  model ${name}`, `  Bochs ${place(loaded, there)} <--`);
  }
  return lines;
}

function effectRows(model: Passage, second: Passage): string[] {
  const texts = [model, second].map(({ effects }) => effects.map(effectText));
  const [here, there] = [texts[0]!, texts[1]!];
  const at = here.findIndex((text, i) => text !== there[i]);
  const end = at < 0 ? Math.min(here.length, there.length) - 1 : at;
  const lines = ['', at < 0 ? 'the same writes; the last ones' : 'the writes part'];
  for (let i = Math.max(0, end - SHOWN); i <= end; i++) {
    if (here[i] === there[i]) lines.push(`  ${here[i] ?? ''}`);
    else lines.push(`  model ${here[i] ?? 'none'}`, `  Bochs ${there[i] ?? 'none'} <--`);
  }
  return lines;
}

function place(loaded: LoadedImage, rip: bigint | undefined): string {
  if (rip === undefined) return 'none';
  const found = symboliseAt(loaded, rip);
  return found === undefined ? hex(rip) : `${hex(rip)} ${found.name}+${hex(found.offset)}`;
}
