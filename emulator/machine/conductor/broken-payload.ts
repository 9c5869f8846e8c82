/**
 * A payload file with one thing wrong, for an update that must fail: its machine, or what its init does.
 *
 * Invariant: everything else of the file is as it was.
 */
import { HarnessBug } from '../../../abi/errors.js';
import { toIndex } from '../../../abi/uint.js';
import { parseElf } from '../../../loader/elf.js';
import { CCB_RULE } from '../../host/kvm/ccb-rule.js';

/** What is wrong: `machine` is refused before anything is staged; `init`, which fails, and `fault`, when everything is. */
export type Breakage = 'machine' | 'init' | 'fault';

const E_MACHINE = 18;
const EM_AARCH64 = 183;
const ENDBR64 = [0xf3, 0x0f, 0x1e, 0xfa];
/** What init is from its first instruction on: mov rax, -22; ret, or UD2. */
const INIT = {
  init: [0x48, 0xc7, 0xc0, 0xea, 0xff, 0xff, 0xff, 0xc3],
  fault: [0x0f, 0x0b],
} as const;

/** A copy of the file that is broken. @throws LoaderError for a file that is no payload to begin with. */
export function brokenPayload(file: Uint8Array, what: Breakage): Uint8Array {
  // Of a Buffer, slice() is a view.
  const copy = Uint8Array.from(file);
  if (what === 'machine') {
    copy[E_MACHINE] = EM_AARCH64;
    return copy;
  }
  const image = parseElf(file, CCB_RULE);
  const init = image.ccb.entryPoints['init']!;
  const segment = image.segments.find(
    ({ address, sizeBytes }) => init >= address && init < address + BigInt(sizeBytes),
  );
  if (segment === undefined) throw new HarnessBug('init is in no segment');
  const at = segment.offset + toIndex(init - segment.address);
  const isTracked = ENDBR64.every((byte, n) => copy[at + n] === byte);
  copy.set(INIT[what], isTracked ? at + ENDBR64.length : at);
  return copy;
}
