/** `abi dump`: the layouts that a binary's debug information describes. */
import type { LayoutField } from '../../../loader/dwarf/members.js';
import { layoutsOf, readBinary } from '../abi-file.js';
import { defineCommand } from '../command.js';
import { EXIT } from '../exit-status.js';
import { jsonText } from '../output/json.js';
import { columnsOf } from '../output/table.js';
import { PAYLOAD_ARGUMENT, naming, referencePayload } from '../payload-file.js';

/** The command. */
export const command = defineCommand({
  usage: '[payload]',
  positionals: { payload: PAYLOAD_ARGUMENT },
  options: {},
  examples: [
    ['caretaker-emu abi dump', 'every structure of the reference payload'],
    ['caretaker-emu abi dump vmlinux --json', 'of any ELF file with debug information'],
  ],
  run: ({ payload = referencePayload(), json }, terminal) => {
    const bytes = readBinary(payload);
    const { structs, enumerations } = naming(payload, () => layoutsOf(bytes));
    if (json) {
      const enums = enumerations.map((one) => {
        const values = one.enumerators.map(({ name, value }) => ({
          name,
          value: value.toString(),
        }));
        return { name: one.name, size: one.size, enumerators: values };
      });
      terminal.print(jsonText({ file: payload, structs, enums }));
      return EXIT.OK;
    }
    for (const { kind, name, size, align, fields } of structs) {
      terminal.print(`${kind} ${name}: ${size} bytes, aligned to ${align}`);
      if (fields.length > 0)
        terminal.print(columnsOf(rowsOf(fields, '  '), terminal.columns, [0, 1]));
    }
    return EXIT.OK;
  },
});

function rowsOf(fields: readonly LayoutField[], indent: string): string[][] {
  return fields.flatMap((field) => {
    const bits = field.bitSize === null ? '' : `:${field.bitSize} at bit ${field.bitOffset ?? 0}`;
    const own = [`${indent}${field.offset}`, `${field.size}`, field.name + bits, field.type];
    return [own, ...rowsOf(field.fields ?? [], `${indent}  `)];
  });
}
