/** An error that a model might have: one rule of the SDM, switched off or changed in the source. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Part } from './parts.js';

/** What must notice it: a part of conform on Bochs, or a spec's rows where Bochs has not what the rule is about. */
export type Noticed = { readonly part: Part } | { readonly spec: string };

/** One error. */
export interface ModelMutant {
  readonly id: string;
  /** The rule that the model then breaks. */
  readonly rule: string;
  readonly file: string;
  /** Texts of the source and what stands in their place. */
  readonly changes: readonly (readonly [from: string, to: string])[];
  readonly noticed: Noticed;
}

/** The text of a mutant's source. @throws when one of its places is not there exactly once. */
export function changedSource(root: string, { id, file, changes }: ModelMutant): string {
  let text = readFileSync(join(root, file), 'utf8');
  for (const [from, to] of changes) {
    const found = text.split(from).length - 1;
    if (found !== 1) throw new Error(`${id}: ${file} has ${found} times: ${from}`);
    text = text.replace(from, () => to);
  }
  return text;
}
