/**
 * The payload's disassembly as functions and instructions, and what must not be in it.
 *
 * Source: objdump's listing in caretaker.asm; CONTRACT ("Not the payload's to touch").
 * Invariant: every instruction of the listing belongs to the label before it.
 */

/** One instruction: `label` is the symbol it follows, `text` mnemonic and operands. */
export interface Listed {
  readonly label: string;
  readonly text: string;
}

/** Reads objdump's listing (--no-show-raw-insn). */
export function readListing(listing: string): readonly Listed[] {
  let label = '';
  const found: Listed[] = [];
  for (const line of listing.split('\n')) {
    const symbol = /^[0-9a-f]+ <(.+)>:$/.exec(line);
    if (symbol !== null) label = symbol[1]!;
    const instruction = /^\s+[0-9a-f]+:\t(.+?)\s*(?:#.*)?$/.exec(line);
    if (instruction !== null) found.push({ label, text: instruction[1]!.trim() });
  }
  return found;
}

/** x87, MMX, SSE and AVX by their registers, and the instructions that name none. */
const FPU = /%(?:[xyz]?mm\d|st\b|k[0-7])|^(?:f(?!s:)|emms|xsave|xrstor|ldmxcsr|stmxcsr|vzero)/;
const FORBIDDEN: readonly (readonly [rule: string, pattern: RegExp])[] = [
  ['x87, SSE and AVX registers hold guest values', FPU],
  ['CR2 and CR8 are the guest’s to write', /^mov .*,%cr[028]$/],
  ['debug registers hold guest values', /%(?:db|dr)\d/],
  ['XCR0 and PKRU hold guest values', /^(?:xsetbv|wrpkru)/],
  ['tables are loaded by VM exit', /^(?:lgdt|lidt|ltr|lldt|swapgs|wrgsbase|wrfsbase)/],
  ['nothing is written below RSP', /^(?!lea|cmp|test).*,\S*-0x[0-9a-f]+\(%rsp\)$/],
  ['there are no thunks and no indirect calls', /^(?:notrack )?call\s+\*/],
];

/** The rules that an instruction breaks. */
export function brokenRules(listed: readonly Listed[]): readonly string[] {
  return listed.flatMap(({ label, text }) =>
    FORBIDDEN.filter(([, pattern]) => pattern.test(text)).map(
      ([rule]) => `${label}: ${text}: ${rule}`,
    ),
  );
}

/** The labels under which an instruction matching `pattern` stands. */
export function labelsWith(listed: readonly Listed[], pattern: RegExp): readonly string[] {
  return [...new Set(listed.filter((i) => pattern.test(i.text)).map((i) => i.label))];
}
