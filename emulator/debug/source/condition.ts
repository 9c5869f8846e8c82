/**
 * A breakpoint's condition: read and checked once, asked at every hit in the innermost frame of whichever vCPU is there.
 *
 * Source: gdb, "Break Conditions".
 * Invariant: asking changes nothing in the machine. What cannot be told at a hit holds, so that its author sees why.
 */
import { didYouMean } from '../../../abi/did-you-mean.js';
import { HarnessError } from '../../../abi/errors.js';
import type { BreakpointCondition } from '../breakpoints.js';
import type { DebugSession } from '../session.js';
import { innermostFrame } from './backtrace.js';
import { refuseAt, SourceError } from './errors.js';
import { numberOf, parsed } from './expression/evaluate.js';
import { ExpressionScope } from './expression/scope.js';
import { nodesOf } from './expression/tree.js';
import type { Tree } from './expression/tree.js';
import type { LaneView } from './lane-view.js';
import type { Location } from './location.js';
import type { SourceLevel } from './source-level.js';

/** The condition of a text for hits at a place of the code, or anywhere. @throws SourceError. */
export function conditionOf(
  text: string,
  level: SourceLevel,
  session: DebugSession,
  place: Location | null,
): BreakpointCondition {
  const tree = check(text, level.core(session), place);
  return {
    text,
    problem: null,
    holds(lane) {
      this.problem = null;
      try {
        return numberOf(text, tree, scopeOf(level.core(session, lane.id))) !== 0n;
      } catch (error) {
        if (!(error instanceof HarnessError)) throw error;
        [this.problem = null] = error.message.split('\n');
        return true;
      }
    },
  };
}

function scopeOf(core: LaneView): ExpressionScope {
  return new ExpressionScope(core, () => innermostFrame(core));
}

/** Refuses what is wrong at every hit: words, types, and names that nothing has there. */
function check(text: string, core: LaneView, place: Location | null): Tree {
  const scope = scopeOf(core);
  const tree = parsed(text, scope);
  const locals = localNames(core, place);
  const names = [...nodesOf(tree)].filter((node) => node.kind === 'name');
  let isAllHere = true;
  for (const { name, column } of names) {
    if (name === 'vmcs' || name === 'msr' || scope.named(name) !== undefined) continue;
    isAllHere = false;
    if (locals.has(name)) continue;
    const hint = didYouMean(name, [...locals, ...scope.names]);
    refuseAt('EXPRESSION_NAME', `no name "${name}" there${hint}`, text, column);
  }
  try {
    numberOf(text, tree, scope);
  } catch (error) {
    // A value that is not there now may be there at a hit; a field that no structure has will never be.
    if (!(error instanceof SourceError)) throw error;
    if (isAllHere && error.code !== 'EXPRESSION_VALUE') throw error;
  }
  return tree;
}

/** Variables and parameters of the functions at a place; of all functions without one. */
function localNames(core: LaneView, place: Location | null): ReadonlySet<string> {
  const { source } = core;
  if (source === null) return new Set();
  const { program } = source;
  if (place === null) return program.ask(({ variables }) => variables.names) ?? new Set();
  const addresses =
    place.kind === 'linked'
      ? place.addresses
      : [core.sourceOf(place.address)?.linked(place.address)];
  const found = addresses.flatMap((address) =>
    address === undefined ? [] : (program.ask(({ variables }) => variables.at(address)) ?? []),
  );
  return new Set(found.map(({ name }) => name));
}
