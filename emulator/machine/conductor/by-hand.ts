/**
 * Steps of a live update that a debugger asks of the host, between the scenario's own.
 *
 * What is asked for is taken as soon as no vCPU is inside a handler, in the middle of whatever step lets the guests run.
 * Steps of the scenario whose work was done by hand are then passed over, up to the end of that update.
 * Source: the RFC, "Preservation of the vCPU"; conductor/steps.ts for what each step does.
 * Invariant: a wish that cannot be taken where the update stands is refused when it is made, not when it is taken.
 */
import type { Conductor } from '../conductor.js';
import type { Step, StepName } from '../scenario/schema.js';
import { take } from './steps.js';

/** What can be asked of the host. */
export const HAND_STEPS = ['preserve', 'kexec', 'retrieve', 'attach'] as const;
export type HandStep = (typeof HAND_STEPS)[number];

/** How far an update is: nothing, preserved, in the next kernel, attached there with the session open. */
type Stage = 0 | 1 | 2 | 3;

/** A step of a scenario, and how far an update is behind it; 4 is its end. */
const STAGE_OF: Readonly<Partial<Record<StepName, Stage | 4>>> = {
  'pause-devices': 1,
  preserve: 1,
  'vmm-exit': 2,
  kexec: 2,
  retrieve: 3,
  finish: 4,
  'close-session': 4,
};

/** What a step needs, where it leads, and the rule when it stands elsewhere. */
const RULES: Readonly<
  Record<HandStep, { readonly from: readonly Stage[]; readonly to: Stage; readonly rule: string }>
> = {
  preserve: {
    from: [0],
    to: 1,
    rule: 'the vCPUs are preserved already, or the update is not over',
  },
  kexec: {
    from: [1],
    to: 2,
    rule: 'vCPUs that are not preserved would be lost; preserve comes first',
  },
  retrieve: { from: [2], to: 3, rule: 'no session was handed over; kexec comes first' },
  attach: { from: [1, 2, 3], to: 0, rule: 'KVM has all vCPUs already' },
};

/** A gap by hand is as long as the scenario's next one, or this. */
const DEFAULT_GAP_SECONDS = 1;

export class ByHand {
  readonly #host: Conductor;
  /** How far the update was taken by hand; the scenario's own steps up to there are done. */
  #doneByHand: Stage | 4 = 0;

  constructor(host: Conductor) {
    this.#host = host;
  }

  /** Why a step cannot be asked for now, or null. */
  refusal(step: HandStep): string | null {
    let stage = this.#stage();
    for (const wish of this.#host.machine.hostWishes) stage = RULES[wish].to;
    const { from, rule } = RULES[step];
    return from.includes(stage) ? null : rule;
  }

  /** Takes what was asked for. @throws ConductorError when the host refuses. */
  takeWishes(): void {
    const { machine } = this.#host;
    for (
      let wish = machine.hostWishes.shift();
      wish !== undefined;
      wish = machine.hostWishes.shift()
    ) {
      machine.structureChanged();
      this.#take(wish);
    }
  }

  /** Whether a step of the scenario was done by hand. */
  isDone(step: Step): boolean {
    const stage = STAGE_OF[Object.keys(step)[0] as StepName];
    if (stage === undefined || this.#doneByHand < stage) return false;
    if (stage === 4) this.#doneByHand = 0;
    return true;
  }

  #stage(): Stage {
    const { outgoing, incoming, gap, machine } = this.#host;
    if (incoming.length > 0) return 3;
    if (outgoing.length > 0) return 1;
    return gap !== null && machine.lanes.some(({ vcpu }) => vcpu.state === 'detached') ? 2 : 0;
  }

  #take(wish: HandStep): void {
    // First: a gap takes the wishes that come in it.
    this.#doneByHand = wish === 'attach' ? 4 : RULES[wish].to;
    switch (wish) {
      case 'preserve':
        this.#steps({ 'pause-devices': true }, { preserve: {} });
        break;
      case 'kexec':
        if (this.#host.vmms.some(({ process }) => !process.exited))
          this.#steps({ 'vmm-exit': true });
        this.#steps({ kexec: { seconds: this.#gapSeconds(), script: [] } });
        break;
      case 'retrieve':
        this.#steps({ retrieve: true });
        break;
      case 'attach':
        if (this.#stage() === 1) this.#steps({ 'close-session': true });
        else {
          if (this.#stage() === 2) this.#steps({ retrieve: true });
          this.#steps({ finish: true });
        }
    }
  }

  #steps(...steps: readonly Step[]): void {
    for (const step of steps) take(this.#host, step);
  }

  #gapSeconds(): number {
    for (const step of this.#host.scenario.steps) if ('kexec' in step) return step.kexec.seconds;
    return DEFAULT_GAP_SECONDS;
  }
}
