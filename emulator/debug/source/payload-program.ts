/**
 * A payload as its debug information tells it: lines, functions, variables, types and frames of one image.
 *
 * Source: loader/dwarf.
 * Invariant: all addresses are link-time ones; without debug information, or with some that cannot be read, every
 * part is null and `problem` says why.
 */
import { HarnessError } from '../../../abi/errors.js';
import { CTypes } from '../../../loader/dwarf/c-types.js';
import { DebugInfo } from '../../../loader/dwarf/debug-info.js';
import { Frames } from '../../../loader/dwarf/frames.js';
import { Functions } from '../../../loader/dwarf/functions.js';
import { Lines } from '../../../loader/dwarf/lines.js';
import { sectionsOfImage } from '../../../loader/dwarf/sections.js';
import { Variables } from '../../../loader/dwarf/variables.js';
import { sectionNamed } from '../../../loader/image.js';
import type { CaretakerImage } from '../../../loader/image.js';

/** The readers of one file's debug information. */
export interface DebugReaders {
  readonly info: DebugInfo;
  readonly lines: Lines;
  readonly functions: Functions;
  readonly variables: Variables;
  readonly frames: Frames;
  readonly types: CTypes;
}

/** One image and what its debug information says. */
export class PayloadProgram {
  readonly image: CaretakerImage;
  readonly debug: DebugReaders | null;
  /** Why there are no readers; null when there are. */
  readonly problem: string | null;

  constructor(image: CaretakerImage) {
    this.image = image;
    const read = attempt(() => openReaders(image));
    this.debug = read.value;
    this.problem = read.problem;
  }

  /** What `read` finds in the debug information; null without it, or where it cannot be read. */
  ask<T>(read: (debug: DebugReaders) => T): T | null {
    const { debug } = this;
    debug?.info.budget.renew();
    return debug === null ? null : attempt(() => read(debug)).value;
  }
}

function openReaders(image: CaretakerImage): DebugReaders {
  const sections = sectionsOfImage(image);
  const info = new DebugInfo(sections);
  const lines = new Lines(info);
  const functions = new Functions(info, lines);
  return {
    info,
    lines,
    functions,
    variables: new Variables(info, functions),
    frames: new Frames(sections, info.budget, sectionNamed(image, '.eh_frame')?.address),
    types: new CTypes(info),
  };
}

/** Debug information is a file's word: a part that cannot be read is missing, and the debugger goes on without it. */
function attempt<T>(read: () => T): { value: T; problem: null } | { value: null; problem: string } {
  try {
    return { value: read(), problem: null };
  } catch (error) {
    if (!(error instanceof HarnessError)) throw error;
    return { value: null, problem: error.message };
  }
}
