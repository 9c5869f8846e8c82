/**
 * stack: RSP stays inside the payload's stack and SSP inside its shadow stack, whose tokens are free; the stack's base
 * keeps the CCB's address, and KVM's handler gets its own stack with nothing pushed.
 *
 * Source: CONTRACT ("Instance", "Entry points"). VM exit loads RSP, so VM entry may come from any depth of the stack;
 * no-routing-while-detached looks at RSP where control goes to KVM.
 * Invariant: a guard page below the stack is unmapped, so an overflow is a fault; the deepest use is read off the
 * pattern that KVM filled the stack with.
 */
import { shadowStackTop, tokens } from '../../host/kvm/shadow-stacks.js';
import { STACK_BYTES } from '../../host/kvm/vcpu-memory.js';
import { STACK_PATTERN } from '../../host/kvm/vcpu.js';
import { PAGE_SIZE } from '../../memory/physical-memory.js';
import { isShadowStackOn } from '../../vmx/root/control-flow.js';
import { REG } from '../../cpu/registers.js';
import { hex } from '../../../abi/uint.js';
import type { Lane } from '../lane.js';
import { rowOf, type Ledger } from '../ledger.js';
import type { Invariant } from './invariant.js';

const ID = 'stack';
const ROW = rowOf(ID);
const PATTERN_WORD = (STACK_PATTERN * 0x0101_0101) >>> 0;

export function stack(): Invariant {
  return {
    id: ID,
    holdsWhen:
      'RSP and SSP stay inside their stacks, the deepest use is known, and the stack is balanced where control leaves the payload',

    atResume(lane: Lane, ledger: Ledger): void {
      ledger.count(ROW);
      const rsp = lane.pcpu.registers.words[2 * REG.RSP]!;
      const base = lane.stack;
      if (rsp <= base || rsp > base + STACK_BYTES) {
        ledger.fail(
          ID,
          lane.rip,
          `${lane.describeExit()}: RSP is ${hex(rsp)} at VM entry, the stack is ${hex(base)} to ${hex(base + STACK_BYTES)}`,
        );
      }
      if (lane.shadowStack !== 0 && isShadowStackOn(lane.pcpu)) shadowStack(lane, ledger);
    },

    atEnd(lane: Lane, ledger: Ledger): void {
      const base = lane.stack;
      const word = lane.memory.bytes.readU64(BigInt(base));
      ledger.expect(
        ID,
        word === lane.vcpu.ccb,
        BigInt(base),
        () => `vCPU ${lane.id}: the stack's base does not hold the CCB's address`,
      );
      const used = deepestUse(lane);
      ledger.expect(
        ID,
        used < STACK_BYTES - 64,
        BigInt(base),
        () => `vCPU ${lane.id}: ${used} bytes of stack were used`,
      );
    },
  };
}

/** Where hardware keeps the return addresses, at VM entry. */
function shadowStack(lane: Lane, ledger: Ledger): void {
  const base = BigInt(lane.shadowStack);
  const top = shadowStackTop(base);
  const ssp = lane.pcpu.registers.values[REG.SSP]!;
  if (ssp > top || ssp < top - BigInt(PAGE_SIZE)) {
    const where = `the shadow stack ends at ${hex(top)}`;
    ledger.fail(ID, lane.rip, `${lane.describeExit()}: SSP is ${hex(ssp)} at VM entry, ${where}`);
  }
  for (const token of tokens(base)) {
    if (lane.memory.bytes.readU64(token) === token) continue;
    const message = `the shadow-stack token at ${hex(token)} is not free at VM entry`;
    ledger.fail(ID, lane.rip, `${lane.describeExit()}: ${message}`);
  }
}

/** Bytes of the payload's stack that were ever written, from its top. */
export function deepestUse(lane: Lane): number {
  const { words, bytes } = lane.memory;
  const end = lane.stack + STACK_BYTES;
  let at = lane.stack + 8;
  while (at < end && words[at >>> 2] === PATTERN_WORD) at += 4;
  while (at < end && bytes.bytes[at] === STACK_PATTERN) at++;
  return end - at;
}
