/**
 * The order in which the steps of a live update can be taken at all: each needs what an earlier one left behind.
 *
 * Source: Linux kernel/liveupdate/luo_session.c: a session is created, preserved into, handed over by kexec, retrieved once,
 * finished.
 * Invariant: looks at the steps alone, before anything runs; what the host refuses at run time is no matter of order.
 */
import type { Step } from './schema.js';

/** Where the session of a scenario is. */
type Session = 'none' | 'outgoing' | 'handed-over' | 'retrieved';

interface Rule {
  readonly needs: Session;
  readonly leaves: Session;
  readonly why: string;
}

// prettier-ignore
const RULES: Readonly<Record<string, Rule>> = {
  'close-session': { needs: 'outgoing', leaves: 'none', why: 'there is no session to close; preserve comes first' },
  kexec: { needs: 'outgoing', leaves: 'handed-over', why: 'vCPUs that are not preserved would be lost; preserve comes first' },
  retrieve: { needs: 'handed-over', leaves: 'retrieved', why: 'no session was handed over; kexec comes first' },
  finish: { needs: 'retrieved', leaves: 'none', why: 'there is no session to finish; retrieve comes first' },
};

/** The first step that cannot be taken where it stands, or null. */
export function outOfOrder(
  steps: readonly Step[],
): { readonly index: number; readonly step: string; readonly rule: string } | null {
  let session: Session = 'none';
  for (const [index, step] of steps.entries()) {
    const name = Object.keys(step)[0] ?? '';
    if (name === 'preserve') session = 'outgoing';
    const rule = RULES[name];
    if (rule === undefined) continue;
    if (session !== rule.needs) return { index, step: name, rule: rule.why };
    // A kexec that the scenario expects to be refused hands nothing over.
    if (!('kexec' in step && step.kexec.expect !== undefined)) session = rule.leaves;
  }
  return null;
}
