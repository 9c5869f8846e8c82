/** The figures that bench knows, each measured with one payload. A new one is a row here. */
import { parseElf } from '../../loader/elf.js';
import { place } from '../../loader/place.js';
import { CCB_RULE } from '../host/kvm/ccb-rule.js';
import { Conductor } from '../machine/conductor.js';
import { loadScenario } from '../machine/scenario/load.js';
import { debugFiguresOf } from './debug-figures.js';
import { exploreFiguresOf } from './explore-figures.js';
import type { Clock, Figure } from './figure.js';
import { fuzzFiguresOf } from './fuzz-figures.js';
import { Yardstick } from './yardstick.js';

const FILES = 20;
const PLACE = 0x10_0000n;

/** The figures for a payload. */
export function figuresOf(payload: Uint8Array): readonly Figure[] {
  const yardstick = new Yardstick(payload);
  return [
    {
      name: 'load.filesPerSecond',
      unit: 'files/s',
      measure: (clock) => perSecond(clock, FILES, () => loadFiles(payload)),
    },
    {
      name: 'machine.exitsPerSecond',
      unit: 'exits/s',
      measure: (clock) => yardstick.machineRate(clock),
    },
    { name: 'machine.cExitsPerSecond', unit: 'exits/s', measure: () => yardstick.harnessRate() },
    { name: 'machine.ratioToC', unit: 'ratio', measure: (clock) => yardstick.ratio(clock) },
    { name: 'machine.accessesPerExit', unit: '', measure: () => yardstick.accessesPerExit() },
    { name: 'machine.checksPerExit', unit: '', measure: () => yardstick.checksPerExit() },
    {
      name: 'run.seconds',
      unit: 's',
      measure: (clock) => {
        const begun = clock();
        new Conductor(loadScenario('live-update'), payload, false).run();
        return (clock() - begun) / 1000;
      },
    },
    ...debugFiguresOf(payload),
    ...fuzzFiguresOf(payload, yardstick),
    ...exploreFiguresOf(payload),
  ];
}

function perSecond(clock: Clock, count: number, work: () => void): number {
  const begun = clock();
  work();
  return (count * 1000) / (clock() - begun);
}

function loadFiles(payload: Uint8Array): void {
  for (let file = 0; file < FILES; file++) {
    const image = parseElf(payload, CCB_RULE);
    place(image, image.type === 'ET_EXEC' ? image.pages.start : PLACE);
  }
}
