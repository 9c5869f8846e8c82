/**
 * The source level of one session: what is read once (debug information, sources, disassembler), and the cores of a stop.
 *
 * Invariant: a core's view is of the stop at hand and is asked for anew at each stop.
 */
import { u64 } from '../../../abi/uint.js';
import { Disassembler } from '../../cpu/disassembler.js';
import type { LineOf, Resume } from '../resume.js';
import type { DebugSession } from '../session.js';
import { LaneView } from './lane-view.js';
import { PayloadProgram } from './payload-program.js';
import { SourceMap } from './source-map.js';
import { sourceFolders, SourceText } from './source-text.js';
import { contextView } from './views/context.js';
import type { Canvas } from './views/paint.js';
import { registersOf } from './views/registers.js';
import type { EarlierRegisters } from './views/registers.js';
import { printPosition } from '../position.js';
import type { CaretakerImage } from '../../../loader/image.js';

/** Where to look for source files. */
export interface SourceLevelOptions {
  /** The payload's file; null when it came from elsewhere. */
  readonly payloadFile: string | null;
  /** The folder that has `caretaker-payload` and `abi`. */
  readonly root: string;
}

export class SourceLevel {
  readonly program: PayloadProgram;
  readonly text: SourceText;
  readonly disassembler: Disassembler;
  /** Registers of each vCPU when its context was last shown, to mark what changed. */
  readonly #earlier = new Map<number, EarlierRegisters>();

  private constructor(program: PayloadProgram, text: SourceText, disassembler: Disassembler) {
    this.program = program;
    this.text = text;
    this.disassembler = disassembler;
  }

  /** Reads the debug information of an image; one without has a level without lines. */
  static async create(image: CaretakerImage, options: SourceLevelOptions): Promise<SourceLevel> {
    const text = new SourceText(sourceFolders(options.payloadFile, options.root));
    return new SourceLevel(new PayloadProgram(image), text, await Disassembler.create());
  }

  /** The core of a vCPU at the stop at hand; of the selected one without a number. @throws DebugError. */
  core(session: DebugSession, vcpu: number | null = null): LaneView {
    const lane = vcpu === null ? session.lane : session.machine.lane(vcpu);
    const { exit, instruction } = session.position;
    const values = new Map([
      ['exit', BigInt(exit)],
      ['instruction', BigInt(instruction)],
      ['vcpu', BigInt(lane.id)],
    ]);
    return new LaneView(session.machine, lane, this.program, values);
  }

  /** Tells the lines of the source apart: what steps by lines go by. */
  readonly lineOf: LineOf = (lane, address) => {
    if (lane.vcpu.ccb === 0n) return null;
    const source = new SourceMap(this.program, u64(lane.vcpu.ccb - this.program.image.ccb.address));
    const line = source.lineAt(address);
    if (line === null) return null;
    // What a compiler adds for no line is nowhere to stop.
    const begins = line.line === 0 ? 'row' : source.beginningAt(address);
    return { key: `${line.file}:${line.line}`, begins };
  };

  /** The way out of the innermost call at the stop, which a compiler may have inlined. @throws DebugError. */
  finish(session: DebugSession, backwards: boolean): Resume {
    const core = this.core(session);
    const rip = core.register('RIP');
    const ranges = core.sourceOf(rip)?.inlinedRanges(rip) ?? [];
    if (ranges.length === 0) return { kind: 'finish', backwards };
    return { kind: 'step-range', ranges, over: true, backwards };
  }

  /** The context of the stop at hand; what differs from the last one of the vCPU is marked. @throws DebugError. */
  context(session: DebugSession, canvas: Canvas, cause = ''): readonly string[] {
    const core = this.core(session);
    const { text, disassembler } = this;
    const { exit } = core.lane;
    const attachment = exit.sequence === 0 ? '' : exit.wasAttached ? 'attached' : 'detached';
    const earlier = this.#earlier.get(core.id) ?? null;
    this.#earlier.set(core.id, registersOf(core));
    const position = printPosition(session.position);
    const options = { position, cause, attachment, earlier, text, disassembler };
    return contextView(core, options, canvas);
  }
}
