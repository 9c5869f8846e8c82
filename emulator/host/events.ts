/**
 * What the host models tell whoever watches them: traces, the machine, invariants.
 *
 * Source: STYLE ("Events, not logs"); the kernel functions each event names.
 * Invariant: an event reports what has happened already and cannot change it.
 */

/** A step of the life of a preserved file, named as its callback is. */
export type LuoStep =
  'preserve' | 'unpreserve' | 'freeze' | 'unfreeze' | 'deserialize' | 'retrieve' | 'finish';

/** Every event of the host models; hostEvents() fills in what a watcher leaves out. */
export interface HostEvents {
  /** A WARN_ON or pr_warn of a kernel: a bug of a caller, or a leak that Linux only reports. */
  onWarn(where: string, message: string): void;
  /** A step of booting or of rebooting was done. */
  onStage(stage: string): void;
  /** A file passed a step; `handler` is its compatible string. */
  onLuo(step: LuoStep, handler: string, token: bigint): void;
  /** INIT, then SIPI: the pCPU with that APIC id is being brought up and loses what it did. */
  onInit(apicId: number): void;
  onSipi(apicId: number): void;
  /** smp_send_stop() reached the pCPU. */
  onStop(apicId: number): void;
  /** A pCPU left the kernel; it has executed VMXOFF and runs nothing of the kernel any more. */
  onOffline(apicId: number): void;
  /** The pCPU with that APIC id is wanted back from what it runs: an NMI or a notification vector. */
  onKick(apicId: number): void;
  /** Evacuation before a pCPU goes offline. */
  onTimerMigrated(label: string, from: number, to: number): void;
  onIrqMigrated(irq: number, from: number, to: number): void;
  /** Control passed to the next kernel; `handover` is all that it is told. */
  onKexec(handover: bigint): void;
  /** A device lost its state because nobody claimed it after the update. */
  onDeviceReset(device: number): void;
}

const SILENT: HostEvents = {
  onWarn: () => undefined,
  onStage: () => undefined,
  onLuo: () => undefined,
  onInit: () => undefined,
  onSipi: () => undefined,
  onStop: () => undefined,
  onOffline: () => undefined,
  onKick: () => undefined,
  onTimerMigrated: () => undefined,
  onIrqMigrated: () => undefined,
  onKexec: () => undefined,
  onDeviceReset: () => undefined,
};

/** The events that `watcher` wants; the others go nowhere. */
export function hostEvents(watcher: Partial<HostEvents> = {}): HostEvents {
  return { ...SILENT, ...watcher };
}
