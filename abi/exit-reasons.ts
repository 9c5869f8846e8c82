/**
 * Basic exit reasons and the 32-bit exit-reason word.
 *
 * Source: SDM, "VMX Basic Exit Reasons", "Basic VM-Exit Information" (format of the exit reason); names are Linux's
 * (arch/x86/include/uapi/asm/vmx.h), and for reasons that Linux does not name the SDM's words in the same style.
 * Invariant: a number that is not in the table is a reserved reason and has no name.
 */

// prettier-ignore
export const EXIT_REASON = {
  EXIT_REASON_EXCEPTION_NMI:         0,
  EXIT_REASON_EXTERNAL_INTERRUPT:    1,
  EXIT_REASON_TRIPLE_FAULT:          2,
  EXIT_REASON_INIT_SIGNAL:           3,
  EXIT_REASON_SIPI_SIGNAL:           4,
  EXIT_REASON_IO_SMI:                5, // not in Linux
  EXIT_REASON_OTHER_SMI:             6,
  EXIT_REASON_INTERRUPT_WINDOW:      7,
  EXIT_REASON_NMI_WINDOW:            8,
  EXIT_REASON_TASK_SWITCH:           9,
  EXIT_REASON_CPUID:                10,
  EXIT_REASON_GETSEC:               11, // not in Linux
  EXIT_REASON_HLT:                  12,
  EXIT_REASON_INVD:                 13,
  EXIT_REASON_INVLPG:               14,
  EXIT_REASON_RDPMC:                15,
  EXIT_REASON_RDTSC:                16,
  EXIT_REASON_RSM:                  17, // not in Linux
  EXIT_REASON_VMCALL:               18,
  EXIT_REASON_VMCLEAR:              19,
  EXIT_REASON_VMLAUNCH:             20,
  EXIT_REASON_VMPTRLD:              21,
  EXIT_REASON_VMPTRST:              22,
  EXIT_REASON_VMREAD:               23,
  EXIT_REASON_VMRESUME:             24,
  EXIT_REASON_VMWRITE:              25,
  EXIT_REASON_VMOFF:                26,
  EXIT_REASON_VMON:                 27,
  EXIT_REASON_CR_ACCESS:            28,
  EXIT_REASON_DR_ACCESS:            29,
  EXIT_REASON_IO_INSTRUCTION:       30,
  EXIT_REASON_MSR_READ:             31,
  EXIT_REASON_MSR_WRITE:            32,
  EXIT_REASON_INVALID_STATE:        33,
  EXIT_REASON_MSR_LOAD_FAIL:        34,
  EXIT_REASON_MWAIT_INSTRUCTION:    36,
  EXIT_REASON_MONITOR_TRAP_FLAG:    37,
  EXIT_REASON_MONITOR_INSTRUCTION:  39,
  EXIT_REASON_PAUSE_INSTRUCTION:    40,
  EXIT_REASON_MCE_DURING_VMENTRY:   41,
  EXIT_REASON_TPR_BELOW_THRESHOLD:  43,
  EXIT_REASON_APIC_ACCESS:          44,
  EXIT_REASON_EOI_INDUCED:          45,
  EXIT_REASON_GDTR_IDTR:            46,
  EXIT_REASON_LDTR_TR:              47,
  EXIT_REASON_EPT_VIOLATION:        48,
  EXIT_REASON_EPT_MISCONFIG:        49,
  EXIT_REASON_INVEPT:               50,
  EXIT_REASON_RDTSCP:               51,
  EXIT_REASON_PREEMPTION_TIMER:     52,
  EXIT_REASON_INVVPID:              53,
  EXIT_REASON_WBINVD:               54,
  EXIT_REASON_XSETBV:               55,
  EXIT_REASON_APIC_WRITE:           56,
  EXIT_REASON_RDRAND:               57,
  EXIT_REASON_INVPCID:              58,
  EXIT_REASON_VMFUNC:               59,
  EXIT_REASON_ENCLS:                60,
  EXIT_REASON_RDSEED:               61,
  EXIT_REASON_PML_FULL:             62,
  EXIT_REASON_XSAVES:               63,
  EXIT_REASON_XRSTORS:              64,
  EXIT_REASON_PCONFIG:              65, // not in Linux
  EXIT_REASON_SPP_EVENT:            66, // not in Linux
  EXIT_REASON_UMWAIT:               67,
  EXIT_REASON_TPAUSE:               68,
  EXIT_REASON_LOADIWKEY:            69, // not in Linux
  EXIT_REASON_ENCLV:                70, // not in Linux
  EXIT_REASON_ENQCMD_PASID:         72, // not in Linux
  EXIT_REASON_ENQCMDS_PASID:        73, // not in Linux
  EXIT_REASON_BUS_LOCK:             74,
  EXIT_REASON_NOTIFY:               75,
  EXIT_REASON_SEAMCALL:             76,
  EXIT_REASON_TDCALL:               77,
  EXIT_REASON_RDMSRLIST:            78, // not in Linux
  EXIT_REASON_WRMSRLIST:            79, // not in Linux
  EXIT_REASON_URDMSR:               80, // not in Linux
  EXIT_REASON_UWRMSR:               81, // not in Linux
  EXIT_REASON_MSR_READ_IMM:         84,
  EXIT_REASON_MSR_WRITE_IMM:        85,
} as const;

/** The Linux name of a basic exit reason. */
export type ExitReasonName = keyof typeof EXIT_REASON;

/** One past the highest basic exit reason known here. */
export const EXIT_REASON_COUNT = 86;

const NAME_BY_NUMBER: ReadonlyMap<number, ExitReasonName> = new Map(
  (Object.entries(EXIT_REASON) as [ExitReasonName, number][]).map(([name, number]) => [
    number,
    name,
  ]),
);

/** The table name of a basic exit reason, undefined for a reserved one. */
export function exitReasonName(basic: number): ExitReasonName | undefined {
  return NAME_BY_NUMBER.get(basic);
}

/** The printed name of a basic exit reason: without prefix, `reason 35` for a reserved one. */
export function printExitReason(basic: number): string {
  const name = NAME_BY_NUMBER.get(basic);
  return name === undefined ? `reason ${basic}` : name.slice('EXIT_REASON_'.length);
}

// prettier-ignore
/** Bits of the exit-reason word above the basic reason. */
export const EXIT_REASON_WORD = {
  BASIC_MASK:         0x0000_ffff,
  SHADOW_STACK_BUSY:  0x0200_0000,
  BUS_LOCK:           0x0400_0000,
  ENCLAVE_MODE:       0x0800_0000,
  PENDING_MTF:        0x1000_0000,
  FROM_VMX_ROOT:      0x2000_0000,
  FAILED_VMENTRY:     0x8000_0000,
} as const;

/** The exit-reason word, decoded once. */
export interface ExitReasonWord {
  readonly basic: number;
  readonly shadowStackBusy: boolean;
  readonly busLock: boolean;
  readonly enclaveMode: boolean;
  readonly pendingMtf: boolean;
  readonly fromVmxRoot: boolean;
  readonly failedVmentry: boolean;
}

/** Takes the 32-bit exit-reason word apart. */
export function decodeExitReason(word: number): ExitReasonWord {
  return {
    basic: word & EXIT_REASON_WORD.BASIC_MASK,
    shadowStackBusy: (word & EXIT_REASON_WORD.SHADOW_STACK_BUSY) !== 0,
    busLock: (word & EXIT_REASON_WORD.BUS_LOCK) !== 0,
    enclaveMode: (word & EXIT_REASON_WORD.ENCLAVE_MODE) !== 0,
    pendingMtf: (word & EXIT_REASON_WORD.PENDING_MTF) !== 0,
    fromVmxRoot: (word & EXIT_REASON_WORD.FROM_VMX_ROOT) !== 0,
    failedVmentry: (word & EXIT_REASON_WORD.FAILED_VMENTRY) !== 0,
  };
}

/** Reasons that no control can turn off (SDM, "Instructions That Cause VM Exits Unconditionally"). */
export const UNCONDITIONAL_EXITS: readonly ExitReasonName[] = [
  'EXIT_REASON_CPUID',
  'EXIT_REASON_GETSEC',
  'EXIT_REASON_INVD',
  'EXIT_REASON_XSETBV',
  'EXIT_REASON_INVEPT',
  'EXIT_REASON_INVVPID',
  'EXIT_REASON_VMCALL',
  'EXIT_REASON_VMCLEAR',
  'EXIT_REASON_VMLAUNCH',
  'EXIT_REASON_VMPTRLD',
  'EXIT_REASON_VMPTRST',
  'EXIT_REASON_VMREAD',
  'EXIT_REASON_VMRESUME',
  'EXIT_REASON_VMWRITE',
  'EXIT_REASON_VMOFF',
  'EXIT_REASON_VMON',
];
