/**
 * A SysV call into a payload, as KVM makes it for init: IF = 0, the payload's stack, a return address that ends the run.
 *
 * Source: CONTRACT ("Entry points": init).
 * Invariant: the core's registers and activity are what they were before, whatever the payload did; what it raises ends
 * the call, as the kernel's exception table would, and never goes through an instance's IDT.
 */
import { hex, u64 } from '../../abi/uint.js';
import type { CallResult } from '../host/kvm/ports.js';
import type { PhysicalMemory } from '../memory/physical-memory.js';
import type { StopReason } from '../vmx/stop-reason.js';
import type { Core } from './cores.js';

/** What init may take; it builds a few tables. */
const INSTRUCTION_LIMIT = 1_000_000;

/** Where a call goes and what it runs on. */
export interface PayloadCall {
  readonly entry: bigint;
  readonly rdi: bigint;
  readonly stackTop: bigint;
  readonly cr3: bigint;
  /** A kernel address, executable under `cr3`, that nothing else jumps to. */
  readonly returnTo: bigint;
}

/** Runs the call to its return or to whatever else ends it. */
export function callPayload(core: Core, memory: PhysicalMemory, call: PayloadCall): CallResult {
  const { pcpu } = core;
  const saved = pcpu.registers.values.slice();
  const { activity } = pcpu;
  pcpu.registers.set('CR3', call.cr3);
  pcpu.registers.set('RIP', call.entry);
  pcpu.registers.set('RDI', call.rdi);
  pcpu.registers.set('RSP', call.stackTop - 8n);
  pcpu.registers.set('RFLAGS', 2n);
  memory.writeU64(call.stackTop - 8n, call.returnTo);
  core.returnAddresses.add(call.returnTo);
  core.isCalling = true;
  const stop = runToEnd(core, call.returnTo);
  core.isCalling = false;
  const rax = pcpu.registers.get('RAX');
  const isBack = stop.kind === 'breakpoint' && pcpu.registers.get('RIP') === call.returnTo;
  pcpu.registers.values.set(saved);
  pcpu.activity = activity;
  if (isBack) return { kind: 'returned', rax: u64(rax) };
  const where = 'address' in stop ? ` at ${hex(stop.address)}` : '';
  return { kind: 'failed', why: `${stop.kind}${where}` };
}

/** A debugger's breakpoint elsewhere in the payload, or its watchpoint, is not what the call waits for. */
function runToEnd({ pcpu }: Core, returnTo: bigint): StopReason {
  for (;;) {
    const stop = pcpu.run(INSTRUCTION_LIMIT);
    const isDebuggers =
      (stop.kind === 'breakpoint' && stop.address !== returnTo) || stop.kind === 'watchpoint';
    if (!isDebuggers) return stop;
  }
}
