/**
 * What the host's other CPUs do beside a payload: KVM that comes back, asks for a stop, posts an interrupt or reads the
 * telemetry; a device that interrupts.
 *
 * Source: CONTRACT ("Who flips, and when", "Stop and serialize", "Soft state"); the RFC, "Gap Observability and Telemetry".
 * Invariant: a host does no more than the contract makes it do. KVM's own stores are visible in their order at once: it is
 * not the one under test. After the flag and a fence it looks at the payload's state, and kicks who says HALTED: nobody else
 * needs a kick to see the flag.
 */
import { CARETAKER_CCB, CARETAKER_REQUEST, CARETAKER_RUN_STATE } from '../../../abi/ccb.js';
import { HarnessBug } from '../../../abi/errors.js';
import { elementBytes, offsetsOf } from '../../../abi/layout.js';
import { CARETAKER_SOFT_STATE } from '../../../abi/soft-state.js';
import { toIndex } from '../../../abi/uint.js';
import {
  CARETAKER_STALL,
  CARETAKER_STALL_RING,
  CARETAKER_TELEMETRY,
} from '../../../abi/telemetry.js';
import { postInterrupt } from '../../host/kvm/lapic.js';
import type { Lane } from '../../machine/lane.js';
import { raise } from '../../machine/stray-events.js';
import { apic, bytes, currentVmcs, type Footprint } from './footprint.js';
import type { Scene } from './scene.js';

/** One thing that others can see, done `when` it holds; the last of a script may find nothing to do. */
export interface Act {
  readonly when?: () => boolean;
  readonly act: () => Footprint;
}

/** What a host does to one vCPU, in order; made anew for each execution. */
export interface HostScript {
  readonly name: string;
  readonly describe: string;
  /** The event that it is at one vCPU alone. */
  readonly event: string;
  /** It ends with KVM_ATTACHED. */
  readonly attaches?: true;
  readonly acts: (scene: Scene, lane: Lane) => readonly Act[];
}

const TELEMETRY = offsetsOf<'stall_head' | 'stall_tail' | 'stall'>(CARETAKER_TELEMETRY);
const POSTED = offsetsOf<'posted'>(CARETAKER_SOFT_STATE).posted;
/** A guest's vector that nothing else uses. */
const POSTED_VECTOR = 0x62;

function ccbField({ ccb }: Lane, name: string, isWrite: boolean): Footprint {
  const field = CARETAKER_CCB.fields.find((one) => one.name === name);
  if (field === undefined) throw new HarnessBug(`a CCB has no ${name}`);
  return [bytes(ccb + field.offset, elementBytes(field), isWrite)];
}

function flip(scene: Scene, lane: Lane): readonly Act[] {
  const { vcpu } = lane;
  const stores = vcpu.storesToAttach(scene.routingOf(lane));
  let isHalted = false;
  return [
    ...stores.map(([field, value]) => ({
      act: () => {
        if (field === 'request') lane.noteRequestEnds();
        vcpu.ccbView.set(field, value);
        if (field === 'attach_state') vcpu.state = 'running';
        return ccbField(lane, field, true);
      },
    })),
    {
      act: () => {
        isHalted = vcpu.ccbView.number('state') === CARETAKER_RUN_STATE.HALTED;
        scene.kvmLooks(lane);
        return ccbField(lane, 'state', false);
      },
    },
    { act: () => (isHalted ? kick(scene, lane) : []) },
  ];
}

function kick({ machine }: Scene, lane: Lane): Footprint {
  machine.kvmHost.kick(lane.id);
  return [apic(lane.pcpu.id)];
}

const stop = (scene: Scene, lane: Lane): readonly Act[] => [
  {
    act: () => {
      lane.vcpu.ccbView.set('request', CARETAKER_REQUEST.STOP);
      return ccbField(lane, 'request', true);
    },
  },
  { act: () => kick(scene, lane) },
];

const stopAndFlip = (scene: Scene, lane: Lane): readonly Act[] => [
  ...stop(scene, lane),
  {
    when: () => lane.vcpu.payloadState === 'SERIALIZED',
    act: () => {
      scene.kvmTakesOver(lane);
      return [...ccbField(lane, 'state', false), currentVmcs(lane.pcpu.id)];
    },
  },
  ...flip(scene, lane),
];

const post = (scene: Scene, lane: Lane): readonly Act[] => [
  {
    act: () => {
      lane.interrupts.assert(POSTED_VECTOR, lane.pcpu.now());
      postInterrupt(scene.machine.memory, lane.vcpu.memory.at('softState'), POSTED_VECTOR);
      return [bytes(lane.softState + POSTED + 8 * (POSTED_VECTOR >> 6), 8, true)];
    },
  },
  { act: () => kick(scene, lane) },
];

/** Reads the newest record that it has not read, then says so of all. */
function drain(scene: Scene, lane: Lane): readonly Act[] {
  const { telemetry } = lane.vcpu;
  let head = 0n;
  return [
    {
      act: () => {
        head = telemetry.get('stall_head');
        return [bytes(lane.telemetry + TELEMETRY.stall_head, 8, false)];
      },
    },
    {
      act: () => {
        if (head === telemetry.get('stall_tail')) return [];
        const newest = toIndex((head - 1n) % BigInt(CARETAKER_STALL_RING));
        const at = lane.telemetry + TELEMETRY.stall + newest * CARETAKER_STALL.sizeBytes;
        scene.readRecord(lane, at);
        return [bytes(at, CARETAKER_STALL.sizeBytes, false)];
      },
    },
    {
      act: () => {
        telemetry.set('stall_tail', head);
        return [bytes(lane.telemetry + TELEMETRY.stall_tail, 8, true)];
      },
    },
  ];
}

const device = ({ machine }: Scene, lane: Lane): readonly Act[] => [
  {
    act: () => {
      const [route] = machine.irqRoutes;
      if (route === undefined) throw new HarnessBug('the VM has no device');
      raise(machine, lane, { kind: 'interrupt', vector: route.hostVector });
      return [apic(lane.pcpu.id)];
    },
  },
];

// prettier-ignore
export const HOST_SCRIPTS: readonly HostScript[] = [
  { name: 'flip', event: 'flip', describe: 'KVM comes back: routing pointers, epoch, KVM_ATTACHED; it looks, and kicks who is HALTED', attaches: true, acts: flip },
  { name: 'stop', event: 'stop', describe: 'KVM asks for stop and serialize, and kicks', acts: stop },
  { name: 'stop-flip', event: 'stop', describe: 'KVM asks for stop and serialize, waits for SERIALIZED, and comes back', attaches: true, acts: stopAndFlip },
  { name: 'post', event: 'intr', describe: 'KVM posts an interrupt, and kicks', acts: post },
  { name: 'drain', event: 'telemetry', describe: 'KVM reads the ring of stalls', acts: drain },
  { name: 'device', event: 'intr', describe: "the VM's device interrupts at the core", acts: device },
];
