/**
 * What may happen to a vCPU at any instruction of its payload, and what of the payload's doings can tell when it did.
 *
 * Source: CONTRACT ("Who flips, and when", "Stop and serialize", "CR3 policies"); SDM, "VMX Operation" (INIT is blocked in
 * VMX root operation), "Interrupt Enable and Disable".
 * Invariant: an instruction outside an event's footprint commutes with it: before or after, the same follows. So between two
 * instructions of the footprint all boundaries are one case.
 */
import { HarnessBug } from '../../abi/errors.js';
import { CARETAKER_ATTACH_STATE } from '../../abi/ccb.js';
import { MCG_STATUS, MSR } from '../../abi/msrs.js';
import type { Stage } from '../stage/stage.js';
import type { HostAct, StrayEvent } from '../machine/stray-events.js';

/** What an instruction can depend on. */
export const FOOTPRINT = {
  /** Loads and stores in KVM's page of the CCB: flag, request, routing pointers. */
  KVM_PAGE: 1,
  /** Where an interrupt can be taken or seen: the local APIC, RFLAGS.IF, VM entry. */
  INTERRUPTS: 2,
  /** Where VMX operation is left. */
  VMX: 4,
  /** Every instruction: what is not masked is taken at once. */
  ANY: 8,
} as const;

/** One event. */
export interface ExploreEvent {
  readonly name: string;
  readonly describe: string;
  /** Attachment states in which the contract, or the mode, has it. */
  readonly whenAttached: boolean;
  readonly whenDetached: boolean;
  /** Nothing that the contract allows: explored when it is asked for by name, and reported apart. */
  readonly isOutsideContract: boolean;
  /** FOOTPRINT bits. */
  readonly footprint: number;
  readonly of: (stage: Stage) => StrayEvent | HostAct;
}

const { KVM_PAGE, INTERRUPTS, VMX, ANY } = FOOTPRINT;

const attach = (stage: Stage): HostAct => ({
  kind: 'host-act',
  name: 'KVM_ATTACHED',
  act: () => {
    stage.attach();
  },
});
const stop = (stage: Stage): HostAct => ({
  kind: 'host-act',
  name: 'stop requested',
  act: () => {
    stage.requestStop();
  },
});
const detach = (stage: Stage): HostAct => ({
  kind: 'host-act',
  name: 'KVM_DETACHED, written while the vCPU runs',
  act: () => {
    stage.lane.vcpu.ccbView.set('attach_state', CARETAKER_ATTACH_STATE.KVM_DETACHED);
  },
});
/** One that comes while another is in progress shuts the core down, whatever its software does (SDM, IA32_MCG_STATUS). */
const machineCheck =
  (restartable: boolean) =>
  (stage: Stage): HostAct => ({
    kind: 'host-act',
    name: restartable ? 'machine check' : 'machine check that loses its context',
    act: () => {
      const { pcpu } = stage.lane;
      if (((pcpu.msrs.file.read(MSR.IA32_MCG_STATUS) ?? 0n) & MCG_STATUS.MCIP) !== 0n) return;
      pcpu.pendingMachineCheck = true;
      pcpu.isMachineCheckRestartable = restartable;
    },
  });
/** The device that the VM has. */
const device = ({ machine }: Stage): StrayEvent => {
  const [route] = machine.irqRoutes;
  if (route === undefined) throw new HarnessBug('the VM has no device');
  return { kind: 'interrupt', vector: route.hostVector };
};

type Row = Omit<ExploreEvent, 'isOutsideContract'>;
const BOTH = { whenAttached: true, whenDetached: true } as const;

// prettier-ignore
const WITHIN: readonly Row[] = [
  { name: 'flip', describe: 'KVM comes back: new routing pointers, then KVM_ATTACHED, then a kick', whenAttached: false, whenDetached: true, footprint: KVM_PAGE | INTERRUPTS, of: attach },
  { name: 'nmi', describe: 'an NMI', ...BOTH, footprint: ANY, of: () => ({ kind: 'nmi' }) },
  { name: 'mce', describe: 'a machine check after which the interrupted code can go on', ...BOTH, footprint: ANY, of: machineCheck(true) },
  { name: 'mce-lost', describe: 'a machine check that loses its context', ...BOTH, footprint: ANY, of: machineCheck(false) },
  { name: 'intr', describe: "the guest's device interrupts", ...BOTH, footprint: INTERRUPTS, of: device },
  { name: 'init', describe: 'INIT, which VMX root operation blocks', ...BOTH, footprint: INTERRUPTS | VMX, of: () => ({ kind: 'init' }) },
  { name: 'stop', describe: 'KVM asks for stop and serialize', ...BOTH, footprint: KVM_PAGE | INTERRUPTS, of: stop },
];

// prettier-ignore
const OUTSIDE: readonly Row[] = [
  { name: 'detach', describe: 'KVM_DETACHED while the vCPU runs, which the contract forbids', whenAttached: true, whenDetached: false, footprint: KVM_PAGE, of: detach },
];

/** Every event, those within the contract first. */
export const EVENTS: readonly ExploreEvent[] = [
  ...WITHIN.map((row) => ({ ...row, isOutsideContract: false })),
  ...OUTSIDE.map((row) => ({ ...row, isOutsideContract: true })),
];

/** An event by name. */
export const eventNamed = (name: string): ExploreEvent | undefined =>
  EVENTS.find((event) => event.name === name);
