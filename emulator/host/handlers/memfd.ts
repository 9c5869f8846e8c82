/**
 * memfd: anonymous memory behind a descriptor, as guests have it, and its LUO handler.
 *
 * Source: Linux mm/memfd_luo.c, include/linux/kho/abi/memfd.h. This interface is a contract.
 * ABI: record {u64 pos, u64 size, u64 nr_folios, kho_vmalloc}; folio {u64 pfn in bits 51:0, flags in 63:52 (dirty,
 * uptodate); u64 index in pages}.
 * Invariant: a preserved memfd keeps its size and its frames; its pages have the same addresses in both kernels.
 * Not modelled: seals, swap, holes: all pages exist from creation on.
 */
import { HarnessBug } from '../../../abi/errors.js';
import { toIndex, u64 } from '../../../abi/uint.js';
import { PAGE_SIZE } from '../../memory/physical-memory.js';
import type { FileHolder, OpenFile } from '../files.js';
import { blocksOf, hpaOf, pagesFor, type FrameRange } from '../frames.js';
import type { Kernel } from '../kernel.js';
import { KHO_VMALLOC_BYTES, readChunks, readVmalloc, writeVmalloc } from '../kho/vmalloc.js';
import { isPageOf } from '../kho/block-set.js';
import type { FileOpArgs, LiveupdateFileHandler } from '../luo/handler.js';
import type { Process } from '../process.js';
import { DONE, ok, refuse, type Result } from '../result.js';

export const MEMFD_COMPATIBLE = 'memfd-v1';
const KIND = 'memfd';
const RECORD_BYTES = 24 + KHO_VMALLOC_BYTES;
const FOLIO_BYTES = 16;
const FOLIOS_PER_PAGE = PAGE_SIZE / FOLIO_BYTES;
const PFN_BITS = 52n;
const FOLIO_DIRTY = 1n;
const FOLIO_UPTODATE = 2n;

interface Memfd {
  readonly inode: number;
  readonly name: string;
  sizeBytes: number;
  /** Allocations in file order. */
  readonly runs: readonly FrameRange[];
  position: number;
  isPreserved: boolean;
  isFrozen: boolean;
}

/** All memfds as plain data. */
export interface MemfdState {
  readonly memfds: readonly Readonly<Memfd>[];
}

export class MemfdModule {
  readonly #kernel: Kernel;
  #memfds = new Map<number, Memfd>();

  /** An initcall: registers file kind and handler. */
  constructor(kernel: Kernel) {
    this.#kernel = kernel;
    kernel.files.register(KIND, { release: (file) => this.#release(file) });
    kernel.luo.registerFileHandler(this.#handler());
  }

  /**
   * memfd_create() and ftruncate(): zeroed memory. `align` is in pages; movable memory may lie in scratch.
   *
   * Errnos: EINVAL no size; EMFILE; ENOMEM.
   */
  create(
    process: Process,
    name: string,
    sizeBytes: number,
    where: { readonly align?: number; readonly movable?: boolean } = {},
  ): Result<number> {
    if (sizeBytes <= 0) return refuse('EINVAL');
    const fd = process.unusedFd();
    if (!fd.ok) return fd;
    const pages = pagesFor(sizeBytes);
    const label = `memfd ${name}`;
    const run = this.#kernel.allocator.allocZeroed({ pages, label, owner: 'guest', ...where });
    if (!run.ok) return run;
    const runs = [{ start: run.value.pfn, count: pages }];
    const memfd = this.#add(name, sizeBytes, runs, 0);
    return process.openFile(KIND, memfd.inode, `/memfd:${name}`);
  }

  /** ftruncate() within the pages that exist. Errnos: EPERM preserved; EINVAL more than the pages hold. */
  truncate(file: OpenFile, sizeBytes: number): Result<void> {
    const memfd = this.#of(file);
    if (memfd.isPreserved) return refuse('EPERM');
    if (sizeBytes < 0 || pagesFor(sizeBytes) > pageCount(memfd.runs)) return refuse('EINVAL');
    memfd.sizeBytes = sizeBytes;
    return DONE;
  }

  /** Size in bytes. */
  sizeOf(file: OpenFile): number {
    return this.#of(file).sizeBytes;
  }

  /** The frames in file order. */
  framesOf(file: OpenFile): readonly FrameRange[] {
    return this.#of(file).runs;
  }

  /** The physical address of a byte of the file. @throws HarnessBug beyond its pages. */
  hpaAt(file: OpenFile, offset: number): bigint {
    let left = offset;
    for (const run of this.#of(file).runs) {
      if (left < run.count * PAGE_SIZE) return hpaOf(run.start) + u64(left);
      left -= run.count * PAGE_SIZE;
    }
    throw new HarnessBug(`offset ${offset} lies beyond ${file.name}`);
  }

  /** Reads through the descriptor. Errnos: EINVAL beyond the size. */
  read(file: OpenFile, offset: number, length: number): Result<Uint8Array> {
    if (offset < 0 || offset + length > this.sizeOf(file)) return refuse('EINVAL');
    const bytes = new Uint8Array(length);
    for (let at = 0; at < length; at++) {
      bytes[at] = this.#kernel.memory.readU8(this.hpaAt(file, offset + at));
    }
    return ok(bytes);
  }

  /** Writes through the descriptor. Errnos: EINVAL beyond the size; EBUSY frozen for the reboot. */
  write(file: OpenFile, offset: number, bytes: Uint8Array): Result<void> {
    if (offset < 0 || offset + bytes.length > this.sizeOf(file)) return refuse('EINVAL');
    const memfd = this.#of(file);
    if (memfd.isFrozen) return refuse('EBUSY');
    bytes.forEach((byte, at) => {
      this.#kernel.memory.writeU8(this.hpaAt(file, offset + at), byte);
    });
    memfd.position = offset + bytes.length;
    return DONE;
  }

  state(): MemfdState {
    return structuredClone({ memfds: [...this.#memfds.values()] });
  }

  /** Goes back to where `state` was taken. */
  restore(state: MemfdState): void {
    this.#memfds = new Map(structuredClone(state.memfds).map((memfd) => [memfd.inode, memfd]));
  }

  #handler(): LiveupdateFileHandler {
    return {
      compatible: MEMFD_COMPATIBLE,
      canPreserve: (file) => file.kind === KIND,
      getId: (file) => file.inode,
      preserve: ({ file }) => this.#preserve(this.#of(file)),
      unpreserve: ({ file, serializedData }) => this.#unpreserve(this.#of(file), serializedData),
      freeze: ({ file, serializedData }) => {
        const memfd = this.#of(file);
        memfd.isFrozen = true;
        this.#kernel.memory.writeU64(serializedData, u64(memfd.position));
        return ok(serializedData);
      },
      unfreeze: ({ file }) => {
        this.#of(file).isFrozen = false;
      },
      retrieve: (args, holder) => this.#retrieve(args, holder),
      finish: (args) => this.#finish(args),
    };
  }

  #preserve(memfd: Memfd): Result<bigint> {
    const { khoOut, allocator, memory } = this.#kernel;
    const undo: (() => void)[] = [];
    const fail = <T>(result: T): T => {
      for (const step of undo.reverse()) step();
      return result;
    };
    const blocks = memfd.runs.flatMap(blocksOf);
    for (const block of blocks) {
      const kept = khoOut.preserveFolio(block);
      if (!kept.ok) return fail(kept);
      undo.push(() => khoOut.unpreserveFolio(block));
    }
    const pages: number[] = [];
    for (let at = 0; at < blocks.length; at += FOLIOS_PER_PAGE) {
      const page = allocator.allocZeroed({ pages: 1, label: `folios of memfd ${memfd.name}` });
      if (!page.ok) return fail(page);
      pages.push(page.value.pfn);
      undo.push(() => allocator.free(page.value.hpa));
    }
    const folios = khoOut.preserveVmalloc(pages);
    if (!folios.ok) return fail(folios);
    undo.push(() => khoOut.unpreserveVmalloc(folios.value));
    const record = khoOut.allocPreserve(RECORD_BYTES, `record of memfd ${memfd.name}`);
    if (!record.ok) return fail(record);
    let index = 0;
    blocks.forEach((block, at) => {
      const entry = entryAddress(pages, at);
      const flags = FOLIO_DIRTY | FOLIO_UPTODATE;
      memory.writeU64(entry, u64(block.pfn) | (flags << PFN_BITS));
      memory.writeU64(entry + 8n, u64(index));
      index += 2 ** block.order;
    });
    memory.writeU64(record.value.hpa, u64(memfd.position));
    memory.writeU64(record.value.hpa + 8n, u64(memfd.sizeBytes));
    memory.writeU64(record.value.hpa + 16n, u64(blocks.length));
    writeVmalloc(memory, record.value.hpa + 24n, folios.value);
    memfd.isPreserved = true;
    return ok(record.value.hpa);
  }

  #unpreserve(memfd: Memfd, record: bigint): void {
    const { khoOut, allocator, memory } = this.#kernel;
    const folios = readVmalloc(memory, record + 24n);
    const pages = readChunks(memory, folios.first)?.pfns ?? [];
    khoOut.unpreserveVmalloc(folios);
    for (const pfn of pages) allocator.free(hpaOf(pfn));
    khoOut.unpreserveFree(record);
    for (const block of memfd.runs.flatMap(blocksOf)) khoOut.unpreserveFolio(block);
    memfd.isPreserved = false;
  }

  #retrieve(args: FileOpArgs, holder: FileHolder): Result<OpenFile> {
    const restored = this.#restoreRecord(args.serializedData);
    if (!restored.ok) return restored;
    const { sizeBytes, position, runs } = restored.value;
    const memfd = this.#add(`${args.session}:${args.token}`, sizeBytes, runs, position);
    return ok(this.#kernel.files.open(KIND, memfd.inode, `/memfd:${memfd.name}`, holder));
  }

  /** A file never retrieved is freed; one that could not be restored is leaked. */
  #finish(args: FileOpArgs): void {
    if (args.retrieveStatus.kind !== 'untried') return;
    const restored = this.#restoreRecord(args.serializedData);
    if (!restored.ok) return;
    for (const run of restored.value.runs) this.#kernel.allocator.free(hpaOf(run.start));
  }

  #restoreRecord(record: bigint): Result<{
    readonly sizeBytes: number;
    readonly position: number;
    readonly runs: FrameRange[];
  }> {
    const { khoIn, allocator, memory } = this.#kernel;
    if (!isPageOf(memory, record)) return refuse('EINVAL');
    const limit = u64(memory.sizeBytes);
    const words = [0n, 8n, 16n].map((at) => memory.readU64(record + at));
    if (words.some((word) => word > limit)) return refuse('EINVAL');
    const [position = 0, sizeBytes = 0, count = 0] = words.map(toIndex);
    const pages = khoIn.restoreVmalloc(readVmalloc(memory, record + 24n));
    if (!pages.ok) return pages;
    if (pages.value.length * FOLIOS_PER_PAGE < count) return refuse('EINVAL');
    const runs: FrameRange[] = [];
    let index = 0;
    for (let at = 0; at < count; at++) {
      const entry = entryAddress(pages.value, at);
      const pfn = memory.readU64(entry) & ((1n << PFN_BITS) - 1n);
      if (memory.readU64(entry + 8n) !== u64(index) || pfn * u64(PAGE_SIZE) >= limit) {
        return refuse('EINVAL');
      }
      const folio = khoIn.restoreFolio(hpaOf(toIndex(pfn)), 'memfd');
      if (!folio.ok) return folio;
      runs.push({ start: folio.value.pfn, count: folio.value.count });
      index += folio.value.count;
    }
    if (sizeBytes > index * PAGE_SIZE) return refuse('EINVAL');
    for (const pfn of pages.value) allocator.free(hpaOf(pfn));
    const freed = khoIn.restoreFree(record);
    return freed.ok ? ok({ sizeBytes, position, runs }) : freed;
  }

  #add(name: string, sizeBytes: number, runs: readonly FrameRange[], position: number): Memfd {
    const inode = this.#kernel.files.newInode();
    const memfd = { inode, name, sizeBytes, runs, position, isPreserved: false, isFrozen: false };
    this.#memfds.set(inode, memfd);
    return memfd;
  }

  #of(file: OpenFile): Memfd {
    const memfd = this.#memfds.get(file.inode);
    if (file.kind !== KIND || memfd === undefined) throw new HarnessBug(`${file.name} is no memfd`);
    return memfd;
  }

  #release(file: OpenFile): void {
    for (const run of this.#of(file).runs) this.#kernel.allocator.free(hpaOf(run.start));
    this.#memfds.delete(file.inode);
  }
}

function entryAddress(pages: readonly number[], index: number): bigint {
  const pfn = pages[Math.floor(index / FOLIOS_PER_PAGE)];
  if (pfn === undefined) throw new HarnessBug(`no page for folio ${index}`);
  return hpaOf(pfn) + u64((index % FOLIOS_PER_PAGE) * FOLIO_BYTES);
}

function pageCount(runs: readonly FrameRange[]): number {
  return runs.reduce((sum, run) => sum + run.count, 0);
}
