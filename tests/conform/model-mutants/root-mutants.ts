/** Errors in the models of root operation: MSRs, the local APIC, instructions and the delivery of events. */
import type { ModelMutant } from './mutant.js';

export const ROOT_MUTANTS: readonly ModelMutant[] = [
  {
    id: 'no-deadline-mode',
    rule: 'the timer has a TSC-deadline mode',
    file: 'emulator/vmx/root/lvt.ts',
    changes: [
      [
        '{ index: X2APIC.LVT_TIMER,   defined: 0x0007_10ff },',
        '{ index: X2APIC.LVT_TIMER,   defined: 0x0003_10ff },',
      ],
    ],
    noticed: { part: 'apic' },
  },
  {
    id: 'self-ipi-of-7-bits',
    rule: 'self-IPI takes every vector',
    file: 'emulator/vmx/root/local-apic.ts',
    changes: [
      [
        '      case X2APIC.SELF_IPI:\n        if (value > 0xff) return false;',
        '      case X2APIC.SELF_IPI:\n        if (value > 0x7f) return false;',
      ],
    ],
    noticed: { part: 'apic' },
  },
  {
    id: 'icr-reserves-the-mode',
    rule: 'the destination mode of ICR is no reserved bit',
    file: 'emulator/vmx/root/local-apic.ts',
    changes: [
      [
        'if ((low & ICR.RESERVED) !== 0) return false;',
        'if ((low & ICR.RESERVED) !== 0 || (low & 0x8800) !== 0) return false;',
      ],
    ],
    noticed: { part: 'apic' },
  },
  {
    id: 'deadline-reads-0',
    rule: 'IA32_TSC_DEADLINE reads as it was written until it expires',
    file: 'emulator/vmx/root/local-apic.ts',
    changes: [
      [
        '  get deadline(): bigint {\n    return this.#timer.deadline;',
        '  get deadline(): bigint {\n    return 0n;',
      ],
    ],
    noticed: { part: 'apic' },
  },
  {
    id: 'ldr',
    rule: 'in x2APIC mode the LDR is made of the APIC id',
    file: 'emulator/vmx/root/ipi-destination.ts',
    changes: [
      [
        'return (((id >>> 4) << 16) | (1 << (id & 15))) >>> 0;',
        'return ((id << 16) | (4 << (id & 7))) >>> 0;',
      ],
    ],
    noticed: { part: 'apic' },
  },
  {
    id: 'one-shot-for-ever',
    rule: 'a periodic timer starts over',
    file: 'emulator/vmx/root/apic-timer.ts',
    changes: [
      [
        "} else if (this.#mode === 'periodic') {",
        "} else if (this.#mode === 'periodic' && now < 0) {",
      ],
    ],
    noticed: { part: 'apic' },
  },
  {
    id: 'timer-divisor',
    rule: 'the divide configuration encodes 2, 4, 8, 16, 32, 64, 128 and 1',
    file: 'emulator/vmx/root/apic-timer.ts',
    changes: [['(1 << ((encoding + 1) & 7))', '(1 << encoding)']],
    noticed: { spec: 'tests/vmx/root/local-apic.spec.ts' },
  },
  {
    id: 'lint-nmi',
    rule: 'an LVT entry in NMI mode is an NMI',
    file: 'emulator/vmx/root/local-apic.ts',
    changes: [
      [
        'else this.receive({ kind: message });',
        "else this.receive({ kind: message === 'nmi' ? 'smi' : message });",
      ],
    ],
    noticed: { spec: 'tests/vmx/root/local-apic.spec.ts' },
  },
  {
    id: 'dr6-as-written',
    rule: 'DR6 has bits that read as 1 and bits that read as 0',
    file: 'emulator/vmx/root/instructions/debug-registers.ts',
    changes: [
      ['values[slot] = (value & DR6_DEFINED) | DR6_FIXED;', 'void DR6_DEFINED; void DR6_FIXED;'],
    ],
    noticed: { part: 'instructions' },
  },
  {
    id: 'dr7-as-written',
    rule: 'DR7 has a bit that reads as 1 and bits that read as 0',
    file: 'emulator/vmx/root/instructions/debug-registers.ts',
    changes: [
      [
        'values[slot] = (value & ~DR7_RESERVED) | DR7_FIXED;',
        'values[slot] = value; void DR7_RESERVED; void DR7_FIXED;',
      ],
    ],
    noticed: { part: 'instructions' },
  },
  {
    id: 'swapgs-does-nothing',
    rule: 'SWAPGS exchanges the bases',
    file: 'emulator/vmx/root/instructions/segments.ts',
    changes: [
      [
        '    msrs.file.load(MSR.IA32_KERNEL_GS_BASE, registers.values[REG.GS_BASE]!);\n    registers.values[REG.GS_BASE] = kernelBase;',
        '    void kernelBase; void registers;',
      ],
    ],
    noticed: { part: 'instructions' },
  },
  {
    id: 'mov-ss-blocks-nothing',
    rule: 'MOV SS blocks events for one instruction',
    file: 'emulator/vmx/root/instructions/segments.ts',
    changes: [
      [
        'if (register === SS_NUMBER) cpu.blocking.movSs = true;\n    return NEXT;\n  },\n  MOV_FROM',
        'return NEXT;\n  },\n  MOV_FROM',
      ],
    ],
    noticed: { spec: 'tests/vmx/root/pcpu.spec.ts' },
  },
  {
    id: 'sti-always-blocks',
    rule: 'STI begins a shadow only where interrupts were off',
    file: 'emulator/vmx/root/instructions/flags.ts',
    changes: [['cpu.blocking.sti = wasClear;', 'cpu.blocking.sti = !wasClear;']],
    noticed: { spec: 'tests/vmx/root/instructions/flags.spec.ts' },
  },
  {
    id: 'cr8-sets-nothing',
    rule: 'MOV CR8 sets the task priority',
    file: 'emulator/vmx/root/instructions/control-registers.ts',
    changes: [['  cpu.apic.tpr = low32(value) << 4;\n', '  void low32;\n']],
    noticed: { spec: 'tests/vmx/root/instructions/control-registers.spec.ts' },
  },
  {
    id: 'pat-of-any-type',
    rule: 'WRMSR of IA32_PAT with a reserved memory type is #GP',
    file: 'emulator/vmx/root/msr-table.ts',
    changes: [['isValid: isPatValid }', 'isValid: (v) => isPatValid(v) || true }']],
    noticed: { part: 'rows' },
  },
  {
    id: 'lstar-of-any-address',
    rule: 'WRMSR of IA32_LSTAR that is not canonical is #GP',
    file: 'emulator/vmx/root/msr-table.ts',
    changes: [
      ["{ msr: 'IA32_LSTAR',                     canonical: true }", "{ msr: 'IA32_LSTAR' }"],
    ],
    noticed: { part: 'rows' },
  },
  {
    id: 'pl0-ssp-of-any-address',
    rule: 'WRMSR of IA32_PL0_SSP that is not canonical is #GP',
    file: 'emulator/vmx/root/msr-table.ts',
    changes: [
      [
        "{ msr: 'IA32_PL0_SSP',                   canonical: true, isValid: ALIGNED_4 }",
        "{ msr: 'IA32_PL0_SSP',                   isValid: ALIGNED_4 }",
      ],
    ],
    noticed: { part: 'apic' },
  },
  {
    id: 'lme-under-paging',
    rule: 'WRMSR that changes EFER.LME while paging is on is #GP',
    file: 'emulator/vmx/root/msrs.ts',
    changes: [
      [
        'if ((value & EFER.RESERVED) !== 0n || ((value ^ before) & EFER.LME) !== 0n) return false;',
        'if ((value & EFER.RESERVED) !== 0n) return false;',
      ],
    ],
    noticed: { part: 'apic' },
  },
  {
    id: 'fs-base-of-any-address',
    rule: 'WRMSR of IA32_FS_BASE that is not canonical is #GP',
    file: 'emulator/vmx/root/msrs.ts',
    changes: [
      [
        '    if (!isCanonical(value)) return false;\n    this.#registers.values[slot] = value;',
        '    void isCanonical;\n    this.#registers.values[slot] = value;',
      ],
    ],
    noticed: { part: 'apic' },
  },
  {
    id: 'no-ext',
    rule: 'an exception in the delivery of anything but a software interrupt has EXT in its error code',
    file: 'emulator/vmx/root/idt-delivery.ts',
    changes: [
      [
        "const isExternal = event.kind !== 'soft-int';",
        "const isExternal = event.kind === 'exception';",
      ],
    ],
    noticed: { spec: 'tests/vmx/root/idt-delivery.spec.ts' },
  },
  {
    id: 'gp-without-rf',
    rule: 'a fault pushes RF = 1',
    file: 'emulator/vmx/root/idt-delivery.ts',
    changes: [['  VECTOR.DB,\n  VECTOR.BP,', '  VECTOR.DB,\n  VECTOR.GP,\n  VECTOR.BP,']],
    noticed: { part: 'instructions' },
  },
  {
    id: 'nmi-blocks-nothing',
    rule: 'an NMI that is delivered blocks NMIs',
    file: 'emulator/vmx/root/idt-delivery.ts',
    changes: [["  if (event.kind === 'nmi') cpu.blocking.nmi = true;\n", '']],
    noticed: { spec: 'tests/vmx/root/idt-delivery.spec.ts' },
  },
  {
    id: 'mov-ss-lets-nmis-in',
    rule: 'MOV SS holds an NMI back for one instruction',
    file: 'emulator/vmx/root/pending-events.ts',
    changes: [['if (cpu.pendingNmi && !nmi && !movSs &&', 'if (cpu.pendingNmi && !nmi &&']],
    noticed: { spec: 'tests/vmx/root/pcpu.spec.ts' },
  },
  {
    id: 'shadows-let-interrupts-in',
    rule: 'STI and MOV SS hold an interrupt back for one instruction',
    file: 'emulator/vmx/root/pending-events.ts',
    changes: [['if (sti || movSs || (cpu', 'if ((cpu']],
    noticed: { spec: 'tests/vmx/root/pcpu.spec.ts' },
  },
  {
    id: 'machine-check-without-mce',
    rule: 'a machine check without CR4.MCE shuts the processor down',
    file: 'emulator/vmx/root/pending-events.ts',
    changes: [
      [
        'return signalMachineCheck(cpu) && isEnabled ?',
        'return signalMachineCheck(cpu) || isEnabled ?',
      ],
    ],
    noticed: { spec: 'tests/vmx/root/pcpu.spec.ts' },
  },
  {
    id: 'ltr-without-base',
    rule: 'LTR loads the base of TR',
    file: 'emulator/vmx/root/instructions/descriptor-tables.ts',
    changes: [['  values[REG.TR_BASE] = base;\n', '']],
    noticed: { part: 'instructions' },
  },
  {
    id: 'models-missing',
    rule: 'LAR, LSL, CMPXCHG16B, LTR and others have models',
    file: 'emulator/vmx/root/instructions/index.ts',
    changes: [
      [
        '  const model = MODELS.get(instruction.name);',
        "  const model = ['LAR','LSL','CMPXCHG16B','CMPXCHG8B','LTR','POPFQ','INVLPG','LGDT','LIDT','JMP_FARQ','CALL_FARQ','VERR','VERW','MOV_TO_DR','MOV_FROM_DR','LMSW','RSTORSSP','SETSSBSY','CLRSSBSY','INT3'].includes(instruction.name) ? undefined : MODELS.get(instruction.name);",
      ],
    ],
    noticed: { part: 'instructions' },
  },
  {
    id: 'cp-error-code',
    rule: '#CP tells a far RET or IRET by error code 2',
    file: 'emulator/vmx/root/shadow-stack.ts',
    changes: [['  FAR_RET_IRET: 2,', '  FAR_RET_IRET: 3,']],
    noticed: { part: 'instructions' },
  },
  {
    id: 'ppr-is-a-vector',
    rule: 'the priority class of what is in service is in PPR, not its vector',
    file: 'emulator/vmx/root/interrupt-queue.ts',
    changes: [['return inService & 0xf0;', 'return inService & 0xff;']],
    noticed: { part: 'apic' },
  },
  {
    id: 'ltr-of-a-busy-tss',
    rule: 'LTR of a busy TSS is #GP',
    file: 'emulator/vmx/root/instructions/descriptor-tables.ts',
    changes: [['if (!tss.isSystem || tss.type !== AVAILABLE_TSS) {', 'if (!tss.isSystem) {']],
    noticed: { part: 'instructions' },
  },
  {
    id: 'page-fault-is-double',
    rule: 'a page fault behind a contributory exception is delivered',
    file: 'emulator/vmx/root/double-fault.ts',
    changes: [
      [
        "      return second === 'page-fault' ? 'second' : 'double-fault';",
        "      return 'double-fault';",
      ],
    ],
    noticed: { part: 'instructions' },
  },
  {
    id: 'cp-is-benign',
    rule: '#CP is a contributory exception',
    file: 'emulator/vmx/root/double-fault.ts',
    changes: [['  VECTOR.CP,\n', '']],
    noticed: { part: 'instructions' },
  },
  {
    id: 'xapic-broadcast',
    rule: 'in x2APIC mode 0xff is no broadcast',
    file: 'emulator/vmx/root/ipi-destination.ts',
    changes: [
      [
        'if (icr.destination === BROADCAST) return true;',
        'if (icr.destination === BROADCAST || icr.destination === 0xff) return true;',
      ],
    ],
    noticed: { part: 'apic' },
  },
  {
    id: 'init-deassert',
    rule: 'INIT level de-assert asks for nothing',
    file: 'emulator/vmx/root/ipi-destination.ts',
    changes: [["return { kind: isDeassert(low) ? 'none' : 'init' };", "return { kind: 'init' };"]],
    noticed: { spec: 'tests/vmx/root/ipi-destination.spec.ts' },
  },
  {
    id: 'tmr-empty',
    rule: 'TMR shows what was requested by its level',
    file: 'emulator/vmx/root/interrupt-queue.ts',
    changes: [['    if (isLevel) this.tmr.add(vector);\n    else this.tmr.delete(vector);\n', '']],
    noticed: { spec: 'tests/vmx/root/local-apic.spec.ts' },
  },
  {
    id: 'error-raised-again',
    rule: 'an error that ESR has already raises no second interrupt',
    file: 'emulator/vmx/root/local-apic.ts',
    changes: [['const isNew = (this.#pendingErrors & bit) === 0;', 'const isNew = true;']],
    noticed: { spec: 'tests/vmx/root/local-apic.spec.ts' },
  },
  {
    id: 'cr3-bit-63',
    rule: 'bit 63 of CR3 is reserved without CR4.PCIDE',
    file: 'emulator/vmx/root/instructions/control-registers.ts',
    changes: [
      [
        'const next = hasPcid ? value & ~CR3_NO_FLUSH : value;',
        'const next = value & ~CR3_NO_FLUSH;',
      ],
    ],
    noticed: { part: 'instructions' },
  },
  {
    id: 'pcide-with-a-pcid',
    rule: 'CR4.PCIDE cannot be set while CR3 has a PCID',
    file: 'emulator/vmx/root/instructions/control-registers.ts',
    changes: [
      [
        '!(setsPcide && (values[REG.CR3]! & CR3_PCID) !== 0n) &&',
        'void setsPcide === undefined &&',
      ],
    ],
    noticed: { part: 'instructions' },
  },
  {
    id: 'clts-does-nothing',
    rule: 'CLTS clears CR0.TS',
    file: 'emulator/vmx/root/instructions/control-registers.ts',
    changes: [
      [
        '    registers.values[REG.CR0] = registers.values[REG.CR0]! & ~CR0.TS;\n',
        '    void registers; void CR0.TS;\n',
      ],
    ],
    noticed: { part: 'instructions' },
  },
  {
    id: 'suppress-and-tracker',
    rule: 'WRMSR of IA32_S_CET with SUPPRESS and TRACKER is #GP',
    file: 'emulator/vmx/root/msr-table.ts',
    changes: [
      [
        'return (value & (CET.SUPPRESS | CET.TRACKER)) !== (CET.SUPPRESS | CET.TRACKER);',
        'return value !== value + 1n;',
      ],
    ],
    noticed: { part: 'apic' },
  },
];
