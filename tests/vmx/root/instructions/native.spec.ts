import { describe, expect, it } from 'vitest';
import { u64 } from '../../../../abi/uint.js';
import type { RegisterName } from '../../../../emulator/cpu/registers.js';
import { executeInstruction } from '../../../../emulator/vmx/root/instructions/index.js';
import { instruction, DATA, fixture } from '../fixture.js';
import { UD, rows, type Registers } from './execute.js';

describe('saving extended state', () => {
  // prettier-ignore
  rows([
    { name: 'XSAVE64', rule: 'without CR4.OSXSAVE is #UD', pre: { CR4: 0x20n }, outcome: UD },
    { name: 'XSAVE64', rule: 'is the engine’s own', arrange: ({ engine }) => (engine.stepOverNativeResult = { kind: 'limit' }), outcome: { kind: 'native' } },
    { name: 'XSAVE64', rule: 'an engine that cannot stops the run', outcome: { kind: 'stop', reason: { kind: 'unmodelled', name: 'XSAVE64' } } },
    { name: 'XSAVE64', rule: 'an engine that stays at it stops the run', arrange: ({ engine }) => (engine.stepOverNativeResult = { kind: 'breakpoint' }), outcome: { kind: 'stop', reason: { kind: 'unmodelled', name: 'XSAVE64' } } },
    { name: 'XSAVE64', rule: 'a page that is not there is #PF', arrange: ({ engine, space }) => { space.refused.set(DATA, 'page-fault'); engine.stepOverNativeResult = { kind: 'memory', access: 'write', reason: 'unmapped', address: u64(DATA), sizeBytes: 8 }; }, outcome: { kind: 'fault', vector: 14, errorCode: 2, address: u64(DATA) } },
    { name: 'XRSTOR64', rule: 'with CR0.TS is #NM', pre: { CR0: 0x8001_0039n }, outcome: { kind: 'fault', vector: 7 } },
  ]);
});

describe('restoring extended state', () => {
  it.each(['XRSTOR64', 'FXRSTOR64'])('%s that changes a vector register is a finding', (name) => {
    const findings: string[] = [];
    const f = fixture({
      events: {
        onFinding: ({ message }) => {
          findings.push(message);
          return 'continue';
        },
      },
    });
    f.engine.stepOverNativeResult = { kind: 'limit' };
    f.engine.vectorsInTurn.push(new Uint8Array(256), new Uint8Array(256));
    executeInstruction(f.pcpu, instruction(name));
    expect(findings).toEqual([]);
    f.engine.vectorsInTurn.push(new Uint8Array(256), new Uint8Array(256).fill(7, 40, 41));
    executeInstruction(f.pcpu, instruction(name));
    expect(findings).toEqual([`${name} changed XMM2, which holds the guest's value`]);
  });
});

describe('an x87 or vector instruction', () => {
  const MOVAPS = { ...instruction('MOVAPS'), isFpu: true };
  const run = (verdict: 'continue' | 'stop', pre: Registers = {}) => {
    const findings: string[] = [];
    const f = fixture({
      events: {
        onFinding: ({ invariant }) => {
          findings.push(invariant);
          return verdict;
        },
      },
    });
    for (const [name, value] of Object.entries(pre))
      f.pcpu.registers.set(name as RegisterName, value);
    f.engine.stepOverNativeResult = { kind: 'limit' };
    return { findings, outcome: executeInstruction(f.pcpu, MOVAPS) };
  };
  it.each<{
    rule: string;
    verdict: 'continue' | 'stop';
    pre: Registers;
    outcome: object;
    findings: string[];
  }>([
    {
      rule: 'is a finding and then the engine’s',
      verdict: 'continue',
      pre: {},
      outcome: { kind: 'native' },
      findings: ['guest-registers'],
    },
    {
      rule: 'ends the run where the machine says so',
      verdict: 'stop',
      pre: {},
      outcome: { kind: 'stop', reason: { kind: 'finding' } },
      findings: ['guest-registers'],
    },
    {
      rule: 'is #NM with CR0.TS',
      verdict: 'continue',
      pre: { CR0: 8n },
      outcome: { kind: 'fault', vector: 7 },
      findings: [],
    },
  ])('$rule', ({ verdict, pre, outcome, findings }) => {
    const done = run(verdict, pre);
    expect(done.outcome).toMatchObject(outcome);
    expect(done.findings).toEqual(findings);
  });
});
