/**
 * The JSON that commands print.
 *
 * Source: CLI: numbers above 2^53 and all addresses are hex strings. In this code those are the bigints.
 */
import { hex } from '../../../abi/uint.js';

/** One indented document; every bigint in it becomes a hex string. */
export function jsonText(value: unknown): string {
  const replace = (_key: string, item: unknown): unknown =>
    typeof item === 'bigint' ? hex(item) : item;
  return JSON.stringify(value, replace, 2);
}
