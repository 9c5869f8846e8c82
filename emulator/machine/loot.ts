/** What a payload that has turned on its host is after. Invariant: a value; it is part of its lane's state. */
import type { ScriptedAttack } from './scenario/script.js';

export interface Loot {
  readonly how: ScriptedAttack['how'];
  readonly address: bigint;
  /** What lay there when the attack began. */
  readonly secret: bigint;
}
