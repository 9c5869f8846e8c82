/**
 * IMA: files are measured before they are used, where the policy (ima-policy.ts) says so.
 *
 * Each measurement is an entry of template ima-ng: digest and path. Its template hash extends PCR 10, so that a verifier
 * who has the PCR from a TPM's quote can replay the log and knows that nothing was left out or changed.
 * Source: Linux security/integrity/ima: ima_template_lib.c, ima_queue.c; Documentation/security/IMA-templates.rst.
 * Invariant: PCR 10 is the replay of the log.
 * Not modelled: the TPM's other registers (they are 0), violations, signatures in extended attributes.
 */
import { createHash } from 'node:crypto';

/** The register that IMA extends. */
export const IMA_PCR = 10;
const DIGEST_BYTES = 32;
const ALGORITHM = 'sha256';
const FIRMWARE_PCRS = 10;

/** One measurement. */
export interface Measurement {
  readonly path: string;
  readonly digest: string;
  readonly templateHash: string;
}

const sha256 = (...parts: readonly Uint8Array[]): Buffer => {
  const hash = createHash(ALGORITHM);
  for (const part of parts) hash.update(part);
  return hash.digest();
};

/** A field of template data: its length, little-endian, and its bytes. */
function field(bytes: Uint8Array): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32LE(bytes.length);
  return Buffer.concat([length, bytes]);
}

/** The template hash of an ima-ng entry. */
export function templateHash(digest: string, path: string): string {
  const named = Buffer.concat([Buffer.from(`${ALGORITHM}:\0`), Buffer.from(digest, 'hex')]);
  return sha256(field(named), field(Buffer.from(`${path}\0`))).toString('hex');
}

export class Ima {
  readonly #log: Measurement[] = [];
  #pcr: Uint8Array = Buffer.alloc(DIGEST_BYTES);

  constructor() {
    // What firmware and boot loader have measured begins every log.
    this.#append(
      'boot_aggregate',
      sha256(Buffer.alloc(FIRMWARE_PCRS * DIGEST_BYTES)).toString('hex'),
    );
  }

  /** Measures a file by its content. */
  measure(path: string, file: Uint8Array): Measurement {
    return this.#append(path, sha256(file).toString('hex'));
  }

  /** PCR 10 in hex, as a quote would have it. */
  get pcr(): string {
    return Buffer.from(this.#pcr).toString('hex');
  }

  /** ascii_runtime_measurements_sha256: one line a measurement. */
  get text(): string {
    return this.#log
      .map(
        (one) => `${IMA_PCR} ${one.templateHash} ima-ng ${ALGORITHM}:${one.digest} ${one.path}\n`,
      )
      .join('');
  }

  #append(path: string, digest: string): Measurement {
    const entry = { path, digest, templateHash: templateHash(digest, path) };
    this.#log.push(entry);
    this.#pcr = extend(this.#pcr, entry.templateHash);
    return entry;
  }
}

const extend = (pcr: Uint8Array, hash: string): Uint8Array => sha256(pcr, Buffer.from(hash, 'hex'));

/** What a verifier finds in a log. */
export type Replay =
  | { readonly ok: true; readonly pcr: string; readonly entries: readonly Measurement[] }
  | { readonly ok: false; readonly line: number; readonly why: string };

const ENTRY = /^(\d+) ([0-9a-f]{64}) ima-ng sha256:([0-9a-f]{64}) (.+)$/;

/** The verifier's side: every entry's template hash computed again, and what PCR 10 must be. */
export function replayLog(text: string): Replay {
  let pcr: Uint8Array = Buffer.alloc(DIGEST_BYTES);
  const entries: Measurement[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    if (line === '') continue;
    const match = ENTRY.exec(line);
    const [, register, hash = '', digest = '', path = ''] = match ?? [];
    if (register !== IMA_PCR.toString()) {
      return { ok: false, line: index + 1, why: 'no entry of template ima-ng for PCR 10' };
    }
    if (templateHash(digest, path) !== hash) {
      return { ok: false, line: index + 1, why: 'its template hash is of something else' };
    }
    pcr = extend(pcr, hash);
    entries.push({ path, digest, templateHash: hash });
  }
  return { ok: true, pcr: Buffer.from(pcr).toString('hex'), entries };
}
