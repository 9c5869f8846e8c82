/**
 * Instructions under control-flow enforcement, encoded: near and far transfers, events, the shadow-stack instructions, ENDBR64.
 *
 * Source: SDM, vol. 1, "Control-flow Enforcement Technology (CET)"; vol. 2 for the encodings.
 * Invariant: a fragment runs alone and from the start of CODE, so that RETURN_TO is where its far returns lead.
 */
import { CET } from '../../abi/msrs.js';
import { u64 } from '../../abi/uint.js';
import {
  IST_GATE,
  RETURNING_THROUGH_IST,
  RETURN_TO,
  SHADOW,
  WITHOUT_ENDBRANCH,
} from './enforcement-area.js';
import type { Fragment } from './fragments.js';
import { GUEST } from './guest-area.js';

/** A fragment, what of enforcement is on, and SSP. */
export interface EnforcedFragment extends Fragment {
  /** IA32_S_CET. */
  readonly cet: bigint;
  readonly ssp: bigint;
}

const dword = (value: bigint): string =>
  [0n, 8n, 16n, 24n]
    .map((shift) => ((value >> shift) & 0xffn).toString(16).padStart(2, '0'))
    .join(' ');
const int = (vector: number): string => `cd ${vector.toString(16).padStart(2, '0')}`;

const SHADOW_STACKS = CET.SH_STK_EN | CET.WR_SHSTK_EN;
const { TOP } = SHADOW;

const rows = (
  cet: bigint,
  table: readonly (readonly [name: string, code: string, ssp?: bigint])[],
): EnforcedFragment[] => table.map(([name, code, ssp]) => ({ name, code, cet, ssp: ssp ?? TOP }));

/** MOV ECX, msr; MOV EAX, value; XOR EDX, EDX; WRMSR. */
const wrmsr = (index: number, value: bigint): string =>
  `b9 ${dword(u64(index))} b8 ${dword(value)} 31 d2 0f 30`;
const PL0_SSP = 0x6a4;
const S_CET = 0x6a2;
const rstorssp = (address: bigint): string => `f3 0f 01 2c 25 ${dword(address)}`;
const clrssbsy = (address: bigint): string => `f3 0f ae 34 25 ${dword(address)}`;
const wrssq = (address: bigint): string => `48 0f 38 f6 04 25 ${dword(address)}`;
const wrssd = (address: bigint): string => `0f 38 f6 0c 25 ${dword(address)}`;
const wrussq = (address: bigint): string => `66 48 0f 38 f5 04 25 ${dword(address)}`;
const mov = (value: bigint): string => `b8 ${dword(value)}`;
const RETFQ = `6a 10 68 ${dword(RETURN_TO)} 48 cb`;
const IRETQ = `48 89 e0 6a 18 50 6a 02 6a 10 68 ${dword(RETURN_TO)} 48 cf`;
/** LEA RAX, [what lies behind]; a far pointer to it at RDI; CALL or JMP through it. */
const far = (transfer: string): string =>
  `48 8d 05 0c 00 00 00 48 89 07 66 c7 47 08 10 00 ${transfer}`;
const [FAR_CALL, FAR_JMP] = [far('48 ff 1f'), far('48 ff 2f')];
const [SAVEPREVSSP, SETSSBSY, RDSSPQ] = ['f3 0f 01 ea', 'f3 0f 01 e8', 'f3 48 0f 1e c8'];
const CALL_A_RETURN = 'e8 02 00 00 00 eb 01 c3';

// prettier-ignore
const ON_SHADOW_STACKS = rows(SHADOW_STACKS, [
  ['call; rdsspq; ret', 'e8 02 00 00 00 eb 06 f3 48 0f 1e c8 c3'], ['call; call; ret; ret', 'e8 02 00 00 00 eb 07 e8 01 00 00 00 c3 c3'],
  ['call of the next instruction', 'e8 00 00 00 00 58'], ['call of the next instruction; ret', 'e8 00 00 00 00 c3'],
  ['call rax', '48 8d 05 05 00 00 00 ff d0 eb 02 c3 90'], ['call [rdi]', '48 8d 05 07 00 00 00 48 89 07 ff 17 eb 01 c3'],
  ['ret imm16', '50 e8 02 00 00 00 eb 03 c2 08 00'],
  ['ret with another address', 'e8 02 00 00 00 eb 06 48 83 04 24 01 c3'], ['ret imm16 with another address', '50 e8 02 00 00 00 eb 08 48 83 04 24 01 c2 08 00'],
  ['ret to what was pushed', '48 8d 05 02 00 00 00 50 c3'], ['ret to a non-canonical address', '48 b8 00 00 00 00 00 80 00 00 50 c3'],
  ['ret to the non-canonical address that both stacks hold', `48 b8 00 00 00 00 00 80 00 00 50 ${wrssq(TOP)} c3`],
  ['call to a non-canonical address', '48 b8 00 00 00 00 00 80 00 00 ff d0'],
  ['call with SSP on an ordinary page', CALL_A_RETURN, SHADOW.PAGE], ['call with SSP on a page that is not dirty', CALL_A_RETURN, SHADOW.CLEAN + 0x100n],
  ['call with SSP on an unmapped page', CALL_A_RETURN, GUEST.UNMAPPED + 0x100n], ['call across two pages', CALL_A_RETURN, SHADOW.PAGE + 4n],
  ['ret with SSP on an ordinary page', '50 c3', GUEST.DATA], ['call with SSP 4 bytes off', CALL_A_RETURN, TOP + 4n],
  ['call of unmapped code', `${mov(GUEST.UNMAPPED)} ff d0`], ['call on an unmapped stack', `bc ${dword(GUEST.UNMAPPED)} ${CALL_A_RETURN}`],
  ['jmp rax', '48 8d 05 02 00 00 00 ff e0'], ['store to a shadow stack', `89 04 25 ${dword(TOP)}`], ['load from a shadow stack', `48 8b 04 25 ${dword(TOP)}`],
  ['push onto a shadow stack', `bc ${dword(TOP)} 50`],
  ['rdsspq; rdsspd', 'f3 48 0f 1e c8 f3 0f 1e c9'],
  ['incsspq of 0', '31 c0 f3 48 0f ae e8'], ['incsspq of 2', `${mov(2n)} f3 48 0f ae e8`], ['incsspd of 3', `${mov(3n)} f3 0f ae e8`],
  ['incsspq of 0x103', `${mov(0x103n)} f3 48 0f ae e8`], ['incsspq past the page', `${mov(255n)} f3 48 0f ae e8`], ['incsspq on an ordinary page', `${mov(1n)} f3 48 0f ae e8`, GUEST.DATA],
  ['rstorssp', `${rstorssp(SHADOW.RESTORE)} ${RDSSPQ}`], ['rstorssp; saveprevssp', `${rstorssp(SHADOW.RESTORE)} ${SAVEPREVSSP} ${RDSSPQ}`],
  ['rstorssp; saveprevssp, and back', `${rstorssp(SHADOW.RESTORE)} ${SAVEPREVSSP} ${rstorssp(TOP - 8n)} ${SAVEPREVSSP}`],
  ['rstorssp of a free token', rstorssp(SHADOW.FREE)], ['rstorssp of a busy token', rstorssp(SHADOW.BUSY)], ['rstorssp of no token', rstorssp(TOP)],
  ['rstorssp that is not aligned', rstorssp(SHADOW.RESTORE + 4n)], ['rstorssp on an ordinary page', rstorssp(GUEST.DATA)], ['rstorssp on an unmapped page', rstorssp(GUEST.UNMAPPED)],
  ['rstorssp of a token with an alignment hole', `${mov(SHADOW.RESTORE + 13n)} ${wrssq(SHADOW.RESTORE)} ${rstorssp(SHADOW.RESTORE)}`],
  ['rstorssp with SSP 4 bytes off; saveprevssp', `${rstorssp(SHADOW.RESTORE)} f8 ${SAVEPREVSSP}`, TOP + 4n],
  ['saveprevssp of no token', `${mov(0x1000n)} ${wrssq(TOP)} f8 ${SAVEPREVSSP}`], ['saveprevssp with CF set', `${rstorssp(SHADOW.RESTORE)} f9 ${SAVEPREVSSP}`], ['saveprevssp that is not aligned', SAVEPREVSSP, TOP + 4n],
  ['setssbsy', `${wrmsr(PL0_SSP, SHADOW.FREE)} ${SETSSBSY} ${RDSSPQ}`], ['setssbsy of a busy token', `${wrmsr(PL0_SSP, SHADOW.BUSY)} ${SETSSBSY}`], ['setssbsy of another token', `${wrmsr(PL0_SSP, SHADOW.OTHER)} ${SETSSBSY}`],
  ['setssbsy that is not aligned', `${wrmsr(PL0_SSP, SHADOW.FREE + 4n)} ${SETSSBSY}`], ['setssbsy on an ordinary page', `${wrmsr(PL0_SSP, GUEST.DATA)} ${SETSSBSY}`],
  ['clrssbsy of a busy token', `${clrssbsy(SHADOW.BUSY)} ${RDSSPQ}`], ['clrssbsy of a free token', clrssbsy(SHADOW.FREE)], ['clrssbsy that is not aligned', clrssbsy(SHADOW.BUSY + 4n)], ['clrssbsy on an ordinary page', clrssbsy(GUEST.DATA)],
  ['wrssq', wrssq(TOP)], ['wrssd', wrssd(TOP)], ['wrssd of the high half', wrssd(TOP + 4n)], ['wrssq that is not aligned', wrssq(TOP + 4n)], ['wrssd that is not aligned', wrssd(TOP + 2n)],
  ['wrssq on an ordinary page', wrssq(GUEST.DATA)], ['wrssq on a page that is not dirty', wrssq(SHADOW.CLEAN)], ['wrssq on an unmapped page', wrssq(GUEST.UNMAPPED)],
  ['wrussq on a supervisor page', wrussq(TOP)], ['wrussq on an ordinary page', wrussq(GUEST.DATA)], ['wrussq on an unmapped page', wrussq(GUEST.UNMAPPED)], ['wrussq that is not aligned', wrussq(TOP + 4n)],
  ['int without an IST and back', int(0x30)], ['int without an IST', int(0x81)], ['int with SSP 4 bytes off', int(0x81), TOP + 4n], ['int with SSP on an ordinary page', int(0x81), GUEST.DATA + 0x40n],
  ['int through an IST', int(IST_GATE(1))], ['int through an IST and back', int(RETURNING_THROUGH_IST)], ['int through an IST and back, twice', `${int(RETURNING_THROUGH_IST)} ${int(RETURNING_THROUGH_IST)}`],
  ['int to a busy token', int(IST_GATE(2))], ['int to another token', int(IST_GATE(3))], ['int to a token that is not aligned', int(IST_GATE(4))],
  ['int to a token without room in its region', int(IST_GATE(5))], ['int to a token on an ordinary page', int(IST_GATE(6))], ['int to a token on an unmapped page', int(IST_GATE(7))],
  ['int with the SSP table on an unmapped page', `${wrmsr(0x6a8, GUEST.UNMAPPED)} ${int(IST_GATE(1))}`],
  ['#CP whose gate is beyond the IDT', `66 c7 07 4f 01 48 c7 47 02 00 80 10 00 0f 01 1f e8 02 00 00 00 eb 06 48 83 04 24 01 c3`],
  ['#GP through an IST', 'b8 00 01 00 00 8e d8'], ['#UD without an IST', '0f 0b'], ['#PF without an IST', `8b 04 25 ${dword(GUEST.UNMAPPED)}`],
  ['#UD with SSP on an ordinary page', '0f 0b', GUEST.DATA + 0x40n], ['#GP whose token is busy', int(IST_GATE(1)), SHADOW.FREE - 24n],
  ['call far; retfq', `${FAR_CALL} eb 02 48 cb`], ['call far with SSP 4 bytes off', FAR_CALL, TOP + 4n], ['call far with SSP on an ordinary page', FAR_CALL, GUEST.DATA + 0x40n], ['jmp far', FAR_JMP],
  ['retfq with a frame', RETFQ, SHADOW.FRAME], ['retfq without a frame', RETFQ], ['retfq to a non-canonical address', '48 b9 00 00 00 00 00 80 00 00 6a 10 51 48 cb'], ['retfq that is not aligned', RETFQ, SHADOW.FRAME + 4n], ['retfq on an ordinary page', RETFQ, GUEST.DATA],
  ['retfq to another segment', `6a 70 68 ${dword(RETURN_TO)} 48 cb`, SHADOW.FRAME],
  ['retfq with high bits in CS', `b9 01 00 00 00 ${wrssd(SHADOW.FRAME + 20n)} ${RETFQ}`, SHADOW.FRAME], ['retfq to an SSP that is not aligned', `b9 01 00 00 00 ${wrssd(SHADOW.FRAME)} ${RETFQ}`, SHADOW.FRAME],
  ['iretq with a frame that frees a token', IRETQ, SHADOW.FRAME], ['iretq without a frame', IRETQ], ['iretq that is not aligned', IRETQ, SHADOW.FRAME + 4n], ['iretq on an ordinary page', IRETQ, GUEST.DATA],
  ['iretq to another address', `b9 01 00 00 00 ${wrssd(SHADOW.FRAME + 8n)} ${IRETQ}`, SHADOW.FRAME], ['iretq to an SSP that is not aligned', `b9 02 00 00 00 ${wrssd(SHADOW.FRAME)} ${IRETQ}`, SHADOW.FRAME],
  ['iretq to a non-canonical SSP', `48 b8 00 00 00 00 00 80 00 00 ${wrssq(SHADOW.FRAME)} ${IRETQ}`, SHADOW.FRAME], ['iretq to the stack behind the frame', `${mov(SHADOW.FRAME + 24n)} ${wrssq(SHADOW.FRAME)} ${IRETQ}`, SHADOW.FRAME],
  ['iretq to a non-canonical address', '48 b9 00 00 00 00 00 80 00 00 48 89 e0 6a 18 50 6a 02 6a 10 51 48 cf'],
  ['iretq whose token is not busy', `31 c0 ${wrssq(SHADOW.FRAME + 24n)} ${IRETQ}`, SHADOW.FRAME],
  ['shadow stacks off; ret to what was pushed', `${wrmsr(S_CET, 0n)} 48 8d 05 02 00 00 00 50 c3`], ['CR4.CET off; ret to what was pushed', '0f 20 e0 48 0f ba f0 17 0f 22 e0 48 8d 05 02 00 00 00 50 c3 39 c0'],
  ['shadow stacks off and on', `${wrmsr(S_CET, 0n)} 50 58 ${wrmsr(S_CET, 1n)} ${CALL_A_RETURN}`], ['rdmsr of S_CET', 'b9 a2 06 00 00 0f 32'],
  ['wrmsr of S_CET with a reserved bit', wrmsr(S_CET, 0x41n)], ['wrmsr of S_CET with SUPPRESS and TRACKER', wrmsr(S_CET, 0xc00n)], ['wrmsr of PL0_SSP that is not aligned', wrmsr(PL0_SSP, 0x1001n)],
  ['CR0.WP off under CR4.CET', '0f 20 c0 48 0f ba f0 10 0f 22 c0'],
]);

// prettier-ignore
const WITHOUT_WRSS = rows(CET.SH_STK_EN, [
  ['wrssq while it is not enabled', wrssq(TOP)], ['wrssd while it is not enabled', wrssd(TOP)], ['wrussq needs no enable', wrussq(TOP)],
]);

// prettier-ignore
const OFF = rows(CET.WR_SHSTK_EN, [
  ['rdsspq under CR4.CET alone', RDSSPQ], ['incsspq under CR4.CET alone', 'f3 48 0f ae e8'], ['saveprevssp under CR4.CET alone', SAVEPREVSSP], ['rstorssp under CR4.CET alone', rstorssp(SHADOW.RESTORE)],
  ['setssbsy under CR4.CET alone', SETSSBSY], ['clrssbsy under CR4.CET alone', clrssbsy(SHADOW.BUSY)], ['wrssq under CR4.CET alone', wrssq(TOP)], ['wrussq under CR4.CET alone', wrussq(TOP)],
  ['int through an IST under CR4.CET alone', int(IST_GATE(2))], ['call; ret under CR4.CET alone', CALL_A_RETURN], ['jmp rax under CR4.CET alone', '48 8d 05 02 00 00 00 ff e0'],
]);

const ENDBR64 = 'f3 0f 1e fa';
/** LEA RAX, [the byte behind the two that follow]; then `branch`, of two bytes, with a prefix three. */
const branchTo = (branch: string, target: string): string => {
  const length = branch.split(' ').length;
  return `48 8d 05 ${dword(u64(length + 1))} ${branch} f4 ${target}`;
};

// prettier-ignore
const TRACKED: readonly (readonly [name: string, code: string, ssp?: bigint])[] = [
  ['call rax to ENDBR64', branchTo('ff d0', ENDBR64)], ['jmp rax to ENDBR64', branchTo('ff e0', ENDBR64)], ['call rax to something else', branchTo('ff d0', '90')], ['jmp rax to something else', branchTo('ff e0', '48 ff c0')],
  ['jmp rax to a privileged instruction', branchTo('ff e0', '0f 32')], ['jmp rax to ud2', branchTo('ff e0', '0f 0b')], ['jmp rax to ENDBR32', branchTo('ff e0', 'f3 0f 1e fb')], ['jmp rax to HLT', branchTo('ff e0', 'f4')],
  ['jmp [rdi] to something else', '48 8d 05 06 00 00 00 48 89 07 ff 27 f4 90'], ['jmp [rdi] to ENDBR64', `48 8d 05 06 00 00 00 48 89 07 ff 27 f4 ${ENDBR64}`], ['call [rdi] to something else', '48 8d 05 06 00 00 00 48 89 07 ff 17 f4 90'],
  ['notrack jmp rax to something else', branchTo('3e ff e0', '90')], ['notrack call rax to something else', branchTo('3e ff d0', '90')], ['notrack jmp rax to ENDBR64', branchTo('3e ff e0', ENDBR64)],
  ['jmp rax with the no-track and another prefix', branchTo('3e 2e ff e0', '90')], ['jmp rax with the no-track and the FS prefix', branchTo('3e 64 ff e0', '90')],
  ['direct jmp, call and ret', 'eb 00 e8 02 00 00 00 eb 01 c3'], ['jz', '74 00 90'], ['ENDBR64 without a branch', ENDBR64],
  ['jmp rax to an unmapped page', `${mov(GUEST.UNMAPPED)} ff e0`], ['jmp rax to data', `${mov(GUEST.DATA)} ff e0`], ['jmp rax to a non-canonical address', '48 b8 00 00 00 00 00 80 00 00 ff e0'],
  ['int to ENDBR64', int(0x81)], ['int to something else', int(WITHOUT_ENDBRANCH)], ['int and back', int(0x30)], ['ud2', '0f 0b'],
  ['jmp far to ENDBR64', `${FAR_JMP} ${ENDBR64}`], ['jmp far to something else', `${FAR_JMP} 90`], ['call far to something else', `${FAR_CALL} 90`],
  ['rdmsr of S_CET at the target', branchTo('ff e0', `${ENDBR64} b9 a2 06 00 00 0f 32`)], ['TRACKER set by wrmsr, then ENDBR64', `${wrmsr(S_CET, 0x814n)} ${ENDBR64}`], ['TRACKER set by wrmsr, then something else', `${wrmsr(S_CET, 0x814n)} 90`],
  ['TRACKER set by wrmsr, then a site', `${wrmsr(S_CET, 0x814n)} 0f 20 c0`],
];

/** Tried on both machines, each on its own. */
export const ENFORCED: readonly EnforcedFragment[] = [
  ...ON_SHADOW_STACKS,
  ...WITHOUT_WRSS,
  ...OFF,
  ...rows(CET.ENDBR_EN, TRACKED),
  ...rows(CET.ENDBR_EN | CET.NO_TRACK_EN, TRACKED.slice(11, 16)),
  ...rows(CET.ENDBR_EN | SHADOW_STACKS, TRACKED.slice(0, 8)),
  ...rows(CET.ENDBR_EN | CET.LEG_IW_EN, [
    ['jmp rax under the legacy bitmap', branchTo('ff e0', '90')],
  ]),
  ...rows(CET.ENDBR_EN | CET.SUPPRESS, [['jmp rax under suppression', branchTo('ff e0', '90')]]),
];
