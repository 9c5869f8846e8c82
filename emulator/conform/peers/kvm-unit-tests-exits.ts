/**
 * kvm-unit-tests' cases on VM exits, each with our own cases that hold it on both machines.
 *
 * Source: kvm-unit-tests x86/vmx_tests.c, insn_table[] and vmx_tests[]; SDM, "Instructions That Cause VM Exits".
 */
import { exitRow, openRow, type PeerRow } from './peer-row.js';

const GUEST_INSIDE =
  'it is about what a guest sees of its own memory or exceptions, and no exit of it comes to a payload';
const APIC_VIRTUALIZATION =
  'virtual-APIC accesses without an exit are the processor’s and the guest’s; a payload sees none';
const FRAMEWORK = 'a test of the test framework';
const NESTED = 'the payload is no nested hypervisor';
const BETWEEN_CPUS =
  'it needs INIT and SIPI sent to a processor with a guest; a Caretaker’s core is left alone by both kernels';

/** The cases. */
export const EXIT_ROWS: readonly PeerRow[] = [
  exitRow('insn_table: HLT', 'HLT exits with reason 12', 'HLT'),
  exitRow('insn_table: INVLPG', 'INVLPG exits with reason 14 and its address', 'INVLPG [RDI]'),
  exitRow('insn_table: MWAIT', 'MWAIT exits with reason 36', 'MWAIT'),
  exitRow('insn_table: RDPMC', 'RDPMC exits with reason 15', 'RDPMC'),
  exitRow('insn_table: RDTSC', 'RDTSC exits with reason 16', 'RDTSC'),
  exitRow('insn_table: CR3 load', 'MOV to CR3 exits with reason 28', 'MOV CR3, R9'),
  exitRow('insn_table: CR3 store', 'MOV from CR3 exits with reason 28', 'MOV RCX, CR3'),
  exitRow('insn_table: CR8 load', 'MOV to CR8 exits with reason 28', 'MOV CR8, RAX'),
  exitRow('insn_table: CR8 store', 'MOV from CR8 exits with reason 28', 'MOV RDX, CR8'),
  exitRow('insn_table: MONITOR', 'MONITOR exits with reason 39', 'MONITOR'),
  exitRow('insn_table: PAUSE', 'PAUSE exits with reason 40', 'PAUSE'),
  exitRow('insn_table: WBINVD', 'WBINVD exits with reason 54', 'WBINVD'),
  exitRow('insn_table: SGDT', 'SGDT exits with reason 46', 'SGDT [RDI]'),
  exitRow('insn_table: LGDT', 'LGDT exits with reason 46', 'LGDT [RDI]'),
  exitRow('insn_table: SIDT', 'SIDT exits with reason 46', 'SIDT [RDI]'),
  exitRow('insn_table: LIDT', 'LIDT exits with reason 46', 'LIDT [RDI + 8]'),
  exitRow('insn_table: SLDT', 'SLDT exits with reason 47', 'SLDT EAX'),
  exitRow('insn_table: LLDT', 'LLDT exits with reason 47', 'LLDT AX'),
  exitRow('insn_table: STR', 'STR exits with reason 47', 'STR RCX'),
  exitRow('insn_table: RDRAND', 'RDRAND exits with reason 57', 'RDRAND RBX'),
  exitRow('insn_table: RDSEED', 'RDSEED exits with reason 61', 'RDSEED R9D'),
  exitRow('insn_table: CPUID', 'CPUID always exits, with reason 10', 'CPUID'),
  exitRow('insn_table: INVD', 'INVD always exits, with reason 13', 'INVD'),
  exitRow(
    'vmenter',
    'an exit keeps the general registers, and the guest goes on with them',
    'registers survive a HLT',
  ),
  exitRow(
    'preemption timer',
    'the timer counts, expires and exits with reason 52',
    'the preemption timer expires while the guest spins',
  ),
  exitRow(
    'vmx_preemption_timer_zero_test',
    'a timer of 0 exits before the first instruction',
    'a preemption timer of 0 expires before the first instruction',
  ),
  exitRow(
    'vmx_preemption_timer_expiry_test',
    'the timer expires in the HLT state, too',
    'the preemption timer expires in the HLT state',
  ),
  exitRow(
    'CR shadowing',
    'writes of bits of CR0 and CR4 that the host owns exit',
    'MOV CR0, RAX changes a bit that the host owns',
    'MOV CR4, RBX changes a bit that the host owns',
    'CLTS with a host-owned TS that the shadow sets',
    'LMSW AX with host-owned bits',
  ),
  exitRow(
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
  exitRow(
    'interrupt',
    'an external interrupt exits, acknowledged or not',
    'an external interrupt is acknowledged by the exit',
    'an external interrupt that the exit does not acknowledge stays pending',
  ),
  exitRow('nmi_hlt', 'an NMI exits and blocks NMIs', 'an NMI exits and leaves NMIs blocked'),
  exitRow(
    'vmx_nmi_window_test',
    'the NMI window opens at once, or after IRET',
    'an open NMI window exits at once',
    'the NMI window opens after IRET',
  ),
  exitRow(
    'vmx_intr_window_test',
    'the interrupt window opens at once, after STI, MOV SS and POPF',
    'an open interrupt window exits at once',
    'STI opens the interrupt window one instruction later',
    'blocking by MOV SS keeps the interrupt window shut for one instruction',
    'POPF opens the interrupt window at once',
  ),
  exitRow(
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
  exitRow(
    'vmx_pf_exception_test',
    'a page fault exits with its address as qualification',
    '#PF of a load',
    '#PF of a store',
    '#PF of a fetch',
  ),
  exitRow('vmx_db_test', 'a single step exits as a trap', '#DB of a single step is a trap'),
  exitRow(
    'ept_access_test_not_present',
    'an access without EPT translation exits with what it wanted',
    'a store to a page without EPT translation',
    'a load from a page without EPT translation',
    'a fetch from a page without EPT translation',
  ),
  exitRow(
    'ept_access_test_write_only',
    'a misconfigured EPT entry exits with reason 49',
    'a store to a page that may be written and not read',
    'a load from a page that may be written and not read',
    'a fetch from a page that may be written, executed and not read',
  ),
  exitRow(
    'ept_access_test_read_only',
    'what a page that may be read does not allow exits with its rights',
    'a store to a page that may be read: its rights are in the qualification',
    'a fetch from a page that may be read: its rights are in the qualification',
  ),
  exitRow(
    'ept_access_test_read_write',
    'a page that may be read and written is not executed',
    'a fetch from a page that may be read and written',
  ),
  exitRow(
    'ept_access_test_execute_only',
    'a page that may be executed alone is neither read nor written',
    'a load from a page that may be executed alone',
    'a store to a page that may be executed alone',
  ),
  exitRow(
    'ept_access_test_reserved_bits',
    'a reserved bit of an EPT entry exits with reason 49',
    'a load from a page with an address bit below its size',
    'a load from a page whose memory type is 2',
  ),
  exitRow(
    'ept_access_test_force_2m_page',
    'an entry that maps 2 MiB is judged by its own rights',
    'a store to a page that may be read: its rights are in the qualification',
    'a load from a page that may be written and not read',
  ),
  exitRow('vmmcall', 'VMCALL exits with reason 18', 'VMCALL'),
  exitRow('disable RDTSCP', 'RDTSCP exits with reason 51 where RDTSC does', 'RDTSCP'),
  exitRow('vmx_cr4_osxsave_test', 'XSETBV exits with reason 55', 'XSETBV'),
  exitRow('debug controls', 'VM exit loads DR7 with 0x400', 'HLT', 'MOV DR7, RAX'),
  exitRow('vmx_no_nm_test', '#NM of CR0.TS exits', '#NM with CR0.TS'),
  openRow('null', 'nothing', FRAMEWORK),
  openRow('v2_null_test', 'nothing', FRAMEWORK),
  openRow('v2_multiple_entries_test', 'several entries', FRAMEWORK),
  openRow('fixture_test_case1', 'fixtures', FRAMEWORK),
  openRow('fixture_test_case2', 'fixtures', FRAMEWORK),
  openRow('vmx_vmcs_shadow_test', 'VMREAD and VMWRITE of a guest with a shadow VMCS', NESTED),
  openRow(
    'invvpid_test',
    'operands of INVVPID in root operation',
    'the contract gives a payload no use of INVVPID; our own table has its operands',
  ),
  openRow('exit_monitor_from_l2_test', 'the monitor of a guest', NESTED),
  openRow('vmx_init_signal_test', 'INIT in root and non-root operation', BETWEEN_CPUS),
  openRow('vmx_sipi_signal_test', 'SIPI to a guest that waits for it', BETWEEN_CPUS),
  ...['PML', 'EPT A/D disabled', 'EPT A/D enabled', 'ept_access_test_ignored_bits'].map((test) =>
    openRow(test, 'permissions and flags of EPT entries', GUEST_INSIDE),
  ),
  ...[
    'vmx_pf_no_vpid_test',
    'vmx_pf_vpid_test',
    'vmx_pf_invvpid_test',
    'vmx_ldtr_test',
    'vmx_mtf_test',
    'vmx_mtf_pdpte_test',
    'vmx_preemption_timer_tf_test',
  ].map((test) => openRow(test, 'what a guest sees', GUEST_INSIDE)),
  ...[
    'apic_reg_virt_test',
    'virt_x2apic_mode_test',
    'vmx_basic_vid_test',
    'vmx_eoi_virt_test',
    'vmx_posted_interrupts_test',
    'vmx_eoi_bitmap_ioapic_scan_test',
    'vmx_apic_passthrough_test',
    'vmx_apic_passthrough_thread_test',
    'vmx_apic_passthrough_tpr_threshold_test',
    'vmx_hlt_with_rvi_test',
  ].map((test) => openRow(test, 'the virtual APIC', APIC_VIRTUALIZATION)),
  openRow(
    'rdtsc_vmexit_diff_test',
    'cycles from RDTSC to the exit',
    'virtual time does not measure cycles',
  ),
];
