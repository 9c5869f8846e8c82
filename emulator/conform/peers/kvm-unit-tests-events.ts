/**
 * kvm-unit-tests' cases on what VM entry injects, as attempts of ours.
 *
 * Source: kvm-unit-tests x86/vmx_tests.c, test_invalid_event_injection(); SDM, "VM-Entry Control Fields".
 */
import { ERROR_CODE_VECTORS, INTR_INFO, VECTOR } from '../../../abi/interruption.js';
import { SECONDARY } from '../../../abi/vmx-controls.js';
import type { VmcsDescription } from '../../vmx/description.js';
import { withBits, withoutBits } from '../../vmx/entry-checks/values.js';
import type { VmxCapabilities } from '../../vmx/capabilities.js';
import { entryRow, range, type PeerAttempt, type PeerRow } from './peer-row.js';

const ERROR_CODE = INTR_INFO.DELIVER_CODE;
const VALID = 1 << 31;
/** Types of events by number. */
const TYPE = {
  EXT: 0,
  RESERVED: 1,
  NMI: 2,
  HARD: 3,
  SOFT_INT: 4,
  PRIVILEGED: 5,
  SOFT_EXCEPTION: 6,
  OTHER: 7,
} as const;

const info = (type: number, vector: number, more = 0): VmcsDescription => ({
  VM_ENTRY_INTR_INFO_FIELD: BigInt((VALID | (type << 8) | vector | more) >>> 0),
  VM_ENTRY_INSTRUCTION_LEN: 1n,
});

const NOT_FOR_THIS_TYPE =
  'an injected event that is no hardware exception must not deliver an error code';
const OUTSIDE_PROTECTED_MODE =
  'an exception injected outside protected mode must not deliver an error code';
const NOT_FOR_THIS_VECTOR =
  'an injected exception without an error code by its vector must not deliver one (unless IA32_VMX_BASIC[56] is 1)';
const MISSING =
  'an exception with an error code by its vector must deliver it in protected mode (unless IA32_VMX_BASIC[56] is 1)';

const refused = (overrides: VmcsDescription, refusedBy: string, isFree = false): PeerAttempt =>
  isFree ? { overrides } : { overrides, refusedBy };

function errorCodes(base: VmcsDescription, { freeErrorCodes }: VmxCapabilities): PeerAttempt[] {
  const realMode = {
    SECONDARY_VM_EXEC_CONTROL: withBits(
      base,
      'SECONDARY_VM_EXEC_CONTROL',
      SECONDARY.UNRESTRICTED_GUEST,
    ),
    GUEST_CR0: withoutBits(base, 'GUEST_CR0', 0x8000_0001),
  };
  return [
    refused(info(TYPE.HARD, VECTOR.GP), MISSING, freeErrorCodes),
    { overrides: info(TYPE.HARD, VECTOR.GP, ERROR_CODE) },
    refused({ ...realMode, ...info(TYPE.HARD, VECTOR.GP, ERROR_CODE) }, OUTSIDE_PROTECTED_MODE),
    ...Object.values(TYPE)
      .filter((type) => type !== TYPE.RESERVED && type !== TYPE.HARD && type !== TYPE.OTHER)
      .map((type) =>
        refused(info(type, type === TYPE.NMI ? 2 : VECTOR.GP, ERROR_CODE), NOT_FOR_THIS_TYPE),
      ),
    ...range(0, 31)
      .filter((vector) => vector !== VECTOR.CP) // processors differ
      .flatMap((vector): PeerAttempt[] => {
        const [bad, good] = [info(TYPE.HARD, vector), info(TYPE.HARD, vector, ERROR_CODE)];
        return ERROR_CODE_VECTORS.has(vector)
          ? [refused(bad, MISSING, freeErrorCodes), { overrides: good }]
          : [refused(good, NOT_FOR_THIS_VECTOR, freeErrorCodes), { overrides: bad }];
      }),
    ...range(16, 31).map((bit) =>
      refused(
        {
          ...info(TYPE.HARD, VECTOR.GP, ERROR_CODE),
          VM_ENTRY_EXCEPTION_ERROR_CODE: 1n << BigInt(bit),
        },
        'if an error code is delivered, its bits 31:16 must be 0',
      ),
    ),
  ];
}

/** The cases: one test there, four here. */
export const EVENT_ROWS: readonly PeerRow[] = [
  entryRow(
    'test_invalid_event_injection: types and vectors',
    'reserved types, and vectors that a type does not have',
    () => [
      refused(
        info(TYPE.RESERVED, VECTOR.DE),
        'an injected event must not have the reserved type 1, nor type 7 without the monitor trap flag',
      ),
      { overrides: info(TYPE.EXT, VECTOR.DE) },
      refused(
        info(TYPE.OTHER, VECTOR.DB),
        'an injected other event must have vector 0 (pending MTF VM exit)',
      ),
      refused(info(TYPE.NMI, VECTOR.DE), 'an injected NMI must have vector 2'),
      { overrides: info(TYPE.NMI, VECTOR.NMI) },
      refused(
        info(TYPE.HARD, 32),
        'an injected hardware exception must have a vector of at most 31',
      ),
    ],
  ),
  entryRow(
    'test_invalid_event_injection: error codes',
    'which events deliver an error code, by type, vector and mode',
    errorCodes,
  ),
  entryRow(
    'test_invalid_event_injection: reserved bits',
    'each reserved bit of the interruption information',
    () =>
      range(12, 30).map((bit) =>
        refused(
          info(TYPE.HARD, VECTOR.GP, ERROR_CODE | (1 << bit)),
          'reserved bits 30:12 of the VM-entry interruption information must be 0',
        ),
      ),
  ),
  entryRow('test_invalid_event_injection: instruction lengths', 'lengths of software events', () =>
    [TYPE.SOFT_INT, TYPE.SOFT_EXCEPTION, TYPE.PRIVILEGED].flatMap((type) =>
      [0xffff_ffffn, 16n].map((VM_ENTRY_INSTRUCTION_LEN) =>
        refused(
          { ...info(type, 0), VM_ENTRY_INSTRUCTION_LEN },
          'an injected software interrupt or exception must have an instruction length of 0 (if IA32_VMX_MISC[30] is 1) or 1 to 15',
        ),
      ),
    ),
  ),
];
