/**
 * The order in which the steps of a live update can be taken at all: each needs what an earlier one left behind.
 *
 * Source: Linux kernel/liveupdate/luo_session.c: a session is created, preserved into, handed over by kexec, retrieved once,
 * finished; virt/kvm/kvm_main.c: kvm_put_kvm() destroys a VM whose last file is closed.
 * Invariant: looks at the steps alone, before anything runs; what the host refuses at run time is no matter of order.
 */
import type { Step, StepName } from './schema.js';

/** Where an update is: no session, one that was refused its files, one that holds them, and what follows in the next kernel. */
type Update = 'none' | 'refused' | 'preserved' | 'handed-over' | 'retrieved';

interface Rule {
  readonly needs: readonly Update[];
  readonly leaves?: Update;
  readonly why: string;
}

// prettier-ignore
const RULES: Readonly<Partial<Record<StepName, Rule>>> = {
  run:             { needs: ['none', 'refused', 'retrieved'], why: 'the vCPUs run alone; gap lets time pass' },
  gap:             { needs: ['preserved', 'handed-over'], why: 'no vCPU runs alone; preserve comes first' },
  'vmm-exit':      { needs: ['preserved'], why: 'nothing but the VMM holds the VM, which would be destroyed; preserve comes first' },
  'close-session': { needs: ['refused', 'preserved'], leaves: 'none', why: 'there is no session to close; preserve comes first' },
  kexec:           { needs: ['preserved'], leaves: 'handed-over', why: 'vCPUs that are not preserved would be lost; preserve comes first' },
  retrieve:        { needs: ['handed-over'], leaves: 'retrieved', why: 'no session was handed over; kexec comes first' },
  finish:          { needs: ['retrieved'], leaves: 'none', why: 'there is no session to finish; retrieve comes first' },
};

/** Steps that a VMM takes with its files. */
const OF_VMM: ReadonlySet<StepName> = new Set([
  'pause-devices',
  'prefault',
  'madvise',
  'dirty-log',
  'preserve',
  'vmm-exit',
  'get-set-state',
  'update',
]);

/** The first step that cannot be taken where it stands, or null. */
export function outOfOrder(
  steps: readonly Step[],
): { readonly index: number; readonly step: string; readonly rule: string } | null {
  let update: Update = 'none';
  let hasVmm = true;
  for (const [index, step] of steps.entries()) {
    const name = Object.keys(step)[0] as StepName;
    const rule = RULES[name];
    if (rule?.needs.includes(update) === false) return { index, step: name, rule: rule.why };
    if (OF_VMM.has(name) && !hasVmm) {
      const why = 'no VMM has the files; close-session or retrieve gives them to one';
      return { index, step: name, rule: why };
    }
    // A kexec that the scenario expects to be refused hands nothing over.
    const isRefused = 'kexec' in step && step.kexec.expect !== undefined;
    if ('preserve' in step) update = step.preserve.expect === undefined ? 'preserved' : 'refused';
    else if (!isRefused) update = rule?.leaves ?? update;
    if (name === 'vmm-exit' || update === 'handed-over') hasVmm = false;
    if (name === 'close-session' || name === 'retrieve') hasVmm = true;
  }
  return null;
}
