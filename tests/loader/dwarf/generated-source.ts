/** Random C structures of every kind, two files that share a header, from a seed. */

const SCALARS = ['char', 'unsigned char', 'short', 'u16', 'int', 'u32', 'long', 'u64', 'float'];
const INTEGERS = ['int', 'unsigned int', 'u16', 'unsigned char', 'u64', 'long'];
const BITS: Readonly<Record<string, number>> = { u16: 16, 'unsigned char': 8, u64: 64, long: 64 };

/** A header with `count` structures and unions, each used by the two sources. */
export function generate(seed: number, count: number): { header: string; sources: string[] } {
  let state = seed >>> 0;
  const draw = (below: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const pick = (list: readonly string[]): string => list[draw(list.length)]!;
  const members = (known: number, prefix: string, depth: number): string[] =>
    Array.from({ length: 1 + draw(7) }, (_, index) => member(known, `${prefix}${index}`, depth));
  const member = (known: number, name: string, depth: number): string => {
    const align = draw(12) === 0 ? ` __attribute__((aligned(${8 << draw(3)})))` : '';
    const kind = draw(depth > 2 ? 9 : 12);
    // prettier-ignore
    switch (kind) {
      case 0: case 1: case 2: {
        const type = pick(INTEGERS);
        return `${type} ${name}:${1 + draw(BITS[type] ?? 32)};`;
      }
      case 3: return `${pick(SCALARS)} ${name}[${1 + draw(9)}]${align};`;
      case 4: return `${pick(SCALARS)} ${name}[${1 + draw(3)}][${1 + draw(5)}];`;
      case 5: return `void (*${name})(int, const char *);`;
      case 6: return known > 0 ? `struct s${draw(known)} ${name};` : `void *${name};`;
      case 7: return known > 0 ? `const struct s${draw(known)} *${name};` : `enum e ${name};`;
      case 8: return `_Bool ${name};${draw(2) === 0 ? ` int :0;` : ''}`;
      case 9: return `struct { ${members(known, `${name}_`, depth + 1).join(' ')} };`;
      case 10: return `union { ${members(known, `${name}_`, depth + 1).join(' ')} } ${name}${align};`;
      default: return `${pick(SCALARS)} ${name}${align};`;
    }
  };
  const types = Array.from({ length: count }, (_, index) => {
    const packed = draw(4) === 0 ? ' __attribute__((packed))' : '';
    const body = members(index, 'm', 0).join('\n\t');
    return `struct s${index} {\n\t${body}\n}${packed};\nunion u${index} { struct s${index} s; int i; };`;
  });
  const header = [
    'typedef unsigned short u16; typedef unsigned int u32; typedef unsigned long long u64;',
    'enum e { E_MINUS = -2, E_ZERO = 0, E_BIG = 0x7fffffff };',
    ...types,
  ].join('\n');
  const uses = (file: string): string =>
    Array.from(
      { length: count },
      (_, i) => `union u${i} ${file}${i}; struct s${i} ${file}s${i};`,
    ).join('\n');
  const sources = ['a', 'b'].map((file) => `#include "types.h"\n${uses(file)}\nenum e ${file}e;\n`);
  return { header, sources };
}
