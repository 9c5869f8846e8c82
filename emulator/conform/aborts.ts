/**
 * VM exits whose lists of MSRs have an entry that must be refused, and the VMX aborts in which they end.
 *
 * Source: SDM, "VMX Aborts", "Saving MSRs", "Loading MSRs" (VM exits); emulator/vmx/msr-area.ts, whose rows name an example
 * each.
 * Invariant: the processor is gone behind an abort, so each case is a boot, and a second processor says what the region of
 * the VMCS has at the indicator's place.
 */
import { HarnessBug } from '../../abi/errors.js';
import { MSR } from '../../abi/msrs.js';
import * as exits from '../guest/exits.js';
import type { VmxCapabilities } from '../vmx/capabilities.js';
import { VALID_VMCS_PAGES, type VmcsDescription } from '../vmx/description.js';
import { MSR_LOAD_RULES, MSR_STORE_RULES } from '../vmx/msr-area.js';
import { vmEntry } from '../vmx/vm-entry.js';
import { deliverExit } from '../vmx/vm-exit.js';
import { ABORT_INDICATOR_OFFSET } from '../vmx/vmcs-store.js';
import type { CaseResult } from './case-result.js';
import { abortText, knownAbortDifference } from './known-vmx-differences.js';
import { GUEST, guestVmcs, layOutGuest } from './guest-area.js';
import { LAYOUT } from './layout.js';
import { modelPcpu, withVmcs } from './model.js';
import { REFUSED_BY_WRMSR, listAt, type Loaded } from './msr-list-attempts.js';
import { MonitorProgram } from './program.js';
import type { CaseAnswers, SecondMachine } from './second-machine.js';

const LIST = VALID_VMCS_PAGES.spare;
const HARMLESS: Loaded = { index: MSR.IA32_KERNEL_GS_BASE, reserved: 0, value: 0x77n };
const NO_SUCH_MSR: Loaded = { index: 0x2d, reserved: 0, value: 0n };
/** How long the second processor waits until the first one has surely exited. */
const EXITED_PAUSES = 4000;
const INDICATOR_BYTES = 8;
/** What stands at the indicator's place until there is an abort. */
const UNWRITTEN = 0x5a;
const INDICATOR = LAYOUT.VMCS_REGION + BigInt(ABORT_INDICATOR_OFFSET);
const HLT = 0xf4;

/** A list that VM exit stores or loads. */
export interface AbortCase {
  readonly title: string;
  readonly which: 'STORE' | 'LOAD';
  readonly list: readonly Loaded[];
}

const withValue = (example: Omit<Loaded, 'value'>): Loaded => ({ ...example, value: 0n });

/** Lists with one entry that must be refused behind one that is done, and lists that are done whole. */
export const ABORT_CASES: readonly AbortCase[] = [
  { title: 'a list that VM exit stores whole', which: 'STORE', list: [HARMLESS, HARMLESS] },
  { title: 'a list that VM exit loads whole', which: 'LOAD', list: [HARMLESS, HARMLESS] },
  ...MSR_STORE_RULES.map(({ rule, example }): AbortCase => ({
    title: `VM-exit MSR-store list, entry 2: ${rule}`,
    which: 'STORE',
    list: [HARMLESS, withValue(example)],
  })),
  {
    title:
      'VM-exit MSR-store list, entry 2: an entry whose RDMSR would raise #GP must not be stored',
    which: 'STORE',
    list: [HARMLESS, NO_SUCH_MSR],
  },
  ...MSR_LOAD_RULES.map(({ rule, example }): AbortCase => ({
    title: `VM-exit MSR-load list, entry 2: ${rule}`,
    which: 'LOAD',
    list: [HARMLESS, withValue(example)],
  })),
  // Which values WRMSR refuses is held by the lists of VM entry.
  ...REFUSED_BY_WRMSR.slice(0, 2).map(([what, index, value]): AbortCase => ({
    title: `VM-exit MSR-load list, entry 2: an entry whose WRMSR would raise #GP must not be loaded: ${what}`,
    which: 'LOAD',
    list: [HARMLESS, { index, reserved: 0, value }],
  })),
];

/** Lets every list be processed on both machines. */
export function compareAborts(
  machine: SecondMachine,
  cases: readonly AbortCase[] = ABORT_CASES,
): CaseResult[] {
  const { capabilities } = machine;
  return cases.map((one) => {
    const [answers] = machine.runCases(
      1,
      [],
      (program) => {
        for (const [address, value] of listAt(LIST, one.list)) program.values(address, value);
        program
          .startOther(witness(), 'ends the run')
          .memory(GUEST.CODE, Uint8Array.of(HLT))
          .region()
          .vmwrite(descriptionOf(capabilities, one))
          .memory(INDICATOR, Uint8Array.of(UNWRITTEN, 0, 0, 0))
          .enter('launch')
          .dump(LIST, one.list.length * 16);
      },
      layOutGuest,
      2,
    );
    const [model, second] = [inModel(capabilities, one), onSecond(answers!)];
    const differs = { what: 'outcome', model, second, known: knownAbortDifference(model, second) };
    return { title: one.title, differences: model === second ? [] : [differs] };
  });
}

/** What the second processor executes. */
function witness(): MonitorProgram {
  return new MonitorProgram().delay(EXITED_PAUSES).dump(LAYOUT.VMCS_REGION, INDICATOR_BYTES);
}

function descriptionOf(capabilities: VmxCapabilities, { which, list }: AbortCase): VmcsDescription {
  return {
    ...guestVmcs(capabilities),
    [`VM_EXIT_MSR_${which}_ADDR`]: LIST,
    [`VM_EXIT_MSR_${which}_COUNT`]: BigInt(list.length),
  };
}

/** An exit, and the list behind it. */
const exitText = (list: Uint8Array): string => `exit, list ${Buffer.from(list).toString('hex')}`;

function onSecond({ answers, stopped }: CaseAnswers): string {
  const dump = answers.find((one) => one.kind === 'memory');
  if (stopped !== null || dump === undefined) return stopped ?? 'no answer';
  if (answers.some((one) => one.kind === 'entry')) return exitText(dump.bytes);
  const view = new DataView(dump.bytes.buffer, dump.bytes.byteOffset);
  return abortText(view.getUint32(ABORT_INDICATOR_OFFSET, true));
}

function inModel(capabilities: VmxCapabilities, one: AbortCase): string {
  const pcpu = modelPcpu(capabilities);
  const vmcs = withVmcs(pcpu, descriptionOf(capabilities, one));
  for (const [address, value] of listAt(LIST, one.list)) pcpu.memory.writeU64(address, value);
  const entry = vmEntry(pcpu, vmcs, 'launch');
  if (entry.kind !== 'entered') throw new HarnessBug(`${one.title}: ${entry.kind}`);
  const delivery = deliverExit(pcpu, vmcs, exits.hlt());
  if (delivery.kind === 'delivered')
    return exitText(pcpu.memory.read(LIST, one.list.length * 16).slice());
  const indicator = pcpu.memory.readU32(INDICATOR);
  return indicator === delivery.code ? abortText(indicator) : `indicator ${indicator}`;
}
