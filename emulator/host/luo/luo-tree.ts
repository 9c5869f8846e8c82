/**
 * LUO's device tree and FLB page: what the next kernel finds under KHO's subtree `LUO`.
 *
 * Source: Linux include/linux/kho/abi/luo.h; luo_core.c: luo_fdt_setup(), luo_early_startup().
 * ABI: root {compatible, liveupdate-number u64} with nodes luo-session and luo-flb, each {compatible, header u64}: the
 * address of a first block. The number counts live updates, this one included.
 * Invariant: a tree with another compatible string, or with a value missing, is refused whole.
 */
import { u64 } from '../../../abi/uint.js';
import { PAGE_SIZE, type PhysicalBytes } from '../../memory/physical-memory.js';
import { readBlocks } from '../kho/block-set.js';
import {
  childOf,
  encodeFdt,
  stringOf,
  stringProperty,
  u64Of,
  u64Property,
  type FdtNode,
} from '../kho/fdt.js';
import { readTree } from '../kho/kho-in.js';
import { ok, refuse, type Result } from '../result.js';
import * as abi from './luo-abi.js';

/** What the tree says. */
export interface LuoTree {
  readonly liveupdateNumber: bigint;
  /** First block of sessions, 0 without any. */
  readonly sessions: bigint;
  /** The block of FLB records. */
  readonly flbPage: bigint;
}

/** Writes the tree into its page. */
export function writeLuoTree(memory: PhysicalBytes, page: bigint, tree: LuoTree): void {
  const root: FdtNode = {
    name: '',
    properties: [
      stringProperty('compatible', abi.LUO_COMPATIBLE),
      u64Property(abi.LUO_LIVEUPDATE_NUMBER, tree.liveupdateNumber),
    ],
    children: [
      {
        name: abi.LUO_SESSION_NODE,
        properties: [
          stringProperty('compatible', abi.LUO_SESSION_COMPATIBLE),
          u64Property(abi.LUO_SESSION_HEADER, tree.sessions),
        ],
        children: [],
      },
      {
        name: abi.LUO_FLB_NODE,
        properties: [
          stringProperty('compatible', abi.LUO_FLB_COMPATIBLE),
          u64Property(abi.LUO_FLB_HEADER, tree.flbPage),
        ],
        children: [],
      },
    ],
  };
  memory.write(page, encodeFdt(root));
}

/** Reads the tree. Errnos: EINVAL no tree, another compatible string, a value missing. */
export function readLuoTree(memory: PhysicalBytes, page: bigint): Result<LuoTree> {
  const root = readTree(memory, page, PAGE_SIZE);
  if (root === undefined || stringOf(root, 'compatible') !== abi.LUO_COMPATIBLE) {
    return refuse('EINVAL');
  }
  const header = (node: string, compatible: string, property: string): bigint | undefined => {
    const child = childOf(root, node);
    if (child === undefined || stringOf(child, 'compatible') !== compatible) return undefined;
    return u64Of(child, property);
  };
  const liveupdateNumber = u64Of(root, abi.LUO_LIVEUPDATE_NUMBER);
  const sessions = header(abi.LUO_SESSION_NODE, abi.LUO_SESSION_COMPATIBLE, abi.LUO_SESSION_HEADER);
  const flbPage = header(abi.LUO_FLB_NODE, abi.LUO_FLB_COMPATIBLE, abi.LUO_FLB_HEADER);
  if (liveupdateNumber === undefined || sessions === undefined || flbPage === undefined) {
    return refuse('EINVAL');
  }
  return ok({ liveupdateNumber, sessions, flbPage });
}

/** Writes the FLB records into their one block. */
export function writeFlbPage(
  memory: PhysicalBytes,
  page: bigint,
  records: readonly abi.FlbSer[],
): void {
  memory.writeU64(page, 0n);
  memory.writeU64(page + 8n, u64(records.length));
  records.forEach((record, index) => {
    memory.write(page + u64(16 + index * abi.FLB_SER_BYTES), abi.encodeFlb(record));
  });
}

/** Reads the FLB records. Errnos: EINVAL a block that cannot be right. */
export function readFlbPage(memory: PhysicalBytes, page: bigint): Result<readonly abi.FlbSer[]> {
  const read = readBlocks(memory, page, abi.FLB_SER_BYTES);
  return read.ok ? ok(read.value.entries.map(abi.decodeFlb)) : read;
}
