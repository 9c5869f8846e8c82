/**
 * Caretaker update: another payload takes the place of the one that a running vCPU has.
 *
 * Happy path:
 * 1. The file is parsed. Nothing has happened yet if it is refused.
 * 2. The vCPU is kicked and waited for: it is out of the guest and out of its payload, in KVM.
 * 3. The new image is staged in fresh pages and its init runs. The old instance is untouched.
 * 4. The context goes over: the guest's registers, the epoch. Soft state, telemetry and configuration have pages of
 *    their own and stay.
 * 5. Page tables and the host-state area of the VMCS are switched.
 * 6. The old pages are poisoned and freed: no register, VMCS or table names them any more.
 * 7. The vCPU goes on through the new payload's run entry.
 *
 * Unhappy paths: EBUSY in the gap, when the payload is all that the vCPU has. A failure in 3 gives the staged pages back
 * and the vCPU goes on with the old payload, as if nothing had been.
 *
 * Source: the RFC, "Caretaker Update"; the version rules of abi/compat/diff.ts.
 * Invariant: the vCPU has one instance at any time that it could enter, whole.
 */
import { HarnessBug } from '../../../abi/errors.js';
import { CARETAKER_CCB, CARETAKER_REGISTER_ORDER } from '../../../abi/ccb.js';
import { diffAbi } from '../../../abi/compat/diff.js';
import type { AbiShape } from '../../../abi/compat/shape.js';
import { hex } from '../../../abi/uint.js';
import type { CaretakerImage } from '../../../loader/image.js';
import { PAGE_SIZE } from '../../memory/physical-memory.js';
import { applyDescription } from '../../vmx/description.js';
import type { Vmcs } from '../../vmx/vmcs.js';
import { DONE, refuse, type Result } from '../result.js';
import type { KvmVcpu } from './vcpu.js';
import type { VcpuPages } from './vcpu-memory.js';
import { startVcpu } from './vcpu-run.js';
import type { KvmVm } from './vm.js';
import { vmclear, vmptrld } from './vmx-ops.js';

/** Host-state fields that name memory. */
const HOST_ADDRESSES = [
  'HOST_RIP',
  'HOST_RSP',
  'HOST_CR3',
  'HOST_GS_BASE',
  'HOST_GDTR_BASE',
  'HOST_IDTR_BASE',
  'HOST_TR_BASE',
] as const;

/** Whether KVM_SET_CARETAKER on this vCPU is an update, if only to be refused as one. */
export function canBeUpdated({ hasCaretaker, state }: KvmVcpu): boolean {
  return hasCaretaker && state !== 'created' && state !== 'parked';
}

/** What a vCPU has of its instance. */
interface Instance {
  readonly pages: VcpuPages;
  readonly loaded: KvmVcpu['loaded'];
  readonly ccb: bigint;
  readonly ranges: KvmVcpu['ranges'];
}

/**
 * Replaces the payload of a vCPU.
 * Errnos: ENOEXEC the loader refuses the file; EBUSY the vCPU is in the gap; ETIMEDOUT it does not come; EINVAL the
 * versions forbid it; EOPNOTSUPP it uses what this KVM does not offer; ENOMEM; EIO its init failed.
 */
export function updateCaretaker(
  vm: KvmVm,
  vcpu: KvmVcpu,
  file: Uint8Array,
  features: bigint,
): Result<void> {
  if (vcpu.state !== 'running' && vcpu.state !== 'in-kvm') {
    return vm.refuse('EBUSY', `vCPU ${vcpu.id} is ${vcpu.state}: its payload is all that it has`);
  }
  const image = vm.parse(file);
  if (image === null) return refuse('ENOEXEC');
  const forbidden = versionRule(vcpu, image);
  if (forbidden !== null) return vm.refuse('EINVAL', forbidden);
  const wasRunning = vcpu.state === 'running';
  if (wasRunning) {
    const stopped = vm.machine.stopVcpu(vcpu.id);
    if (!stopped.ok) return stopped;
  }
  const old = instanceOf(vcpu);
  const staged = stage(vm, vcpu, image, features);
  if (staged.ok) switchOver(vm, vcpu, old);
  else goBack(vm, vcpu, old);
  if (wasRunning) startVcpu(vm, vcpu);
  return staged;
}

function instanceOf(vcpu: KvmVcpu): Instance {
  const { loaded, ccb, ranges } = vcpu;
  return { pages: vcpu.memory.instance, loaded, ccb, ranges };
}

/** The rule of `abi diff` that the control blocks' versions break; null when they break none. */
function versionRule({ ccbView }: KvmVcpu, image: CaretakerImage): string | null {
  const block = image.sections.find(({ name }) => name === '.ccb')!.bytes;
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  const shape = (magic: bigint, version: number): AbiShape => {
    const versions = new Map([[CARETAKER_CCB.name, { magic, version }]]);
    return { structs: [], constants: new Map(), versions };
  };
  const before = shape(ccbView.get('header.magic'), ccbView.number('header.version'));
  const now = shape(view.getBigUint64(0, true), view.getUint32(8, true));
  const broken = diffAbi(before, now).find(({ severity }) => severity === 'error');
  return broken === undefined ? null : `${broken.rule}: ${broken.expected} to ${broken.actual}`;
}

/** A second instance beside the first, initialised, with what the guest has. */
function stage(vm: KvmVm, vcpu: KvmVcpu, image: CaretakerImage, features: bigint): Result<void> {
  const before = vcpu.ccbView;
  const installed = vm.install(vcpu, image);
  if (!installed.ok) return installed;
  const after = vcpu.ccbView;
  const missing = after.get('features') & ~features;
  if (missing !== 0n) return vm.refuse('EOPNOTSUPP', `it uses features ${hex(missing)}`);
  CARETAKER_REGISTER_ORDER.forEach((_, n) => {
    after.set(`registers[${n}]`, before.get(`registers[${n}]`));
  });
  after.set('registers_valid', 1);
  after.set('epoch', before.get('epoch'));
  return DONE;
}

function switchOver(vm: KvmVm, vcpu: KvmVcpu, old: Instance): void {
  vm.buildIsolatedTables(vcpu);
  const cpu = vm.machine.cpu(vcpu.pcpu);
  vmclear(cpu, vcpu.vmcsRegion);
  const vmcs = vmptrld(cpu, vcpu.vmcsRegion);
  if (vm.settings.lifecycle === 'interpose') {
    applyDescription(vmcs, vm.attachedHostState(vcpu));
  }
  vcpu.ccbView.set('launch_state', 0);
  vm.machine.tablesChanged();
  assertUnreachable(old.pages, vmcs, cpu.registers.get('RIP'));
  discard(vm, old.pages);
}

/** The staged instance is given back; the old one was never touched but for the stack, which both share. */
function goBack(vm: KvmVm, vcpu: KvmVcpu, old: Instance): void {
  const staged = vcpu.memory.instance;
  vcpu.memory.putInstance(old.pages);
  Object.assign(vcpu, { loaded: old.loaded, ccb: old.ccb, ranges: old.ranges });
  vm.kernel.memory.writeU64(vcpu.memory.at('stack'), vcpu.ccb);
  if (staged.hpa !== old.pages.hpa) discard(vm, staged);
  vm.buildKernelTables();
}

function discard(vm: KvmVm, { hpa, pages }: VcpuPages): void {
  // The allocator poisons what it takes back; whoever swept the code must look again.
  vm.kernel.free(hpa);
  vm.machine.codePlaced(hpa, pages * PAGE_SIZE);
}

/** @throws HarnessBug when the CPU could still get into the old instance. */
function assertUnreachable({ hpa, pages }: VcpuPages, vmcs: Vmcs, rip: bigint): void {
  const end = hpa + BigInt(pages * PAGE_SIZE);
  const named = HOST_ADDRESSES.map((field) => [field, vmcs.read(field)] as const);
  for (const [what, address] of [...named, ['RIP', rip] as const]) {
    if (address >= hpa && address < end) {
      throw new HarnessBug(`${what} is still in the instance that is to be freed`);
    }
  }
}
