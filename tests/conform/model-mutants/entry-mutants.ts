/** Errors in the models of VM entry: its checks, what it loads and injects. */
import type { ModelMutant } from './mutant.js';

export const ENTRY_MUTANTS: readonly ModelMutant[] = [
  {
    id: 'failed-entry-launches',
    rule: 'an entry that fails on guest state leaves the VMCS clear',
    file: 'emulator/vmx/vm-entry.ts',
    changes: [
      [
        '    const { qualification } = broken.result;\n',
        "    const { qualification } = broken.result;\n    vmcs.launchState = 'launched';\n",
      ],
    ],
    noticed: { part: 'vmx' },
  },
  {
    id: 'vmlaunch-number',
    rule: 'VMLAUNCH of a launched VMCS is VMfail 4',
    file: 'emulator/vmx/vm-entry.ts',
    changes: [
      [
        "if (vmcs.launchState !== 'clear') return vmfail(VMXERR.VMXERR_VMLAUNCH_NONCLEAR_VMCS);",
        "if (vmcs.launchState !== 'clear') return vmfail(VMXERR.VMXERR_VMRESUME_NONLAUNCHED_VMCS);",
      ],
    ],
    noticed: { part: 'vmx' },
  },
  {
    id: 'failed-entry-takes-the-event',
    rule: 'an entry that fails on guest state leaves the event to inject valid',
    file: 'emulator/vmx/vm-entry.ts',
    changes: [
      [
        '  vmcs.record(VM_EXIT_REASON, basic | EXIT',
        '  vmcs.setLow(VM_ENTRY_INTR_INFO_FIELD, 0);\n  vmcs.record(VM_EXIT_REASON, basic | EXIT',
      ],
    ],
    noticed: { part: 'vmx' },
  },
  {
    id: 'msr-list-rules',
    rule: 'bits 63:32 of an entry of an MSR-load list must be 0; FS_BASE and GS_BASE must not be loaded',
    file: 'emulator/vmx/msr-area.ts',
    changes: [
      ['refuses: (entry) => entry.index === MSR.IA32_FS_BASE,', 'refuses: () => false,'],
      ['refuses: (entry) => entry.index === MSR.IA32_GS_BASE,', 'refuses: () => false,'],
      [
        "refuses: (entry) => entry.reserved !== 0,\n    example: { index: MSR.IA32_KERNEL_GS_BASE, reserved: 1 },\n  },\n  {\n    rule: 'IA32_FS",
        "refuses: () => false,\n    example: { index: MSR.IA32_KERNEL_GS_BASE, reserved: 1 },\n  },\n  {\n    rule: 'IA32_FS",
      ],
    ],
    noticed: { part: 'rows' },
  },
  {
    id: 'msr-list-x2apic',
    rule: 'an x2APIC register must not be loaded from a list',
    file: 'emulator/vmx/msr-area.ts',
    changes: [['entry.index >>> 8 === 0x8;', 'entry.index === 0x12345;']],
    noticed: { part: 'rows' },
  },
  {
    id: 'msr-list-number',
    rule: 'a failed load is told with the number of its entry, from 1',
    file: 'emulator/vmx/msr-area.ts',
    changes: [['return refused(i + 1, broken.rule)', 'return refused(i, broken.rule)']],
    noticed: { part: 'rows' },
  },
  {
    id: 'tsc-multiplier-0',
    rule: 'with TSC scaling the multiplier must not be 0',
    file: 'emulator/vmx/entry-checks/translation-controls.ts',
    changes: [
      [
        "  needs(\n    'if use TSC scaling is 1, the TSC multiplier must not be 0',\n    [...SECONDARY_READS, 'TSC_MULTIPLIER'],\n    (v) =>\n      !secondary(v, SECONDARY.TSC_SCALING) ||\n      v.low(TSC_MULTIPLIER) !== 0 ||\n      v.high(TSC_MULTIPLIER) !== 0,\n    (valid) => ({ ...setSecondary(valid, SECONDARY.TSC_SCALING), TSC_MULTIPLIER: 0n }),\n  ),\n",
        '',
      ],
      ['  TSC_MULTIPLIER,\n', ''],
    ],
    noticed: { part: 'values' },
  },
  {
    id: 'sti-and-mov-ss',
    rule: 'blocking by STI and by MOV SS must not both be 1',
    file: 'emulator/vmx/entry-checks/guest-non-register.ts',
    changes: [
      [
        "  {\n    rule: 'blocking by STI and by MOV SS must not both be 1',\n    reads: ['GUEST_INTERRUPTIBILITY_INFO'],\n    holds: (v) => (v.low(GUEST_INTERRUPTIBILITY_INFO) & STI_OR_MOV_SS) !== STI_OR_MOV_SS,\n    breaks: () => ({ GUEST_INTERRUPTIBILITY_INFO: 3n }),\n  },\n",
        '',
      ],
    ],
    noticed: { part: 'values' },
  },
  {
    id: 'access-rights-mask',
    rule: 'bits 11:8 and 31:17 of access rights are reserved',
    file: 'emulator/vmx/entry-checks/segment-registers.ts',
    changes: [['RESERVED: 0xfffe_0f00', 'RESERVED: 0x0000_0100']],
    noticed: { part: 'values' },
  },
  {
    id: 'interruptibility-mask',
    rule: 'bits 31:5 of the interruptibility state are reserved',
    file: 'emulator/vmx/entry-checks/guest-non-register.ts',
    changes: [
      ['holds: (v) => !blocks(v, INTERRUPTIBILITY.RESERVED),', 'holds: (v) => !blocks(v, 0x20),'],
    ],
    noticed: { part: 'values' },
  },
  {
    id: 'pending-bit-12',
    rule: 'bit 12 of the pending debug exceptions is no reserved one',
    file: 'emulator/vmx/entry-checks/guest-non-register.ts',
    changes: [
      [
        'PENDING_DBG.B_MASK | PENDING_DBG.ENABLED_BREAKPOINT | PENDING_DBG.BS',
        'PENDING_DBG.B_MASK | PENDING_DBG.BS',
      ],
    ],
    noticed: { part: 'values' },
  },
  {
    id: 'page-address-mask',
    rule: 'the addresses of the page-modification log and of bitmaps are 4-KiB aligned',
    file: 'emulator/vmx/entry-checks/control-examples.ts',
    changes: [
      [
        'holds: (v) => !isSet(v, bit) || (v.low(slot) & 0xfff) === 0,',
        "holds: (v) => !isSet(v, bit) || (v.low(slot) & (name === 'PML_ADDRESS' || name === 'EPTP_LIST_ADDRESS' || name === 'VMREAD_BITMAP' ? 0x10 : 0xfff)) === 0,",
      ],
    ],
    noticed: { part: 'values' },
  },
  {
    id: 'cs-type',
    rule: 'the type of CS must be 9, 11, 13 or 15',
    file: 'emulator/vmx/entry-checks/guest-segments.ts',
    changes: [['return (type >= 9 && (type & 1) !== 0) ||', 'return type >= 8 ||']],
    noticed: { part: 'values' },
  },
  {
    id: 'ss-type',
    rule: 'the type of SS must be 3 or 7',
    file: 'emulator/vmx/entry-checks/guest-segments.ts',
    changes: [
      [
        "return !checked(v, 'SS') || type === 3 || type === 7;",
        "return !checked(v, 'SS') || (type & 8) === 0;",
      ],
    ],
    noticed: { part: 'values' },
  },
  {
    id: 'conforming-cs',
    rule: 'DPL of a conforming CS must not be above that of SS',
    file: 'emulator/vmx/entry-checks/guest-segments.ts',
    changes: [['          return dpl(code) <= stack;', '          return true;']],
    noticed: { part: 'values' },
  },
  {
    id: 'halted-behind-an-event',
    rule: 'an event that VM entry injects makes a halted guest active',
    file: 'emulator/vmx/vm-entry.ts',
    changes: [
      [
        '  if (vmcs.low(GUEST_ACTIVITY_STATE) !== ACTIVITY.ACTIVE) {\n    vmcs.setLow(GUEST_ACTIVITY_STATE, ACTIVITY.ACTIVE);\n  }\n',
        '  void ACTIVITY;\n',
      ],
    ],
    noticed: { part: 'exits' },
  },
  {
    id: 'virtual-nmis-block',
    rule: 'with virtual NMIs, blocking by NMI is not the processor’s',
    file: 'emulator/vmx/vm-entry.ts',
    changes: [
      [
        '    (pin & PIN.VIRTUAL_NMIS) === 0 &&\n    (vmcs.low(GUEST_INTERRUPTIBILITY_INFO)',
        '    (vmcs.low(GUEST_INTERRUPTIBILITY_INFO)',
      ],
    ],
    noticed: { part: 'exits' },
  },
  {
    id: 'vmresume-number',
    rule: 'VMRESUME of a VMCS that is not launched is VMfail 5',
    file: 'emulator/vmx/vm-entry.ts',
    changes: [
      [
        'return vmfail(VMXERR.VMXERR_VMRESUME_NONLAUNCHED_VMCS);',
        'return vmfail(VMXERR.VMXERR_VMLAUNCH_NONCLEAR_VMCS);',
      ],
    ],
    noticed: { part: 'vmx' },
  },
  {
    id: 'host-selector-ti',
    rule: 'TI and RPL of host selectors must be 0',
    file: 'emulator/vmx/entry-checks/host-state.ts',
    changes: [['(v.low(slot) & 7) === 0,', '(v.low(slot) & 3) === 0,']],
    noticed: { part: 'bits' },
  },
  {
    id: 'entry-at-tsc-0',
    rule: 'the preemption timer counts from VM entry',
    file: 'emulator/vmx/vm-entry.ts',
    changes: [['  vmcs.entryTsc = pcpu.now();\n', '  vmcs.entryTsc = 0;\n']],
    noticed: { part: 'exits' },
  },
  {
    id: 'injected-length',
    rule: 'an injected software event has the instruction length that VM entry was given',
    file: 'emulator/vmx/vm-entry.ts',
    changes: [
      [
        'type === INTR_TYPE.SOFT_INTR ||\n    type === INTR_TYPE.PRIV',
        'type === INTR_TYPE.HARD_EXCEPTION ||\n    type === INTR_TYPE.PRIV',
      ],
    ],
    noticed: { part: 'exits' },
  },
  {
    id: 'injected-error-code',
    rule: 'an injected exception has the error code that VM entry was given',
    file: 'emulator/vmx/vm-entry.ts',
    changes: [
      [
        '(info & INTR_INFO.DELIVER_CODE) === 0 ? null : vmcs.low(VM_ENTRY_EXCEPTION_ERROR_CODE),',
        '(info & INTR_INFO.DELIVER_CODE) === 0 ? null : 0,',
      ],
    ],
    noticed: { part: 'exits' },
  },
  {
    id: 'entry-behind-mov-ss',
    rule: 'VM entry under blocking by MOV SS is VMfail 26',
    file: 'emulator/vmx/vm-entry.ts',
    changes: [
      [
        '  if (pcpu.blocking.movSs) return vmfail(VMXERR.VMXERR_ENTRY_EVENTS_BLOCKED_BY_MOV_SS);\n',
        '',
      ],
    ],
    noticed: { part: 'values' },
  },
];
