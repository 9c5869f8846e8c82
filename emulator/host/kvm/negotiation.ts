/**
 * What a preserved VM needs of the kernel that is to adopt it, and whether that kernel has it.
 *
 * Happy path: the old KVM writes into the VM's record the features that payloads and VM use and the versions of the
 * structures that they share; the next KVM compares both with its own before it takes anything of the VM over.
 * Unhappy paths: EOPNOTSUPP a feature is missing; EPROTONOSUPPORT a structure has a version that it does not speak.
 *
 * Source: the review of the RFC: feature negotiation, and "the VM is terminated" where it fails.
 * Invariant: a function of the record alone, so that a VM is adopted whole or not at all.
 */
import { CARETAKER_CCB, CARETAKER_CCB_VERSION, CARETAKER_FEATURE } from '../../../abi/ccb.js';
import { CARETAKER_CONFIG, CARETAKER_CONFIG_VERSION } from '../../../abi/config.js';
import { StructView, type StructBytes } from '../../../abi/layout.js';
import { CARETAKER_SOFT_STATE, CARETAKER_SOFT_STATE_VERSION } from '../../../abi/soft-state.js';
import { CARETAKER_TELEMETRY, CARETAKER_TELEMETRY_VERSION } from '../../../abi/telemetry.js';
import type { ErrnoName } from '../../../abi/luo.js';
import { hex } from '../../../abi/uint.js';
import type { KvmVcpu } from './vcpu.js';
import type { KvmVm } from './vm.js';

/** Structures that both sides of the contract read. */
export const SHARED_STRUCTURES = ['ccb', 'config', 'telemetry', 'soft-state'] as const;
export type SharedStructure = (typeof SHARED_STRUCTURES)[number];
/** The version that is spoken of each. */
export type ContractVersions = Readonly<Record<SharedStructure, number>>;

export type FeatureName = keyof typeof CARETAKER_FEATURE;
export const FEATURE_NAMES = Object.keys(CARETAKER_FEATURE) as FeatureName[];

/** What a KVM has. */
export interface Offer {
  /** Bits of CARETAKER_FEATURE. */
  readonly features: bigint;
  readonly versions: ContractVersions;
}

/** Everything that there is. */
export const WHOLE_OFFER: Offer = {
  features: bitsOf(FEATURE_NAMES),
  versions: {
    ccb: CARETAKER_CCB_VERSION,
    config: CARETAKER_CONFIG_VERSION,
    telemetry: CARETAKER_TELEMETRY_VERSION,
    'soft-state': CARETAKER_SOFT_STATE_VERSION,
  },
};

/** Why a VM cannot be adopted. */
export interface Mismatch {
  readonly errno: ErrnoName;
  readonly why: string;
}

const VERSION_FIELD: Readonly<Record<SharedStructure, string>> = {
  ccb: 'ccb_version',
  config: 'config_version',
  telemetry: 'telemetry_version',
  'soft-state': 'soft_state_version',
};
const STRUCTURE: Readonly<Record<SharedStructure, string>> = {
  ccb: CARETAKER_CCB.name,
  config: CARETAKER_CONFIG.name,
  telemetry: CARETAKER_TELEMETRY.name,
  'soft-state': CARETAKER_SOFT_STATE.name,
};

/** The bits of features by name. */
export function bitsOf(names: readonly FeatureName[]): bigint {
  return names.reduce((all, name) => all | CARETAKER_FEATURE[name], 0n);
}

/** What payloads say that they use, and what KVM has given them: interrupts are posted where both sides know of it. */
function featuresInUse({ vcpus, settings, postsInterrupts }: KvmVm): bigint {
  const { SHADOW_STACK, POSTED_INTERRUPTS } = CARETAKER_FEATURE;
  const own =
    (settings.shadowStacks ? SHADOW_STACK : 0n) | (postsInterrupts ? POSTED_INTERRUPTS : 0n);
  return vcpus
    .filter((vcpu) => vcpu.hasCaretaker)
    .reduce((all, vcpu) => all | featuresOf(vcpu), own);
}

/** What a vCPU's payload says that it uses; what it can do and KVM has not given it is none of that. */
export function featuresOf({ ccbView }: KvmVcpu): bigint {
  return ccbView.get('features') & ~CARETAKER_FEATURE.POSTED_INTERRUPTS;
}

/** Writes what a VM needs into its record; the versions are those of its payloads, which share them. */
export function writeNeeds(vm: KvmVm, record: StructView, bytes: StructBytes): void {
  record.set('features', featuresInUse(vm));
  const vcpu = vm.vcpus.find(({ hasCaretaker }) => hasCaretaker);
  if (vcpu === undefined) return;
  const config = new StructView(CARETAKER_CONFIG, bytes, vcpu.memory.at('config'));
  const views = {
    ccb: vcpu.ccbView,
    config,
    telemetry: vcpu.telemetry,
    'soft-state': vcpu.softState,
  } satisfies Record<SharedStructure, StructView>;
  for (const structure of SHARED_STRUCTURES)
    record.set(VERSION_FIELD[structure], views[structure].number('header.version'));
}

/** Why a KVM with that offer cannot adopt the VM of a record; null when it can. */
export function mismatchOf(record: StructView, offer: Offer): Mismatch | null {
  const missing = record.get('features') & ~offer.features;
  if (missing !== 0n) {
    const why = `it uses ${namesOf(missing)}, which this kernel does not offer`;
    return { errno: 'EOPNOTSUPP', why };
  }
  for (const structure of SHARED_STRUCTURES) {
    const version = record.number(VERSION_FIELD[structure]);
    const spoken = offer.versions[structure];
    if (version === 0 || version === spoken) continue;
    const why = `it has ${STRUCTURE[structure]} in version ${version}; this kernel speaks ${spoken}`;
    return { errno: 'EPROTONOSUPPORT', why };
  }
  return null;
}

/** Features by name; bits that this kernel knows no name for by number. */
function namesOf(features: bigint): string {
  const known = FEATURE_NAMES.filter((name) => (features & CARETAKER_FEATURE[name]) !== 0n);
  const unknown = features & ~bitsOf(FEATURE_NAMES);
  return [...known, ...(unknown === 0n ? [] : [`bits ${hex(unknown)}`])].join(', ');
}
