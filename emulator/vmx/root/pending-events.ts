/**
 * Which of the events that wait for a pCPU it takes at an instruction boundary.
 *
 * Source: SDM, "Priority Among Concurrent Events", "Masking Maskable Hardware Interrupts", "Handling Multiple NMIs",
 * "Masking Exceptions and Interrupts When Switching Stacks", "Machine-Check Architecture".
 * Invariant: a taken event no longer waits: an interrupt is acknowledged, an NMI or machine check is cleared.
 * Not modelled: SMIs, debug exceptions, machine-check broadcast.
 */
import { VECTOR } from '../../../abi/interruption.js';
import { MCG_STATUS, MSR } from '../../../abi/msrs.js';
import { REG } from '../../cpu/registers.js';
import type { DeliveryEvent } from './idt-delivery.js';
import { logError, type LoggedError } from './machine-check.js';
import type { RootCpu } from './root-cpu.js';

/** A pCPU with the latches of what waits for it. */
export interface EventLatches extends RootCpu {
  pendingNmi: boolean;
  pendingMachineCheck: boolean;
  isMachineCheckRestartable: boolean;
  machineCheckError: LoggedError | null;
}

const CR4_MCE = 1n << 6n;
/** RFLAGS.IF in the low half of its slot. */
const IF = 0x200;
const NMI: DeliveryEvent = { vector: VECTOR.NMI, kind: 'nmi', errorCode: null };
const MACHINE_CHECK: DeliveryEvent = { vector: VECTOR.MC, kind: 'exception', errorCode: null };

/** Takes the event of the highest priority that nothing masks; `shutdown` is a machine check that cannot be taken. */
export function takeEvent(cpu: EventLatches): DeliveryEvent | 'shutdown' | null {
  if (cpu.pendingMachineCheck) return takeMachineCheck(cpu);
  const { sti, movSs, nmi } = cpu.blocking;
  if (cpu.pendingNmi && !nmi && !movSs && !(sti && cpu.features.isNmiBlockedBySti)) {
    cpu.pendingNmi = false;
    return NMI;
  }
  if (sti || movSs || (cpu.registers.words[REG.RFLAGS * 2]! & IF) === 0) return null;
  if (cpu.apic.deliverable < 0) return null;
  return { vector: cpu.apic.acknowledge(), kind: 'external', errorCode: null };
}

/** A machine check while one is in progress, or with CR4.MCE clear, shuts the processor down. */
function takeMachineCheck(cpu: EventLatches): DeliveryEvent | 'shutdown' {
  const isEnabled = (cpu.registers.values[REG.CR4]! & CR4_MCE) !== 0n;
  return signalMachineCheck(cpu) && isEnabled ? MACHINE_CHECK : 'shutdown';
}

/**
 * Takes the machine check that waits: logs its error, and sets MCIP, RIPV when the context can go on, EIPV when the error is
 * its own; false when MCIP was set.
 */
export function signalMachineCheck(
  cpu: Pick<
    EventLatches,
    'msrs' | 'pendingMachineCheck' | 'isMachineCheckRestartable' | 'machineCheckError'
  >,
): boolean {
  cpu.pendingMachineCheck = false;
  const status = cpu.msrs.file.read(MSR.IA32_MCG_STATUS) ?? 0n;
  const restartable = cpu.isMachineCheckRestartable ? MCG_STATUS.RIPV : 0n;
  cpu.isMachineCheckRestartable = true;
  const error = cpu.machineCheckError;
  cpu.machineCheckError = null;
  if (error !== null) logError(cpu.msrs.file, error);
  const own = error === 'action-required' ? MCG_STATUS.EIPV : 0n;
  cpu.msrs.file.load(
    MSR.IA32_MCG_STATUS,
    (status & ~(MCG_STATUS.RIPV | MCG_STATUS.EIPV)) | MCG_STATUS.MCIP | restartable | own,
  );
  return (status & MCG_STATUS.MCIP) === 0n;
}
