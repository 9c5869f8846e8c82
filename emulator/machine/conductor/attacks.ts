/**
 * A payload in its guest's hands, and what it gets at: attacks by VMCALL, each seen through or stopped.
 *
 * Source: caretaker-payload/compromised.c, whose registers and numbers these are; CONTRACT ("CR3 policies").
 * Invariant: what came of an attack is read off the guest's registers and the memory it was after, not off the payload.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { EXIT_REASON } from '../../../abi/exit-reasons.js';
import { CARETAKER_KVM_PAGE, CARETAKER_REGISTER_ORDER } from '../../../abi/ccb.js';
import { hex } from '../../../abi/uint.js';
import * as exits from '../../guest/exits.js';
import type { Lane } from '../lane.js';
import type { Loot } from '../loot.js';
import type { Machine } from '../machine.js';
import { packageRoot } from '../package-root.js';
import type { ScriptedAttack } from '../scenario/script.js';
import { ConductorError } from './refusal.js';

const MAGIC = 0x6465_6b63_6174_746bn;
const HOW = {
  read: 0n,
  write: 1n,
  'read-by-own-tables': 2n,
  'write-unprotected': 3n,
} as const satisfies Record<ScriptedAttack['how'], bigint>;
const RBX = CARETAKER_REGISTER_ORDER.indexOf('RBX');

/** The file of the payload that turns on its host. @throws ConductorError PAYLOAD_MISSING. */
export function compromisedPayload(): Uint8Array {
  const file = join(packageRoot(), 'caretaker-payload', 'build', 'compromised.elf');
  try {
    return new Uint8Array(readFileSync(file));
  } catch (cause) {
    const rule = 'the scenario installs it; make payload builds it';
    throw new ConductorError('PAYLOAD_MISSING', `${file}: ${rule}`, { file, rule }, { cause });
  }
}

export class Attacks {
  readonly #machine: Machine;

  constructor(machine: Machine) {
    this.#machine = machine;
    machine.hooks.observers.push({
      onOutcome: (lane) => {
        const { loot } = lane;
        if (loot === null || lane.exit.basic !== EXIT_REASON.EXIT_REASON_VMCALL) return;
        lane.loot = null;
        this.#through(lane, loot);
      },
    });
  }

  /** The guest has its payload attack at its next exit. */
  begin(lane: Lane, { how, at }: ScriptedAttack): void {
    const machine = this.#machine;
    const address = this.#address(lane, at);
    lane.loot = { how, address, secret: machine.memory.readU64(address) };
    machine.count('attacks');
    const exit = exits.vmcall();
    const registers = { RAX: MAGIC, RBX: address, RCX: HOW[how] };
    machine.guests.script(lane, { kind: 'exit', after: 0, exit: { ...exit, registers } });
    machine.timeline.add(
      machine.now(),
      lane.id,
      `its payload attacks: ${how} of ${hex(address)}, ${machine.regionName(address)}`,
      3,
    );
  }

  /** The run is over: a payload that parked its core has got nothing. */
  end(): void {
    for (const { loot, vcpu } of this.#machine.lanes)
      if (loot !== null && vcpu.payloadState === 'PARKED') this.#machine.count('attacksStopped');
  }

  #address(lane: Lane, at: ScriptedAttack['at']): bigint {
    const machine = this.#machine;
    if (typeof at !== 'string') return machine.lane(at.vcpu).vcpu.memory.at('softState');
    switch (at) {
      case 'kernel':
        return lane.vcpu.ccbView.get('routing_handler') & ~0xfffn;
      case 'kvm-page':
        return lane.vcpu.ccb + BigInt(CARETAKER_KVM_PAGE);
      case 'tables':
        // A payload that has parked its core has left VMX operation.
        return (lane.hasVmcs ? lane.vmcs.read('HOST_CR3') : lane.vcpu.isolatedCr3) & ~0xfffn;
    }
  }

  /** The payload came back from it. */
  #through(lane: Lane, { how, address, secret }: Loot): void {
    const machine = this.#machine;
    const found = lane.vcpu.ccbView.get(`registers[${RBX}]`);
    const hasIt = found === secret;
    machine.count(hasIt ? 'attacksNotStopped' : 'attacksInVain');
    const what = how.startsWith('read') ? 'read' : 'written';
    const where = `${hex(address)}, ${machine.regionName(address)}`;
    machine.timeline.add(
      lane.pcpu.now(),
      lane.id,
      hasIt
        ? `not stopped: its guest has ${what} ${where}`
        : `in vain: it got ${hex(found)}, and ${where} has ${hex(secret)}`,
      3,
    );
  }
}
