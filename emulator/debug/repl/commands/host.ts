/** Steps of the host by hand. */
import type { ReplCommand } from '../command.js';

/** Commands about the host. */
export const HOST: readonly ReplCommand[] = [];
