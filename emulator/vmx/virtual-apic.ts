/**
 * APIC virtualization: the virtual-APIC page with RVI and SVI, and what the processor does with them for a guest.
 *
 * Source: SDM, "APIC Virtualization and Virtual Interrupts": "TPR Virtualization", "PPR Virtualization", "EOI
 * Virtualization", "Self-IPI Virtualization", "Evaluation of Pending Virtual Interrupts", "Virtual-Interrupt Delivery",
 * "Posted-Interrupt Processing", "Virtualizing MSR-Based APIC Accesses".
 * Invariant: everything is in the page and in GUEST_INTR_STATUS; whether a virtual interrupt is recognized follows from them.
 * Not modelled: memory-mapped accesses to the APIC page, IPI virtualization, the TPR threshold.
 */
import { apicPageOffset, X2APIC, X2APIC_FIRST, X2APIC_LAST } from '../../abi/x2apic.js';
import { VMCS_SLOT } from '../../abi/vmcs-fields.js';
import { PIN, PRIMARY, SECONDARY } from '../../abi/vmx-controls.js';
import type { PhysicalBytes } from '../memory/physical-memory.js';
import { PostedDescriptor } from './posted-descriptor.js';
import type { Vmcs } from './vmcs.js';

const {
  CPU_BASED_VM_EXEC_CONTROL,
  EOI_EXIT_BITMAP0,
  GUEST_INTR_STATUS,
  MSR_BITMAP,
  PIN_BASED_VM_EXEC_CONTROL,
  POSTED_INTR_DESC_ADDR,
  POSTED_INTR_NV,
  SECONDARY_VM_EXEC_CONTROL,
  VIRTUAL_APIC_PAGE_ADDR,
} = VMCS_SLOT;

const VTPR = BigInt(apicPageOffset(X2APIC.TPR));
const VPPR = BigInt(apicPageOffset(X2APIC.PPR));
const VEOI = BigInt(apicPageOffset(X2APIC.EOI));
const VISR = BigInt(apicPageOffset(X2APIC.ISR0));
const VIRR = BigInt(apicPageOffset(X2APIC.IRR0));
const SET_WORDS = 8;
const WRITE_BITMAP = 2048n;

/** Whether the processor delivers virtual interrupts to this guest. */
export function deliversVirtualInterrupts(vmcs: Vmcs): boolean {
  return hasSecondary(vmcs, SECONDARY.VIRTUAL_INTR_DELIVERY);
}

function hasSecondary(vmcs: Vmcs, bit: number): boolean {
  return (
    (vmcs.low(CPU_BASED_VM_EXEC_CONTROL) & PRIMARY.ACTIVATE_SECONDARY) !== 0 &&
    (vmcs.low(SECONDARY_VM_EXEC_CONTROL) & bit) !== 0
  );
}

/** Whether an external interrupt of that vector is a notification, which does not exit. */
export function isNotification(vmcs: Vmcs, vector: number): boolean {
  return (
    (vmcs.low(PIN_BASED_VM_EXEC_CONTROL) & PIN.POSTED_INTR) !== 0 &&
    vmcs.low(POSTED_INTR_NV) === vector
  );
}

/** What became of a guest's access to an x2APIC register. */
export type VirtualAccess =
  /** It is not virtualized. */
  | { readonly kind: 'no' }
  | { readonly kind: 'done' }
  /** An EOI whose vector has its bit in the EOI-exit bitmap: a trap-like VM exit. */
  | { readonly kind: 'eoi-exit'; readonly vector: number };

const NO: VirtualAccess = { kind: 'no' };
const DONE: VirtualAccess = { kind: 'done' };

/** The virtual APIC of the guest of one VMCS. */
export class VirtualApic {
  readonly #bytes: PhysicalBytes;
  readonly #vmcs: Vmcs;
  readonly #page: bigint;

  constructor(bytes: PhysicalBytes, vmcs: Vmcs) {
    this.#bytes = bytes;
    this.#vmcs = vmcs;
    this.#page = vmcs.get(VIRTUAL_APIC_PAGE_ADDR);
  }

  /** Requesting virtual interrupt: the low byte of the guest interrupt status. */
  get rvi(): number {
    return this.#vmcs.low(GUEST_INTR_STATUS) & 0xff;
  }

  /** Servicing virtual interrupt. */
  get svi(): number {
    return (this.#vmcs.low(GUEST_INTR_STATUS) >>> 8) & 0xff;
  }

  isRequested(vector: number): boolean {
    return this.#has(VIRR, vector);
  }

  isInService(vector: number): boolean {
    return this.#has(VISR, vector);
  }

  /** The highest vector in VIRR, 0 when there is none: what RVI should be. */
  get highestRequest(): number {
    return this.#highest(VIRR);
  }

  /** VM entry with virtual-interrupt delivery virtualizes PPR; whether an interrupt is pending then follows. */
  entered(): void {
    this.#virtualizePpr();
  }

  /** A pending virtual interrupt is recognized: nothing asks for an interrupt window, and RVI's class is above VPPR's. */
  get isPending(): boolean {
    const windows = this.#vmcs.low(CPU_BASED_VM_EXEC_CONTROL) & PRIMARY.INTR_WINDOW_EXITING;
    return windows === 0 && this.rvi >>> 4 > (this.#byte(VPPR) & 0xff) >>> 4;
  }

  /** Delivers RVI: the vector, which is in service from now on. */
  deliver(): number {
    const vector = this.rvi;
    this.#set(VISR, vector, true);
    this.#write(VPPR, vector & 0xf0);
    this.#set(VIRR, vector, false);
    this.#setStatus(this.#highest(VIRR), vector);
    return vector;
  }

  /** The processor has acknowledged the notification vector and dismissed it: the requests go to VIRR. */
  processPosted(): void {
    const descriptor = new PostedDescriptor(this.#bytes, this.#vmcs.get(POSTED_INTR_DESC_ADDR));
    descriptor.clearOutstanding();
    let highest = 0;
    descriptor.takeRequests().forEach((bits, word) => {
      for (let bit = 0; bit < 64; bit++) {
        if (((bits >> BigInt(bit)) & 1n) === 0n) continue;
        highest = word * 64 + bit;
        this.#set(VIRR, highest, true);
      }
    });
    if (highest > this.rvi) this.#setStatus(highest, this.svi);
  }

  /** WRMSR of an x2APIC register that the MSR bitmap lets through. */
  writeMsr(index: number, value: number): VirtualAccess {
    if (!this.#virtualizes(index, WRITE_BITMAP)) return NO;
    const virtualIntr = deliversVirtualInterrupts(this.#vmcs);
    switch (index) {
      case X2APIC.TPR:
        this.#write(VTPR, value);
        if (virtualIntr) this.#virtualizePpr();
        return DONE;
      case X2APIC.EOI:
        return virtualIntr ? this.#endOfInterrupt() : NO;
      case X2APIC.SELF_IPI:
        if (!virtualIntr) return NO;
        this.#set(VIRR, value, true);
        if (value > this.rvi) this.#setStatus(value, this.svi);
        return DONE;
      default:
        return NO;
    }
  }

  /** RDMSR of an x2APIC register that the MSR bitmap lets through; undefined when it is not virtualized. */
  readMsr(index: number): number | undefined {
    if (!this.#virtualizes(index, 0n)) return undefined;
    if (index !== X2APIC.TPR && !hasSecondary(this.#vmcs, SECONDARY.APIC_REGISTER_VIRT))
      return undefined;
    return this.#byte(BigInt(apicPageOffset(index)));
  }

  #virtualizes(index: number, bitmap: bigint): boolean {
    if (index < X2APIC_FIRST || index > X2APIC_LAST) return false;
    if (!hasSecondary(this.#vmcs, SECONDARY.VIRTUALIZE_X2APIC_MODE)) return false;
    const at = this.#vmcs.get(MSR_BITMAP) + bitmap + BigInt(index >>> 3);
    return ((this.#bytes.readU8(at) >>> (index & 7)) & 1) === 0;
  }

  #endOfInterrupt(): VirtualAccess {
    this.#write(VEOI, 0);
    const vector = this.svi;
    this.#set(VISR, vector, false);
    this.#setStatus(this.rvi, this.#highest(VISR));
    this.#virtualizePpr();
    const word = this.#vmcs.get(EOI_EXIT_BITMAP0 + (vector >>> 6));
    const exits = ((word >> BigInt(vector & 63)) & 1n) !== 0n;
    return exits ? { kind: 'eoi-exit', vector } : DONE;
  }

  #virtualizePpr(): void {
    const vtpr = this.#byte(VTPR) & 0xff;
    const { svi } = this;
    this.#write(VPPR, vtpr >>> 4 >= svi >>> 4 ? vtpr : svi & 0xf0);
  }

  #setStatus(rvi: number, svi: number): void {
    this.#vmcs.setLow(GUEST_INTR_STATUS, (svi << 8) | rvi);
  }

  #highest(set: bigint): number {
    for (let word = SET_WORDS - 1; word >= 0; word--) {
      const bits = this.#byte(set + BigInt(word * 16));
      if (bits !== 0) return word * 32 + 31 - Math.clz32(bits);
    }
    return 0;
  }

  #has(set: bigint, vector: number): boolean {
    return ((this.#byte(this.#wordOf(set, vector)) >>> (vector & 31)) & 1) !== 0;
  }

  #set(set: bigint, vector: number, is: boolean): void {
    const at = this.#wordOf(set, vector);
    const bit = (1 << (vector & 31)) >>> 0;
    const before = this.#byte(at);
    this.#write(at, (is ? before | bit : before & ~bit) >>> 0);
  }

  #wordOf = (set: bigint, vector: number): bigint => set + BigInt((vector >>> 5) * 16);

  #byte(offset: bigint): number {
    return this.#bytes.readU32(this.#page + offset);
  }

  #write(offset: bigint, value: number): void {
    this.#bytes.writeU32(this.#page + offset, value);
  }
}
