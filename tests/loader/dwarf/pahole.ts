/** pahole as the second reader of layouts: its text as members with bit positions, and ours in the same form. */
import { execFileSync } from 'node:child_process';
import type { LayoutField } from '../../../loader/dwarf/members.js';

/** Structures by name: `name bit+width` of each member, nested ones included, anonymous ones flattened. */
export type Members = ReadonlyMap<string, readonly string[]>;

/** What pahole prints of a file. */
export function paholeMembers(file: string): Members {
  const text = execFileSync('pahole', [file], {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const structs = new Map<string, string[]>();
  let members: string[] = [];
  const open: number[] = [];
  for (const line of text.split('\n')) {
    const opening = /^(?:struct|union|class) ([\w:<>, ]+?) (?:: .*)?\{/.exec(line);
    if (opening !== null) {
      members = [];
      structs.set(opening[1]!, members);
      open.length = 0;
      continue;
    }
    if (/^\t+(?:const |volatile )*(?:struct|union|class).*\{$/.test(line))
      open.push(members.length);
    // A type that is only declared here, not a member: clang puts it inside the structure.
    const start = /^\t+\}/.test(line) ? open.pop() : undefined;
    if (start !== undefined && !line.includes('/*')) members.length = start;
    const size = /^\t\/\* size: (\d+)/.exec(line);
    if (size !== null) members.push(`sizeof ${size[1]!}`);
    const member = /^\t+(.*?)\s*\/\*\s*(\d+)(?::\s*(\d+))?\s+(\d+)\s*\*\/$/.exec(line);
    const declared = member === null ? undefined : nameOf(member[1]!);
    if (member === null || declared === undefined) continue;
    const [, declaration = '', byte, bit, bytes] = member;
    const width = bit === undefined ? Number(bytes) * 8 : Number(/:(\d+)/.exec(declaration)![1]);
    members.push(`${declared} ${Number(byte) * 8 + Number(bit ?? 0)}+${width}`);
  }
  return structs;
}

function nameOf(declaration: string): string | undefined {
  const plain = declaration.replace(/\s*__attribute__\(\(.*?\)\)(?=\s|;|$)/g, '').replace(/;$/, '');
  if (/^\}?$/.test(plain.trim())) return undefined;
  const pointer = /\(\*+(?:const |volatile )*(\w+)(?:\[\d*\])*\)/.exec(plain);
  const bare = plain.replace(/:\d+$/, '').replace(/(\[\d*\])+$/, '');
  return pointer?.[1] ?? /(\w+)$/.exec(bare)?.[1];
}

/** A layout of ours in the same form. */
export function membersOf(layout: { size: number; fields: readonly LayoutField[] }): string[] {
  return [...flat(layout.fields), `sizeof ${layout.size}`];
}

function flat(fields: readonly LayoutField[]): string[] {
  return fields.flatMap((field) => {
    const start = field.offset * 8 + (field.bitOffset ?? 0);
    const own = `${field.name} ${start}+${field.bitSize ?? field.size * 8}`;
    return [...flat(field.fields ?? []), own];
  });
}
