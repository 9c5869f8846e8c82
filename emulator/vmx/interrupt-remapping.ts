/**
 * Interrupt remapping and posting: where a device's message goes is in a table of the IOMMU's, and not in the message.
 *
 * Source: VT-d specification, "Interrupt Remapping", "Interrupt Posting", "Interrupt-Remapping Table Entry for Remapped
 * Interrupts", "... for Posted Interrupts", "Interrupt Posting Hardware Processing".
 * Invariant: an entry stays in force while kernels change: the IOMMU's tables are preserved with the device. A request is in
 * the descriptor before its notification is sent.
 * Not modelled: the table's own format in memory, source-id checks, delivery modes but fixed, level-triggered interrupts.
 */
import type { PhysicalBytes } from '../memory/physical-memory.js';
import { PostedDescriptor, type Notification } from './posted-descriptor.js';

/** One entry of the table. */
export type RemappingEntry =
  /** A fixed, edge-triggered interrupt at one local APIC. */
  | { readonly kind: 'remapped'; readonly apicId: number; readonly vector: number }
  /** A request in a descriptor in memory. */
  | {
      readonly kind: 'posted';
      readonly descriptor: bigint;
      /** The guest's vector. */
      readonly vector: number;
      readonly isUrgent: boolean;
    };

/** What a message becomes: an interrupt at a local APIC, or null when a request was posted and nobody need be told. */
export function remap(bytes: PhysicalBytes, entry: RemappingEntry): Notification | null {
  if (entry.kind === 'remapped') return { apicId: entry.apicId, vector: entry.vector };
  const descriptor = new PostedDescriptor(bytes, entry.descriptor);
  descriptor.request(entry.vector);
  return descriptor.notify(entry.isUrgent);
}
