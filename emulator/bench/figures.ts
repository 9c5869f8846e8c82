/** The figures that bench knows, each measured with one payload. A new one is a row here. */
import { parseElf } from '../../loader/elf.js';
import { place } from '../../loader/place.js';
import { CCB_RULE } from '../host/kvm/ccb-rule.js';
import { Conductor } from '../machine/conductor.js';
import { loadScenario, parseScenario } from '../machine/scenario/load.js';
import type { Clock, Figure } from './figure.js';

const FILES = 20;
const EXITS = 4_000;
const PLACE = 0x10_0000n;

/** One busy vCPU, attached, without a pause between exits. */
const BUSY = `
name: bench
description: one busy vCPU, attached
vcpus: 1
mix: busy
rate: 1000000
steps:
  - run: { exits: ${EXITS} }
`;

/** The figures for a payload. */
export function figuresOf(payload: Uint8Array): readonly Figure[] {
  return [
    {
      name: 'load.filesPerSecond',
      unit: 'files/s',
      measure: (clock) => perSecond(clock, FILES, () => loadFiles(payload)),
    },
    {
      name: 'machine.exitsPerSecond',
      unit: 'exits/s',
      measure: (clock) => {
        const conductor = new Conductor(parseScenario(BUSY, 'bench'), payload, false);
        return perSecond(clock, EXITS, () => conductor.run());
      },
    },
    {
      name: 'run.seconds',
      unit: 's',
      measure: (clock) => {
        const begun = clock();
        new Conductor(loadScenario('live-update'), payload, false).run();
        return (clock() - begun) / 1000;
      },
    },
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
