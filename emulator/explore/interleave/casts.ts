/**
 * Who acts in an interleaving: exits of two vCPUs, and what the host does beside them.
 *
 * Source: CONTRACT ("Who flips, and when", "Stop and serialize", "What the payload handles").
 * Invariant: what is tried together shares something: a posted bit, a flag, a request, a record, a local APIC.
 */
import { HarnessBug } from '../../../abi/errors.js';
import { EXIT_REASON } from '../../../abi/exit-reasons.js';
import { X2APIC } from '../../../abi/x2apic.js';
import * as exits from '../../guest/exits.js';
import type { GuestExit } from '../../guest/guest.js';
import { plainExit } from '../../stage/input.js';
import { legalExit } from '../../stage/legal.js';
import { ATTACH_VARIANT, VARIANTS, type Variant } from '../../stage/stage.js';
import { HOST_SCRIPTS, type HostScript } from './host-actors.js';

/** An exit that a vCPU begins with, by the APIC id of the other vCPU. */
export interface CastExit {
  readonly name: string;
  /** As matrices name it. */
  readonly reason: string;
  readonly exit: (peer: number) => GuestExit;
}

/** A state to begin in. */
export interface CastState {
  readonly name: string;
  readonly variant: Variant;
  readonly isAttached: boolean;
}

export interface Cast {
  readonly state: CastState;
  /** Of vCPU 0 and of vCPU 1, which may be left to its guest. */
  readonly exits: readonly CastExit[];
  readonly hosts: readonly { readonly script: HostScript; readonly vcpu: number }[];
}

const FIXED = 0x61;
const NMI = 4 << 8;
const plain = (basic: number): GuestExit => legalExit(plainExit(basic));
/** Interrupts are open in the guest. */
const wrmsr = (index: number, value: bigint): GuestExit => ({
  ...exits.wrmsr(index, value),
  fields: plain(EXIT_REASON.EXIT_REASON_MSR_WRITE).fields ?? {},
});
const icr = (low: number) => (peer: number) =>
  wrmsr(X2APIC.ICR, (BigInt(peer) << 32n) | BigInt(low));

// prettier-ignore
export const CAST_EXITS: readonly CastExit[] = [
  { name: 'HLT', reason: 'HLT', exit: () => plain(EXIT_REASON.EXIT_REASON_HLT) },
  { name: 'PAUSE', reason: 'PAUSE_INSTRUCTION', exit: () => plain(EXIT_REASON.EXIT_REASON_PAUSE_INSTRUCTION) },
  { name: 'VMCALL', reason: 'VMCALL', exit: () => plain(EXIT_REASON.EXIT_REASON_VMCALL) },
  { name: 'ICR', reason: 'MSR_WRITE', exit: icr(FIXED) },
  { name: 'ICR-NMI', reason: 'MSR_WRITE', exit: icr(NMI) },
  { name: 'EOI', reason: 'MSR_WRITE', exit: () => wrmsr(X2APIC.EOI, 0n) },
];

const variantNamed = (name: string): Variant =>
  [...VARIANTS, ATTACH_VARIANT].find((variant) => variant.name === name)!;

// prettier-ignore
export const CAST_STATES: readonly CastState[] = [
  { name: 'attached', variant: variantNamed('isolated'), isAttached: true },
  { name: 'detached', variant: variantNamed('isolated'), isAttached: false },
  { name: 'root-halt-detached', variant: variantNamed('halts in root'), isAttached: false },
];

// prettier-ignore
/** What is tried in which states, as a schedule names it: two actors, and more where three show what two cannot. */
const TRIED: readonly (readonly [depth: 1 | 2, states: string, casts: string])[] = [
  [1, 'detached root-halt-detached', 'HLT+flip@0 HLT+stop@0 HLT+post@0 HLT+stop-flip@0'],
  [1, 'detached', 'VMCALL+flip@0 VMCALL+stop@0 VMCALL+stop-flip@0 VMCALL+flip@0+drain@0 PAUSE+flip@0 PAUSE+stop-flip@0 ICR+flip@0 ICR+stop@0'],
  [1, 'detached', 'PAUSE+device@0 PAUSE+PAUSE+device@1'],
  [1, 'attached', 'VMCALL+stop@0 VMCALL+post@0 HLT+stop@0 HLT+post@0'],
  [1, 'attached detached', 'PAUSE+stop@0 PAUSE+post@0 EOI+post@0'],
  [1, 'attached detached root-halt-detached', 'ICR+HLT ICR-NMI+HLT'],
  [1, 'attached detached', 'ICR+EOI ICR+VMCALL ICR+PAUSE ICR-NMI+VMCALL VMCALL+VMCALL'],
  [1, 'detached', 'ICR+ICR ICR-NMI+ICR ICR+PAUSE+post@1 ICR+HLT+post@1 ICR+HLT+stop@1 ICR+HLT+flip@0 VMCALL+VMCALL+flip@1'],
  [2, 'attached', 'ICR+ICR ICR-NMI+ICR ICR+stop@0'],
  [2, 'attached detached', 'PAUSE+stop@0+post@0'],
  [2, 'detached', 'VMCALL+stop@0+drain@0 VMCALL+flip@0+post@0 ICR+HLT+flip@1 ICR+VMCALL+flip@1'],
  [2, 'detached root-halt-detached', 'HLT+flip@0+post@0 HLT+stop@0+post@0'],
  [2, 'root-halt-detached', 'ICR+HLT+flip@1 ICR+HLT+stop@1 ICR+HLT+post@1'],
];

/** A cast by what a schedule says, or null. */
export const castNamed = (state: CastState, text: string): Cast | null => {
  const parts = text.split('+');
  const cast = { exits: [] as CastExit[], hosts: [] as Cast['hosts'][number][] };
  for (const part of parts) {
    const [name, vcpu] = part.split('@') as [string, string?];
    if (vcpu === undefined) {
      const exit = CAST_EXITS.find((one) => one.name === name);
      if (exit === undefined || cast.hosts.length > 0) return null;
      cast.exits.push(exit);
    } else {
      const script = HOST_SCRIPTS.find((one) => one.name === name);
      if (script === undefined || !/^[01]$/.test(vcpu)) return null;
      cast.hosts.push({ script, vcpu: Number.parseInt(vcpu, 10) });
    }
  }
  return cast.exits.length === 0 || cast.exits.length > 2 ? null : { state, ...cast };
};

/** The name of a cast's actors, as a schedule has it. */
export const actorsName = ({ exits: of, hosts }: Cast): string =>
  [
    ...of.map(({ name }) => name),
    ...hosts.map(({ script, vcpu }) => `${script.name}@${vcpu}`),
  ].join('+');

/** Every cast up to a depth, those of one state following each other. */
export const castsTo = (depth: 1 | 2): readonly Cast[] =>
  CAST_STATES.flatMap((state) =>
    TRIED.filter(([of, states]) => of <= depth && states.split(' ').includes(state.name)).flatMap(
      ([, , casts]) => casts.split(' ').map((text) => knownCast(state, text)),
    ),
  );

function knownCast(state: CastState, text: string): Cast {
  const cast = castNamed(state, text);
  if (cast === null) throw new HarnessBug(`there is no cast "${text}"`);
  return cast;
}
