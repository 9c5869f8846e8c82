/**
 * Changed payload files through everything that `abi check` does: findings or none, never a crash, never a hang.
 * HOSTILE_CHECKS=10000 makes it a campaign.
 */
import { describe, expect, it } from 'vitest';
import { PROFILES } from '../../abi/compat/profiles.js';
import { checkAbi } from '../../abi/compat/check.js';
import { Random } from '../../emulator/clock/random.js';
import { abiOf } from '../../emulator/cli/abi-file.js';
import { checkPayload } from '../../emulator/verify/check-payload.js';
import { LockError } from '../../abi/lock-file.js';
import { referencePayload } from '../support/reference-payload.js';

const CHECKS = Number.parseInt(process.env['HOSTILE_CHECKS'] ?? '24', 10);
/** The headers and what is loaded lie at the front. */
const LOADED = 0x9000;

function mutate(random: Random): Uint8Array {
  const copy = referencePayload().slice();
  const span = random.below(2) === 0 ? LOADED : copy.length;
  for (let n = 1 + random.below(4); n > 0; n--) copy[random.below(span)] = random.below(256);
  return random.below(16) === 0 ? copy.slice(0, random.below(copy.length)) : copy;
}

/** The rules that a file breaks, by name. */
function check(file: Uint8Array): readonly string[] {
  const layouts = (): readonly string[] => {
    try {
      const shape = abiOf(file);
      return 'structs' in shape ? checkAbi(shape, 'rfc').map(({ rule }) => rule) : [shape.rule];
    } catch (error) {
      // A file that begins with a brace is read as a lock.
      if (error instanceof LockError) return [error.code];
      throw error;
    }
  };
  return [
    ...layouts(),
    ...checkPayload(file, PROFILES['rfc-ibt'].code).findings.map(({ rule }) => rule),
  ];
}

describe('changed payload files', () => {
  it(
    `get a verdict each (${CHECKS})`,
    () => {
      const random = new Random(Number.parseInt(process.env['FC_SEED'] ?? '1', 10));
      const seen = new Set<string>();
      for (let n = 0; n < CHECKS; n++) for (const rule of check(mutate(random))) seen.add(rule);
      // The changes reach the loader, the debug information and the code.
      expect(seen).toContain('image-refused');
      expect(seen.size).toBeGreaterThan(3);
    },
    (CHECKS + 60) * 1000,
  );
});
