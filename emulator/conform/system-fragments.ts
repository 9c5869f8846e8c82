/**
 * System registers written and read back, each put back as it was: what one instruction alone does not show.
 *
 * Source: SDM, "MOV—Move to/from Control Registers", "MOV—Move to/from Debug Registers", "SWAPGS—Swap GS Base Register",
 * "CLTS—Clear Task-Switched Flag in CR0", "LTR—Load Task Register".
 * Invariant: a sequence leaves no register changed that the next one does not set; flags are defined at its end.
 * Not here: CR8, which is the virtual-APIC page's in the second machine's guest.
 */
import type { Fragment } from './fragments.js';

const CMP_RAX_RAX = '48 39 c0';

// prettier-ignore
const ROWS: readonly (readonly [name: string, ...code: string[]])[] = [
  ['mov dr6 of any value reads back with its fixed bits',
    '48 89 c8', '0d 00 08 01 00',                      // EAX = ECX with RTM and bus-lock detection, which the second machine has not
    '0f 23 f0', '0f 21 f3',                            // DR6 = RAX; RBX = DR6
    'b8 f0 0f ff ff', '0f 23 f0'],                     // DR6 = 0xffff0ff0
  ['mov dr7 of reserved bits reads back without them',
    'b8 00 db 00 00', '0f 23 f8', '0f 21 fb',          // DR7 = 0xdb00; RBX = DR7
    'b8 00 04 00 00', '0f 23 f8'],                     // DR7 = 0x400
  ['swapgs exchanges both bases',
    '0f 20 e0', '48 0f ba e8 10', '0f 22 e0',          // CR4.FSGSBASE = 1
    '0f 01 f8', 'ba 67 45 23 01', 'f3 48 0f ae da',    // SWAPGS; WRGSBASE 0x1234567
    '0f 01 f8', 'f3 48 0f ae cb',                      // SWAPGS; RDGSBASE RBX
    '0f 01 f8', 'f3 48 0f ae cd',                      // SWAPGS; RDGSBASE RBP
    '31 d2', 'f3 48 0f ae da', '0f 01 f8',             // WRGSBASE 0; SWAPGS
    '48 0f ba f0 10', '0f 22 e0'],                     // CR4.FSGSBASE = 0
  ['clts behind CR0.TS',
    '0f 20 c0', '0c 08', '0f 22 c0', '0f 06', '0f 20 c3'],
  ['mov cr3 with bit 63 and without CR4.PCIDE',
    '0f 20 d8', '48 0f ba e8 3f', CMP_RAX_RAX, '0f 22 d8'],
  ['mov cr4 with PCIDE while CR3 has a PCID',
    '0f 20 d8', '48 83 c8 08', '0f 22 d8', '0f 20 e0', '48 0f ba e8 11', CMP_RAX_RAX, '0f 22 e0'],
];

/** Every sequence. */
export const SYSTEM_SEQUENCES: readonly Fragment[] = ROWS.map(([name, ...code]) => ({
  name,
  code: [...code, CMP_RAX_RAX].join(' '),
}));
