/** Errors in the models of VM exits, VMX instructions, events and EPT. */
import type { ModelMutant } from './mutant.js';

export const EXIT_MUTANTS: readonly ModelMutant[] = [
  {
    id: 'nmi-through-mov-ss',
    rule: 'an NMI is blocked by MOV SS for one instruction, and without virtual NMIs by NMI',
    file: 'emulator/vmx/events.ts',
    changes: [
      [
        '? INTERRUPTIBILITY.MOV_SS\n    : INTERRUPTIBILITY.MOV_SS | INTERRUPTIBILITY.NMI;',
        '? 0\n    : INTERRUPTIBILITY.NMI;',
      ],
    ],
    noticed: { part: 'exits' },
  },
  {
    id: 'nmi-window-under-blocking',
    rule: 'blocking by NMI keeps the NMI window shut',
    file: 'emulator/vmx/events.ts',
    changes: [
      [
        'const blocked = INTERRUPTIBILITY.NMI | INTERRUPTIBILITY.MOV_SS;',
        'const blocked = INTERRUPTIBILITY.MOV_SS;',
      ],
    ],
    noticed: { part: 'exits' },
  },
  {
    id: 'vector-without-acknowledgement',
    rule: 'an external interrupt that exits tells its vector where the exit acknowledges it',
    file: 'emulator/vmx/events.ts',
    changes: [
      [
        'EXIT_CONTROL.ACK_INTR_ON_EXIT) === 0) return exitOf(basic);',
        'EXIT_CONTROL.ACK_INTR_ON_EXIT) !== 0) return exitOf(basic);',
      ],
    ],
    noticed: { part: 'exits' },
  },
  {
    id: 'interrupt-window-without-if',
    rule: 'RFLAGS.IF = 0 keeps the interrupt window shut',
    file: 'emulator/vmx/events.ts',
    changes: [['(vmcs.low(GUEST_RFLAGS) & IF) !== 0 &&\n    !isShadowed', '!isShadowed']],
    noticed: { part: 'exits' },
  },
  {
    id: 'nmi-before-the-timer',
    rule: 'the preemption timer comes before an NMI',
    file: 'emulator/vmx/events.ts',
    changes: [
      [
        'if (pending.timerExpired === true && (pin & PIN.PREEMPTION_TIMER) !== 0) {',
        'if (pending.timerExpired === true && pending.nmi !== true && (pin & PIN.PREEMPTION_TIMER) !== 0) {',
      ],
    ],
    noticed: { part: 'exits' },
  },
  {
    id: 'timer-late',
    rule: 'the preemption timer counts one for so many ticks of the TSC as IA32_VMX_MISC says',
    file: 'emulator/vmx/preemption-timer.ts',
    changes: [
      [
        'return value === 0 ? entryTsc : (timerTicks(entryTsc, shift) + value) * ticksPerCount(shift);',
        'return value === 0 ? entryTsc : (timerTicks(entryTsc, shift) + value + 7) * ticksPerCount(shift);',
      ],
    ],
    noticed: { part: 'exits' },
  },
  {
    id: 'timer-counts-twice',
    rule: 'the preemption timer is saved with what it has counted',
    file: 'emulator/vmx/preemption-timer.ts',
    changes: [
      [
        'return Math.max(0, value - (timerTicks(now, shift) - timerTicks(entryTsc, shift)));',
        'return Math.max(0, value - 2 * (timerTicks(now, shift) - timerTicks(entryTsc, shift)));',
      ],
    ],
    noticed: { part: 'exits' },
  },
  {
    id: 'abort-number',
    rule: 'a refused entry of the VM-exit MSR-load list is VMX abort 4',
    file: 'emulator/vmx/vm-exit.ts',
    changes: [
      [
        'return abort(pcpu, vmcs, VMX_ABORT.LOADING_HOST_MSRS, result.rule);',
        'return abort(pcpu, vmcs, VMX_ABORT.SAVING_GUEST_MSRS, result.rule);',
      ],
    ],
    noticed: { part: 'aborts' },
  },
  {
    id: 'no-abort',
    rule: 'a refused entry of the VM-exit MSR-load list is a VMX abort',
    file: 'emulator/vmx/vm-exit.ts',
    changes: [
      [
        "    if (result.kind === 'refused') {\n      return abort(pcpu, vmcs, VMX_ABORT.LOADING_HOST_MSRS, result.rule);\n    }\n",
        '    void result;\n',
      ],
    ],
    noticed: { part: 'aborts' },
  },
  {
    id: 'vmx-off-is-gp',
    rule: 'outside VMX operation a VMX instruction is #UD',
    file: 'emulator/vmx/vmx-instructions.ts',
    changes: [
      [
        "if (mode === 'off') return INVALID_OPCODE;",
        "if (mode === 'off') return GENERAL_PROTECTION;",
      ],
    ],
    noticed: { part: 'vmx' },
  },
  {
    id: 'vmsucceed-keeps-flags',
    rule: 'VMsucceed clears the arithmetic flags',
    file: 'emulator/vmx/vmx-instructions.ts',
    changes: [
      [
        "const flags = pcpu.registers.get('RFLAGS') & ~RFLAGS_ARITHMETIC;",
        "const flags = pcpu.registers.get('RFLAGS');",
      ],
    ],
    noticed: { part: 'vmx' },
  },
  {
    id: 'debugctl-left',
    rule: 'VM exit clears IA32_DEBUGCTL',
    file: 'emulator/vmx/host-image.ts',
    changes: [['      [MSR.IA32_DEBUGCTL, 0n],\n', '']],
    noticed: { spec: 'tests/vmx/vm-exit.spec.ts' },
  },
  {
    id: 'perf-global-ctrl-left',
    rule: 'VM exit loads IA32_PERF_GLOBAL_CTRL where its control says so',
    file: 'emulator/vmx/host-image.ts',
    changes: [
      [
        "  [\n    EXIT_CONTROL.LOAD_IA32_PERF_GLOBAL_CTRL,\n    ENTRY_CONTROL.LOAD_IA32_PERF_GLOBAL_CTRL,\n    MSR.IA32_PERF_GLOBAL_CTRL,\n    'HOST_IA32_PERF_GLOBAL_CTRL',\n    'GUEST_IA32_PERF_GLOBAL_CTRL',\n  ],\n",
        '',
      ],
    ],
    noticed: { spec: 'tests/vmx/vm-exit.spec.ts' },
  },
  {
    id: 'pkrs-left',
    rule: 'VM exit loads IA32_PKRS where its control says so',
    file: 'emulator/vmx/host-image.ts',
    changes: [
      [
        "  [\n    EXIT_CONTROL.LOAD_PKRS,\n    ENTRY_CONTROL.LOAD_PKRS,\n    MSR.IA32_PKRS,\n    'HOST_IA32_PKRS',\n    'GUEST_IA32_PKRS',\n  ],\n",
        '',
      ],
    ],
    noticed: { spec: 'tests/vmx/vm-exit.spec.ts' },
  },
  {
    id: 'efer-without-lme-and-lma',
    rule: 'VM exit that does not load IA32_EFER sets LMA and LME as host address-space size says',
    file: 'emulator/vmx/host-image.ts',
    changes: [
      [
        'const mode = image.longMode ? EFER.LMA | EFER.LME : 0n;',
        'const mode = image.longMode ? EFER.LME : 0n;',
      ],
    ],
    noticed: { part: 'exits' },
  },
  {
    id: 'cr0-kept',
    rule: 'VM exit loads all of CR0 but its fixed and reserved bits',
    file: 'emulator/vmx/host-image.ts',
    changes: [['const CR0_KEPT = 0x7ffa_ffd0;', 'const CR0_KEPT = 0x7ffb_ffde;']],
    noticed: { part: 'exits' },
  },
  {
    id: 'tr-limit',
    rule: 'VM exit loads TR with a limit of 67H',
    file: 'emulator/vmx/host-image.ts',
    changes: [['const TR_LIMIT = 0x67n;', 'const TR_LIMIT = 0xffffn;']],
    noticed: { spec: 'tests/vmx/vm-exit.spec.ts' },
  },
  {
    id: 'ept-memory-types',
    rule: 'memory types 2, 3 and 7 of an EPT leaf are a misconfiguration',
    file: 'emulator/vmx/ept/entries.ts',
    changes: [['[2n, 3n, 7n].includes', '[2n].includes']],
    noticed: { part: 'exits' },
  },
  {
    id: 'ept-reserved-bits',
    rule: 'reserved bits of an EPT entry that names a table are a misconfiguration',
    file: 'emulator/vmx/ept/entries.ts',
    changes: [
      [
        'const reservedInTable = (level: Level): bigint => (level === 4 ? 0xf8n : 0x78n);',
        'const reservedInTable = (level: Level): bigint => (level === 4 ? 0n : 0n);',
      ],
    ],
    noticed: { part: 'exits' },
  },
  {
    id: 'no-1-gib-pages',
    rule: 'bit 7 of an EPT PDPTE maps a 1-GiB page',
    file: 'emulator/vmx/ept/entries.ts',
    changes: [
      ['level === 1 || ((level === 2 || level === 3) &&', 'level === 1 || (level === 2 &&'],
    ],
    noticed: { part: 'exits' },
  },
  {
    id: 'sysenter-esp-left',
    rule: 'VM exit loads SYSENTER_ESP',
    file: 'emulator/vmx/host-image.ts',
    changes: [["      [MSR.IA32_SYSENTER_ESP, vmcs.read('HOST_IA32_SYSENTER_ESP')],\n", '']],
    noticed: { part: 'exits' },
  },
  {
    id: 'nmi-exit-blocks-nothing',
    rule: 'an NMI that exits leaves NMIs blocked',
    file: 'emulator/vmx/vm-exit.ts',
    changes: [['if (causedByNmi(exit)) pcpu.blocking.nmi = true;', 'void causedByNmi;']],
    noticed: { part: 'exits' },
  },
  {
    id: 'vectoring-error-code',
    rule: 'IDT-vectoring error code is that of the event whose delivery exits',
    file: 'emulator/vmx/vm-exit.ts',
    changes: [
      [
        'recordOrPoison(vmcs, IDT_VECTORING_ERROR_CODE, exit.idtVectoringErrorCode);',
        'recordOrPoison(vmcs, IDT_VECTORING_ERROR_CODE, exit.interruptionErrorCode ?? (exit.idtVectoringErrorCode === undefined ? undefined : 0));',
      ],
    ],
    noticed: { part: 'exits' },
  },
  {
    id: 'ldtr-left',
    rule: 'VM exit leaves no LDT',
    file: 'emulator/vmx/host-image.ts',
    changes: [["  ['LDTR', 0n],\n", '']],
    noticed: { part: 'exits' },
  },
  {
    id: 'invvpid-of-any-address',
    rule: 'INVVPID of an address that is not canonical is VMfail 28',
    file: 'emulator/vmx/vmx-instructions.ts',
    changes: [
      ['(type !== 0n || isCanonical(linear));', '(type === 99n || isCanonical(linear) || true);'],
    ],
    noticed: { part: 'vmx' },
  },
  {
    id: 'shadows-let-interrupts-exit',
    rule: 'blocking by STI and by MOV SS holds an external interrupt back',
    file: 'emulator/vmx/events.ts',
    changes: [['isShadowed(vmcs)) return NONE;', 'false) return NONE;']],
    noticed: { part: 'exits' },
  },
  {
    id: 'pml-forwards',
    rule: 'the log is filled from its end, with page addresses',
    file: 'emulator/vmx/ept/guest-access.ts',
    changes: [
      ['(index - 1) & 0xffff', '(index + 1) & 0xffff'],
      ['gpa & ~0xfffn);\n    vmcs.setLow', 'gpa);\n    vmcs.setLow'],
    ],
    noticed: { part: 'exits' },
  },
  {
    id: 'vmxon-of-any-control-registers',
    rule: 'VMXON is #UD without CR4.VMXE, #GP with a control register that VMX operation does not allow',
    file: 'emulator/vmx/vmx-instructions.ts',
    changes: [
      [
        "    !isFixed(registers.get('CR0'), capabilities.cr0Fixed0, capabilities.cr0Fixed1) ||\n    !isFixed(cr4, capabilities.cr4Fixed0, capabilities.cr4Fixed1) ||\n",
        '',
      ],
      ['  if ((cr4 & BigInt(CR.CR4_VMXE)) === 0n) return INVALID_OPCODE;\n', ''],
    ],
    noticed: { part: 'vmx' },
  },
  {
    id: 'vmcall-number',
    rule: 'VMCALL in root operation is VMfail 1',
    file: 'emulator/vmx/vmx-instructions.ts',
    changes: [
      ['VMXERR.VMXERR_VMCALL_IN_VMX_ROOT_OPERATION', 'VMXERR.VMXERR_VMXON_IN_VMX_ROOT_OPERATION'],
    ],
    noticed: { spec: 'tests/vmx/vmx-instructions.spec.ts' },
  },
  {
    id: 'vmxon-of-a-shadow-vmcs',
    rule: 'VMXON of a region with bit 31 of its revision is VMfailInvalid',
    file: 'emulator/vmx/vmx-instructions.ts',
    changes: [
      [
        '!hasRevision(pcpu, pointer)) return vmfailInvalid',
        '!hasRevision(pcpu, pointer, SHADOW_INDICATOR)) return vmfailInvalid',
      ],
    ],
    noticed: { part: 'vmx' },
  },
  {
    id: 'rflags-left',
    rule: 'VM exit loads RFLAGS with 2',
    file: 'emulator/vmx/host-image.ts',
    changes: [["  ['RFLAGS', RFLAGS.FIXED],\n", '']],
    noticed: { part: 'exits' },
  },
  {
    id: 'dr7-left',
    rule: 'VM exit loads DR7 with 400H',
    file: 'emulator/vmx/host-image.ts',
    changes: [["  ['DR7', DR7_AFTER_EXIT],\n", '']],
    noticed: { part: 'exits' },
  },
  {
    id: 'entry-of-a-shadow-vmcs',
    rule: 'VMLAUNCH of a shadow VMCS is VMfailInvalid',
    file: 'emulator/vmx/vmx-instructions.ts',
    changes: [
      ['current === null || isShadow(pcpu, current)', 'current === null'],
      [
        'function isShadow({ memory }: VmxPcpu, { regionPa }: Vmcs): boolean {\n  return (memory.readU32(regionPa) & SHADOW_INDICATOR) !== 0;\n}\n',
        '',
      ],
    ],
    noticed: { part: 'vmx' },
  },
];
