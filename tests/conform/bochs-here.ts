/** Whether the second machine is installed, and what the skipped tests say where it is not. */
import { findBochs } from '../../emulator/conform/bochs.js';

export const HAS_BOCHS = findBochs() !== undefined;
export const BOCHS = HAS_BOCHS ? 'on Bochs' : '(skipped: bochs is not installed)';
