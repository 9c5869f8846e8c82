/**
 * The detached gap: KVM is gone, the payload answers what it can, and what blocks waits until another processor attaches.
 *
 * Source: CONTRACT ("Who flips, and when", "Outcome of an exit", "Stop and serialize").
 * Invariant: every case begins with KVM_DETACHED written while KVM has the vCPU, and ends at the next kernel's handler,
 * which is another one: handler, stack, CR3 and argument.
 */
import { CARETAKER_REQUEST, CARETAKER_RUN_STATE } from '../../../abi/ccb.js';
import { X2APIC } from '../../../abi/x2apic.js';
import * as exits from '../../guest/exits.js';
import { EXIT_CASES, bytesOf } from '../exits.js';
import type { GeneralRegisters } from '../program.js';
import { moves, type GuestStep, type PayloadCase } from './cases.js';
import {
  INTERRUPTS_ON,
  OWN_APIC,
  TIMERS,
  WHOLE_IDT,
  externalInterrupt,
  nonMaskable,
} from './event-cases.js';

/** Host vectors: one that nobody routes, one that KVM routed to the guest before it went. */
const STRAY = 0xef;
const DEVICE = 0x41;

const send = (register: number, value: bigint): GeneralRegisters => ({
  RCX: BigInt(register),
  RAX: value,
  RDX: 0n,
});
const TO_SELF = (vector: number): GeneralRegisters => send(X2APIC.SELF_IPI, BigInt(vector));
const NMI_TO_SELF = send(X2APIC.ICR, 0x4400n);

/** Guest code that sends an event to its own processor, and the exit behind it. */
class Code {
  text = '';
  readonly steps: GuestStep[] = [];

  sends(registers: GeneralRegisters, step: (rip: number) => GuestStep): this {
    this.text += `${moves(registers)} 0f 30 `;
    this.steps.push({ ...step(bytesOf(this.text).length), registers });
    return this;
  }

  asks(leaf: number): this {
    const exit = exits.cpuid(leaf);
    const registers = exit.registers as GeneralRegisters;
    this.text += `${moves(registers)} `;
    this.steps.push({ exit, rip: bytesOf(this.text).length, registers });
    this.text += '0f a2 ';
    return this;
  }
}

const ANSWERED = new Code()
  .asks(0)
  .sends(TO_SELF(STRAY), (rip) => externalInterrupt(STRAY, rip))
  .sends(NMI_TO_SELF, nonMaskable)
  .asks(7)
  .sends(NMI_TO_SELF, nonMaskable);
const FORWARDED = new Code().sends(TO_SELF(DEVICE), (rip) => externalInterrupt(DEVICE, rip));

/** Exits that wait for KVM, by the titles of their cases. */
const WAITING: ReadonlySet<string> = new Set([
  'a store to a page without EPT translation',
  '#UD of UD2',
  'XSETBV',
  'OUT DX, AL',
  'MOV CR3, R9',
  'LGDT [RDI]',
  'WBINVD',
]);

const CASES: readonly PayloadCase[] = [
  { title: 'a VMCALL waits for the next kernel', code: '', steps: [] },
  {
    title: 'CPUID, a stray interrupt and two NMIs are answered in the gap',
    code: ANSWERED.text,
    steps: ANSWERED.steps,
    fields: { ...OWN_APIC, ...INTERRUPTS_ON },
  },
  {
    title: 'a device’s interrupt is forwarded to the guest',
    code: FORWARDED.text,
    steps: FORWARDED.steps,
    fields: { ...OWN_APIC, ...INTERRUPTS_ON },
  },
  ...TIMERS,
  ...EXIT_CASES.filter(({ title }) => WAITING.has(title)).map((one): PayloadCase => ({
    ...one,
    steps: [{ exit: one.exit, rip: 0, ...(one.after === undefined ? {} : { after: one.after }) }],
  })),
  {
    title: 'a stop in the gap turns VMX off and waits',
    code: '0f a2',
    steps: [{ exit: exits.cpuid(0), rip: 0 }],
    registers: { RAX: 0n, RCX: 0n },
    request: CARETAKER_REQUEST.STOP,
    way: 'resume',
    waitsAs: CARETAKER_RUN_STATE.SERIALIZED,
  },
];

/** A case that stands for the gap on hosts that are set up otherwise: events, a wait, a stop. */
export function isTelling({ title, way, code }: PayloadCase): boolean {
  return way === 'resume' || code === '' || /NMIs|interrupt/.test(title);
}

/** Every case of the gap; the last one leaves VMX operation. */
export const GAP: readonly PayloadCase[] = CASES.map((one) => ({
  ...one,
  title: `gap: ${one.title}`,
  isAttached: false,
  fields: { ...WHOLE_IDT, ...one.fields },
}));
