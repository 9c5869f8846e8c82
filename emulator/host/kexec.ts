/**
 * reboot(LINUX_REBOOT_CMD_KEXEC): one kernel goes, another comes, and only preserved memory passes between them.
 *
 * Happy path:
 * 1. LUO freezes every preserved file and writes its records; KHO writes memory map and tree.
 * 2. smp_send_stop() stops the pCPUs that are online; those that run vCPUs are not, and do not hear of it.
 * 3. The handover (setup_data, scratch list) is laid down in scratch, next to where the next image will lie.
 * 4. Every page of the old kernel that is not preserved is overwritten with a poison pattern; its claims are released.
 *    Preserved pages keep owner and label, but what was the old kernel's own is the next kernel's.
 * 5. KexecGap: no kernel runs. The pCPUs with vCPUs go on.
 * 6. bootNext(): the next kernel is placed in scratch, at another base, and is told the handover address and no more.
 *
 * Unhappy paths:
 * 1. A freeze is refused: rolled back, the errno is returned, and the old kernel goes on.
 * 2. KHO cannot be finalized: EAGAIN, the same.
 * 3. No scratch region has room for the next image: ENOMEM, before anything is frozen.
 * 4. Live update is off, or nothing is preserved: kexec works all the same, and everything is overwritten.
 *
 * Source: Linux kernel/reboot.c, kernel/kexec_core.c: kernel_kexec(); arch/x86/kernel/kexec-bzimage64.c.
 * Invariant: afterwards each byte that the old kernel managed is preserved, poison, or part of the handover.
 * Not modelled: kexec_file_load and its signature check, the loading of segments, purgatory.
 */
import { toIndex } from '../../abi/uint.js';
import { PAGE_SIZE, type PhysicalMemory } from '../memory/physical-memory.js';
import { framesOf, hpaOf, overlap, subtractFrames, type FrameRange } from './frames.js';
import { Kernel, type KernelConfig } from './kernel.js';
import { KERNEL_IMAGE_BYTES } from './kernel-image.js';
import { writeKhoData } from './kho/kho-abi.js';
import { carveClaims, claimFrames } from './memory-claims.js';
import { ok, refuse, type Result } from './result.js';

/** What every 32-bit word of the old kernel reads as after it is gone. */
export const KEXEC_POISON = 0xdead_c0de;

/** The time between two kernels. */
export interface KexecGap {
  /** The setup_data list: all that the next kernel is told. Null without KHO. */
  readonly handover: bigint | null;
  /** Frames that were the old kernel's and are poison now. */
  readonly overwritten: readonly FrameRange[];
  /** Frames that KHO kept. */
  readonly preserved: readonly FrameRange[];
  readonly nextImageBase: number;
  /** The next kernel, placed and not yet booted: its boot stages are the caller's to time. */
  placeNext(config: Omit<KernelConfig, 'generation' | 'version'>): Kernel;
  /** The next kernel, up. */
  bootNext(config: Omit<KernelConfig, 'generation' | 'version'>): Kernel;
}

/** Replaces a kernel. Errnos: ENOMEM no room in scratch; EAGAIN; those of a handler's freeze(). */
export function rebootKexec(kernel: Kernel): Result<KexecGap> {
  const { memory, managed, khoOut } = kernel;
  kernel.assertAlive();
  const place = placeInScratch(kernel);
  if (place === undefined) return refuse('ENOMEM');
  const frozen = kernel.luo.reboot();
  if (!frozen.ok) return frozen;
  kernel.config.events.onStage('kexec: frozen');
  kernel.hotplug.smpSendStop();

  const data = khoOut.handover();
  const preserved = data === undefined ? [] : khoOut.preservedFrames();
  const overwritten = subtractFrames([managed], preserved);
  kernel.die();
  for (const range of overwritten) poison(memory, range);
  passClaims(kernel, overwritten, preserved);
  const handover = data === undefined ? null : hpaOf(place.handover.start);
  if (data !== undefined) {
    claimFrames(memory, place.handover, 'kho-scratch', 'KHO handover');
    writeKhoData(memory, hpaOf(place.handover.start), data);
  }
  kernel.config.events.onKexec(handover ?? 0n);

  const dead = kernel.image.frames;
  const nextImageBase = place.image.start * PAGE_SIZE;
  const placeNext: KexecGap['placeNext'] = (config) =>
    new Kernel(
      { ...config, generation: 'next', version: kernel.config.version + 1 },
      {
        memory,
        imageBase: nextImageBase,
        managed,
        scratch: khoOut.scratch,
        // DEVIATION: Linux would hand the dead image's pages out again; left alone, a pointer into it stays a finding.
        reserved: handover === null ? [dead] : [dead, place.handover],
        handover,
      },
    );
  return ok({
    handover,
    overwritten,
    preserved,
    nextImageBase,
    placeNext,
    bootNext: (config) => placeNext(config).boot(),
  });
}

/** Whether a range is poison through and through. */
export function isPoison(memory: PhysicalMemory, range: FrameRange): boolean {
  return words(memory, range).every((word) => word === KEXEC_POISON);
}

/** First fit in scratch for image and handover, off the running image: two kernels never share a base. */
function placeInScratch(
  kernel: Kernel,
): { readonly image: FrameRange; readonly handover: FrameRange } | undefined {
  const { count } = framesOf(0, KERNEL_IMAGE_BYTES);
  const free = subtractFrames(kernel.khoOut.scratch, [kernel.image.frames]);
  const room = free.find((range) => range.count >= count + 1);
  if (room === undefined || overlap(room, kernel.image.frames)) return undefined;
  return {
    image: { start: room.start, count },
    handover: { start: room.start + count, count: 1 },
  };
}

function poison(memory: PhysicalMemory, range: FrameRange): void {
  words(memory, range).fill(KEXEC_POISON);
}

function words(memory: PhysicalMemory, range: FrameRange): Uint32Array {
  const from = toIndex(hpaOf(range.start));
  return new Uint32Array(memory.buffer, from, (range.count * PAGE_SIZE) / 4);
}

/** The dead image stays claimed, so that a pointer into it has a name. */
function passClaims(
  kernel: Kernel,
  overwritten: readonly FrameRange[],
  preserved: readonly FrameRange[],
): void {
  const { memory, image } = kernel;
  for (const range of overwritten) carveClaims(memory, range);
  claimFrames(memory, image.frames, 'old-kernel', `overwritten image of ${image.banner}`);
  for (const range of preserved) {
    const from = range.start * PAGE_SIZE;
    const to = from + range.count * PAGE_SIZE;
    for (const region of memory.regions().filter((r) => r.base >= from && r.base < to)) {
      if (region.owner !== 'old-kernel') continue;
      memory.release(region.base);
      memory.claim({ ...region, owner: 'next-kernel' });
    }
  }
}
