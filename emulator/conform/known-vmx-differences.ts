/**
 * Where the second machine is known to differ from the SDM in a VMX instruction of root operation: not ours to match.
 *
 * Source: each row names the SDM's rule; Bochs 2.7.
 * Invariant: a row explains the answers of one case, each machine's own, and nothing else.
 */

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
