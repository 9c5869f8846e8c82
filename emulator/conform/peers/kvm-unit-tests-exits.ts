/**
 * kvm-unit-tests' cases on VM exits, each with our own cases that hold it on both machines.
 *
 * Source: kvm-unit-tests x86/vmx_tests.c, insn_table[] and vmx_tests[]; SDM, "Instructions That Cause VM Exits".
 */
import { CET_STATE_CASES } from '../cet-state-cases.js';
import { VMX_INSTRUCTION_CASES } from '../vmx-instruction-cases.js';
import { caseRow, notOfferedRow, type PeerRow } from './peer-row.js';

const GUEST_INSIDE = 'the guest meets it without an exit, and no guest code runs on the model';
const NO_TLB =
  'it is about translations of linear addresses that a TLB keeps, and none is modelled';
const VIRTUAL_INTERRUPTS =
  'virtual interrupts are delivered without an exit, and no guest code runs on the model';
const FRAMEWORK = 'it tests the peer’s own framework';
const NESTED = 'a payload is no nested hypervisor';
const USER_EXECUTE =
  'it is about mode-based execute control, which the second machine does not offer and KVM gives to no guest of its own';
const A_TIME = 'it bounds a time, and the two machines share no clock';

const ALL_ALLOWED = 'HLT';

/** The cases of EPT permissions, with ours. */
const EPT_ACCESS: readonly (readonly [test: string, ...titles: string[]])[] = [
  [
    'ept_access_test_read_only',
    'a load from a page that may be read goes on',
    'a store to a page that may be read: its rights are in the qualification',
    'a fetch from a page that may be read: its rights are in the qualification',
  ],
  ['ept_access_test_read_write', 'a fetch from a page that may be read and written'],
  [
    'ept_access_test_execute_only',
    'a load from a page that may be executed alone',
    'a store to a page that may be executed alone',
  ],
  ['ept_access_test_read_execute', 'a store to a page that may be read and executed'],
  [
    'ept_access_test_write_execute',
    'a fetch from a page that may be written, executed and not read',
  ],
  ['ept_access_test_read_write_execute', ALL_ALLOWED],
  ['ept_access_test_force_2m_page', ALL_ALLOWED],
  [
    'ept_access_test_reserved_bits',
    'a load from a page beyond the physical width',
    'a load from a page with an address bit below its size',
    'a load from a page whose memory type is 2',
  ],
  [
    'ept_access_test_ignored_bits',
    'a load from a page with bits in its entry that mean nothing goes on',
  ],
  ['ept_access_test_paddr_not_present_ad_disabled', 'a walk of guest tables that EPT does not map'],
  [
    'ept_access_test_paddr_not_present_ad_enabled',
    'the same where EPT keeps accessed and dirty flags is a write',
  ],
  [
    'ept_access_test_paddr_read_only_ad_disabled',
    'a walk that sets an accessed flag in read-only guest tables',
    'a walk of read-only guest tables with their accessed flag set is allowed',
  ],
  [
    'ept_access_test_paddr_read_only_ad_enabled',
    'a walk of read-only guest tables where EPT keeps accessed and dirty flags',
  ],
  ['ept_access_test_paddr_read_write', 'a walk of read-write guest tables is allowed'],
  ['ept_access_test_paddr_read_write_execute', ALL_ALLOWED],
  [
    'ept_access_test_paddr_read_execute_ad_disabled',
    'a walk that sets an accessed flag in read-execute guest tables',
  ],
  [
    'ept_access_test_paddr_read_execute_ad_enabled',
    'a walk of read-execute guest tables where EPT keeps accessed and dirty flags',
  ],
  ['ept_access_test_paddr_not_present_page_fault', '#PF of a load'],
];

/** The cases. */
export const EXIT_ROWS: readonly PeerRow[] = [
  caseRow('insn_table: HLT', 'HLT exits with reason 12', 'HLT'),
  caseRow('insn_table: INVLPG', 'INVLPG exits with reason 14 and its address', 'INVLPG [RDI]'),
  caseRow('insn_table: MWAIT', 'MWAIT exits with reason 36', 'MWAIT'),
  caseRow('insn_table: RDPMC', 'RDPMC exits with reason 15', 'RDPMC'),
  caseRow('insn_table: RDTSC', 'RDTSC exits with reason 16', 'RDTSC'),
  caseRow('insn_table: CR3 load', 'MOV to CR3 exits with reason 28', 'MOV CR3, R9'),
  caseRow('insn_table: CR3 store', 'MOV from CR3 exits with reason 28', 'MOV RCX, CR3'),
  caseRow('insn_table: CR8 load', 'MOV to CR8 exits with reason 28', 'MOV CR8, RAX'),
  caseRow('insn_table: CR8 store', 'MOV from CR8 exits with reason 28', 'MOV RDX, CR8'),
  caseRow('insn_table: MONITOR', 'MONITOR exits with reason 39', 'MONITOR'),
  caseRow('insn_table: PAUSE', 'PAUSE exits with reason 40', 'PAUSE'),
  caseRow('insn_table: WBINVD', 'WBINVD exits with reason 54', 'WBINVD'),
  caseRow('insn_table: SGDT', 'SGDT exits with reason 46', 'SGDT [RDI]'),
  caseRow('insn_table: LGDT', 'LGDT exits with reason 46', 'LGDT [RDI]'),
  caseRow('insn_table: SIDT', 'SIDT exits with reason 46', 'SIDT [RDI]'),
  caseRow('insn_table: LIDT', 'LIDT exits with reason 46', 'LIDT [RDI + 8]'),
  caseRow('insn_table: SLDT', 'SLDT exits with reason 47', 'SLDT EAX'),
  caseRow('insn_table: LLDT', 'LLDT exits with reason 47', 'LLDT AX'),
  caseRow('insn_table: STR', 'STR exits with reason 47', 'STR RCX'),
  caseRow('insn_table: RDRAND', 'RDRAND exits with reason 57', 'RDRAND RBX'),
  caseRow('insn_table: RDSEED', 'RDSEED exits with reason 61', 'RDSEED R9D'),
  caseRow('insn_table: CPUID', 'CPUID always exits, with reason 10', 'CPUID'),
  caseRow('insn_table: INVD', 'INVD always exits, with reason 13', 'INVD'),
  caseRow(
    'vmenter',
    'an exit keeps the general registers, and the guest goes on with them',
    'registers survive a HLT',
  ),
  caseRow(
    'preemption timer',
    'the timer counts, expires and exits with reason 52',
    'the preemption timer expires while the guest spins',
  ),
  caseRow(
    'vmx_preemption_timer_zero_test',
    'a timer of 0 exits before the first instruction',
    'a preemption timer of 0 expires before the first instruction',
  ),
  caseRow(
    'vmx_preemption_timer_expiry_test',
    'the timer expires in the HLT state, too',
    'the preemption timer expires in the HLT state',
  ),
  caseRow(
    'CR shadowing',
    'writes of bits of CR0 and CR4 that the host owns exit',
    'MOV CR0, RAX changes a bit that the host owns',
    'MOV CR4, RBX changes a bit that the host owns',
    'CLTS with a host-owned TS that the shadow sets',
    'LMSW AX with host-owned bits',
  ),
  caseRow(
    'I/O bitmap',
    'I/O of every size and direction exits with its port',
    'OUT DX, AL',
    'OUT DX, AX',
    'OUT DX, EAX',
    'OUT imm8, AL',
    'IN AL, DX',
    'IN EAX, imm8',
    'OUTSB',
    'REP INSW',
  ),
  caseRow(
    'interrupt',
    'an external interrupt exits, acknowledged or not',
    'an external interrupt is acknowledged by the exit',
    'an external interrupt that the exit does not acknowledge stays pending',
  ),
  caseRow('nmi_hlt', 'an NMI exits and blocks NMIs', 'an NMI exits and leaves NMIs blocked'),
  caseRow(
    'vmx_nmi_window_test',
    'the NMI window opens at once, or after IRET',
    'an open NMI window exits at once',
    'the NMI window opens after IRET',
  ),
  caseRow(
    'vmx_intr_window_test',
    'the interrupt window opens at once, after STI, MOV SS and POPF',
    'an open interrupt window exits at once',
    'STI opens the interrupt window one instruction later',
    'blocking by MOV SS keeps the interrupt window shut for one instruction',
    'POPF opens the interrupt window at once',
  ),
  caseRow(
    'vmx_exception_test',
    'exceptions of a guest exit with their vector and error code',
    '#UD of UD2',
    '#DE of DIV',
    '#GP of a non-canonical load',
    '#BP of INT3',
    '#DB of INT1',
    '#PF of a load',
    '#NP of MOV FS',
    '#SS of a non-canonical load from the stack',
  ),
  caseRow(
    'vmx_pf_exception_test',
    'a page fault exits with its address as qualification',
    '#PF of a load',
    '#PF of a store',
    '#PF of a fetch',
  ),
  caseRow('vmx_db_test', 'a single step exits as a trap', '#DB of a single step is a trap'),
  caseRow(
    'ept_access_test_not_present',
    'an access without EPT translation exits with what it wanted',
    'a store to a page without EPT translation',
    'a load from a page without EPT translation',
    'a fetch from a page without EPT translation',
  ),
  caseRow(
    'ept_access_test_write_only',
    'a misconfigured EPT entry exits with reason 49',
    'a store to a page that may be written and not read',
    'a load from a page that may be written and not read',
  ),
  caseRow('vmmcall', 'VMCALL exits with reason 18', 'VMCALL'),
  caseRow('disable RDTSCP', 'RDTSCP exits with reason 51 where RDTSC does', 'RDTSCP'),
  caseRow('vmx_cr4_osxsave_test', 'XSETBV exits with reason 55', 'XSETBV'),
  caseRow('debug controls', 'VM exit loads DR7 with 0x400', 'HLT', 'MOV DR7, RAX'),
  caseRow('vmx_no_nm_test', '#NM of CR0.TS exits', '#NM with CR0.TS'),
  caseRow(
    'control field PAT',
    'an exit saves the guest’s PAT and loads the host’s',
    'the host has its own PAT, and the guest’s is saved',
  ),
  caseRow(
    'control field EFER',
    'an exit saves the guest’s EFER and loads the host’s',
    'the host has its own EFER, and the guest’s is saved',
  ),
  caseRow('int3', 'INT3 exits as a software exception', '#BP of INT3'),
  caseRow('into', 'INTO exits as a software exception', '#OF of INTO in a 32-bit guest'),
  caseRow('vmx_nm_test', '#NM of CR0.TS exits', '#NM with CR0.TS'),
  caseRow(
    'vmx_ldtr_test',
    'an exit leaves the host without an LDT',
    'the host has no LDT where the guest has one',
  ),
  caseRow(
    'vmx_cr_load_test',
    'an exit loads a CR3 with a PCID',
    'the host’s CR3 and CR4 are loaded with a PCID',
  ),
  caseRow(
    'vmx_pending_event_test',
    'an interrupt that is pending at VM entry exits before the guest runs',
    'an interrupt that is pending at VM entry exits at once',
  ),
  caseRow(
    'vmx_pending_event_hlt_test',
    'the same into the HLT state',
    'an interrupt that is pending at VM entry into the HLT state exits at once',
  ),
  caseRow('vmx_init_signal_test', 'INIT to a guest exits with reason 3', 'an INIT to a guest'),
  caseRow(
    'vmx_sipi_signal_test',
    'a SIPI exits with reason 4 and its vector',
    'a SIPI to a guest that waits for it',
  ),
  caseRow(
    'vmx_preemption_timer_tf_test',
    'the timer leaves no single step pending, and a pending one comes first',
    'a preemption timer of 0 exits before a single step, and leaves none pending',
    'a pending single step comes before a preemption timer of 0',
  ),
  caseRow(
    'vmx_mtf_test',
    'the monitor trap flag exits with reason 37, set or injected',
    'the monitor trap flag exits behind one instruction',
    'an injected monitor trap flag exits before the first instruction',
  ),
  caseRow('PML', 'a full log exits with reason 62', 'a page-modification log that is full'),
  caseRow(
    'EPT A/D disabled',
    'no flags of EPT entries are set',
    'EPT does not keep accessed and dirty flags of what a guest reached',
  ),
  caseRow(
    'EPT A/D enabled',
    'flags of EPT entries are set by loads, stores and walks',
    'EPT keeps accessed and dirty flags of what a guest reached',
  ),
  ...EPT_ACCESS.map(([test, ...titles]) =>
    caseRow(test, 'an access that EPT forbids exits with what it allows', ...titles),
  ),
  caseRow(
    'apic_reg_virt_test',
    'accesses to the APIC-access page exit as accesses or as APIC writes',
    'a load from the APIC-access page',
    'a store to the APIC-access page',
    'a store to a virtualized register of the APIC-access page',
  ),
  caseRow(
    'virt_x2apic_mode_test',
    'WRMSR of a virtualized x2APIC register exits as an APIC write',
    'a self-IPI of an illegal vector in virtualized x2APIC mode',
  ),
  caseRow(
    'vmx_eoi_virt_test',
    'a virtualized EOI exits where the bitmap says so',
    'a virtualized EOI whose vector KVM wants to see',
  ),
  caseRow(
    'vmx_apic_passthrough_tpr_threshold_test',
    'a task priority below the threshold exits',
    'MOV CR8 to below the TPR threshold',
  ),
  caseRow(
    'vmx_apic_passthrough_test',
    'a guest with the processor’s own APIC sends itself an interrupt, which exits',
    'an external interrupt is acknowledged by the exit',
  ),
  caseRow(
    'invvpid_test',
    'operands of INVVPID in root operation',
    ...VMX_INSTRUCTION_CASES.filter(({ title }) => title.startsWith('INVVPID')).map(
      ({ title }) => title,
    ),
  ),
  ...(
    [
      ['null', 'nothing'],
      ['v2_null_test', 'nothing'],
      ['v2_multiple_entries_test', 'several entries'],
      ['fixture_test_case1', 'fixtures'],
      ['fixture_test_case2', 'fixtures'],
    ] as const
  ).map(([test, what]) => notOfferedRow(test, what, FRAMEWORK)),
  notOfferedRow('vmx_vmcs_shadow_test', 'VMREAD and VMWRITE of a guest with a shadow VMCS', NESTED),
  notOfferedRow('exit_monitor_from_l2_test', 'the monitor of a guest', NESTED),
  ...[
    'ept_access_test_execute_user_only',
    'ept_access_test_execute_both',
    'ept_access_test_read_execute_user_only',
    'ept_access_test_read_execute_both',
    'ept_access_test_read_write_execute_user_only',
    'ept_access_test_read_write_execute_both',
  ].map((test) => notOfferedRow(test, 'execution by user mode alone, or by both', USER_EXECUTE)),
  notOfferedRow(
    'vmx_pf_exception_forced_emulation_test',
    'page faults of instructions that KVM itself emulates',
    'it needs KVM’s prefix that forces its emulator, and the peer leaves it out without one',
  ),
  notOfferedRow(
    'vmx_canonical_test',
    'host addresses of 57 bits, by instruction and by VM exit',
    'it is about 5-level paging, which neither machine has, and the peer leaves it out without',
  ),
  caseRow(
    'vmx_cet_test',
    'S_CET is always saved, and loaded by entry and by exit where a control says so',
    ...CET_STATE_CASES.map(({ title }) => title),
  ),
  ...['vmx_pf_no_vpid_test', 'vmx_pf_vpid_test', 'vmx_pf_invvpid_test'].map((test) =>
    notOfferedRow(test, 'page faults behind stale translations', NO_TLB),
  ),
  notOfferedRow('vmx_mtf_pdpte_test', 'a 32-bit guest’s PDPTEs behind an exit', GUEST_INSIDE),
  ...[
    'vmx_basic_vid_test',
    'vmx_posted_interrupts_test',
    'vmx_eoi_bitmap_ioapic_scan_test',
    'vmx_hlt_with_rvi_test',
  ].map((test) => notOfferedRow(test, 'virtual interrupts of a guest', VIRTUAL_INTERRUPTS)),
  notOfferedRow(
    'vmx_apic_passthrough_thread_test',
    'a level interrupt of an I/O APIC that a guest has',
    'there is no I/O APIC: a payload meets none',
  ),
  notOfferedRow('rdtsc_vmexit_diff_test', 'cycles from RDTSC to the exit', A_TIME),
  notOfferedRow('vmx_store_tsc_test', 'the TSC in the list of stored MSRs', A_TIME),
  caseRow(
    'MSR switch',
    'an entry loads MSRs, an exit stores the guest’s and loads the host’s',
    'MSRs are loaded by the entry, stored and loaded by the exit',
  ),
];
