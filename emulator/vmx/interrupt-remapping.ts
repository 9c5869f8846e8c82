/**
 * Interrupt remapping: where a device's message goes is in a table of the IOMMU's, and not in the message.
 *
 * Source: VT-d specification, "Interrupt Remapping", "Interrupt-Remapping Table Entry for Remapped Interrupts".
 * Invariant: an entry stays in force while kernels change: the IOMMU's tables are preserved with the device.
 * Not modelled: the table's own format in memory, source-id checks, delivery modes but fixed, level-triggered interrupts.
 */

/** One entry: a fixed, edge-triggered interrupt at one local APIC. */
export interface RemappingEntry {
  readonly kind: 'remapped';
  readonly apicId: number;
  readonly vector: number;
}
