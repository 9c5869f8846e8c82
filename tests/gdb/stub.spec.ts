import { beforeEach, describe, expect, it } from 'vitest';
import { hexOfString, stringOfHex } from '../../emulator/gdb/bytes.js';
import { packetOf } from '../../emulator/gdb/framing.js';
import { GDB_REGISTERS } from '../../emulator/gdb/registers.js';
import { Drive, bodiesOf, raw } from './drive.js';
import { COUNTER } from './toy-target.js';

let drive: Drive;
beforeEach(() => {
  drive = new Drive();
});

const numberOf = (name: string): string =>
  GDB_REGISTERS.findIndex((register) => register.name === name).toString(16);

describe('a packet is answered', () => {
  it.each<[what: string, packet: string, reply: string]>([
    ['what nobody knows: nothing', 'vMustReplyEmpty', ''],
    ['a letter that no packet has: nothing', 'y', ''],
    ['nothing at all: nothing', '', ''],
    ['a name that every object has: nothing', 'qconstructor', ''],
    ['tracing, which is not there: nothing', 'qTStatus', ''],
    ['qAttached: the machine was there before the client', 'qAttached', '1'],
    ['qSymbol: no symbols are wanted', 'qSymbol::', 'OK'],
    ['extended mode', '!', 'OK'],
    ['qC: the thread that stopped', 'qC', 'QC1'],
    ['the threads', 'qfThreadInfo', 'm1,2'],
    ['no more threads', 'qsThreadInfo', 'l'],
    ['what a thread does', 'qThreadExtraInfo,1', hexOfString('caretaker')],
    ['what no thread does', 'qThreadExtraInfo,3', 'E16'],
    ['a thread that is there', 'T2', 'OK'],
    ['a thread with a process in front', 'Tp1.2', 'OK'],
    ['a thread that is not there', 'T3', 'E01'],
    ['any thread', 'Hg0', 'OK'],
    ['all threads', 'Hc-1', 'OK'],
    ['a selection of a thread that is not there', 'Hg7', 'E01'],
    ['a selection for nothing', 'Hx1', ''],
    ['the first byte of memory, which only physical addresses reach', 'm0,1', 'E0e'],
    ['memory', 'm200000,4', '00000000'],
    ['no bytes of memory', 'm200000,0', ''],
    ['memory up to its end', 'm3ffffe,10', '0000'],
    ['memory beyond its end', 'm400000,1', 'E0e'],
    ['a read without a length', 'm200000', 'E16'],
    ['a read of a negative length', 'm200000,-1', 'E16'],
    ['a write beyond the end', 'M400000,1:00', 'E0e'],
    ['a write with too few digits', 'M200000,2:00', 'E16'],
    ['a write with half a byte', 'M200000,1:0', 'E16'],
    ['the question whether X is known', 'X200000,0:', 'OK'],
    ['memory as it is', 'x200000,2', 'b\0\0'],
    ['a register that is not there', 'pffff', 'E16'],
    ['a register without a value', `p${numberOf('st0')}`, 'xx'.repeat(10)],
    ['a write to a register without a value', `P${numberOf('fctrl')}=00000000`, 'E01'],
    ['a register written with too few bytes', 'P0=00', 'E16'],
    ['a breakpoint of no kind', 'Z9,1000,1', ''],
    ['a breakpoint at no address', 'Z0,,1', 'E16'],
    ['a breakpoint that the machine refuses', 'Z0,ffffffff,1', 'E01'],
    ['a watchpoint of no bytes', 'Z2,1000,0', 'E16'],
    ['taking away what was never set', 'z0,1000,1', 'OK'],
    ['the actions of vCont', 'vCont?', 'vCont;c;C;s;S;t;r'],
    ['an action that is none', 'vCont;q', 'E16'],
    ['no action', 'vCont', 'E16'],
    ['a step of a thread that is not there', 'vCont;s:9', 'E01'],
    ['a range without an end', 'vCont;r1000', 'E16'],
    ['a continue to no address', 'cxyz', 'E16'],
    ['a signal that is none', 'Cxx', 'E16'],
    ['stopping together', 'QNonStop:0', 'OK'],
    [
      'not stopping together, which is refused',
      'QNonStop:1',
      'E.the pCPUs of this machine stop together',
    ],
    ['the first segment of the image', 'qOffsets', 'TextSeg=100000'],
    ['the name of the file', 'qXfer:exec-file:read:1:0,fff', 'l/payload.elf'],
    ['a part of it', 'qXfer:exec-file:read::1,3', 'mpay'],
    ['beyond its end', 'qXfer:exec-file:read::ff,3', 'l'],
    ['an annex that is not there', 'qXfer:features:read:x.xml:0,fff', 'E00'],
    ['an object that is not there', 'qXfer:auxv:read::0,fff', ''],
    ['a write of an object', 'qXfer:features:write:target.xml:0:ab', ''],
    ['opening the file', `vFile:open:${hexOfString('/payload.elf')},0,0`, 'F0'],
    ['opening another file', `vFile:open:${hexOfString('/etc/passwd')},0,0`, 'F-1,2'],
    ['opening the file to write', `vFile:open:${hexOfString('/payload.elf')},1,0`, 'F-1,1e'],
    ['reading what is not open', 'vFile:pread:0,10,0', 'F-1,9'],
    ['closing what is not open', 'vFile:close:0', 'F-1,9'],
    ['a file system', 'vFile:setfs:0', 'F0'],
    ['a call that is none', 'vFile:toString:0', ''],
    ['what addresses mean', 'qqemu.PhyMemMode', '0'],
    ['a meaning that is none', 'Qqemu.PhyMemMode:2', 'E16'],
    ['a command without output', `qRcmd,${hexOfString('nothing')}`, 'OK'],
    ['a command that is no text', 'qRcmd,0', 'E16'],
  ])('%s', (_, packet, reply) => {
    expect(drive.ask(packet)).toEqual([reply]);
  });

  it('qSupported with what is needed to go backwards, relocate and read the file', () => {
    const features = drive.askOne('qSupported:swbreak+;xmlRegisters=i386').split(';');
    for (const wanted of ['ReverseStep+', 'ReverseContinue+', 'QStartNoAckMode+', 'swbreak+']) {
      expect(features).toContain(wanted);
    }
    for (const object of ['features', 'memory-map', 'exec-file', 'threads', 'libraries']) {
      expect(features).toContain(`qXfer:${object}:read+`);
    }
    expect(features).not.toContain('QNonStop+');
  });
});

describe('registers', () => {
  it('g has the general ones in the order of the description', () => {
    const digits = drive.askOne('g');
    const general = GDB_REGISTERS.filter(({ isGeneral }) => isGeneral);
    expect(digits).toHaveLength(general.reduce((sum, { bits }) => sum + bits / 4, 0));
    expect(digits.slice(16, 32)).toBe('01'.repeat(8));
  });

  it('P writes what p and g read, of the selected thread alone', () => {
    drive.ask('Hg2');
    expect(drive.askOne('P1=1122334455667788')).toBe('OK');
    expect(drive.askOne('p1')).toBe('1122334455667788');
    expect(drive.askOne('g').slice(16, 32)).toBe('1122334455667788');
    drive.ask('Hg1');
    expect(drive.askOne('p1')).toBe('01'.repeat(8));
  });

  it('G writes them all and leaves out those without a value', () => {
    const digits = drive.askOne('g').replace(/^.{16}/, '8877665544332211');
    expect(drive.askOne(`G${digits}`)).toBe('OK');
    expect(drive.askOne('p0')).toBe('8877665544332211');
    expect(drive.askOne(`G${digits.slice(2)}`)).toBe('E16');
  });
});

describe('memory', () => {
  it('M and X write what m and x read', () => {
    expect(drive.askOne('M200000,3:0a0b0c')).toBe('OK');
    expect(drive.askOne('m200000,4')).toBe('0a0b0c00');
    expect(bodiesOf(drive.send(packetOf('X200001,2:}\x03}]')))).toEqual(['OK']);
    expect(drive.askOne('m200000,4')).toBe('0a237d00');
    expect(drive.askOne('x200000,4')).toBe('b\n}\x03}]\0');
  });

  it('addresses are physical after Qqemu.PhyMemMode:1', () => {
    expect(drive.askOne('Qqemu.PhyMemMode:1')).toBe('OK');
    expect(drive.askOne('qqemu.PhyMemMode')).toBe('1');
    expect(drive.askOne('m0,2')).toBe('0000');
  });

  it('qSearch finds bytes across the chunks that it reads', () => {
    drive.target.memory.set([1, 2, 3], 0x21_ffff);
    expect(drive.askOne('qSearch:memory:200000;100000;\x01\x02\x03')).toBe('1,21ffff');
    expect(drive.askOne('qSearch:memory:200000;100000;\x01\x02\x04')).toBe('0');
  });
});

describe('going on', () => {
  it.each<[packet: string, request: object]>([
    ['c', { kind: 'continue', thread: 1, isBackwards: false }],
    ['C05', { kind: 'continue', thread: 1, isBackwards: false }],
    ['s', { kind: 'step', thread: 1, isBackwards: false }],
    ['S05', { kind: 'step', thread: 1, isBackwards: false }],
    ['bc', { kind: 'continue', thread: 1, isBackwards: true }],
    ['bs', { kind: 'step', thread: 1, isBackwards: true }],
    ['vCont;c', { kind: 'continue', thread: 1, isBackwards: false }],
    ['vCont;C05:2;c', { kind: 'continue', thread: 1, isBackwards: false }],
    ['vCont;s:2;c', { kind: 'step', thread: 2, isBackwards: false }],
    ['vCont;s:p1.2;c:p1.-1', { kind: 'step', thread: 2, isBackwards: false }],
    ['vCont;t:2;s:1', { kind: 'step', thread: 1, isBackwards: false }],
    ['vCont;r101,109:1;c', { kind: 'range', thread: 1, begin: 0x101n, end: 0x109n }],
  ])('%s', (packet, request) => {
    const replies = drive.ask(packet);
    expect(drive.target.requests).toEqual([request]);
    expect(replies).toHaveLength(1);
    expect(replies[0]).toMatch(/^T05thread:1;/);
  });

  it('s at an address writes RIP first', () => {
    expect(drive.askOne('s2000')).toMatch(/;10:0120000000000000;/);
  });

  it('a step of the thread that Hc selected', () => {
    drive.ask('Hc2');
    drive.ask('s');
    expect(drive.target.requests).toEqual([{ kind: 'step', thread: 2, isBackwards: false }]);
  });

  it.each([
    ['Z0,1010,1', /^T05thread:1;swbreak:;/],
    ['Z1,1010,1', /^T05thread:1;hwbreak:;/],
    [`Z2,${COUNTER.toString(16)},8`, /^T05thread:1;watch:200000;/],
    [`Z3,${COUNTER.toString(16)},8`, /^T05thread:1;rwatch:200000;/],
    [`Z4,${COUNTER.toString(16)},8`, /^T05thread:1;awatch:200000;/],
  ])('stops at %s with its reason, and not once it is taken away', (packet, reply) => {
    expect(drive.askOne(packet)).toBe('OK');
    expect(drive.askOne(packet)).toBe('OK');
    expect(drive.askOne('c')).toMatch(reply);
    expect(drive.askOne('?')).toMatch(reply);
    expect(drive.askOne(packet.replace('Z', 'z'))).toBe('OK');
    expect(drive.askOne('c')).toMatch(/^T05thread:1;replaylog:end;/);
    expect(drive.askOne('bc')).toMatch(/^T05thread:1;replaylog:begin;/);
  });

  it('says that there are libraries to ask for again once an image is new', () => {
    drive.target.bases = [0x10_0000n];
    expect(drive.askOne('s')).not.toContain('library');
    drive.ask('qXfer:libraries:read::0,fff');
    expect(drive.askOne('s')).not.toContain('library');
    drive.target.bases = [0x10_0000n, 0x30_0000n];
    expect(drive.askOne('s')).toContain('library:;');
    drive.ask('qXfer:libraries:read::0,fff');
    expect(drive.askOne('s')).not.toContain('library');
  });

  it('R starts over without a word, vRun with a stop', () => {
    drive.ask('s');
    expect(drive.ask('R00')).toEqual([]);
    expect(drive.target.at).toBe(0);
    drive.ask('s');
    expect(drive.askOne('vRun;')).toMatch(/^T05/);
    expect(drive.target.at).toBe(0);
  });
});

describe('monitor', () => {
  it('prints what a command says before its OK', () => {
    const replies = drive.ask(`qRcmd,${hexOfString('ccb state')}`);
    expect(replies).toHaveLength(2);
    expect(stringOfHex(replies[0]!.slice(1))).toBe('ccb state: 1 µs\n');
    expect(replies[1]).toBe('OK');
  });

  it('answers a command that moves once it has arrived', () => {
    expect(drive.ask(`qRcmd,${hexOfString('go')}`)).toEqual([`O${hexOfString('moved\n')}`, 'OK']);
    expect(drive.target.at).toBe(1);
  });

  it('prints long output in packets of a size that fits', () => {
    const replies = drive.ask(`qRcmd,${hexOfString('x'.repeat(9000))}`);
    expect(replies.length).toBeGreaterThan(3);
    const text = replies.slice(0, -1).map((reply) => stringOfHex(reply.slice(1)));
    expect(text.join('')).toBe(`${'x'.repeat(9000)}: 1 µs\n`);
  });
});

describe('acknowledgements', () => {
  it('a good packet gets +, a bad one - and no reply', () => {
    expect(drive.send(raw('$qC#b4'))).toBe('+$QC1#c5');
    expect(drive.send(raw('$qC#b5'))).toBe('-');
  });

  it('- gets the last reply again, unless it was acknowledged', () => {
    drive.send(raw('$qC#b4'));
    expect(drive.send(raw('-'))).toBe('$QC1#c5');
    expect(drive.send(raw('+-'))).toBe('');
  });

  it('after QStartNoAckMode there are none', () => {
    expect(drive.send(packetOf('QStartNoAckMode'))).toBe('+$OK#9a');
    expect(drive.send(raw('+$qC#b4'))).toBe('$QC1#c5');
  });

  it('the first packet, sent again because no answer came in time, is answered once', () => {
    expect(drive.send(raw('+$qC#b4$qC#b4$qC#b4$T1#85'))).toBe('+$QC1#c5+$OK#9a');
    expect(drive.send(raw('+$qC#b4$qC#b4'))).toBe('+$QC1#c5+$QC1#c5');
  });

  it('a packet that is too long gets an empty reply', () => {
    expect(drive.send(packetOf('m'.repeat(100_000)))).toBe('+$#00');
  });
});

describe('while the machine moves', () => {
  it('only the interrupt counts; packets are answered after the stop, in order', () => {
    const { stub, target } = drive;
    const output = stub.receive(packetOf('c'));
    expect(output.request).not.toBeNull();
    expect(stub.receive(packetOf('qC')).bytes).toHaveLength(0);
    stub.receive(raw('\x03'));
    expect(stub.isInterrupted).toBe(true);
    expect(stub.receive(packetOf('T2')).bytes).toHaveLength(0);
    target.perform({ kind: 'step', thread: 1, isBackwards: false });
    const replies = bodiesOf(String.fromCharCode(...stub.stopped().bytes));
    expect(replies[0]).toMatch(/^T05/);
    expect(replies.slice(1)).toEqual(['QC1', 'OK']);
  });

  it('an interrupt right behind the first packet of a client counts too', () => {
    drive.stub.receive(Uint8Array.from([...packetOf('c'), 3]));
    expect(drive.stub.isInterrupted).toBe(true);
  });

  it('an interrupt of a machine that stands still is dropped', () => {
    expect(drive.send(raw('\x03'))).toBe('');
    expect(drive.stub.isInterrupted).toBe(false);
  });
});

describe('a client that goes', () => {
  it('D is answered, takes its breakpoints along and leaves the machine where it is', () => {
    drive.ask('Z0,1010,1');
    drive.ask('s');
    expect(drive.ask('D')).toEqual(['OK']);
    expect(drive.hangUps).toBe(1);
    expect(drive.target.points.size).toBe(0);
    expect(drive.target.at).toBe(1);
  });

  it('k gets no answer, and the machine starts over', () => {
    drive.ask('s');
    expect(drive.ask('k')).toEqual([]);
    expect(drive.hangUps).toBe(1);
    expect(drive.target.at).toBe(0);
  });

  it('vKill is answered, and the machine starts over', () => {
    drive.ask('s');
    expect(drive.ask('vKill;1')).toEqual(['OK']);
    expect(drive.target.at).toBe(0);
  });

  it('without a word in the middle of a run leaves nothing to the next one', () => {
    const { stub, target } = drive;
    stub.receive(packetOf('QStartNoAckMode'));
    stub.receive(packetOf('Z2,200000,8'));
    stub.receive(packetOf('c'));
    stub.receive(raw('$m2000'));
    stub.disconnected();
    expect(target.points.size).toBe(0);
    expect(stub.stopped().bytes).toHaveLength(0);
    stub.connected();
    expect(drive.send(raw('$qC#b4'))).toBe('+$QC1#c5');
  });
});

describe('the file over the wire', () => {
  it('is read as it is, and closed', () => {
    drive.ask(`vFile:open:${hexOfString('/payload.elf')},0,1c0`);
    expect(drive.askOne('vFile:pread:0,10,0')).toBe('F5;\x01}\x03}]}\n\x05');
    expect(drive.askOne('vFile:pread:0,10,4')).toBe('F1;\x05');
    expect(drive.askOne('vFile:pread:0,10,9')).toBe('F0;');
    expect(drive.askOne('vFile:fstat:0')).toMatch(/^F40;/);
    expect(drive.askOne('vFile:close:0')).toBe('F0');
    expect(drive.askOne('vFile:fstat:0')).toBe('F-1,9');
  });

  it('cannot be opened without end', () => {
    const open = `vFile:open:${hexOfString('/payload.elf')},0,0`;
    for (let i = 0; i < 64; i++) expect(drive.askOne(open)).toBe(`F${i.toString(16)}`);
    expect(drive.askOne(open)).toBe('F-1,18');
  });
});
