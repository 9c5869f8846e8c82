/**
 * The shadow-stack seam while nothing models shadow stacks: deliveries and returns push and pop nothing.
 *
 * DEVIATION: near CALL and RET run in the engine, which does not move SSP either, so SSP stays where VM exit loaded it.
 */
import type { ShadowStackPort } from './root-cpu.js';

/** Pushes nothing, checks nothing. */
export const SHADOW_STACK_OFF: ShadowStackPort = {
  onDelivery: () => null,
  onInterruptReturn: () => null,
  onFarReturn: () => null,
};
