/**
 * The shadow-stack seam while nothing models shadow stacks: deliveries and returns push and pop nothing.
 *
 * DEVIATION: near CALL and RET run in the engine, which does not move SSP; a run with shadow stacks on ends before one.
 */
import type { ShadowStackPort } from './root-cpu.js';

/** Pushes nothing, checks nothing. */
export const SHADOW_STACK_OFF: ShadowStackPort = {
  onDelivery: () => null,
  onInterruptReturn: () => null,
  onFarReturn: () => null,
};
