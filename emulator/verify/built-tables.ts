/**
 * The descriptor tables that a payload's init builds: the image is installed on a modelled host and the IDT is read.
 *
 * Source: CONTRACT ("Entry points": init builds all 256 gates); SDM, "64-Bit Mode IDT", "Call and Interrupt Gates".
 * Invariant: the host is deterministic, offers every feature, and runs nothing of the payload but init.
 */
import { finding } from '../../abi/compat/rules.js';
import type { Finding } from '../../abi/compat/rules.js';
import { hex, toIndex } from '../../abi/uint.js';
import { Conductor, ConductorError } from '../machine/conductor.js';
import { parseScenario } from '../machine/scenario/load.js';
import type { CodeImage } from './code-image.js';

/** What is known of the gates after init. */
export interface BuiltTables {
  /** Where the gates lead, as positions of .text. */
  readonly gates: readonly number[];
  readonly findings: readonly Finding[];
}

const VECTORS = 256;
const GATE_BYTES = 16;
const INTERRUPT_GATE = 14;
const PRESENT = 0x80;

const INSTALL_ONLY = parseScenario(
  'name: install\ndescription: one vCPU, nothing runs\nvcpus: 1\nsteps: [{ run: { exits: 0 } }]\n',
  'install.yaml',
);

/** Runs init of an accepted payload file and reads the IDT that it published. */
export function buildTables(file: Uint8Array, code: CodeImage): BuiltTables {
  const conductor = new Conductor(INSTALL_ONLY, file, false, { maxSteps: 1 });
  try {
    conductor.run();
    return readGates(conductor, code);
  } catch (error) {
    if (!(error instanceof ConductorError)) throw error;
    const text = error.message.replace(/^KVM_SET_CARETAKER: /, '');
    return { gates: [], findings: [finding('init-failed', '', '', 'RAX = 0', text)] };
  } finally {
    for (const { engine } of conductor.machine.cores) engine.dispose();
  }
}

function readGates({ machine }: Conductor, code: CodeImage): BuiltTables {
  const { vcpu } = machine.kvm!.findVcpu(0)!;
  const { memory } = machine;
  const view = vcpu.ccbView;
  const base = view.get('idt_base');
  const limit = view.number('idt_limit');
  const selector = view.number('selector_cs');
  const bias = view.get('entry_vmexit') - vcpu.loaded!.image.entry;
  const expected = `${VECTORS} gates in the instance`;
  const end = BigInt(memory.sizeBytes - VECTORS * GATE_BYTES);
  if (limit < VECTORS * GATE_BYTES - 1 || base > end) {
    const actual = `idt_limit ${hex(limit)} at ${hex(base)}`;
    return { gates: [], findings: [finding('idt-gate', 'IDT', '', expected, actual)] };
  }
  const gates: number[] = [];
  const findings: Finding[] = [];
  for (let vector = 0; vector < VECTORS; vector++) {
    const at = base + BigInt(vector * GATE_BYTES);
    const low = memory.readU64(at);
    const high = memory.readU64(at + 8n);
    const target = (low & 0xffffn) | ((low >> 32n) & 0xffff_0000n) | ((high & 0xffff_ffffn) << 32n);
    const offset = target - bias - code.address;
    const attributes = toIndex((low >> 40n) & 0xffn);
    const why =
      attributes !== (PRESENT | INTERRUPT_GATE)
        ? `type and DPL ${hex(attributes)}`
        : toIndex((low >> 16n) & 0xffffn) !== selector
          ? 'another code segment'
          : offset < 0n || offset >= BigInt(code.text.length)
            ? `a target outside .text: ${hex(target - bias)}`
            : null;
    if (why === null) gates.push(toIndex(offset));
    else findings.push(finding('idt-gate', 'IDT', `vector ${vector}`, 'an interrupt gate', why));
  }
  return { gates, findings };
}
