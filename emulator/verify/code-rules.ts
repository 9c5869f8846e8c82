/**
 * The rules that the contract makes for a payload's code, over everything that control can reach.
 *
 * Source: CONTRACT ("Entry points", "Not the payload's to touch"); SDM, "Indirect Branch Tracking" and "Control
 * Protection Exception" for where ENDBR64 is due: targets of indirect calls and jumps, and gates of the IDT.
 * Invariant: a binary gets a finding for each place that breaks a rule, and none for what it does not contain.
 */
import type { Finding } from '../../abi/compat/rules.js';
import type { CodeRules } from '../../abi/compat/profiles.js';
import { depthOf, reachedFrom, walkAll } from './call-graph.js';
import type { Walks } from './call-graph.js';
import type { CodeImage, Place } from './code-image.js';
import { whereIs } from './code-image.js';
import { isEndbr64, transferOf } from './instruction.js';
import { codeFinding, sweepFindings, sweepText } from './sweep-rules.js';

/** The stack that one way in may take at most. */
export interface StackUse {
  readonly entry: string;
  readonly bytes: number;
}

/** What the rules say of some code. */
export interface CodeVerdict {
  readonly findings: readonly Finding[];
  readonly stack: readonly StackUse[];
  readonly functions: number;
}

/** Bytes below RSP that the psABI lets a leaf function use. */
const RED_ZONE = 128;
/** The lowest word of a stack holds the control block's address. */
const BASE_WORD = 8;
/** What the CPU pushes for an event: five words, an error code, and up to 8 bytes of alignment. */
const EVENT_FRAME = 56;

/** Holds code against the rules of a profile; `gates` are where the IDT leads. */
export function checkCode(
  code: CodeImage,
  rules: CodeRules,
  gates: readonly number[],
): CodeVerdict {
  const gatePlaces = [...new Set(gates)].map((at) => ({ name: whereIs(code, at), at }));
  const entries = [...code.entryPoints, ...gatePlaces];
  const walks = walkAll(code, entries);
  // Without entry points every function may be one.
  const ways: readonly Place[] = entries.length > 0 ? entries : code.functions;
  const reached = reachedFrom(
    walks,
    ways.map(({ at }) => at),
  );
  const stack = stackFindings(code, walks, ways, gatePlaces, rules.stackBytes);
  const findings = [
    ...sweepFindings(code),
    ...walkFindings(code, walks, reached),
    ...stack.findings,
    ...(rules.ibt ? endbrFindings(code, gatePlaces) : []),
  ];
  return { findings, stack: stack.use, functions: reached.size };
}

function walkFindings(code: CodeImage, walks: Walks, reached: ReadonlySet<number>): Finding[] {
  return [...walks.values()]
    .filter(({ start }) => reached.has(start))
    .flatMap((walk) => [
      ...walk.below.map(({ at, bytes, isWrite }) => {
        const isFar = isWrite && bytes > RED_ZONE;
        const access = `a ${isWrite ? 'write' : 'read'} ${bytes} bytes below`;
        return codeFinding(
          code,
          isFar ? 'write-below-stack' : 'red-zone',
          at,
          'at RSP or above',
          access,
        );
      }),
      ...walk.unbounded.map((at) =>
        codeFinding(code, 'stack-unbounded', at, 'a fixed frame', 'RSP moves by a computed value'),
      ),
      ...walk.returnsElsewhere.map((at) =>
        codeFinding(code, 'thunk', at, 'the return address of the call', 'another'),
      ),
      ...walk.undefined.map((at) =>
        codeFinding(code, 'instruction-undefined', at, 'an instruction', byteText(code, at)),
      ),
    ])
    .filter(isFirstAtAddress());
}

/** Two functions may share a tail: one finding a place. */
function isFirstAtAddress(): (one: Finding) => boolean {
  const seen = new Set<string>();
  return ({ rule, address }) => {
    const key = `${rule} ${address ?? ''}`;
    if (seen.has(key)) return false;
    seen.add(key);
    return true;
  };
}

function byteText({ text }: CodeImage, at: number): string {
  const bytes = text.subarray(at, at + 4);
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(' ');
}

function stackFindings(
  code: CodeImage,
  walks: Walks,
  ways: readonly Place[],
  gates: readonly Place[],
  limit: number,
): { findings: Finding[]; use: StackUse[] } {
  const depths = ways.map(({ name, at }) => ({ name, at, ...depthOf(walks, at) }));
  // A vector without an IST stack takes the stack that it interrupts.
  const isGate = (at: number): boolean => gates.some((gate) => gate.at === at);
  const event = Math.max(
    0,
    ...depths.filter(({ at }) => isGate(at)).map(({ bytes }) => bytes + EVENT_FRAME),
  );
  const own = depths.filter(({ at }) => !isGate(at));
  const use = own.map(({ name, bytes }) => ({ entry: name, bytes: bytes + event }));
  const cycles = new Map(depths.filter(({ cycle }) => cycle !== null).map((d) => [d.cycle!, d]));
  const findings = [...cycles].map(([cycle]) =>
    codeFinding(code, 'stack-unbounded', cycle, 'calls that end', 'a cycle of calls'),
  );
  for (const { name, at, bytes, path } of own) {
    const whole = bytes + event;
    if (whole <= limit - BASE_WORD) continue;
    const calls = path.map((step) => whereIs(code, step)).join(', ');
    const actual = `${whole} bytes from ${name} (${calls})`;
    findings.push(
      codeFinding(code, 'stack-limit', at, `at most ${limit - BASE_WORD} bytes`, actual),
    );
  }
  return { findings, use };
}

function endbrFindings(code: CodeImage, gates: readonly Place[]): Finding[] {
  const targets = [...code.entryPoints, ...gates, ...indirectTargets(code)];
  const missing = targets.filter(({ at }) => !isEndbr64(code.text, at));
  return [...new Set(missing.map(({ at }) => at))].map((at) =>
    codeFinding(code, 'endbr-missing', at, 'ENDBR64', byteText(code, at)),
  );
}

/** Functions whose address is taken, when there is a tracked branch that could go to them. */
function indirectTargets(code: CodeImage): Place[] {
  let isTaken = false;
  const taken = new Set(code.pointers);
  const functions = new Map(code.functions.map(({ at, name }) => [at, name]));
  for (const one of sweepText(code)) {
    const transfer = transferOf(code.text, one);
    if (transfer.kind === 'indirect' && transfer.isTracked && transfer.isCall) isTaken = true;
    const { form, at } = one;
    const isLea = form.map === 'one' && form.opcode === 0x8d && form.memory?.base === 'rip';
    if (!isLea) continue;
    const target = at + form.length + Number.parseInt(form.memory.displacement.toString(), 10);
    if (functions.has(target)) taken.add(target);
  }
  if (!isTaken) return [];
  return [...taken].map((at) => ({ at, name: functions.get(at) ?? whereIs(code, at) }));
}
