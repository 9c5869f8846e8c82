/** The ABI is written twice, in C and in TypeScript: this compares the two through a real compiler, and both with the lock. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { CONTRACT, CONTRACT_CONSTANTS } from '../../abi/contract.js';
import { CARETAKER_CCB, CARETAKER_KVM_PAGE, CARETAKER_REGISTER_ORDER } from '../../abi/ccb.js';
import { CARETAKER_TELEMETRY } from '../../abi/telemetry.js';
import { elementBytes, locate, struct, StructView, writerMap } from '../../abi/layout.js';
import { currentLock, lockViolations, type LayoutLock } from '../../abi/lock.js';
import { hex } from '../../abi/uint.js';
import { PhysicalMemory } from '../../emulator/memory/physical-memory.js';

const include = new URL('../../abi/include', import.meta.url).pathname;
const directory = mkdtempSync(join(tmpdir(), 'abi-'));
afterAll(() => rmSync(directory, { recursive: true }));

const expected = new Map<string, string>();
const lines: string[] = [];
const print = (key: string, expression: string, value: bigint | number): void => {
  lines.push(`printf("${key} %llx\\n", (unsigned long long)(${expression}));`);
  expected.set(key, hex(value).slice(2));
};
for (const { layout, parts, magic, version } of CONTRACT) {
  const constant = layout.name.toUpperCase();
  print(`${constant}_MAGIC`, `${constant}_MAGIC`, magic);
  print(`${constant}_VERSION`, `${constant}_VERSION`, version);
  for (const l of [layout, ...parts]) {
    print(`sizeof ${l.name}`, `sizeof(struct ${l.name})`, l.sizeBytes);
    for (const f of l.fields) {
      print(`offsetof ${l.name}.${f.name}`, `offsetof(struct ${l.name}, ${f.name})`, f.offset);
      print(
        `sizeof ${l.name}.${f.name}`,
        `sizeof(((struct ${l.name} *)0)->${f.name})`,
        elementBytes(f) * f.count,
      );
    }
  }
}
for (const [name, value] of Object.entries(CONTRACT_CONSTANTS)) print(name, name, value);
CARETAKER_REGISTER_ORDER.forEach((name, index) =>
  print(`CARETAKER_${name}`, `CARETAKER_${name}`, index),
);
print('CARETAKER_KVM_PAGE', 'CARETAKER_KVM_PAGE', CARETAKER_KVM_PAGE);

const facts = (): Map<string, string> => {
  const source = join(directory, 'probe.c');
  const binary = join(directory, 'probe');
  const headers = CONTRACT.map((c) => `#include <${c.header}>`).join('\n');
  writeFileSync(
    source,
    `#include <stdio.h>\n#include <stddef.h>\n${headers}\nint main(void){${lines.join('\n')}return 0;}\n`,
  );
  execFileSync('gcc', ['-std=gnu11', '-Wall', '-Werror', `-I${include}`, source, '-o', binary]);
  const text = execFileSync(binary, { encoding: 'utf8' }).trim().split('\n');
  return new Map(
    text.map((line) => [
      line.slice(0, line.lastIndexOf(' ')),
      line.slice(line.lastIndexOf(' ') + 1),
    ]),
  );
};

describe('the contract in C and in TypeScript', () => {
  const inC = facts();
  it.each([...expected])('%s is %s', (key, value) => {
    expect(inC.get(key)).toBe(value);
  });
});

describe('the lock', () => {
  const locked = JSON.parse(
    readFileSync(new URL('../../abi/layout.lock.json', import.meta.url), 'utf8'),
  ) as LayoutLock;

  it('refuses a KHO record that changed under the same compatible string', () => {
    const [name = '', record] = Object.entries(locked.records)[0] ?? [];
    const change = (more: object): LayoutLock => ({
      ...locked,
      records: { ...locked.records, [name]: { ...record!, ...more } },
    });
    const layout = { sizeBytes: 136, fields: {} };
    const version = record!.version + 1;
    expect(lockViolations(locked, change({ layout }))).toHaveLength(1);
    expect(lockViolations(locked, change({ layout, version }))).toHaveLength(1);
    expect(lockViolations(locked, change({ layout, version, compatible: 'another' }))).toEqual([]);
  });

  it('is the one that the contract has', () => {
    expect(locked).toEqual(currentLock());
  });

  it('refuses a moved field under the same version', () => {
    const moved = structuredClone(locked) as {
      structs: Record<string, { layouts: Record<string, { fields: Record<string, string> }> }>;
    };
    moved.structs['caretaker_ccb']!.layouts['caretaker_ccb']!.fields['attach_state'] = 'u32*1@4100';
    expect(lockViolations(locked, moved as unknown as LayoutLock)).toHaveLength(1);
  });

  it('lets a moved field pass under a new version', () => {
    const next = structuredClone(locked) as {
      structs: Record<string, { version: number; layouts: Record<string, unknown> }>;
    };
    next.structs['caretaker_ccb']!.version++;
    next.structs['caretaker_ccb']!.layouts = {};
    expect(lockViolations(locked, next as unknown as LayoutLock)).toEqual([]);
  });

  it('refuses an enumerator with a new meaning', () => {
    expect(
      lockViolations(locked, { ...locked, constants: { ...locked.constants, KVM_ATTACHED: 2 } }),
    ).toHaveLength(1);
  });
});

describe('layouts', () => {
  it('a gap between fields is refused', () => {
    expect(() =>
      struct('s', 12, [
        ['a', 'u32', 0, 'kvm', ''],
        ['b', 'u32', 8, 'kvm', ''],
      ]),
    ).toThrow('s.b');
  });

  it('every byte of the CCB has a writer and the KVM page has KVM alone', () => {
    const writers = writerMap(CARETAKER_CCB);
    expect(writers).toHaveLength(CARETAKER_CCB.sizeBytes);
    expect(new Set(writers.slice(CARETAKER_KVM_PAGE))).toEqual(new Set(['kvm', 'reserved']));
  });

  it('a path leads through arrays of structures', () => {
    expect(locate(CARETAKER_TELEMETRY, 'reason[10].blocked')).toEqual({
      type: 'u64',
      offset: 256 + 240 + 16,
    });
    expect(() => locate(CARETAKER_TELEMETRY, 'reason[96].blocked')).toThrow();
  });

  it('a view reads back what it wrote, and nothing beside it changes', () => {
    const memory = new PhysicalMemory(new ArrayBuffer(8192));
    const view = new StructView(CARETAKER_TELEMETRY, memory, 0n);
    view.set('reason[3].routed', 0xffff_ffff_ffff_ffffn);
    expect(view.get('reason[3].routed')).toBe(0xffff_ffff_ffff_ffffn);
    expect(view.get('reason[3].fastpath')).toBe(0n);
    expect(view.get('reason[3].blocked')).toBe(0n);
  });
});
