/**
 * What KVM does before it lets a case's guest go, said once for both machines.
 *
 * Source: CONTRACT ("Soft state": owned by whoever runs the vCPU; "Entry points": run).
 * Invariant: both machines get the same writes in the same order.
 */
import {
  CARETAKER_ATTACH_STATE,
  CARETAKER_CCB,
  CARETAKER_REGISTER_ORDER,
  CARETAKER_REQUEST,
  CARETAKER_RUN_STATE,
} from '../../../abi/ccb.js';
import { offsetsOf } from '../../../abi/layout.js';
import { CARETAKER_SOFT_STATE } from '../../../abi/soft-state.js';
import { u64 } from '../../../abi/uint.js';
import { VMCS_FIELDS, type FieldName } from '../../../abi/vmcs-fields.js';
import { EXIT_CONTROL, PIN } from '../../../abi/vmx-controls.js';
import type { VmxCapabilities } from '../../vmx/capabilities.js';
import type { VmcsDescription } from '../../vmx/description.js';
import { descriptionOf } from '../exit-case.js';
import { bytesOf } from '../exits.js';
import { GUEST } from '../guest-area.js';
import type { GeneralRegisters } from '../program.js';
import type { Routing } from '../../host/kvm/vcpu.js';
import type { VmcsLayout } from '../vmcs-layout.js';
import { HANDLER_OFFSET, ended, entryRegisters, type EntryWay, type PayloadCase } from './cases.js';
import type { Stage } from './stage.js';

const CCB = offsetsOf<
  'registers' | 'request' | 'attach_state' | 'routing_handler' | 'epoch' | 'state'
>(CARETAKER_CCB);
const SOFT = offsetsOf<'posted'>(CARETAKER_SOFT_STATE);
const { KVM_ATTACHED, KVM_DETACHED } = CARETAKER_ATTACH_STATE;
/** Soft state up to the MSR values; the rest is never used. */
const SOFT_STATE_BYTES = 768;
const CODE_BYTES = 0x1000;
const NOP = 0x90;

/** Bytes that KVM, or the guest's own loader, puts somewhere. */
export interface MemoryWrite {
  readonly address: bigint;
  readonly bytes: Uint8Array;
}

export class KernelScript {
  readonly #stage: Stage;
  readonly #layout: VmcsLayout;
  readonly #capabilities: VmxCapabilities;
  readonly #softState: Uint8Array;

  constructor(stage: Stage, capabilities: VmxCapabilities, layout: VmcsLayout) {
    this.#layout = layout;
    this.#stage = stage;
    this.#capabilities = capabilities;
    const { lane } = stage;
    this.#softState = lane.pcpu.memory.read(lane.vcpu.memory.at('softState'), SOFT_STATE_BYTES);
  }

  /** Both ways in turn; the first one also finds a VMCS that was never launched. */
  way(one: PayloadCase, index: number): EntryWay {
    return one.way ?? (index % 2 === 0 ? 'run' : 'resume');
  }

  /** Memory before an entry: soft state as it was at first, and the save area when the payload restores it. */
  writes(one: PayloadCase, way: EntryWay): readonly MemoryWrite[] {
    const { vcpu } = this.#stage.lane;
    const registers = entryRegisters(one);
    const values = CARETAKER_REGISTER_ORDER.map((name) => registers[name] ?? 0n);
    const word = (field: 'request' | 'attach_state', value: number): MemoryWrite => ({
      address: vcpu.ccb + u64(CCB[field]),
      bytes: new Uint8Array(Uint32Array.of(value).buffer),
    });
    const save = {
      address: vcpu.ccb + u64(CCB.registers),
      bytes: new Uint8Array(BigUint64Array.from(values).buffer),
    };
    const state = this.#softState.slice();
    if (one.posted !== undefined) state[SOFT.posted + (one.posted >> 3)] = 1 << (one.posted & 7);
    const kernel = [
      ...this.#routing(this.#stage.routing),
      { address: vcpu.memory.at('softState'), bytes: state },
      word('request', one.request ?? CARETAKER_REQUEST.NONE),
      word('attach_state', one.isAttached === false ? KVM_DETACHED : KVM_ATTACHED),
    ];
    return way === 'run' ? [...kernel, save] : kernel;
  }

  /** What the next kernel writes, on another processor, when the payload waits: the flag last. */
  attaching(): readonly MemoryWrite[] {
    const { ccb } = this.#stage.lane.vcpu;
    const flag = {
      address: ccb + u64(CCB.attach_state),
      bytes: new Uint8Array(Uint32Array.of(KVM_ATTACHED).buffer),
    };
    return [...this.#routing(this.#stage.nextRouting), flag];
  }

  /** Where the payload's state word lies, and the value that it has while it waits. */
  waiting(one: PayloadCase): { readonly address: bigint; readonly value: number } {
    const { ccb } = this.#stage.lane.vcpu;
    return {
      address: ccb + u64(CCB.state),
      value: one.waitsAs ?? CARETAKER_RUN_STATE.SPINNING,
    };
  }

  #routing({ handler, stack, cr3, gsBase, argument }: Routing): readonly MemoryWrite[] {
    const { ccb } = this.#stage.lane.vcpu;
    const values = BigUint64Array.of(handler, stack, cr3, gsBase, argument);
    return [
      { address: ccb + u64(CCB.routing_handler), bytes: new Uint8Array(values.buffer) },
      {
        address: ccb + u64(CCB.epoch),
        bytes: new Uint8Array(BigUint64Array.of(argument).buffer),
      },
    ];
  }

  /** The general registers that the guest begins with. */
  registers(one: PayloadCase): GeneralRegisters {
    return entryRegisters(one);
  }

  /** The guest's code and what its IDT leads to; only the second machine executes it. */
  guestCode(one: PayloadCase): MemoryWrite {
    const bytes = new Uint8Array(CODE_BYTES).fill(NOP);
    bytes.set(ended(one.code), 0);
    bytes.set(ended(one.handler ?? ''), HANDLER_OFFSET);
    const end = HANDLER_OFFSET + bytesOf(one.handler ?? '').length + 3;
    return { address: GUEST.CODE, bytes: bytes.subarray(0, end) };
  }

  /** Every field that both machines have and that can be written, those that nobody described as 0. */
  description(one: PayloadCase): VmcsDescription {
    const bare = descriptionOf(this.#capabilities, one);
    const host = one.isAttached === false ? this.#stage.detachedHost : this.#stage.host;
    const described: VmcsDescription = {
      ...bare,
      ...host,
      HOST_CR4: host.HOST_CR4! & this.#capabilities.cr4Fixed1,
      TSC_OFFSET: this.#stage.tscOffset,
      // The payload turns the timer on and off; then its value is not to be saved.
      VM_EXIT_CONTROLS: bare.VM_EXIT_CONTROLS! & ~u64(EXIT_CONTROL.SAVE_VMX_PREEMPTION_TIMER),
      PIN_BASED_VM_EXEC_CONTROL: bare.PIN_BASED_VM_EXEC_CONTROL! & ~u64(PIN.PREEMPTION_TIMER),
    };
    return Object.fromEntries(
      VMCS_FIELDS.filter(({ name, readOnly }) => !readOnly && this.#layout.has(name)).map(
        ({ name }): [FieldName, bigint] => [name, described[name] ?? 0n],
      ),
    );
  }
}

const GATE_BYTES = 16;
const GATES = 256;
const INTERRUPT_GATE = 0x8e00n;
const CODE_SELECTOR = 0x10n;

/** The guest's IDT: every gate leads to the handler. */
export function guestIdt(): MemoryWrite {
  const handler = GUEST.CODE + u64(HANDLER_OFFSET);
  const low =
    (handler & 0xffffn) |
    (CODE_SELECTOR << 16n) |
    (INTERRUPT_GATE << 32n) |
    (((handler >> 16n) & 0xffffn) << 48n);
  const gates = new BigUint64Array((GATES * GATE_BYTES) / 8);
  for (let gate = 0; gate < GATES; gate++) gates.set([low, handler >> 32n], 2 * gate);
  return { address: GUEST.IDT, bytes: new Uint8Array(gates.buffer) };
}
