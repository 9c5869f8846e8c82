/** Steps of the host by hand: what a scenario would do, when its user wants it. */
import { didYouMean } from '../../../../abi/did-you-mean.js';
import { HAND_STEPS, type HandStep } from '../../../machine/conductor/by-hand.js';
import { bad, type ReplCommand } from '../command.js';

const MEANING: Readonly<Record<HandStep, string>> = {
  preserve: 'preserves all vCPUs: KVM_DETACHED',
  kexec: 'is replaced by the next kernel',
  retrieve: 'retrieves all vCPUs: KVM_ATTACHED with new routing pointers',
  attach: 'takes all vCPUs back: retrieved and finished, or before kexec the session closed',
};

const isHandStep = (text: string): text is HandStep =>
  (HAND_STEPS as readonly string[]).includes(text);

/** Commands about the host. */
export const HOST: readonly ReplCommand[] = [
  {
    name: 'host',
    group: 'changing',
    usage: 'preserve | kexec | retrieve | attach',
    summary: 'the host takes this step of a live update next, before those of the scenario',
    example: 'host preserve',
    complete: () => HAND_STEPS,
    run: (repl, { text }) => {
      const { session } = repl;
      if (!isHandStep(text)) {
        return bad(
          `what the host is to do: ${HAND_STEPS.join(', ')}${didYouMean(text, HAND_STEPS)}`,
        );
      }
      const rule = session.conductor.byHand.refusal(text);
      if (rule !== null) return bad(`host ${text}: ${rule}`);
      session.edit({ kind: 'host', step: text });
      repl.print(`the host ${MEANING[text]}, as soon as no vCPU is inside a handler`);
    },
  },
];
