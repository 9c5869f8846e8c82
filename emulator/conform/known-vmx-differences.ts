/**
 * Where the second machine is known to differ from the SDM in a VMX instruction of root operation and in a VMX abort: not
 * ours to match.
 *
 * Source: each row names the SDM's rule; Bochs 2.7.
 * Invariant: a row explains the answers of one case, or one kind of answer, each machine's own, and nothing else.
 */
import { VMX_ABORT } from '../../abi/vm-errors.js';

/** One known difference. */
export interface KnownVmxDifference {
  readonly id: string;
  readonly sdm: string;
  readonly bochs: string;
  /** The case, and what each machine answers in it. */
  readonly title: string;
  readonly answers: { readonly model: string; readonly second: string };
}

export const KNOWN_VMX_DIFFERENCES: readonly KnownVmxDifference[] = [
  {
    id: 'entry-of-a-shadow-vmcs',
    sdm: 'VMLAUNCH and VMRESUME of a shadow VMCS are VMfailInvalid',
    bochs: 'enters with it like with any other, here to the checks of a VMCS of zeroes',
    title: 'VMLAUNCH and VMRESUME of a shadow VMCS',
    answers: {
      model: 'VMsucceed; VMfailInvalid; VMfailInvalid',
      second: 'VMsucceed; VMfail 7; VMfail 5',
    },
  },
];

/** One of VMX aborts: the number that the model leaves, and the one that the second machine does. */
export interface KnownAbortDifference extends Pick<KnownVmxDifference, 'id' | 'sdm' | 'bochs'> {
  readonly indicators: readonly (readonly [model: number, second: number])[];
}

export const KNOWN_ABORT_DIFFERENCES: readonly KnownAbortDifference[] = [
  {
    id: 'abort-indicators-from-0',
    sdm: 'the VMX-abort indicator is 1 for saving guest MSRs and 4 for loading host MSRs',
    bochs: 'counts the reasons from 0',
    indicators: [
      [VMX_ABORT.SAVING_GUEST_MSRS, VMX_ABORT.SAVING_GUEST_MSRS - 1],
      [VMX_ABORT.LOADING_HOST_MSRS, VMX_ABORT.LOADING_HOST_MSRS - 1],
    ],
  },
];

/** How an abort is told. */
export const abortText = (indicator: number): string => `VMX abort ${indicator}`;

/** The known difference that covers two aborts, or null. */
export function knownAbortDifference(model: string, second: string): KnownAbortDifference | null {
  const isIt = ([here, there]: readonly [number, number]): boolean =>
    abortText(here) === model && abortText(there) === second;
  return KNOWN_ABORT_DIFFERENCES.find(({ indicators }) => indicators.some(isIt)) ?? null;
}

/** The known difference that covers the answers of a case, or null. */
export function knownVmxDifference(
  title: string,
  model: string,
  second: string,
): KnownVmxDifference | null {
  const isIt = ({ title: of, answers }: KnownVmxDifference): boolean =>
    of === title && answers.model === model && answers.second === second;
  return KNOWN_VMX_DIFFERENCES.find(isIt) ?? null;
}
