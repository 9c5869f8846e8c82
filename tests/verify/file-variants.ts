/** Files that a linker or binutils makes unfit, a row a rule that no source can break. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import type { ProfileName } from '../../abi/compat/profiles.js';
import type { RuleId } from '../../abi/compat/rules.js';

/** A change of a built file. */
export interface FileVariant {
  readonly rule: RuleId;
  readonly what: string;
  readonly profile: ProfileName;
  readonly make: (original: string, changed: string) => void;
}

/** A note of type NT_GNU_PROPERTY_TYPE_0 with an empty feature word, or one that is cut. */
function withNote(original: string, changed: string, words: readonly number[]): void {
  const note = `${changed}.note`;
  writeFileSync(note, new Uint8Array(Uint32Array.from(words).buffer));
  const add = [
    '--add-section',
    `.note.gnu.property=${note}`,
    '--set-section-alignment',
    '.note.gnu.property=8',
  ];
  execFileSync('objcopy', [...add, original, changed], { stdio: 'ignore' });
}

const GNU = 0x0055_4e47;

export const FILE_VARIANTS: readonly FileVariant[] = [
  {
    rule: 'note-ibt',
    what: 'says that it is not built for indirect branch tracking',
    profile: 'rfc-ibt',
    make: (original, changed) => {
      withNote(original, changed, [4, 16, 5, GNU, 0xc000_0002, 4, 2, 0]);
    },
  },
  {
    rule: 'note-bad',
    what: 'has a note that is cut',
    profile: 'rfc',
    make: (original, changed) => {
      withNote(original, changed, [4, 1600, 5, GNU]);
    },
  },
  {
    rule: 'code-missing',
    what: 'is not linked',
    profile: 'run-states',
    make: (_original, changed) => {
      execFileSync('gcc', ['-g', '-x', 'c', '-c', '-', '-o', changed], {
        input: 'int f(int a) { return a; }',
      });
    },
  },
];
