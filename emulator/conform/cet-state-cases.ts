/**
 * Guests whose CET state VM entry loads or not, and VM exit loads or not.
 *
 * Source: SDM, "Loading Guest Control Registers, Debug Registers, and MSRs", "Saving Control Registers, Debug Registers,
 * and MSRs", "Loading Host Control Registers, Debug Registers, MSRs": the load-CET-state controls.
 * Invariant: that of exit-case.ts; CR4.CET is 0, so that what is loaded has no effect.
 */
import { MSR } from '../../abi/msrs.js';
import { ENTRY_CONTROL, EXIT_CONTROL } from '../../abi/vmx-controls.js';
import * as exits from '../guest/exits.js';
import type { VmcsDescription } from '../vmx/description.js';
import type { ExitCase } from './exit-case.js';

/** Writes to shadow stacks are allowed; a bit that means nothing on its own. */
const FIELDS: VmcsDescription = { HOST_S_CET: 2n, GUEST_S_CET: 2n };
const { LOAD_CET_STATE: LOADED_BY_ENTRY } = ENTRY_CONTROL;
const { LOAD_CET_STATE: LOADED_BY_EXIT } = EXIT_CONTROL;
/** What is there when nothing is loaded. */
const BEFORE = 0n;

/** Every case. */
export const CET_STATE_CASES: readonly ExitCase[] = [
  {
    title: 'CET state that entry and exit load',
    code: 'f4',
    exit: exits.hlt(),
    fields: FIELDS,
  },
  {
    title:
      'CET state that entry does not load and exit does: the guest has the host’s, and it is saved',
    code: 'f4',
    exit: exits.hlt(),
    fields: FIELDS,
    msrs: [[MSR.IA32_S_CET, BEFORE]],
    without: { VM_ENTRY_CONTROLS: LOADED_BY_ENTRY },
    after: { GUEST_S_CET: BEFORE },
  },
  {
    title: 'CET state that entry loads and exit does not: the host keeps the guest’s',
    code: 'f4',
    exit: exits.hlt(),
    fields: { ...FIELDS, HOST_S_CET: 1n },
    msrs: [[MSR.IA32_S_CET, BEFORE]],
    without: { VM_EXIT_CONTROLS: LOADED_BY_EXIT },
  },
  {
    title: 'CET state that neither entry nor exit loads: all have the host’s',
    code: 'f4',
    exit: exits.hlt(),
    fields: FIELDS,
    msrs: [[MSR.IA32_S_CET, BEFORE]],
    without: { VM_ENTRY_CONTROLS: LOADED_BY_ENTRY, VM_EXIT_CONTROLS: LOADED_BY_EXIT },
    after: { GUEST_S_CET: BEFORE },
  },
];
