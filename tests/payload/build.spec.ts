import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CCB_RULE } from '../../emulator/host/kvm/ccb-rule.js';
import { parseElf } from '../../loader/elf.js';
import { brokenRules, labelsWith, readListing, type Listed } from './disassembly.js';
import { CLANG, GCC, isInstalled, PayloadTree, type Toolchain } from './payload-tree.js';

const TOOLCHAINS: readonly (readonly [name: string, toolchain: Toolchain])[] = [
  ['gcc and GNU ld', GCC],
  ['clang and lld', CLANG],
];

/** SHF_ALLOC sections that an image may have (DESIGN, "The payload"). */
const ALLOCATED =
  /^\.(?:text|rodata|data|bss|ccb|dynamic|dynsym|dynstr|rela\.dyn|gnu\.hash|hash|note\..*)$/;
/** Bytes of stack that one function may take. */
const FRAME_LIMIT = 128;

describe.each(TOOLCHAINS)('the payload built by %s', (_name, toolchain) => {
  const skip = !isInstalled(toolchain);
  const first = new PayloadTree();
  const second = new PayloadTree('payload-at-a-longer-path-');
  let listing: readonly Listed[] = [];

  beforeAll(() => {
    if (skip) return;
    for (const tree of [first, second]) {
      const result = tree.build(toolchain);
      if (!result.ok) throw new Error(result.stderr);
    }
    listing = readListing(first.product('caretaker.asm').toString());
  });
  afterAll(() => {
    first.remove();
    second.remove();
  });

  it.skipIf(skip)('builds without a word on stderr', () => {
    expect(first.build(toolchain, 'again')).toEqual({ ok: true, stderr: '' });
  });

  it.skipIf(skip)('has the same bytes wherever it is built, under any name', () => {
    for (const name of ['caretaker.elf', 'caretaker.asm', 'caretaker.sym', 'stack-usage.txt']) {
      expect(second.product(name).equals(first.product(name)), name).toBe(true);
      expect(first.product(name, 'again').equals(first.product(name)), name).toBe(true);
    }
    expect(first.product('caretaker.elf').includes(first.path)).toBe(false);
  });

  it.skipIf(skip)('is a PIE that begins at 0 and enters at caretaker_vmexit', () => {
    const header = first.readelf('--file-header');
    expect(header).toMatch(/Type:\s+DYN/);
    const entry = /Entry point address:\s+0x([0-9a-f]+)/.exec(header)![1]!;
    expect(Number.parseInt(entry, 16)).toBeGreaterThan(0);
    expect(first.product('caretaker.sym').toString()).toMatch(
      new RegExp(`^0*${entry} [tT] caretaker_vmexit$`, 'm'),
    );
    const loads = segments(first, 'LOAD');
    expect(loads[0]).toMatchObject({ address: 0, flags: 'R E' });
  });

  it.skipIf(skip)('has no segment that is writable and executable', () => {
    const flags = segments(first, '\\w+').map((s) => s.flags);
    expect(flags).toContain('R E');
    expect(flags.filter((f) => f.includes('W') && f.includes('E'))).toEqual([]);
  });

  it.skipIf(skip)('allocates no section that the loader does not know', () => {
    const names = allocated(first).map((s) => s.name);
    expect(names).toContain('.text');
    expect(names.filter((name) => !ALLOCATED.test(name))).toEqual([]);
  });

  it.skipIf(skip)('keeps .ccb alone on two pages of its own', () => {
    const all = allocated(first);
    const ccb = all.find((s) => s.name === '.ccb')!;
    expect(ccb).toMatchObject({ sizeBytes: 8192, alignment: 4096 });
    expect(ccb.address % 4096).toBe(0);
    const others = all.filter((s) => s !== ccb && s.sizeBytes > 0);
    const overlapping = others.filter(
      (s) => s.address < ccb.address + 8192 && s.address + s.sizeBytes > ccb.address,
    );
    expect(overlapping).toEqual([]);
  });

  it.skipIf(skip)('needs only R_X86_64_RELATIVE: the three entry points of the CCB', () => {
    const types = [...first.readelf('--relocs').matchAll(/R_X86_64_\w+/g)].map(([type]) => type);
    expect(types).toEqual(Array.from({ length: 3 }, () => 'R_X86_64_RELATIVE'));
  });

  it.skipIf(skip)('is accepted by the loader', () => {
    const image = parseElf(first.product('caretaker.elf'), CCB_RULE);
    expect(image.ccb).toMatchObject({ sizeBytes: 8192 });
    expect(image.relocations).toHaveLength(3);
  });

  it.skipIf(skip)('leaves no symbol to others', () => {
    expect(first.product('caretaker.sym').toString()).not.toMatch(/^\s+[Uw] /m);
  });

  it.skipIf(skip)('carries DWARF 5 with the layout of the CCB', () => {
    const info = first.readelf('--debug-dump=info');
    expect(new Set([...info.matchAll(/Version:\s+(\d+)/g)].map(([, v]) => v))).toEqual(
      new Set(['5']),
    );
    expect(info).toMatch(/DW_AT_name.*: caretaker_ccb$/m);
  });

  it.skipIf(skip)('touches no state that the guest holds from VM exit on', () => {
    expect(listing.length).toBeGreaterThan(1000);
    expect(brokenRules(listing)).toEqual([]);
  });

  it.skipIf(skip)('leaves .text in one place, and only there takes a jump from memory', () => {
    expect(labelsWith(listing, /^(?:notrack )?jmp\s+\*/)).toEqual(['caretaker_look_again']);
  });

  it.skipIf(skip)('uses GS only where VM exit has just loaded it', () => {
    expect(labelsWith(listing, /%gs:/)).toEqual(['caretaker_vmexit']);
  });

  it.skipIf(skip)('executes RDTSCP only to answer one', () => {
    expect(labelsWith(listing, /^rdtscp/)).toEqual(['caretaker_rdtscp']);
  });

  it.skipIf(skip)('begins each entry point and each of the 256 stubs with ENDBR64', () => {
    for (const label of ['caretaker_vmexit', 'caretaker_run', 'caretaker_init']) {
      expect(listing.find((i) => i.label === label)?.text, label).toBe('endbr64');
    }
    const stubs = listing.filter((i) => i.label === 'caretaker_trap_stubs');
    expect(stubs.filter((i) => i.text === 'endbr64')).toHaveLength(256);
  });

  it.skipIf(skip)(`has a known frame of at most ${FRAME_LIMIT} bytes in each function`, () => {
    const rows = first.product('stack-usage.txt').toString().trim().split('\n');
    expect(rows.length).toBeGreaterThan(30);
    const usage = rows.map((row) => row.split(' '));
    expect(usage.filter(([bytes]) => Number(bytes) > FRAME_LIMIT)).toEqual([]);
    expect(usage.filter(([, , kind]) => kind !== 'static')).toEqual([]);
  });
});

describe('a breach is refused or seen', () => {
  const tree = new PayloadTree();
  afterAll(() => {
    tree.remove();
  });

  const IN_ADVANCE = ['advance.c', 'void caretaker_advance(u64 rip)\n{'] as const;
  const IN_INIT = ['init.c', 'struct caretaker_instance caretaker_instance;'] as const;

  it('an untouched copy builds', () => {
    expect(tree.build(GCC)).toEqual({ ok: true, stderr: '' });
  });

  // prettier-ignore
  it.each([
    ['an unused variable', IN_ADVANCE, 'int unused;', /unused-variable/],
    ['a float', IN_ADVANCE, 'volatile double f = (double)rip; (void)f;', /SSE|x87|general-regs/],
    ['a call out of the image', IN_ADVANCE, 'extern int puts(const char *); puts("");', /undefined .*puts/],
    ['more in .ccb', IN_INIT, 'static u8 more __attribute__((section(".ccb"), used)) = 1;', /\.ccb is one/],
    ['a section of its own', IN_INIT, 'static u8 more __attribute__((section(".more"), used)) = 1;', /orphan.*\.more/],
  ] as const)('the build refuses %s', (_title, [file, after], added, why) => {
    tree.plant(file, after, `${after}\n${added}`);
    const result = tree.build(GCC);
    tree.plant(file, `${after}\n${added}`, after);
    expect(result.ok).toBe(false);
    expect(result.stderr).toMatch(why);
  });

  it.each([
    ['movaps %xmm0,(%rdi)', true],
    ['fninit', true],
    ['mov    %fs:0x28,%rax', false],
    ['mov    %rax,%cr2', true],
    ['mov    %cr2,%rax', false],
    ['mov    %rax,%cr3', false],
    ['mov    %db7,%rax', true],
    ['lidt   (%rax)', true],
    ['mov    %rax,-0x8(%rsp)', true],
    ['lea    -0x8(%rsp),%rax', false],
    ['call   *%rax', true],
    ['call   1930 <caretaker_dispatch>', false],
  ])('the listing: %s', (text, isBroken) => {
    const listed = readListing(`0000 <label>:\n    10:\t${text}`);
    expect(listed).toEqual([{ label: 'label', text }]);
    expect(brokenRules(listed)).toHaveLength(isBroken ? 1 : 0);
  });
});

interface Section {
  readonly name: string;
  readonly address: number;
  readonly sizeBytes: number;
  readonly alignment: number;
}

function allocated(tree: PayloadTree): readonly Section[] {
  const row =
    /^\s*\[\s*\d+\] (\S+)\s+\w+\s+([0-9a-f]+) [0-9a-f]+ ([0-9a-f]+) [0-9a-f]+\s+(\w*)\s+\d+\s+\d+\s+(\d+)$/gm;
  return [...tree.readelf('--sections').matchAll(row)]
    .filter(([, , , , flags]) => flags!.includes('A'))
    .map(([, name, address, size, , alignment]) => ({
      name: name!,
      address: Number.parseInt(address!, 16),
      sizeBytes: Number.parseInt(size!, 16),
      alignment: Number(alignment),
    }));
}

function segments(tree: PayloadTree, type: string): readonly { address: number; flags: string }[] {
  const row = new RegExp(
    `^  ${type}\\s+0x[0-9a-f]+ 0x([0-9a-f]+) 0x[0-9a-f]+ 0x[0-9a-f]+ 0x[0-9a-f]+ ([RWE ]{3})`,
    'gm',
  );
  return [...tree.readelf('--segments').matchAll(row)].map(([, address, flags]) => ({
    address: Number.parseInt(address!, 16),
    flags: flags!.trimEnd(),
  }));
}
