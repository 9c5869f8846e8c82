/** Sessions of the real gdb with the reference payload. */
import { spawn } from 'node:child_process';
import { connect, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packetOf } from '../../emulator/gdb/framing.js';
import { GDB, HAS_GDB, gdb, gdbArguments, startServer, type RunningServer } from './gdb-here.js';

describe.skipIf(!HAS_GDB)(GDB, () => {
  let server: RunningServer;
  beforeAll(async () => {
    server = await startServer();
  });
  afterAll(() => server.stop());
  const run = (...commands: string[]): string => gdb(server, ...commands);

  it('is told what to type', () => {
    expect(server.output()).toMatch(
      /^listening on 127\.0\.0\.1:\d+\ngdb -d \S*caretaker-payload -ex 'target remote 127\.0\.0\.1:\d+' \S+\.elf\n$/,
    );
  });

  it('stands at HOST_RIP of the first exit, with symbols and lines where the instance lies', () => {
    const text = run('info symbol $pc', 'info line', 'kill');
    expect(text).toMatch(/^caretaker_vmexit \(\) at \.\/entry\.S:\d+$/m);
    expect(text).toMatch(/^caretaker_vmexit in section \.text/m);
    expect(text).toMatch(/^Line \d+ of "\.\/entry\.S" starts at address 0x\w+ <caretaker_vmexit>/m);
  });

  it('breaks in a C handler of whichever vCPU, and shows how it came there', () => {
    const text = run('break caretaker_cpuid', 'continue', 'backtrace', 'info args', 'kill');
    expect(text).toMatch(/^Breakpoint 1 at 0x\w+: caretaker_cpuid\. \(2 locations\)$/m);
    expect(text).toMatch(
      /hit Breakpoint 1\.?\d?, caretaker_cpuid \(ccb=0x\w+ <caretaker_ccb>\) at \.\/cpuid\.c:\d+/,
    );
    expect(text).toMatch(/^#0 {2}caretaker_cpuid \(ccb=/m);
    expect(text).toMatch(/^#\d .* caretaker_dispatch \(ccb=/m);
    expect(text).toMatch(/^#\d .* caretaker_vmexit \(\) at \.\/entry\.S:\d+$/m);
    expect(text).toMatch(/^ccb = 0x\w+ <caretaker_ccb>$/m);
  });

  it('breaks at a line, under a condition, and once', () => {
    const text = run(
      'tbreak cpuid.c:62 if ccb->vcpu_id == 1',
      'continue',
      'print ccb->vcpu_id',
      'info breakpoints',
      'kill',
    );
    expect(text).toMatch(/hit Temporary breakpoint 1/);
    expect(text).toMatch(/^\$1 = 1$/m);
    expect(text).toMatch(/No breakpoints or watchpoints/);
  });

  it('steps by instruction, line and function, forwards and backwards', () => {
    const text = run(
      'break caretaker_dispatch',
      'continue',
      'stepi',
      'reverse-stepi',
      'print $pc == (long)caretaker_dispatch',
      'next',
      'step',
      'tbreak caretaker_count_fastpath',
      'continue',
      'finish',
      'info symbol $pc',
      'reverse-finish',
      'kill',
    );
    expect(text).toMatch(/hit Breakpoint 1/);
    expect(text).toMatch(/hit Temporary breakpoint 2/);
    expect(text).toMatch(/^\$1 = 1$/m);
    expect(text).toMatch(/^caretaker_dispatch \+ \d+ in section \.text/m);
  });

  it('goes on from one exit into the next of the same vCPU', () => {
    const text = run(
      'tbreak caretaker_cpuid',
      'continue',
      'print $_thread',
      'tbreak caretaker_last_look',
      'continue',
      'stepi',
      'stepi',
      'stepi',
      'stepi',
      'stepi',
      'stepi',
      'stepi',
      'stepi',
      'print $_thread',
      'kill',
    );
    const [, before, after] = /^\$1 = (\d)$[^]*^\$2 = (\d)$/m.exec(text) ?? [];
    expect(before).toBeDefined();
    expect(after).toBe(before);
  });

  it('sees the threads: pCPUs, and what each does', () => {
    const text = run('tbreak caretaker_cpuid', 'continue', 'info threads', 'kill');
    expect(text).toMatch(/^[* ] 1 +Thread 1 "pCPU 1, vCPU 0" \((guest|caretaker)\)/m);
    expect(text).toMatch(/^[* ] 2 +Thread 2 "pCPU 2, vCPU 1" \((guest|caretaker)\)/m);
    expect(text).toMatch(/^\* \d +Thread \d .* \(caretaker\) +caretaker_cpuid/m);
  });

  it('sees control registers with their bits, and fields of the VMCS, and writes them', () => {
    const text = run(
      'tbreak caretaker_cpuid',
      'continue',
      'info registers cr0 efer gs_base GUEST_RIP',
      'print $HOST_RIP',
      'print $gs_base == ccb',
      'set $GUEST_RIP = 0x1234',
      'print/x $GUEST_RIP',
      'set $rax = 0x5678',
      'print/x $rax',
      'set ccb->registers[0] = 7',
      'print ccb->registers[0]',
      'reverse-stepi',
      'stepi',
      'print/x $rax',
      'kill',
    );
    expect(text).toMatch(/^cr0 +0x\w+ +\[.* PG \]$/m);
    expect(text).toMatch(/^efer +0x\w+ +\[.* LMA .*\]$/m);
    expect(text).toMatch(/^GUEST_RIP +0xffff\w+/m);
    expect(text).toMatch(/^\$1 = \(void \(\*\)\(\)\) 0x\w+ <caretaker_vmexit>$/m);
    expect(text).toMatch(/^\$2 = 1$/m);
    expect(text).toMatch(/^\$3 = 0x1234$/m);
    expect(text).toMatch(/^\$4 = 0x5678$/m);
    expect(text).toMatch(/^\$5 = 7$/m);
    expect(text).toMatch(/^\$6 = 0x5678$/m);
  });

  it("stops behind KVM's write of the CCB flag, with the old value and the new", () => {
    const text = run('watch caretaker_ccb.attach_state', 'continue', 'continue', 'kill');
    expect(text).toMatch(/^Hardware watchpoint 1: caretaker_ccb\.attach_state$/m);
    expect(text).toMatch(/hit Hardware watchpoint 1[^]*^Old value = 1\nNew value = 0$/m);
    expect(text).toMatch(/hit Hardware watchpoint 1[^]*^Old value = 0\nNew value = 1$/m);
    expect(text).not.toContain('unreadable');
  });

  it('goes back to the write that changed a counter, and stands before it', () => {
    const text = run(
      'break caretaker_count_fastpath',
      'continue',
      'continue',
      'continue',
      'delete',
      'set $counter = &((struct caretaker_telemetry *)ccb->telemetry_address)->total.fastpath',
      'watch *$counter',
      'continue',
      'reverse-continue',
      'info symbol $pc',
      'reverse-continue',
      'kill',
    );
    const values = [...text.matchAll(/^Old value = (\d+)\nNew value = (\d+)$/gm)].map((found) =>
      found.slice(1).map(Number),
    );
    const [forwards, back, further] = values;
    expect(forwards?.[1]).toBe(forwards![0]! + 1);
    // The same write undone, and then the one before it.
    expect(back).toEqual([forwards![1], forwards![0]]);
    expect(further).toEqual([forwards![0], forwards![0]! - 1]);
    expect(text).toMatch(/^caretaker_count_fastpath( \+ \d+)? in section \.text/m);
  });

  it('stops at a read of a counter', () => {
    const text = run(
      'tbreak caretaker_count_fastpath',
      'continue',
      'rwatch -l ((struct caretaker_telemetry *)ccb->telemetry_address)->total.fastpath',
      'continue',
      'info symbol $pc',
      'kill',
    );
    expect(text).toMatch(/hit Hardware read watchpoint 2[^]*^Value = \d+$/m);
  });

  it("runs the debugger's own commands after monitor, also those that move", () => {
    const text = run(
      'monitor help',
      'monitor vmcs HOST_RIP',
      'monitor stpe',
      'monitor seek 3:5',
      'maintenance flush register-cache',
      'print/x $pc',
      'monitor print $rip',
      'kill',
    );
    expect(text).toMatch(/^.*reverse/m);
    expect(text).toMatch(/HOST_RIP/);
    expect(text).toMatch(/did you mean/i);
    expect(text).toMatch(/3:5/);
    expect(text).toContain('maintenance flush register-cache');
    const [, pc] = /^\$1 = 0x(\w+)$/m.exec(text) ?? [];
    expect(pc).toBeDefined();
    expect(text).toMatch(new RegExp(`^.*0x0*${pc!}.*$`, 'm'));
  });

  it('reads physical memory when it asks to', () => {
    const text = run(
      'maintenance packet qqemu.PhyMemMode',
      'maintenance packet Qqemu.PhyMemMode:1',
      'x/1xb 0',
      'maintenance packet Qqemu.PhyMemMode:0',
      'x/1xb 0',
      'kill',
    );
    expect(text).toMatch(/received: "0"/);
    expect(text).toMatch(/^0x0:\s+0x\w\w$/m);
    expect(text).toMatch(/Cannot access memory at address 0x0/);
  });

  it('goes to the end of the scenario and all the way back', () => {
    const text = run('continue', 'continue', 'reverse-continue', 'info threads', 'kill');
    expect(text).toMatch(/The scenario is over/);
    expect(text).toMatch(/No more reverse-execution history/);
    expect(text).toMatch(/caretaker_run \(\) at \.\/entry\.S/);
  });

  it('detaches and finds the machine where it left it', () => {
    const first = run('tbreak caretaker_cpuid', 'continue', 'print/x $pc', 'detach');
    const second = run('print/x $pc', 'break caretaker_count_fastpath', 'continue', 'kill');
    const [, pc] = /^\$1 = (0x\w+)$/m.exec(first) ?? [];
    expect(pc).toBeDefined();
    expect(second).toContain(`$1 = ${pc!}`);
    expect(second).toMatch(/hit Breakpoint 1/);
    expect(run('kill')).toMatch(/^caretaker_vmexit \(\) at/m);
  });

  it('finds the machine at its first stop after a kill', () => {
    run('tbreak caretaker_cpuid', 'continue', 'kill');
    expect(run('kill')).toMatch(/^caretaker_vmexit \(\) at \.\/entry\.S/m);
  });

  it('forgets with a kill what a client has changed, also at the first stop', () => {
    run('set $rbx = 0x1234', 'tbreak caretaker_cpuid', 'continue', 'set $rbp = 0x5678', 'kill');
    const text = run('print/x $rbx', 'tbreak caretaker_cpuid', 'continue', 'print/x $rbp', 'kill');
    expect(text).toMatch(/^\$1 = 0x\w+$/m);
    expect(text).not.toContain('= 0x1234');
    expect(text).not.toContain('= 0x5678');
    run('set $rbx = 0x1234', 'kill');
    expect(run('print/x $rbx', 'kill')).not.toContain('= 0x1234');
  });

  it('may be killed in the middle of a run, and the next client is served', async () => {
    // A condition that never holds is gdb's to judge: the machine stops and goes on all the time.
    const words = ['shell echo away', 'break caretaker_dispatch if 0', 'continue'];
    const child = spawn('gdb', gdbArguments(server, words));
    await new Promise<void>((resolve) => {
      child.stdout.on('data', (data: Buffer) => {
        if (data.toString().includes('away')) resolve();
      });
    });
    child.kill('SIGKILL');
    const text = run('break caretaker_cpuid', 'continue', 'kill');
    expect(text).toMatch(/hit Breakpoint 1/);
  });
});

/** A client that says what it likes. */
class RawClient {
  readonly #socket: Socket;
  text = '';
  #wake: () => void = () => undefined;

  constructor({ port }: RunningServer) {
    this.#socket = connect({ port, host: '127.0.0.1' });
    this.#socket.on('error', () => undefined);
    this.#socket.on('data', (data) => {
      this.text += data.toString('latin1');
      this.#wake();
    });
  }

  send(...parts: readonly (string | Uint8Array)[]): void {
    this.#socket.write(Buffer.concat(parts.map((part) => Buffer.from(part as string))));
  }

  async until(pattern: RegExp): Promise<void> {
    while (!pattern.test(this.text)) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  destroy(): void {
    this.#socket.destroy();
  }
}

describe('the socket', () => {
  let server: RunningServer;
  beforeAll(async () => {
    server = await startServer('--scenario', 'many-vcpus');
  });
  afterAll(() => server.stop());

  it('an interrupt stops a run with SIGINT', async () => {
    const client = new RawClient(server);
    client.send(packetOf('c'), '\x03');
    await client.until(/\$T02thread/);
    client.send('+', packetOf('k'));
    client.destroy();
  });

  it('a client that goes in the middle of a run leaves the machine to the next one', async () => {
    const first = new RawClient(server);
    first.send(packetOf('c'));
    await first.until(/^\+/);
    first.destroy();
    const second = new RawClient(server);
    second.send(packetOf('qAttached'));
    await second.until(/\$1#31/);
    second.destroy();
  });

  it('a second client waits until the first one has gone', async () => {
    const first = new RawClient(server);
    first.send(packetOf('qAttached'));
    await first.until(/\$1#31/);
    const second = new RawClient(server);
    second.send(packetOf('qAttached'));
    first.send('+', packetOf('qC'));
    await first.until(/QC/);
    expect(second.text).toBe('');
    first.send('+', packetOf('D'));
    await second.until(/\$1#31/);
    second.destroy();
  });

  it('rubbish ends nothing', async () => {
    const client = new RawClient(server);
    client.send('\x00\xff$$$#zz$m#00$Z9,,#11GET / HTTP/1.1\r\n\r\n', packetOf('qAttached'));
    await client.until(/\$1#31/);
    client.destroy();
  });
});
