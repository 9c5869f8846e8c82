/**
 * vmcs-writes: a payload writes only the VMCS fields that CONTRACT.md lists.
 *
 * Source: CONTRACT ("Not the payload's to touch").
 * Invariant: every VMWRITE since the exit is looked at, not only what differs at the end.
 */
import { CARETAKER_CCB, CARETAKER_FEATURE } from '../../../abi/ccb.js';
import { offsetsOf } from '../../../abi/layout.js';
import { MSR } from '../../../abi/msrs.js';
import { fieldAt, VMCS_SLOT, type FieldName } from '../../../abi/vmcs-fields.js';
import { EXIT_REASON } from '../../../abi/exit-reasons.js';
import { ACTIVITY } from '../../../abi/interruption.js';
import { toIndex } from '../../../abi/uint.js';
import { PIN } from '../../../abi/vmx-controls.js';
import { REG } from '../../cpu/registers.js';
import { AT_EXIT } from '../exit-record.js';
import type { Lane } from '../lane.js';
import { rowOf, type Ledger } from '../ledger.js';
import type { Invariant } from './invariant.js';

const ROW = rowOf('vmcs-writes');
const AT = offsetsOf<'features'>(CARETAKER_CCB);
const PREEMPTION_TIMER = toIndex(CARETAKER_FEATURE.PREEMPTION_TIMER);
const HLT_ACTIVITY = toIndex(CARETAKER_FEATURE.HLT_ACTIVITY);

/** Allowed at every exit. */
const ALLOWED: readonly FieldName[] = [
  'PIN_BASED_VM_EXEC_CONTROL',
  'CPU_BASED_VM_EXEC_CONTROL',
  'VM_ENTRY_INTR_INFO_FIELD',
  'VM_ENTRY_EXCEPTION_ERROR_CODE',
  'VM_ENTRY_INSTRUCTION_LEN',
  'GUEST_RIP',
  'GUEST_INTERRUPTIBILITY_INFO',
  'GUEST_ACTIVITY_STATE',
  'GUEST_PENDING_DBG_EXCEPTIONS',
  'VMX_PREEMPTION_TIMER_VALUE',
  'GUEST_INTR_STATUS',
];
const allowed = new Uint8Array(512);
for (const name of ALLOWED) allowed[VMCS_SLOT[name]] = 1;

/** Fields that the MSR policy names, each only for a write of its own MSR. */
const BY_MSR: ReadonlyMap<number, number> = new Map([
  [MSR.IA32_SYSENTER_CS, VMCS_SLOT.GUEST_SYSENTER_CS],
  [MSR.IA32_SYSENTER_ESP, VMCS_SLOT.GUEST_SYSENTER_ESP],
  [MSR.IA32_SYSENTER_EIP, VMCS_SLOT.GUEST_SYSENTER_EIP],
]);

/** Bits a payload may change in the controls: timer in the pin-based, windows in the primary ones. */
const PIN_BITS = 1 << 6;
const PRIMARY_BITS = (1 << 2) | (1 << 22);

export const vmcsWrites: Invariant = {
  id: 'vmcs-writes',
  holdsWhen:
    'VMWRITE goes only to the fields listed for that exit, and arms only what the payload says that it uses',
  holdsForRun: true,
  atResume: (lane, ledger) => {
    check(lane, ledger);
    saysWhatItUses(lane, ledger);
  },
  atRoute: check,
};

function check(lane: Lane, ledger: Ledger): void {
  ledger.count(ROW);
  const { written, writtenCount, words } = lane.vmcs;
  for (let i = 0; i < writtenCount[0]!; i++) {
    const slot = written[i]!;
    if (allowed[slot] === 0 && slot !== slotOfWrittenMsr(lane)) {
      ledger.fail(
        'vmcs-writes',
        lane.rip,
        `${lane.describeExit()}: VMWRITE to ${fieldAt(slot).name}`,
      );
    }
  }
  const pin =
    words[2 * VMCS_SLOT.PIN_BASED_VM_EXEC_CONTROL]! ^
    lane.exit.low(AT_EXIT.PIN_BASED_VM_EXEC_CONTROL);
  const primary =
    words[2 * VMCS_SLOT.CPU_BASED_VM_EXEC_CONTROL]! ^
    lane.exit.low(AT_EXIT.CPU_BASED_VM_EXEC_CONTROL);
  if ((pin & ~PIN_BITS) !== 0 || (primary & ~PRIMARY_BITS) !== 0) {
    ledger.fail(
      'vmcs-writes',
      lane.rip,
      `${lane.describeExit()}: control bits other than the timer and the windows changed`,
    );
  }
}

/** What is armed at VM entry is in the features that the next kernel looks at. */
function saysWhatItUses(lane: Lane, ledger: Ledger): void {
  const { words } = lane.vmcs;
  const said = lane.memory.words[(lane.ccb + AT.features) >>> 2]!;
  const uses = (feature: number, what: string): void => {
    if ((said & feature) !== 0) return;
    const message = `VM entry ${what}, which the features of its CCB do not say`;
    ledger.fail('vmcs-writes', lane.rip, `${lane.describeExit()}: ${message}`);
  };
  if ((words[2 * VMCS_SLOT.PIN_BASED_VM_EXEC_CONTROL]! & PIN.PREEMPTION_TIMER) !== 0)
    uses(PREEMPTION_TIMER, 'arms the preemption timer');
  const activity = words[2 * VMCS_SLOT.GUEST_ACTIVITY_STATE];
  if (activity === ACTIVITY.HLT && lane.exit.low(AT_EXIT.GUEST_ACTIVITY_STATE) !== ACTIVITY.HLT)
    uses(HLT_ACTIVITY, 'halts the guest');
}

function slotOfWrittenMsr(lane: Lane): number | undefined {
  if (lane.exit.basic !== EXIT_REASON.EXIT_REASON_MSR_WRITE) return undefined;
  return BY_MSR.get(lane.exit.registers[2 * REG.RCX]!);
}
