/**
 * Bad and good values of the fields whose checks have masks, sets and conditions: each combination that a rule tells apart.
 *
 * Source: SDM, "Checks on Guest Segment Registers", "Checks on Guest Non-Register State", "VM-Entry Control Fields".
 * Invariant: nothing here looks at the model's own checks, so that a check that is missing there shows; no guest waits for a
 * SIPI, in which no timer runs, unless something is injected, which VM entry refuses.
 */
import { INTR_TYPE } from '../../abi/interruption.js';
import { hex, u64 } from '../../abi/uint.js';
import type { FieldName } from '../../abi/vmcs-fields.js';
import { ENTRY_CONTROL, EXIT_CONTROL, PIN, PRIMARY, SECONDARY } from '../../abi/vmx-controls.js';
import type { VmxCapabilities } from '../vmx/capabilities.js';
import type { VmcsDescription } from '../vmx/description.js';
import { baseVmcs } from './base-vmcs.js';
import type { Attempt } from './entry-rows.js';

/** What an attempt is called, and what it has. */
type Named = readonly [title: string, overrides: VmcsDescription];

const range = (from: number, to: number): number[] =>
  Array.from({ length: to - from + 1 }, (_, i) => from + i);
/** Every choice of one of each. */
const each = <A, B>(as: readonly A[], bs: readonly B[]): (readonly [A, B])[] =>
  as.flatMap((a) => bs.map((b) => [a, b] as const));

const SEGMENTS = ['CS', 'SS', 'DS', 'ES', 'FS', 'GS', 'TR', 'LDTR'] as const;
type Segment = (typeof SEGMENTS)[number];
const PRESENT = 0x80;
const LONG_CODE = 0xa000;
const FLAT_DATA = 0xc000;
const BYTE_GRANULAR = 0;

/** The bits that are neither type, S nor DPL of a register that is usable. */
const restOf = (segment: Segment): number => {
  if (segment === 'CS') return LONG_CODE | PRESENT;
  return (segment === 'TR' || segment === 'LDTR' ? BYTE_GRANULAR : FLAT_DATA) | PRESENT;
};
const LEGAL: Readonly<Record<Segment, number>> = {
  CS: 0xa09b,
  SS: 0xc093,
  DS: 0xc093,
  ES: 0xc093,
  FS: 0xc093,
  GS: 0xc093,
  TR: 0x8b,
  LDTR: 0x82,
};
const rights = (segment: Segment, value: number): VmcsDescription => ({
  [`GUEST_${segment}_AR_BYTES` as FieldName]: u64(value),
});
const limitOf = (segment: Segment, value: number): VmcsDescription => ({
  [`GUEST_${segment}_LIMIT` as FieldName]: u64(value),
});

/** Each type, S, DPL and single bit of the access rights of a register that is usable; and its limit with G. */
const accessRights = (segment: Segment): Named[] => [
  ...each(range(0, 31), range(0, 3)).map(([type, dpl]): Named => {
    const value = restOf(segment) | type | (dpl << 5);
    return [`${segment} with access rights ${hex(value)}`, rights(segment, value)];
  }),
  ...range(0, 31).map((bit): Named => {
    const value = (LEGAL[segment] ^ (1 << bit)) >>> 0;
    return [`${segment} with access rights ${hex(value)}`, rights(segment, value)];
  }),
  ...each([0, 0xfff, 0xf_fffe, 0xf_ffff, 0x10_0000, 0x10_0fff, 0xffff_ffff], [0, 0x8000]).map(
    ([limit, granularity]): Named => [
      `${segment} with limit ${hex(limit)} and G ${granularity >>> 15}`,
      {
        ...rights(segment, (LEGAL[segment] & ~0x8000) | granularity),
        ...limitOf(segment, limit),
      },
    ],
  ),
];

/** CS and SS with each type that code may have and each pair of privilege levels. */
const PRIVILEGES: readonly Named[] = each([3, 9, 11, 13, 15], each(range(0, 3), range(0, 3))).map(
  ([type, [code, stack]]): Named => [
    `CS of type ${type} and DPL ${code} with SS of DPL ${stack}`,
    {
      ...rights('CS', LONG_CODE | PRESENT | 0x10 | type | (code << 5)),
      ...rights('SS', FLAT_DATA | PRESENT | 0x13 | (stack << 5)),
      GUEST_CS_SELECTOR: u64(0x10 | stack),
      GUEST_SS_SELECTOR: u64(0x18 | stack),
    },
  ],
);

/** Data segments: RPL against DPL, conforming code and other types. */
const DATA_PRIVILEGES: readonly Named[] = each(
  ['DS', 'ES', 'FS', 'GS'] as const,
  each([3, 11, 15], each(range(0, 3), range(0, 3))),
).map(([segment, [type, [dpl, rpl]]]): Named => [
  `${segment} of type ${type} and DPL ${dpl} with RPL ${rpl}`,
  {
    ...rights(segment, FLAT_DATA | PRESENT | 0x10 | type | (dpl << 5)),
    [`GUEST_${segment}_SELECTOR` as FieldName]: u64(0x18 | rpl),
  },
]);

const IF = 0x200n;
const TF = 0x100n;
/** RFLAGS with interrupts off, on, and on under a single step. */
const FLAGS: readonly Named[] = [
  ['', { GUEST_RFLAGS: 2n }],
  [' and IF', { GUEST_RFLAGS: 2n | IF }],
  [' and TF', { GUEST_RFLAGS: 2n | IF | TF }],
];

const injection = (type: number, vector: number, more = 0): VmcsDescription => ({
  VM_ENTRY_INTR_INFO_FIELD: u64((0x8000_0000 | more | (type << 8) | vector) >>> 0),
  VM_ENTRY_INSTRUCTION_LEN: 1n,
});
const EVENTS: readonly Named[] = [
  ['', {}],
  [' and an interrupt', injection(INTR_TYPE.EXT_INTR, 0x30)],
  [' and an NMI', injection(INTR_TYPE.NMI_INTR, 2)],
  [' and #UD', injection(INTR_TYPE.HARD_EXCEPTION, 6)],
  [' and #MC', injection(INTR_TYPE.HARD_EXCEPTION, 18)],
];

const INTERRUPTIBILITY: readonly Named[] = [
  ...each(range(0, 31), each(FLAGS.slice(0, 2), EVENTS)).map(
    ([state, [[flags, rflags], [event, injected]]]): Named => [
      `interruptibility ${hex(state)}${flags}${event}`,
      { ...rflags, ...injected, GUEST_INTERRUPTIBILITY_INFO: u64(state) },
    ],
  ),
  ...range(5, 31).map((bit): Named => [
    `interruptibility with bit ${bit}`,
    { GUEST_INTERRUPTIBILITY_INFO: 1n << u64(bit) },
  ]),
];

/** States 0 to 4; waiting for a SIPI only with an event. */
const ACTIVITIES: readonly Named[] = each(range(0, 4), each([0, 1, 2], EVENTS))
  .filter(([state, [, [event]]]) => state !== 3 || event !== '')
  .map(([state, [blocking, [event, injected]]]): Named => [
    `activity state ${state} under blocking ${blocking}${event}`,
    {
      ...injected,
      GUEST_RFLAGS: 2n | IF,
      GUEST_ACTIVITY_STATE: u64(state),
      GUEST_INTERRUPTIBILITY_INFO: u64(blocking),
    },
  ]);

const PENDING: readonly Named[] = [
  ...each(range(0, 31), FLAGS).map(([bit, [flags, rflags]]): Named => [
    `pending debug exceptions with bit ${bit}${flags}`,
    { ...rflags, GUEST_PENDING_DBG_EXCEPTIONS: 1n << u64(bit) },
  ]),
  ...each([0n, 0x4000n], each(FLAGS, [0, 1, 2])).map(
    ([pending, [[flags, rflags], blocking]]): Named => [
      `pending debug exceptions ${hex(pending)} under blocking ${blocking}${flags}`,
      {
        ...rflags,
        GUEST_PENDING_DBG_EXCEPTIONS: pending,
        GUEST_INTERRUPTIBILITY_INFO: u64(blocking),
      },
    ],
  ),
];

/** Events to inject: each type with vectors on both sides of what it allows, with and without an error code. */
const INJECTIONS: readonly Named[] = [
  ...each(range(0, 7), each([0, 1, 2, 3, 6, 8, 10, 14, 17, 18, 31, 32, 255], [0, 0x800])).map(
    ([type, [vector, code]]): Named => [
      `an event of type ${type} and vector ${vector}${code === 0 ? '' : ' with an error code'}`,
      injection(type, vector, code),
    ],
  ),
  ...range(12, 30).map((bit): Named => [
    `an event with bit ${bit} of its information`,
    injection(INTR_TYPE.HARD_EXCEPTION, 6, 1 << bit),
  ]),
  ...range(0, 31).map((bit): Named => [
    `#GP with bit ${bit} of its error code`,
    {
      ...injection(INTR_TYPE.HARD_EXCEPTION, 13, 0x800),
      VM_ENTRY_EXCEPTION_ERROR_CODE: 1n << u64(bit),
    },
  ]),
  ...each([4, 5, 6], [0, 1, 15, 16, 32]).map(([type, length]): Named => [
    `a software event of type ${type} and length ${length}`,
    { ...injection(type, 3), VM_ENTRY_INSTRUCTION_LEN: u64(length) },
  ]),
];

const CR0_WP = 1n << 16n;
const CR4_CET = 1n << 23n;
/** CR4.CET and CR0.WP of a host and of a guest, loaded with the rest of their CET state and without. */
const enforcement = (base: VmcsDescription): Named[] =>
  each(['HOST', 'GUEST'] as const, each([0n, CR0_WP], [true, false])).map(
    ([whose, [wp, isLoaded]]): Named => {
      const controls = whose === 'HOST' ? 'VM_EXIT_CONTROLS' : 'VM_ENTRY_CONTROLS';
      const bit = u64(
        whose === 'HOST' ? EXIT_CONTROL.LOAD_CET_STATE : ENTRY_CONTROL.LOAD_CET_STATE,
      );
      return [
        `${whose} CR4.CET with CR0.WP ${wp === 0n ? 0 : 1}, CET state ${isLoaded ? '' : 'not '}loaded`,
        {
          [`${whose}_CR0`]: (base[`${whose}_CR0`]! & ~CR0_WP) | wp,
          [`${whose}_CR4`]: base[`${whose}_CR4`]! | CR4_CET,
          [controls]: isLoaded ? base[controls]! | bit : base[controls]! & ~bit,
        },
      ];
    },
  );

/** Controls that need something, without it. */
const controls = (base: VmcsDescription): Named[] => {
  const withSecondary = (bits: number, rest: VmcsDescription = {}): VmcsDescription => ({
    SECONDARY_VM_EXEC_CONTROL: base.SECONDARY_VM_EXEC_CONTROL! | u64(bits >>> 0),
    ...rest,
  });
  const noNmis = base.PIN_BASED_VM_EXEC_CONTROL! & ~u64(PIN.VIRTUAL_NMIS | PIN.NMI_EXITING);
  return [
    ...[0n, 1n, 1n << 32n, 1n << 63n].map((value): Named => [
      `TSC scaling by ${value.toString(16)}`,
      withSecondary(SECONDARY.TSC_SCALING, { TSC_MULTIPLIER: value }),
    ]),
    ...range(0, 11).flatMap((bit): Named[] => [
      [`PML page ${bit}`, withSecondary(SECONDARY.ENABLE_PML, { PML_ADDRESS: 1n << u64(bit) })],
      [
        `VMREAD bitmap ${bit}`,
        withSecondary(SECONDARY.SHADOW_VMCS, { VMREAD_BITMAP: 1n << u64(bit) }),
      ],
      [
        `VMWRITE bitmap ${bit}`,
        withSecondary(SECONDARY.SHADOW_VMCS, { VMWRITE_BITMAP: 1n << u64(bit) }),
      ],
    ]),
    ...each([0, PIN.NMI_EXITING], [0, PIN.VIRTUAL_NMIS]).flatMap(([exiting, virtual]) =>
      [0, PRIMARY.NMI_WINDOW_EXITING].map((window): Named => [
        `NMI exiting ${hex(exiting)}, virtual NMIs ${hex(virtual)}, NMI window ${hex(window)}`,
        {
          PIN_BASED_VM_EXEC_CONTROL: noNmis | u64(exiting | virtual),
          CPU_BASED_VM_EXEC_CONTROL: base.CPU_BASED_VM_EXEC_CONTROL! | u64(window),
        },
      ]),
    ),
  ];
};

/** The same of an unrestricted guest, for which rules on segments are others. */
const unrestricted = (base: VmcsDescription, named: readonly Named[]): Named[] =>
  named.map(([title, overrides]) => [
    `${title}, unrestricted`,
    {
      SECONDARY_VM_EXEC_CONTROL:
        base.SECONDARY_VM_EXEC_CONTROL! | u64(SECONDARY.UNRESTRICTED_GUEST),
      VM_ENTRY_CONTROLS: base.VM_ENTRY_CONTROLS! & ~u64(ENTRY_CONTROL.IA32E_MODE),
      GUEST_IA32_EFER: 0n,
      GUEST_CR0: base.GUEST_CR0! & ~0x8000_0000n,
      ...overrides,
    },
  ]);

/** Every value. */
export function valueAttempts(capabilities: VmxCapabilities): Attempt[] {
  const base = baseVmcs(capabilities);
  const segments = SEGMENTS.flatMap(accessRights);
  return [
    ...segments,
    ...PRIVILEGES,
    ...DATA_PRIVILEGES,
    ...INTERRUPTIBILITY,
    ...ACTIVITIES,
    ...PENDING,
    ...INJECTIONS,
    ...controls(base),
    ...enforcement(base),
    ...unrestricted(base, [...accessRights('CS'), ...accessRights('SS'), ...PRIVILEGES]),
  ]
    .map(([title, overrides]): Attempt => ({ title, overrides, memory: [] }))
    .concat({ title: 'VMLAUNCH right behind MOV SS', overrides: {}, memory: [], how: 'movss' });
}
