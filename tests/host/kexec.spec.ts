import { describe, expect, it } from 'vitest';
import { framesOf, hpaOf, overlap, subtractFrames } from '../../emulator/host/frames.js';
import { isPoison, KEXEC_POISON, rebootKexec } from '../../emulator/host/kexec.js';
import {
  createSession,
  finishSession,
  preserveFd,
  retrieveFd,
  retrieveSession,
} from '../../emulator/host/luo/agent.js';
import {
  agentOf,
  bootBench,
  bootNext,
  configFor,
  errnoOf,
  IMAGE_BASE,
  kexec,
  MANAGED,
  must,
  SCRATCH,
  type Bench,
} from './bench.js';

const GUEST_BYTES = 1 << 20;

/** A VMM with guest memory and a device, preserved by an agent in session `vm`; then the VMM exits. */
function stage1(bench: Bench) {
  const { kernel, memfd, vfio } = bench.host;
  const { agent, device } = agentOf(bench);
  const session = must(createSession(agent, device, 'vm'));
  const vmm = kernel.spawn('vmm');
  const guest = vmm.file(must(memfd.create(vmm, 'guest', GUEST_BYTES)))!;
  const card = vmm.file(must(vfio.open(vmm, 7)))!;
  for (let page = 0; page < GUEST_BYTES; page += 4096) {
    bench.memory.writeU64(memfd.hpaAt(guest, page), 0x6775_6573_7400_0000n + BigInt(page));
  }
  must(vfio.pause(card));
  must(preserveFd(agent, session, must(agent.installFile(guest)), 1n));
  must(preserveFd(agent, session, must(agent.installFile(card)), 2n));
  vmm.exit();
  return { agent, frames: memfd.framesOf(guest), guest };
}

/** The next VMM takes both back. */
function stage2(bench: Bench) {
  const { agent, device } = agentOf(bench);
  const session = must(retrieveSession(agent, device, 'vm'));
  const guest = agent.file(must(retrieveFd(agent, session, 1n)))!;
  const card = agent.file(must(retrieveFd(agent, session, 2n)))!;
  must(finishSession(agent, session));
  return { agent, session, guest, card };
}

describe('kexec', () => {
  it('guest memory has the same content at the same addresses in both kernels', () => {
    const old = bootBench();
    const { frames } = stage1(old);
    const bench = kexec(old);
    const { guest } = stage2(bench);
    const { memfd } = bench.host;
    expect(memfd.sizeOf(guest)).toBe(GUEST_BYTES);
    expect(memfd.hpaAt(guest, 0)).toBe(hpaOf(frames[0]!.start));
    for (let page = 0; page < GUEST_BYTES; page += 4096) {
      const value = bench.memory.readU64(memfd.hpaAt(guest, page));
      expect(value).toBe(0x6775_6573_7400_0000n + BigInt(page));
    }
  });

  it('every page that is not preserved is poison, the handover apart', () => {
    const bench = bootBench();
    stage1(bench);
    const gap = must(rebootKexec(bench.host.kernel));
    const handover = framesOf(Number(gap.handover), 4096);
    for (const range of subtractFrames([MANAGED], [...gap.preserved, handover])) {
      expect(isPoison(bench.memory, range)).toBe(true);
    }
    expect(gap.preserved.some((range) => isPoison(bench.memory, range))).toBe(false);
    expect(subtractFrames([MANAGED], [...gap.preserved, ...gap.overwritten])).toEqual([]);
  });

  it('nothing of the old image is left, and its address has a name', () => {
    const bench = bootBench();
    const { image } = bench.host.kernel;
    const entry = image.address('kvm_vmexit');
    expect(bench.memory.readU32(entry)).toBe(0xfa1e_0ff3);
    must(rebootKexec(bench.host.kernel));
    expect(bench.memory.readU32(entry)).toBe(KEXEC_POISON);
    expect(bench.memory.regionAt(Number(entry))).toMatchObject({ owner: 'old-kernel' });
  });

  it('preserved pages lie outside scratch; the next kernel lies inside it, at another base', () => {
    const bench = bootBench();
    stage1(bench);
    const gap = must(rebootKexec(bench.host.kernel));
    const inScratch = gap.preserved.filter((range) => SCRATCH.some((s) => overlap(s, range)));
    expect(inScratch).toEqual([]);
    const next = bootNext(bench, gap);
    expect(Number(next.host.kernel.image.base)).not.toBe(IMAGE_BASE);
    expect(SCRATCH.some((s) => overlap(s, next.host.kernel.image.frames))).toBe(true);
  });

  it('no symbol has the same address in two kernels', () => {
    const bench = bootBench();
    const next = kexec(bench);
    const [a, b] = [bench.host.kernel.image, next.host.kernel.image];
    expect(a.address('kvm_vmexit')).not.toBe(b.address('kvm_vmexit'));
    expect(a.address('kvm_vmexit') - a.base).not.toBe(b.address('kvm_vmexit') - b.base);
    expect(b.symbolAt(b.address('kvm_vmexit') + 4n)).toEqual({ name: 'kvm_vmexit', offset: 4 });
    expect(b.symbolAt(a.address('kvm_vmexit'))).toBeUndefined();
  });

  it('claims of preserved pages keep owner and label; the kernel’s own change hands', () => {
    const bench = bootBench();
    const { frames } = stage1(bench);
    const label = 'LUO sessions';
    const owners = () => {
      const luo = bench.memory.regions().find((region) => region.label === label)?.owner;
      return [bench.memory.regionAt(frames[0]!.start * 4096)?.owner, luo];
    };
    expect(owners()).toEqual(['guest', 'old-kernel']);
    const gap = must(rebootKexec(bench.host.kernel));
    expect(owners()).toEqual(['guest', 'next-kernel']);
    const stale = bench.memory.regions().filter((region) => region.owner === 'old-kernel');
    expect(stale.map((region) => region.base)).toEqual([IMAGE_BASE]);
    expect(gap.handover).not.toBeNull();
  });

  it('the next kernel never hands out preserved pages, scratch or the dead image', () => {
    const old = bootBench();
    const { frames } = stage1(old);
    const { kernel } = kexec(old).host;
    const taken: number[] = [];
    for (let run = kernel.allocator.alloc({ pages: 8, label: 'x' }); run.ok;) {
      taken.push(run.value.pfn);
      run = kernel.allocator.alloc({ pages: 8, label: 'x' });
    }
    const off = [...frames, ...SCRATCH, old.host.kernel.image.frames];
    const bad = taken.filter((start) => off.some((range) => overlap(range, { start, count: 8 })));
    expect(bad).toEqual([]);
    expect(taken.length).toBeGreaterThan(100);
  });

  it('a device keeps its state while LUO holds it, and is reset when its last file goes', () => {
    const old = bootBench();
    stage1(old);
    const bench = kexec(old);
    const { agent, card } = stage2(bench);
    expect(bench.bus.device(7)).toMatchObject({ activity: 'paused', resets: 0 });
    must(bench.host.vfio.resume(card));
    expect(bench.host.vfio.deviceOf(card).activity).toBe('busy');
    agent.exit();
    expect(bench.bus.device(7)?.resets).toBe(1);
    expect(bench.events.at(-1)).toBe('reset 7');
  });

  it('a device that was let run again since stops the reboot: EBUSY', () => {
    const bench = bootBench();
    stage1(bench);
    bench.bus.device(7)!.activity = 'busy';
    expect(errnoOf(rebootKexec(bench.host.kernel))).toBe('EBUSY');
  });

  it('one that keeps running needs interrupts, and is preserved while it is busy', () => {
    const bench = bootBench();
    const { agent, device } = agentOf(bench);
    const session = must(createSession(agent, device, 'vm'));
    const fd = must(bench.host.vfio.open(agent, 8));
    const file = agent.file(fd)!;
    expect(errnoOf(bench.host.vfio.keepRunning(file))).toBe('EINVAL');
    must(bench.host.vfio.setInterrupts(file, [{ kind: 'remapped', apicId: 1, vector: 0x42 }]));
    must(bench.host.vfio.keepRunning(file));
    must(preserveFd(agent, session, fd, 1n));
    expect(errnoOf(bench.host.vfio.setInterrupts(file, []))).toBe('EBUSY');
    expect(rebootKexec(bench.host.kernel).ok).toBe(true);
  });

  it('a device whose interrupt was moved in the gap cannot be retrieved: ESTALE', () => {
    const old = bootBench();
    stage1(old);
    const bench = kexec(old);
    bench.bus.device(7)!.interrupts = [{ kind: 'remapped', apicId: 0, vector: 99 }];
    const { agent, device } = agentOf(bench);
    const session = must(retrieveSession(agent, device, 'vm'));
    expect(errnoOf(retrieveFd(agent, session, 2n))).toBe('ESTALE');
  });

  it('a device that was not retrieved cannot be finished: EBUSY', () => {
    const old = bootBench();
    stage1(old);
    const { agent, device } = agentOf(kexec(old));
    const session = must(retrieveSession(agent, device, 'vm'));
    must(retrieveFd(agent, session, 1n));
    expect(errnoOf(finishSession(agent, session))).toBe('EBUSY');
  });

  it('a guest memory never retrieved is freed by finish', () => {
    const old = bootBench();
    const { frames } = stage1(old);
    const bench = kexec(old);
    const { agent, device } = agentOf(bench);
    const session = must(retrieveSession(agent, device, 'vm'));
    must(retrieveFd(agent, session, 2n));
    must(finishSession(agent, session));
    expect(bench.memory.regionAt(frames[0]!.start * 4096)).toBeUndefined();
    expect(bench.warnings).toEqual([]);
  });

  it('finish leaves no page reserved but LUO’s own', () => {
    const old = bootBench();
    stage1(old);
    const bench = kexec(old);
    stage2(bench);
    const left = bench.host.kernel.khoIn.unrestoredFrames();
    const labels = left.map((range) => bench.memory.regionAt(range.start * 4096)?.label);
    expect(labels.every((label) => /^(LUO (device tree|FLB data)|KHO )/.test(label ?? ''))).toBe(
      true,
    );
  });

  it('works without live update: nothing is preserved, all is overwritten', () => {
    const bench = bootBench({ liveupdate: false });
    const gap = must(rebootKexec(bench.host.kernel));
    expect([gap.handover, gap.preserved]).toEqual([null, []]);
    expect(isPoison(bench.memory, MANAGED)).toBe(true);
    expect(bootNext(bench, gap).host.kernel.khoIn.isKhoBoot).toBe(false);
  });

  it('an old kernel, and its processes, answer no call any more', () => {
    const bench = bootBench();
    const { agent } = stage1(bench);
    kexec(bench);
    const gone = expect.objectContaining({ code: 'KERNEL_GONE' }) as Error;
    expect(() => bench.host.kernel.spawn('x')).toThrow(gone);
    expect(() => agent.ioctl(0, 0, null)).toThrow(gone);
    expect(() => rebootKexec(bench.host.kernel)).toThrow(gone);
  });

  it('a handover that makes no sense ends the boot', () => {
    const bench = bootBench();
    const gap = must(rebootKexec(bench.host.kernel));
    bench.memory.writeU32(gap.handover! + 8n, 0);
    expect(() => gap.placeNext(configFor(bench).config)).toThrow(
      expect.objectContaining({ code: 'BOOT_FAILED' }),
    );
  });

  it('a tree of LUO that is not understood disables live update and brings up every pCPU', () => {
    const bench = bootBench();
    stage1(bench);
    const gap = must(rebootKexec(bench.host.kernel));
    const next = gap.placeNext(configFor(bench).config);
    bench.memory.writeU32(must(next.khoIn.retrieveSubtree('LUO')), 0);
    next.boot();
    expect(next.luo.enabled).toBe(false);
    expect(bench.warnings[0]).toMatch(/^liveupdate_early_init/);
  });

  it('the same machine through the same steps has the same memory', () => {
    const run = () => {
      const bench = bootBench();
      stage1(bench);
      stage2(kexec(bench));
      return Buffer.from(bench.memory.bytes);
    };
    expect(run().equals(run())).toBe(true);
  });
});

describe('snapshot', () => {
  it('a kernel goes back to a state that was taken, and does the same again', () => {
    const bench = bootBench();
    const { kernel, memfd, vfio } = bench.host;
    const { agent } = stage1(bench);
    const take = () => [kernel.state(), memfd.state(), vfio.state(), bench.bus.state()] as const;
    const [state, files, open, bus] = take();
    const bytes = bench.memory.bytes.slice();
    agent.exit();
    expect(kernel.state()).not.toEqual(state);
    kernel.restore(state);
    memfd.restore(files);
    vfio.restore(open);
    bench.bus.restore(bus);
    bench.memory.bytes.set(bytes);
    expect(take()).toEqual([state, files, open, bus]);
    stage2(kexec(bench));
    expect(bench.warnings).toEqual([]);
  });
});
