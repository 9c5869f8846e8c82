/**
 * KVM's own answers to a guest's APIC and timer, for exits that no Caretaker answered: soft state is their home.
 *
 * Source: Linux arch/x86/kvm/lapic.c: kvm_x2apic_msr_write(), kvm_set_lapic_tscdeadline_msr(), kvm_apic_send_ipi();
 * SDM, "x2APIC Register Address Space".
 * Invariant: soft state is left as a payload would leave it, so that either may go on from there.
 * Not modelled: INIT and SIPI of a guest; its vCPUs run from the start.
 */
import { MSR } from '../../../abi/msrs.js';
import { CARETAKER_SOFT_STATE } from '../../../abi/soft-state.js';
import { StructView } from '../../../abi/layout.js';
import { high32, low32, u64 } from '../../../abi/uint.js';
import { decodeIcr, hasReservedBits, LVT, X2APIC } from '../../../abi/x2apic.js';
import type { PhysicalBytes } from '../../memory/physical-memory.js';
import { addressed, logicalIdOf, requestOf } from '../../vmx/root/ipi-destination.js';

/** A vCPU as another one addresses it. */
export interface ApicPeer {
  readonly apicId: number;
  readonly softState: bigint;
  /** Makes it look at what was posted. */
  kick(): void;
}

const word = (set: 'irr' | 'isr' | 'posted', vector: number): string => `${set}[${vector >> 6}]`;
const bit = (vector: number): bigint => 1n << BigInt(vector & 63);

/** Sets a vector's posted bit, as another core or a device would. */
export function postInterrupt(bytes: PhysicalBytes, softState: bigint, vector: number): void {
  const soft = new StructView(CARETAKER_SOFT_STATE, bytes, softState);
  soft.set(word('posted', vector), soft.get(word('posted', vector)) | bit(vector));
}

/**
 * A guest WRMSR; false for one that is #GP. Others than the APIC's and the timer's are ignored.
 * DEVIATION: kvm_lapic_reg_write() drops reserved bits of TPR, EOI and LVT_TIMER; here they fault as the SDM has it, and as
 * with a payload.
 */
export function writeLapicMsr(
  bytes: PhysicalBytes,
  self: ApicPeer,
  peers: readonly ApicPeer[],
  index: number,
  value: bigint,
): boolean {
  if (hasReservedBits(index, value)) return false;
  const soft = new StructView(CARETAKER_SOFT_STATE, bytes, self.softState);
  switch (index) {
    case MSR.IA32_TSC_DEADLINE:
      soft.set('tsc_deadline', value);
      break;
    case X2APIC.TPR:
      soft.set('tpr', value);
      break;
    case X2APIC.LVT_TIMER:
      setTimer(soft, low32(value));
      break;
    case X2APIC.EOI:
      endOfInterrupt(soft);
      break;
    case X2APIC.SELF_IPI:
      postInterrupt(bytes, self.softState, low32(value));
      break;
    case X2APIC.ICR:
      sendIpi(bytes, self, peers, value);
      break;
    default:
  }
  return true;
}

/** apic_update_lvtt(): a change of mode disarms the timer. */
function setTimer(soft: StructView, value: number): void {
  if (((soft.number('lvt_timer') ^ value) & LVT.TIMER_MODE_MASK) !== 0)
    soft.set('tsc_deadline', 0n);
  soft.set('lvt_timer', value);
}

/** A guest RDMSR; undefined when the MSR is not the APIC's or the timer's. */
export function readLapicMsr(
  bytes: PhysicalBytes,
  self: ApicPeer,
  index: number,
): bigint | undefined {
  const soft = new StructView(CARETAKER_SOFT_STATE, bytes, self.softState);
  switch (index) {
    case MSR.IA32_TSC_DEADLINE:
      return soft.get('tsc_deadline');
    case X2APIC.TPR:
      return soft.get('tpr');
    case X2APIC.LVT_TIMER:
      return soft.get('lvt_timer');
    case X2APIC.APICID:
      return u64(self.apicId);
    default:
      return undefined;
  }
}

/** EOI: the highest vector in service is over. */
function endOfInterrupt(soft: StructView): void {
  for (let at = 3; at >= 0; at--) {
    const isr = soft.get(`isr[${at}]`);
    if (isr === 0n) continue;
    const highest = BigInt(isr.toString(2).length - 1);
    soft.set(`isr[${at}]`, isr & ~(1n << highest));
    return;
  }
}

/** kvm_apic_send_ipi(); of lowest priority, the first that is addressed takes it. INIT and SIPI go nowhere. */
function sendIpi(
  bytes: PhysicalBytes,
  self: ApicPeer,
  peers: readonly ApicPeer[],
  icr: bigint,
): void {
  const [low, high] = [low32(icr), high32(icr)];
  const request = requestOf(low, high);
  const all = peers.map((peer) => ({ id: peer.apicId, logicalId: logicalIdOf(peer.apicId), peer }));
  const targets = addressed(all, self.apicId, decodeIcr(low, high)).map(({ peer }) => peer);
  switch (request.kind) {
    case 'fixed':
      for (const target of targets) postTo(target, request.vector);
      return;
    case 'lowest-priority':
      for (const target of targets.slice(0, 1)) postTo(target, request.vector);
      return;
    case 'nmi':
      for (const target of targets) {
        new StructView(CARETAKER_SOFT_STATE, bytes, target.softState).set('posted_nmi', 1);
        kick(target);
      }
      return;
    default:
  }

  function postTo(target: ApicPeer, vector: number): void {
    postInterrupt(bytes, target.softState, vector);
    kick(target);
  }
  function kick(target: ApicPeer): void {
    if (target.apicId !== self.apicId) target.kick();
  }
}
