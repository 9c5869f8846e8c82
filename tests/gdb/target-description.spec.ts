import { describe, expect, it } from 'vitest';
import { GDB_REGISTERS } from '../../emulator/gdb/registers.js';
import {
  librariesXml,
  memoryMapXml,
  targetXml,
  threadsXml,
} from '../../emulator/gdb/target-description.js';
import { VMCS_FIELDS } from '../../abi/vmcs-fields.js';
import { ToyTarget } from './toy-target.js';

/** Elements and attributes of GDB's documents, as their DTDs in GDB's sources name them. */
// prettier-ignore
const DTDS: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>> = {
  target: {
    target: ['version'], architecture: [], osabi: [], compatible: [], feature: ['name'],
    vector: ['id', 'type', 'count'], union: ['id'], struct: ['id', 'size'], flags: ['id', 'size'],
    enum: ['id', 'size'], evalue: ['name', 'value'], field: ['name', 'type', 'start', 'end'],
    reg: ['name', 'bitsize', 'regnum', 'type', 'group', 'save-restore'],
  },
  threads: { threads: [], thread: ['id', 'core', 'name', 'handle'] },
  'memory-map': { 'memory-map': ['version'], memory: ['type', 'start', 'length'], property: ['name'] },
  'library-list': { 'library-list': ['version'], library: ['name'], segment: ['address'], section: ['address'] },
};

const PREDEFINED =
  /^(?:bool|int|u?int(?:8|16|32|64|128)|(?:code|data)_ptr|ieee_(?:single|double)|i387_ext)$/;

interface Tag {
  readonly element: string;
  readonly attributes: Readonly<Record<string, string>>;
}

/** Every opening tag; closing tags must match. */
function tagsOf(xml: string): Tag[] {
  const open: string[] = [];
  const tags: Tag[] = [];
  for (const [, slash, element, text, empty] of xml.matchAll(
    /<(\/?)([a-z-]+)((?:\s+[a-z-]+="[^"<&]*(?:&\w+;[^"<&]*)*")*)(\/?)>/g,
  )) {
    if (slash === '/') expect(open.pop()).toBe(element);
    else {
      const pairs = [...text!.matchAll(/([a-z-]+)="([^"]*)"/g)].map(([, k, v]) => [k!, v!]);
      tags.push({ element: element!, attributes: Object.fromEntries(pairs) as Tag['attributes'] });
      if (empty === '') open.push(element!);
    }
  }
  expect(open).toEqual([]);
  return tags;
}

const target = new ToyTarget();
target.executable = { path: '/a <&> "b".elf', bytes: new Uint8Array(0) };

describe.each([
  ['target', targetXml(GDB_REGISTERS)],
  ['threads', threadsXml(target.threads())],
  ['memory-map', memoryMapXml(target)],
  ['library-list', librariesXml(target, target.bases[0]!)],
])('the %s document', (dtd, xml) => {
  it('has the elements and attributes of its DTD', () => {
    const tags = tagsOf(xml);
    expect(tags[0]?.element).toBe(dtd);
    for (const { element, attributes } of tags) {
      const allowed = DTDS[dtd]![element];
      expect(allowed, element).toBeDefined();
      for (const name of Object.keys(attributes)) expect(allowed).toContain(name);
    }
  });
});

describe('the registers', () => {
  const tags = tagsOf(targetXml(GDB_REGISTERS));
  const named = (feature: string): string[] =>
    GDB_REGISTERS.filter((register) => register.feature === feature).map(({ name }) => name);

  it("are those of GDB's i386 core feature, in its order", () => {
    const general = 'rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip eflags';
    const x87 = 'st0 st1 st2 st3 st4 st5 st6 st7 fctrl fstat ftag fiseg fioff foseg fooff fop';
    const wanted = `${general} cs ss ds es fs gs ${x87}`;
    expect(named('org.gnu.gdb.i386.core').join(' ')).toBe(wanted);
  });

  it('are those of its SSE and segment features', () => {
    expect(named('org.gnu.gdb.i386.sse')).toHaveLength(17);
    expect(named('org.gnu.gdb.i386.segments')).toEqual(['fs_base', 'gs_base']);
  });

  it('are the control registers, EFER, and every field of the VMCS', () => {
    for (const name of ['cr0', 'cr2', 'cr3', 'cr4', 'cr8', 'efer']) {
      expect(named('org.caretaker.control')).toContain(name);
    }
    expect(named('org.caretaker.vmcs')).toEqual(VMCS_FIELDS.map(({ name }) => name));
  });

  it('have their numbers in the order of the list, and names of their own', () => {
    const registers = tags.filter(({ element }) => element === 'reg');
    expect(registers.map(({ attributes }) => attributes['name'])).toEqual(
      GDB_REGISTERS.map(({ name }) => name),
    );
    expect(registers.map(({ attributes }) => Number(attributes['regnum']))).toEqual(
      GDB_REGISTERS.map((_, i) => i),
    );
    expect(new Set(GDB_REGISTERS.map(({ name }) => name.toLowerCase())).size).toBe(
      GDB_REGISTERS.length,
    );
  });

  it('have types that GDB knows or that their feature defines before', () => {
    let defined = new Set<string>();
    for (const { element, attributes } of tags) {
      if (element === 'feature') defined = new Set();
      const { id, type } = attributes;
      if (type !== undefined && !PREDEFINED.test(type)) expect(defined).toContain(type);
      if (id !== undefined) defined.add(id);
    }
  });
});

it('libraries are the images that qOffsets does not tell', () => {
  const addresses = tagsOf(librariesXml(target, target.bases[1]!)).filter(
    (t) => t.element === 'segment',
  );
  expect(addresses.map(({ attributes }) => attributes['address'])).toEqual(['0x100000']);
});
